//! The Kafka adapter against Tansu, a broker that speaks Kafka's protocol, and the library's own mock of a cluster.

use std::collections::BTreeSet;
use std::time::Duration;

use futures_util::future::try_join_all;
use pillarbox_runtime::adapter::{
    AdapterKind as _, DoubleSafety, ErrorClass, SendError, Sender as _, Settings, Transport as _,
};
use pillarbox_store::{ErrorKind, FRAGMENT_BYTES, HeaderValue};
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::KafkaError;
use rdkafka::message::{Headers as _, Message as _, OwnedMessage};
use rdkafka::mocking::MockCluster;
use rdkafka::producer::DefaultProducerContext;
use rdkafka::types::{RDKafkaApiKey, RDKafkaRespErr};
use rdkafka::{Offset, TopicPartitionList};
use serde_json::json;

use super::KafkaKind;
use super::send::KafkaSender;
use super::settings::KafkaSettings;
use crate::parcel::sample::{ID, KEY, Sample, bytes, context, stored};
use crate::peer::free_port;
use crate::proxy::{Fault, Proxy, Way};
use crate::servers::Tansu;

const WAIT: Duration = Duration::from_secs(30);

/// A broker with the topic `orders`, of one partition.
struct Server {
    tansu: Tansu,
}

impl Server {
    async fn start() -> Self {
        Self::of(Tansu::start_anywhere()).await
    }

    async fn of(tansu: Tansu) -> Self {
        let mut server = Self { tansu };
        server.ready().await;
        server
    }

    /// Waits until it has made the topic: what it keeps is gone with it.
    async fn ready(&mut self) {
        self.tansu.ready("orders").await;
    }

    fn settings(&self) -> Settings {
        Tansu::settings_at(self.tansu.port)
    }

    /// What it holds, in order.
    fn records(&self) -> Vec<OwnedMessage> {
        records(&format!("127.0.0.1:{}", self.tansu.port))
    }

    /// What it holds: send key and body, in order.
    fn held(&self) -> Vec<(String, Vec<u8>)> {
        let records = self.records();
        records.iter().map(|record| (header(record, "x-pillarbox-key"), body(record))).collect()
    }
}

/// What a topic has, read to its end.
pub(super) fn records(servers: &str) -> Vec<OwnedMessage> {
    records_at(servers, "read_committed")
}

/// The same, for a reader with this `isolation.level`.
pub(super) fn records_at(servers: &str, isolation: &str) -> Vec<OwnedMessage> {
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", servers)
        .set("group.id", "tests")
        .set("enable.auto.commit", "false")
        .set("isolation.level", isolation)
        // Asked where the log ends, Tansu tells of its last batch's first record.
        .set("enable.partition.eof", "true")
        .create()
        .unwrap();
    let mut places = TopicPartitionList::new();
    places.add_partition_offset("orders", 0, Offset::Beginning).unwrap();
    consumer.assign(&places).unwrap();
    let mut records: Vec<OwnedMessage> = Vec::new();
    loop {
        match consumer.poll(WAIT).expect("a record, or the end") {
            Ok(record) => records.push(record.detach()),
            Err(KafkaError::PartitionEOF(_)) => return records,
            Err(error) => panic!("{error}"),
        }
    }
}

pub(super) fn header(record: &OwnedMessage, name: &str) -> String {
    let found = record.headers().unwrap().iter().find(|header| header.key == name);
    String::from_utf8(found.unwrap().value.unwrap().to_vec()).unwrap()
}

fn body(record: &OwnedMessage) -> Vec<u8> {
    record.payload().unwrap_or_default().to_vec()
}

async fn open(settings: &Settings) -> Result<KafkaSender, SendError> {
    KafkaSender::open(KafkaSettings::check(settings).unwrap()).await
}

pub(super) fn is(error: &SendError, class: ErrorClass, part: &str) {
    let chain = error.to_failure().chain.join(" <- ");
    assert_eq!(error.class(), class, "{chain}");
    assert!(chain.contains(part), "{chain}");
}

#[tokio::test]
async fn a_message_becomes_a_record_and_a_repeat_another_with_the_same_key() {
    let server = Server::start().await;
    let sender = open(&server.settings()).await.unwrap();
    let sample =
        Sample::new("hello").header("Order", "A-17 ü").header("raw", HeaderValue::Bytes(vec![1, 255]));
    sender.deliver(&sample.parcel()).await.unwrap();
    sender.deliver(&sample.clone().attempt(2).in_doubt().parcel()).await.unwrap();
    let records = server.records();
    assert_eq!(records.len(), 2, "a repeat is not recognised: this is what docs.md says");
    let [first, second] = &records[..] else { unreachable!() };
    assert_eq!((first.payload().unwrap(), first.key().unwrap()), (&b"hello"[..], KEY.as_bytes()));
    assert_eq!(first.key(), second.key());
    for (name, value) in [
        ("x-pillarbox-key", KEY),
        ("x-pillarbox-message-id", ID),
        ("x-pillarbox-attempt", "1"),
        ("x-pillarbox-h-order", "A-17 ü"),
    ] {
        assert_eq!(header(first, name), value, "{name}");
    }
    let raw = first.headers().unwrap().iter().find(|header| header.key == "x-pillarbox-h-raw");
    assert_eq!(raw.unwrap().value.unwrap(), [1, 255]);
    assert_eq!(header(second, "x-pillarbox-attempt"), "2");
    assert_eq!(header(second, "x-pillarbox-in-doubt"), "true");
    assert!(first.headers().unwrap().iter().all(|header| header.key != "x-pillarbox-in-doubt"));
    assert_eq!(sender.describe().capabilities.double_safety, DoubleSafety::AtLeastOnce);
    sender.close().await;
}

#[tokio::test]
async fn the_key_is_that_of_a_header_where_it_is_wanted() {
    let server = Server::start().await;
    let sender = open(&server.settings().with("key_header", "Customer")).await.unwrap();
    sender.deliver(&Sample::new("a").header("customer", "C-1").parcel()).await.unwrap();
    sender
        .deliver(&Sample::new("b").header("customer", HeaderValue::Bytes(vec![0, 255])).parcel())
        .await
        .unwrap();
    is(
        &sender.deliver(&Sample::new("c").parcel()).await.unwrap_err(),
        ErrorClass::Permanent,
        "no header \"customer\"",
    );
    let keys: Vec<_> = server.records().iter().map(|record| record.key().unwrap().to_vec()).collect();
    assert_eq!(keys, [b"C-1".to_vec(), vec![0, 255]]);
}

#[tokio::test]
async fn bodies_of_every_length_arrive_in_order_up_to_the_limit() {
    let server = Server::start().await;
    for compression in ["none", "lz4", "snappy"] {
        let sender = open(&server.settings().with("compression", compression)).await.unwrap();
        for len in [0, 1, FRAGMENT_BYTES, FRAGMENT_BYTES + 1, 3 * FRAGMENT_BYTES] {
            let sample = Sample::new(stored(bytes(len), None)).key(&format!("{compression}/{len}"));
            sender.deliver(&sample.parcel()).await.unwrap();
        }
        let most = usize::try_from(sender.describe().capabilities.body_bytes_max.unwrap()).unwrap();
        assert_eq!(most, 1_000_000 - 16 * 1024);
        let sample = Sample::new(stored(bytes(most), None)).key(&format!("{compression}/{most}"));
        sender.deliver(&sample.parcel()).await.unwrap();
        // Too long by itself, and by its headers.
        for large in [Sample::new(bytes(most + 1)), Sample::new(bytes(most)).header("h", "x".repeat(17_000))]
        {
            let error = sender.deliver(&large.parcel()).await.unwrap_err();
            is(&error, ErrorClass::Permanent, "message_bytes_max");
        }
        let broken = Sample::new(stored(bytes(FRAGMENT_BYTES + 1), Some((1, ErrorKind::Corrupt))));
        is(&sender.deliver(&broken.parcel()).await.unwrap_err(), ErrorClass::Permanent, "could not be read");
    }
    let held = server.held();
    assert_eq!(held.len(), 18);
    for (key, body) in held {
        let len: usize = key.split_once('/').unwrap().1.parse().unwrap();
        assert!(body == bytes(len), "{key}");
    }
}

#[tokio::test]
async fn a_server_that_is_down_or_hangs_costs_an_attempt() {
    use ErrorClass::Temporary;
    let mut server = Server::start().await;
    let hasty = server.settings().with("timeout", "500ms").with("connect_timeout", "500ms");
    let sender = open(&hasty).await.unwrap();
    let sample = Sample::new("hello");
    server.tansu.peer.pause();
    let error = sender.deliver(&sample.parcel()).await.unwrap_err();
    is(&error, Temporary, "has not confirmed the message within 500ms (setting timeout)");
    is(
        &open(&hasty).await.unwrap_err(),
        Temporary,
        "no broker answers within 500ms (setting connect_timeout)",
    );
    server.tansu.peer.go_on();
    open(&server.settings()).await.unwrap().deliver(&sample.parcel()).await.unwrap();
    server.tansu.peer.kill();
    is(&sender.deliver(&sample.parcel()).await.unwrap_err(), Temporary, "kafka://127.0.0.1");
    is(&open(&hasty).await.unwrap_err(), Temporary, "Connection refused");
    server.tansu.peer.start_again();
    server.ready().await;
    // Its records went with it; whoever is there again is heard of.
    let last = sample.key("last");
    open(&server.settings()).await.unwrap().deliver(&last.parcel()).await.unwrap();
    assert_eq!(server.held(), [("last".to_owned(), b"hello".to_vec())]);
}

// What reads the topic blocks, and the proxy has to go on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_answer_is_asked_for_again_within_the_attempt() {
    let port = free_port();
    let proxy = Proxy::start(port).await;
    let server = Server::of(Tansu::start(port, proxy.port)).await;
    let sender = open(&Tansu::settings_at(proxy.port)).await.unwrap();
    // The record's value in the request, the topic's name in the answer.
    proxy.lose(b"a body to be found", b"orders");
    sender.deliver(&Sample::new("a body to be found").parcel()).await.unwrap();
    assert!(proxy.has_lost());
    // The producer numbers its messages, and the broker looks at that.
    assert_eq!(server.held(), [(KEY.to_owned(), b"a body to be found".to_vec())]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_producer_that_the_broker_fences_is_replaced() {
    let port = free_port();
    let proxy = Proxy::start(port).await;
    let _server = Server::of(Tansu::start(port, proxy.port)).await;
    let sender = open(&Tansu::settings_at(proxy.port).with("timeout", "1s")).await.unwrap();
    // Tansu fences a producer that comes back after it was cut off in the middle.
    let mut fenced = false;
    for after in 0..8 {
        sender.deliver(&Sample::new("before").parcel()).await.unwrap();
        proxy.set(Fault::Reset { way: Way::Request, after: after * 40 });
        let mut sent = sender.deliver(&Sample::new(bytes(3000)).parcel()).await;
        for _ in 0..3 {
            let Err(error) = sent else { break };
            fenced |= error.to_failure().text().contains("ProducerFenced");
            sent = sender.deliver(&Sample::new(bytes(3000)).parcel()).await;
        }
        sent.unwrap();
    }
    assert!(fenced, "nothing was shown");
}

#[tokio::test]
async fn many_at_once_are_each_in_the_log_once() {
    let server = Server::start().await;
    let sender = open(&server.settings()).await.unwrap();
    let samples: Vec<_> = (0..200).map(|n| Sample::new("hello").key(&format!("key/{n}"))).collect();
    let parcels: Vec<_> = samples.iter().map(Sample::parcel).collect();
    try_join_all(parcels.iter().map(|parcel| sender.deliver(parcel))).await.unwrap();
    let log = server.tansu.log("orders").await;
    let keys: Vec<_> = log.iter().map(|record| record.header("x-pillarbox-key").unwrap()).collect();
    assert_eq!(keys, samples.iter().map(|sample| sample.send_key.clone()).collect::<Vec<_>>());
}

/// A cluster of the library's own, in this process.
pub(super) fn mock() -> (MockCluster<'static, DefaultProducerContext>, Settings) {
    let cluster = MockCluster::new(3).unwrap();
    cluster.create_topic("orders", 1, 3).unwrap();
    let url = format!("kafka://{}/orders", cluster.bootstrap_servers());
    (cluster, Settings::default().with("url", url))
}

#[tokio::test]
async fn many_at_once_are_each_there_once() {
    let (cluster, settings) = mock();
    let sender = open(&settings).await.unwrap();
    let samples: Vec<_> = (0..200).map(|n| Sample::new("hello").key(&format!("key/{n}"))).collect();
    let parcels: Vec<_> = samples.iter().map(Sample::parcel).collect();
    try_join_all(parcels.iter().map(|parcel| sender.deliver(parcel))).await.unwrap();
    let records = records(&cluster.bootstrap_servers());
    let expected: Vec<_> = samples.iter().map(|sample| sample.send_key.as_bytes()).collect();
    assert_eq!(records.iter().map(|record| record.key().unwrap()).collect::<Vec<_>>(), expected);
}

#[tokio::test]
async fn refusals_are_classed_and_only_that_message_pays() {
    use ErrorClass::{Permanent, Temporary};
    let (cluster, settings) = mock();
    let sender = open(&settings.with("timeout", "1s")).await.unwrap();
    let sample = Sample::new("hello");
    for (error, times, class, part) in [
        // Once beside others, for all that is known, and once by itself.
        (RDKafkaRespErr::RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE, 2, Permanent, "does not take the message"),
        (RDKafkaRespErr::RD_KAFKA_RESP_ERR_INVALID_RECORD, 2, Permanent, "does not take the message"),
        (RDKafkaRespErr::RD_KAFKA_RESP_ERR_POLICY_VIOLATION, 1, Temporary, "has not taken the message"),
    ] {
        cluster.request_errors(RDKafkaApiKey::Produce, &vec![error; times]);
        is(&sender.deliver(&sample.parcel()).await.unwrap_err(), class, part);
        sender.deliver(&sample.parcel()).await.unwrap();
    }
    assert_eq!(records(&cluster.bootstrap_servers()).len(), 3);
}

#[tokio::test]
async fn what_is_said_of_several_together_is_asked_again_of_each() {
    let (cluster, settings) = mock();
    let sender = open(&settings).await.unwrap();
    let samples: Vec<_> = (0..10).map(|n| Sample::new("hello").key(&format!("key/{n}"))).collect();
    let parcels: Vec<_> = samples.iter().map(Sample::parcel).collect();
    // The first request goes out with one or more of them.
    cluster.request_errors(RDKafkaApiKey::Produce, &[RDKafkaRespErr::RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE]);
    try_join_all(parcels.iter().map(|parcel| sender.deliver(parcel))).await.unwrap();
    let keys: BTreeSet<_> = records(&cluster.bootstrap_servers())
        .iter()
        .map(|record| header(record, "x-pillarbox-key"))
        .collect();
    assert_eq!(keys, samples.iter().map(|sample| sample.send_key.clone()).collect());
}

#[tokio::test]
async fn a_producer_that_cannot_go_on_is_replaced() {
    let (cluster, settings) = mock();
    let refused = RDKafkaRespErr::RD_KAFKA_RESP_ERR_CLUSTER_AUTHORIZATION_FAILED;
    cluster.request_errors(RDKafkaApiKey::InitProducerId, &[refused]);
    let sender = open(&settings).await.unwrap();
    let sample = Sample::new("hello");
    is(
        &sender.deliver(&sample.parcel()).await.unwrap_err(),
        ErrorClass::Temporary,
        "Cluster authorization failed",
    );
    sender.deliver(&sample.parcel()).await.unwrap();
    assert_eq!(records(&cluster.bootstrap_servers()).len(), 1);
}

#[tokio::test]
async fn what_passes_is_tried_again_within_the_attempt_and_added_once() {
    let (cluster, settings) = mock();
    let sender = open(&settings).await.unwrap();
    cluster.request_errors(
        RDKafkaApiKey::Produce,
        &[
            RDKafkaRespErr::RD_KAFKA_RESP_ERR_NOT_ENOUGH_REPLICAS,
            RDKafkaRespErr::RD_KAFKA_RESP_ERR_NOT_LEADER_FOR_PARTITION,
            RDKafkaRespErr::RD_KAFKA_RESP_ERR__TRANSPORT,
        ],
    );
    sender.deliver(&Sample::new("hello").parcel()).await.unwrap();
    let records = records(&cluster.bootstrap_servers());
    assert_eq!(records.len(), 1);
    assert_eq!(records[0].key().unwrap(), KEY.as_bytes());
}

#[tokio::test]
async fn brokers_that_come_back_are_found() {
    let (cluster, settings) = mock();
    let sender = open(&settings.with("timeout", "1s")).await.unwrap();
    for broker in 1..=3 {
        cluster.broker_down(broker).unwrap();
    }
    let sample = Sample::new("hello");
    let error = sender.deliver(&sample.parcel()).await.unwrap_err();
    is(&error, ErrorClass::Temporary, "has not confirmed the message within 1s");
    for broker in 1..=3 {
        cluster.broker_up(broker).unwrap();
    }
    while let Err(error) = sender.deliver(&sample.parcel()).await {
        is(&error, ErrorClass::Temporary, "kafka://127.0.0.1");
    }
    assert_eq!(records(&cluster.bootstrap_servers()).len(), 1);
}

#[tokio::test]
async fn what_will_not_do_is_told_when_it_is_opened() {
    let (cluster, other) = mock();
    for (error, part) in [
        (RDKafkaRespErr::RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART, "UnknownTopicOrPartition"),
        (RDKafkaRespErr::RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED, "TopicAuthorizationFailed"),
    ] {
        cluster.topic_error("orders", error).unwrap();
        let error = open(&other).await.unwrap_err();
        is(&error, ErrorClass::Temporary, "the topic \"orders\" cannot be used");
        is(&error, ErrorClass::Temporary, part);
    }
    let server = Server::start().await;
    let nobody = Tansu::settings_at(free_port()).with("connect_timeout", "1s");
    is(&open(&nobody).await.unwrap_err(), ErrorClass::Temporary, "no broker answers within 1s");
    let checked = KafkaKind.check(&server.settings()).unwrap();
    assert_eq!(checked.open(&context()).await.unwrap().describe().kind, "kafka");
}

#[test]
fn settings_have_defaults() {
    let checked = KafkaSettings::check(&Tansu::settings_at(7)).unwrap();
    assert_eq!((checked.connect_timeout.as_secs(), checked.timeout.as_secs()), (10, 30));
    assert_eq!(
        (checked.topic.as_str(), checked.compression, checked.message_bytes_max),
        ("orders", "none", 1_000_000)
    );
    let several = Settings::default().with("url", "Kafka://a,b:1,[::1]:2/orders.new");
    let checked = KafkaSettings::check(&several).unwrap();
    assert_eq!(
        (checked.servers.list().as_str(), checked.topic.as_str()),
        ("a:9092,b:1,[::1]:2", "orders.new")
    );
    assert_eq!(checked.servers.to_string(), "kafka://a:9092,b:1,[::1]:2");
    assert_eq!(KafkaKind.describe().uri_prefixes, ["kafka://"]);
    assert_eq!(KafkaKind.address_key(), Some("url"));
}

#[test]
fn every_problem_is_told_at_once() {
    let wrong = Settings::default()
        .with("url", "kafka://u:hunter2@h/x")
        .with("key_header", "a b")
        .with("compression", "gzip")
        .with("message_bytes_max", 1)
        .with("connect_timeout", "0s")
        .with("timeout", "1ms");
    let error = KafkaSettings::check(&wrong).unwrap_err();
    let keys: Vec<&str> = error.0.iter().map(|problem| problem.key.as_str()).collect();
    assert_eq!(keys, ["url", "key_header", "compression", "message_bytes_max", "connect_timeout", "timeout"]);
    assert!(!error.to_string().contains("hunter2"));
    for (key, value) in [
        ("url", json!("kafka://h")),
        ("url", json!("kafka://h/")),
        ("url", json!("kafka://h/..")),
        ("url", json!("kafka://h/a/b")),
        ("url", json!("kafka://h,/a")),
        ("url", json!("tcp://h/a")),
        ("timeout", json!("2d")),
        ("topic", json!("x")),
    ] {
        let error = KafkaSettings::check(&Tansu::settings_at(7).with(key, value)).unwrap_err();
        assert_eq!((error.0.len(), error.0[0].key.as_str()), (1, key), "{error}");
    }
}
