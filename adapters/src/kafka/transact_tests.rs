//! Transactions: against Tansu, whose log is read with the marks of their ends, and the library's mock of a cluster, which
//! refuses what it is told to.

use std::time::Duration;

use pillarbox_runtime::adapter::{
    AdapterKind as _, BatchSender as _, DoubleSafety, ErrorClass, SendError, Settings, Shape, Transport as _,
};
use rdkafka::mocking::MockCluster;
use rdkafka::producer::{DefaultProducerContext, Producer as _};
use rdkafka::types::{RDKafkaApiKey, RDKafkaRespErr};

use super::KafkaKind;
use super::producer::{self, Producer, Purpose};
use super::record::Record;
use super::settings::KafkaSettings;
use super::tests::{header, is, mock, records, records_at};
use super::transact::{TransactionalSender, name};
use crate::parcel::Parcel;
use crate::parcel::sample::{Sample, context};
use crate::peer::free_port;
use crate::proxy::{Fault, Proxy, Way};
use crate::servers::{Fate, Tansu};

const NAME: &str = "pillarbox-test";

/// A broker with the topic `orders`, and its settings with transactions.
async fn tansu() -> (Tansu, Settings) {
    let mut tansu = Tansu::start_anywhere();
    tansu.ready("orders").await;
    let settings = Tansu::settings_at(tansu.port).with("transactional", true).with("timeout", "5s");
    (tansu, settings)
}

async fn open(settings: &Settings) -> Result<TransactionalSender, SendError> {
    TransactionalSender::open(KafkaSettings::check(settings).unwrap(), NAME.to_owned()).await
}

fn samples(mark: &str, count: usize) -> Vec<Sample> {
    (0..count).map(|n| Sample::new(format!("{mark}{n}")).key(&format!("key/{mark}{n}"))).collect()
}

fn parcels(samples: &[Sample]) -> Vec<Parcel<'_>> {
    samples.iter().map(Sample::parcel).collect()
}

fn all_done(outcomes: Vec<Result<(), SendError>>) {
    outcomes.into_iter().for_each(|outcome| outcome.unwrap());
}

/// What the log has, each with what became of it.
async fn log(tansu: &Tansu) -> Vec<(String, Fate)> {
    let log = tansu.log("orders").await;
    log.into_iter().map(|record| (String::from_utf8(record.value).unwrap(), record.fate)).collect()
}

/// As many of a batch, with the same fate.
fn of(mark: &str, count: usize, fate: Fate) -> Vec<(String, Fate)> {
    (0..count).map(|n| (format!("{mark}{n}"), fate)).collect()
}

/// What somebody does who dies before he commits.
async fn begin(settings: &Settings, samples: Vec<Sample>) -> Producer {
    let settings = KafkaSettings::check(settings).unwrap();
    let opened = crate::on_thread::on_thread(move || {
        let producer = producer::open(&settings, &Purpose::Transactions(NAME.to_owned()))?;
        producer.inner.begin_transaction().unwrap();
        Ok((producer, settings))
    });
    let (producer, settings) = opened.await.unwrap();
    for sample in &samples {
        let record = Record::new(&settings, &sample.parcel()).unwrap();
        let delivery = producer.inner.send_result(record.to("orders"));
        delivery.map_err(|(error, _record)| error).unwrap().await.unwrap().unwrap();
    }
    producer
}

#[tokio::test]
async fn a_batch_is_a_transaction() {
    let (tansu, settings) = tansu().await;
    let sender = open(&settings).await.unwrap();
    all_done(sender.deliver(&parcels(&samples("a", 3))).await);
    all_done(sender.deliver(&parcels(&samples("b", 100))).await);
    assert_eq!(log(&tansu).await, [of("a", 3, Fate::Committed), of("b", 100, Fate::Committed)].concat());
    assert!(sender.deliver(&[]).await.is_empty());
    let claimed = sender.describe().capabilities;
    assert!(claimed.all_or_none && claimed.outcome_per_message);
    assert_eq!((claimed.shape, claimed.double_safety), (Shape::AsynchronousBatch, DoubleSafety::AtLeastOnce));
    sender.close().await;
}

#[tokio::test]
async fn what_was_open_at_a_crash_is_seen_by_nobody_and_taken_back_by_the_next() {
    let (tansu, settings) = tansu().await;
    let first = begin(&settings, samples("lost", 2)).await;
    assert_eq!(log(&tansu).await, of("lost", 2, Fate::Open));
    let servers = format!("127.0.0.1:{}", tansu.port);
    assert_eq!(records_at(&servers, "read_committed").len(), 0);
    assert_eq!(records_at(&servers, "read_uncommitted").len(), 2);
    let next = open(&settings).await.unwrap();
    assert_eq!(log(&tansu).await, of("lost", 2, Fate::Aborted));
    // Whoever had the name before commits nothing of it any more.
    let late =
        crate::on_thread::on_thread(move || Ok(first.inner.commit_transaction(Duration::from_secs(2))));
    late.await.unwrap().unwrap_err();
    all_done(next.deliver(&parcels(&samples("kept", 2))).await);
    assert_eq!(log(&tansu).await, [of("lost", 2, Fate::Aborted), of("kept", 2, Fate::Committed)].concat());
}

#[tokio::test]
async fn a_batch_that_was_given_up_is_not_committed() {
    let (port, samples) = (free_port(), samples("a", 3));
    let proxy = Proxy::start(port).await;
    let mut tansu = Tansu::start(port, proxy.port);
    tansu.ready("orders").await;
    let settings = Tansu::settings_at(proxy.port).with("transactional", true).with("timeout", "1s");
    let sender = open(&settings).await.unwrap();
    let batch = parcels(&samples);
    proxy.set(Fault::Hold { way: Way::Answer, after: 0 });
    tokio::select! {
        _ = sender.deliver(&batch) => panic!("nothing was answered"),
        () = proxy.struck() => {}
    }
    proxy.set(Fault::Pass);
    all_done(sender.deliver(&batch).await);
    let log = log(&tansu).await;
    let committed = log.iter().filter(|(_, fate)| *fate == Fate::Committed).count();
    assert_eq!(committed, 3, "{log:?}");
    assert!(log.iter().all(|(_, fate)| *fate != Fate::Open), "{log:?}");
}

#[tokio::test]
async fn a_server_that_is_down_or_hangs_costs_an_attempt() {
    let (mut tansu, settings) = tansu().await;
    let hasty = settings.with("timeout", "500ms").with("connect_timeout", "1s");
    let sender = open(&hasty).await.unwrap();
    let samples = samples("a", 2);
    tansu.peer.pause();
    for outcome in sender.deliver(&parcels(&samples)).await {
        is(
            &outcome.unwrap_err(),
            ErrorClass::Temporary,
            "has not confirmed the message within 500ms (setting timeout)",
        );
    }
    is(&open(&hasty).await.unwrap_err(), ErrorClass::Temporary, "no broker answers within 1s");
    tansu.peer.go_on();
    all_done(until_it_is_there(&sender, &samples).await);
    tansu.peer.kill();
    for outcome in sender.deliver(&parcels(&samples)).await {
        is(&outcome.unwrap_err(), ErrorClass::Temporary, "kafka://127.0.0.1");
    }
    // What it kept goes with it, the owners of names too.
    tansu.peer.start_again();
    tansu.ready("orders").await;
    all_done(until_it_is_there(&sender, &samples).await);
    let committed = log(&tansu).await.into_iter().filter(|(_, fate)| *fate == Fate::Committed);
    assert_eq!(committed.collect::<Vec<_>>(), of("a", 2, Fate::Committed));
}

/// As the engine does: tries again.
async fn until_it_is_there(sender: &TransactionalSender, samples: &[Sample]) -> Vec<Result<(), SendError>> {
    loop {
        let outcomes = sender.deliver(&parcels(samples)).await;
        if outcomes.iter().all(Result::is_ok) {
            return outcomes;
        }
    }
}

/// A cluster of the library's own, and its settings with transactions.
fn mocked() -> (MockCluster<'static, DefaultProducerContext>, Settings) {
    let (cluster, settings) = mock();
    (cluster, settings.with("transactional", true).with("timeout", "5s"))
}

#[tokio::test]
async fn only_the_one_pays_that_is_refused() {
    let (cluster, settings) = mocked();
    let sender = open(&settings).await.unwrap();
    let refused = RDKafkaRespErr::RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE;
    let taken = RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR;
    // Of three that go out together it is said of all; one by one, of the second.
    cluster.request_errors(RDKafkaApiKey::Produce, &[refused, taken, refused]);
    let samples = samples("a", 3);
    let outcomes = sender.deliver(&parcels(&samples)).await;
    let [Ok(()), Err(error), Ok(())] = &outcomes[..] else { panic!("{outcomes:?}") };
    is(error, ErrorClass::Permanent, "does not take the message");
    // The mock hides nothing: the first one's transaction was taken back, and it came again with the third.
    let keys: Vec<_> = records(&cluster.bootstrap_servers())
        .iter()
        .map(|record| header(record, "x-pillarbox-key"))
        .collect();
    assert_eq!(keys, ["key/a0", "key/a0", "key/a2"]);
    // One that the library itself refuses.
    let long =
        [Sample::new("x").key("key/b0"), Sample::new(vec![b'x'; 983_616]).header("h", "x".repeat(17_000))];
    let outcomes = sender.deliver(&parcels(&long)).await;
    let [Ok(()), Err(error)] = &outcomes[..] else { panic!("{outcomes:?}") };
    is(error, ErrorClass::Permanent, "does not take the message");
    // And one that is not even read.
    let outcomes = sender.deliver(&parcels(&[Sample::new(vec![b'x'; 983_617])])).await;
    is(outcomes[0].as_ref().unwrap_err(), ErrorClass::Permanent, "message_bytes_max");
}

#[tokio::test]
async fn what_is_wrong_with_the_brokers_costs_all_an_attempt_and_the_next_one_works() {
    let (cluster, settings) = mocked();
    let sender = open(&settings).await.unwrap();
    let samples = samples("a", 2);
    for (request, error) in [
        (RDKafkaApiKey::Produce, RDKafkaRespErr::RD_KAFKA_RESP_ERR_POLICY_VIOLATION),
        (RDKafkaApiKey::AddPartitionsToTxn, RDKafkaRespErr::RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED),
        (RDKafkaApiKey::EndTxn, RDKafkaRespErr::RD_KAFKA_RESP_ERR_INVALID_TXN_STATE),
        (RDKafkaApiKey::EndTxn, RDKafkaRespErr::RD_KAFKA_RESP_ERR_TRANSACTIONAL_ID_AUTHORIZATION_FAILED),
        (RDKafkaApiKey::EndTxn, RDKafkaRespErr::RD_KAFKA_RESP_ERR_PRODUCER_FENCED),
    ] {
        cluster.request_errors(request, &[error]);
        for outcome in sender.deliver(&parcels(&samples)).await {
            is(&outcome.unwrap_err(), ErrorClass::Temporary, "has not taken the message");
        }
        all_done(sender.deliver(&parcels(&samples)).await);
    }
    // What passes is tried again within the attempt.
    cluster.request_errors(
        RDKafkaApiKey::EndTxn,
        &[RDKafkaRespErr::RD_KAFKA_RESP_ERR_COORDINATOR_LOAD_IN_PROGRESS],
    );
    all_done(sender.deliver(&parcels(&samples)).await);
}

#[tokio::test]
async fn whoever_has_the_name_last_is_its_owner() {
    // The mock lets every owner go on.
    let (tansu, settings) = tansu().await;
    let settings = settings.with("timeout", "2s");
    let first = open(&settings).await.unwrap();
    let samples = samples("a", 2);
    all_done(first.deliver(&parcels(&samples)).await);
    let second = open(&settings).await.unwrap();
    for outcome in first.deliver(&parcels(&samples)).await {
        is(&outcome.unwrap_err(), ErrorClass::Temporary, "the topic \"orders\" has not");
    }
    all_done(second.deliver(&parcels(&samples)).await);
    // It is no lock: the other one takes it back with the batch after that.
    all_done(first.deliver(&parcels(&samples)).await);
    assert!(second.deliver(&parcels(&samples)).await.iter().all(Result::is_err));
    let committed = log(&tansu).await.into_iter().filter(|(_, fate)| *fate == Fate::Committed);
    assert_eq!(committed.count(), 3 * samples.len());
}

#[tokio::test]
async fn a_route_has_a_name_of_its_own() {
    let (_cluster, settings) = mocked();
    let context = context();
    let expected = format!("pillarbox-{}-orders-primary-new", context.box_id);
    assert_eq!(name(&context, "new"), expected);
    let checked = KafkaKind.check(&settings).unwrap();
    assert!(checked.describe(KafkaKind.describe()).capabilities.all_or_none);
    let adapter = checked.open(&context).await.unwrap();
    assert!(adapter.describe().capabilities.all_or_none);
}

#[test]
fn a_transaction_takes_no_longer_than_brokers_allow() {
    let settings = Tansu::settings_at(7).with("transactional", true);
    assert!(KafkaSettings::check(&settings).unwrap().transactional);
    assert!(KafkaSettings::check(&settings.clone().with("timeout", "5m")).is_ok());
    let error = KafkaSettings::check(&settings.with("timeout", "301s")).unwrap_err();
    assert_eq!((error.0.len(), error.0[0].key.as_str()), (1, "timeout"), "{error}");
    assert!(!KafkaSettings::check(&Tansu::settings_at(7)).unwrap().transactional);
}
