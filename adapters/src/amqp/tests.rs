//! The AMQP adapter against a real broker.

use std::time::Duration;

use futures_util::future::join_all;
use lapin::ExchangeKind;
use lapin::options::{ExchangeDeclareOptions, QueueBindOptions};
use lapin::types::{AMQPValue, FieldTable};
use pillarbox_runtime::adapter::Sender as _;
use pillarbox_runtime::adapter::{
    AdapterKind as _, DoubleSafety, ErrorClass, SendError, Settings, Transport as _,
};
use pillarbox_store::{ErrorKind, FRAGMENT_BYTES, HeaderValue};
use serde_json::json;

use self::broker::{BODY_BYTES_MAX, Broker, QUEUE};
use super::AmqpKind;
use super::send::AmqpSender;
use super::settings::AmqpSettings;
use crate::parcel::sample::{ID, KEY, SUBMITTED, Sample, bytes, context, stored};
use crate::peer::free_port;
use crate::proxy::Proxy;
use crate::servers::RabbitMq;

mod broker;

async fn open(settings: &Settings) -> Result<AmqpSender, SendError> {
    AmqpSender::open(AmqpSettings::check(settings).unwrap()).await
}

fn is(error: &SendError, class: ErrorClass, part: &str) {
    let chain = error.to_failure().chain.join(" <- ");
    assert_eq!(error.class(), class, "{chain}");
    assert!(chain.contains(part), "{chain}");
}

async fn a_message_has_its_key_its_headers_and_its_body(broker: &Broker) {
    let sender = open(&broker.settings()).await.unwrap();
    let sample = Sample::new("hello")
        .header("Order", "A-17 ü")
        .header("count", 3)
        .header("raw", HeaderValue::Bytes(vec![1, 255]))
        .header("content-type", "text/plain")
        .attempt(4);
    sender.deliver(&sample.parcel()).await.unwrap();
    // The broker does not recognise a repeat; who reads can.
    sender.deliver(&sample.clone().attempt(5).parcel()).await.unwrap();
    sender.deliver(&sample.in_doubt().parcel()).await.unwrap();
    let held = broker.take(QUEUE).await;
    assert_eq!(held.len(), 3);
    let doubts: Vec<_> = held.iter().map(|one| one.header("x-pillarbox-in-doubt")).collect();
    assert_eq!(doubts, [None, None, Some("true".to_owned())]);
    for (held, attempt) in held.iter().zip(["4", "5"]) {
        assert_eq!((held.key.as_str(), &held.body[..]), (KEY, &b"hello"[..]));
        for (name, value) in [
            ("x-pillarbox-message-id", ID),
            ("x-pillarbox-attempt", attempt),
            ("x-pillarbox-h-order", "A-17 ü"),
            ("x-pillarbox-h-count", "3"),
            ("x-pillarbox-h-raw", "01ff"),
        ] {
            assert_eq!(held.header(name).as_deref(), Some(value), "{name}");
        }
        let properties = &held.properties;
        assert_eq!(*properties.delivery_mode(), Some(2));
        assert_eq!(properties.content_type().as_ref().unwrap().as_str(), "text/plain");
        assert_eq!(
            properties.timestamp().unwrap(),
            u64::try_from(SUBMITTED.as_micros()).unwrap() / 1_000_000
        );
    }
    let passing = broker.settings().with("persistent", false).with("content_type", "application/json");
    open(&passing).await.unwrap().deliver(&Sample::new("{}").parcel()).await.unwrap();
    let held = broker.take(QUEUE).await;
    assert_eq!(*held[0].properties.delivery_mode(), Some(1));
    assert_eq!(held[0].properties.content_type().as_ref().unwrap().as_str(), "application/json");
    assert_eq!(sender.describe().capabilities.double_safety, DoubleSafety::AtLeastOnce);
    sender.close().await;
}

async fn bodies_of_every_length_arrive_up_to_the_limit(broker: &Broker) {
    let sender = open(&broker.settings().with("body_bytes_max", 2 * BODY_BYTES_MAX)).await.unwrap();
    let lengths = [0, 1, FRAGMENT_BYTES, FRAGMENT_BYTES + 1, BODY_BYTES_MAX];
    for len in lengths {
        let sample = Sample::new(stored(bytes(len), None)).key(&format!("key/{len}"));
        sender.deliver(&sample.parcel()).await.unwrap();
    }
    // The broker closes the channel over it; others have theirs.
    let long = Sample::new(stored(bytes(BODY_BYTES_MAX + 1), None)).key("long");
    let fine = Sample::new("fine").key("fine");
    let (long, fine) = (long.parcel(), fine.parcel());
    let (refused, sent) = tokio::join!(sender.deliver(&long), sender.deliver(&fine));
    is(&refused.unwrap_err(), ErrorClass::Permanent, "larger than configured max size");
    sent.unwrap();
    let longer = Sample::new(stored(bytes(2 * BODY_BYTES_MAX + 1), None)).key("longer");
    let error = sender.deliver(&longer.parcel()).await.unwrap_err();
    is(&error, ErrorClass::Permanent, "(setting body_bytes_max)");
    let broken = Sample::new(stored(bytes(FRAGMENT_BYTES + 1), Some((1, ErrorKind::Corrupt)))).key("broken");
    is(&sender.deliver(&broken.parcel()).await.unwrap_err(), ErrorClass::Permanent, "could not be read");
    let held = broker.take(QUEUE).await;
    assert_eq!(held.len(), lengths.len() + 1);
    for (held, len) in held.iter().zip(lengths) {
        assert!(held.body == bytes(len), "{len}");
    }
}

async fn only_the_message_that_is_refused_pays(broker: &Broker) {
    use ErrorClass::{Permanent, Temporary};
    let by_header = broker.settings().with("routing_key", "{header:to}");
    let sender = open(&by_header).await.unwrap();
    // Confirms for many at once must not be taken for one another's.
    let samples: Vec<_> = (0..60)
        .map(|n| {
            let to = if n % 2 == 0 { QUEUE } else { "nobody" };
            Sample::new("hello").key(&format!("key/{n}")).header("to", to)
        })
        .collect();
    let parcels: Vec<_> = samples.iter().map(Sample::parcel).collect();
    let sent = join_all(parcels.iter().map(|parcel| sender.deliver(parcel))).await;
    for (n, sent) in sent.into_iter().enumerate() {
        match n % 2 {
            0 => sent.unwrap(),
            _ => is(&sent.unwrap_err(), Temporary, "no queue takes the message (312 NO_ROUTE): bind one"),
        }
    }
    let mut keys: Vec<_> = broker.take(QUEUE).await.into_iter().map(|held| held.key).collect();
    keys.sort_unstable();
    let mut expected: Vec<_> = (0..60).step_by(2).map(|n| format!("key/{n}")).collect();
    expected.sort_unstable();
    assert_eq!(keys, expected);
    for (sample, part) in [
        (Sample::new(""), "the message has no header \"to\", which the routing key is made of"),
        (Sample::new("").header("to", "x".repeat(256)), "the routing key has 256 bytes"),
        (Sample::new("").header("to", QUEUE).key(&"k".repeat(256)), "the send key has 256 bytes"),
        (Sample::new("").header("to", QUEUE).header("content-type", "t".repeat(256)), "content-type"),
        (Sample::new("").header("to", QUEUE).header("big", HeaderValue::Bytes(vec![7; 65_400])), "frame_max"),
    ] {
        is(&sender.deliver(&sample.parcel()).await.unwrap_err(), Permanent, part);
    }
    let careless = by_header.with("mandatory", false);
    open(&careless).await.unwrap().deliver(&parcels[1]).await.unwrap();
    let nowhere = broker.settings().with("exchange", "missing");
    let lost = open(&nowhere).await.unwrap();
    is(&lost.deliver(&Sample::new("").parcel()).await.unwrap_err(), Temporary, "no exchange 'missing'");
    // Once it is there, the same connection will do.
    declare(broker, "missing").await;
    lost.deliver(&Sample::new("").parcel()).await.unwrap();
    assert_eq!(broker.take(QUEUE).await.len(), 1);
    let mut full = FieldTable::default();
    full.insert("x-max-length".into(), AMQPValue::LongInt(1));
    full.insert("x-overflow".into(), AMQPValue::LongString("reject-publish".into()));
    broker.queue("full", full).await;
    let sender = open(&broker.settings().with("routing_key", "full")).await.unwrap();
    sender.deliver(&Sample::new("1").parcel()).await.unwrap();
    is(&sender.deliver(&Sample::new("2").parcel()).await.unwrap_err(), Temporary, "(nack): a queue is full");
    assert_eq!(broker.take("full").await.len(), 1);
    sender.deliver(&Sample::new("2").parcel()).await.unwrap();
}

async fn declare(broker: &Broker, exchange: &str) {
    let (_connection, channel) = broker.channel().await;
    let (options, none) = (ExchangeDeclareOptions::default(), FieldTable::default());
    channel.exchange_declare(exchange.into(), ExchangeKind::Direct, options, none.clone()).await.unwrap();
    let options = QueueBindOptions::default();
    channel.queue_bind(QUEUE.into(), exchange.into(), QUEUE.into(), options, none).await.unwrap();
}

#[tokio::test]
async fn what_is_published_is_held_and_what_is_refused_is_not() {
    let broker = Broker::start().await;
    a_message_has_its_key_its_headers_and_its_body(&broker).await;
    bodies_of_every_length_arrive_up_to_the_limit(&broker).await;
    only_the_message_that_is_refused_pays(&broker).await;
}

#[tokio::test]
async fn what_was_confirmed_survives_a_crash() {
    let mut broker = Broker::start().await;
    // That there is a queue the broker writes down in its own time; a crash before that takes the queue.
    broker.rabbit.control(&["eval", "mnesia:sync_log()."]);
    let sender = open(&broker.settings()).await.unwrap();
    let samples: Vec<_> = (0..20).map(|n| Sample::new("hello").key(&format!("key/{n:02}"))).collect();
    let parcels: Vec<_> = samples.iter().map(Sample::parcel).collect();
    for sent in join_all(parcels[..10].iter().map(|one| sender.deliver(one))).await {
        sent.unwrap();
    }
    broker.rabbit.peer.kill();
    is(&sender.deliver(&parcels[10]).await.unwrap_err(), ErrorClass::Temporary, "amqp://127.0.0.1");
    is(&sender.deliver(&parcels[10]).await.unwrap_err(), ErrorClass::Temporary, "cannot connect");
    broker.start_again().await;
    for sent in join_all(parcels[10..].iter().map(|one| sender.deliver(one))).await {
        sent.unwrap();
    }
    let mut keys: Vec<_> = broker.take(QUEUE).await.into_iter().map(|held| held.key).collect();
    keys.sort_unstable();
    let expected: Vec<_> = samples.iter().map(|sample| sample.send_key.clone()).collect();
    assert_eq!(keys, expected);

    // An answer that is lost: the message is there, and its repeat says that it is one.
    let proxy = Proxy::start(broker.rabbit.port).await;
    let sender = open(&RabbitMq::settings_at(proxy.port)).await.unwrap();
    let sample = Sample::new("once or twice");
    proxy.lose(b"once or twice", b"\x00\x3c\x00\x50");
    let error = sender.deliver(&sample.parcel()).await.unwrap_err();
    is(&error, ErrorClass::Temporary, "the connection broke before the answer");
    assert!(proxy.has_lost());
    broker.crash().await;
    sender.deliver(&sample.attempt(2).parcel()).await.unwrap();
    let held = broker.take(QUEUE).await;
    let seen: Vec<_> = held.iter().map(|one| (one.key.as_str(), one.header("x-pillarbox-attempt"))).collect();
    assert_eq!(seen, [(KEY, Some("1".to_owned())), (KEY, Some("2".to_owned()))]);
}

#[tokio::test]
async fn a_broker_that_hangs_or_is_full_is_waited_for() {
    let broker = Broker::start().await;
    let patient = open(&broker.settings()).await.unwrap();
    let by_header = broker.settings().with("routing_key", "{header:to}").with("timeout", "200ms");
    let hasty = open(&by_header).await.unwrap();
    let to = |queue: &str| Sample::new("hello").header("to", queue);
    hasty.deliver(&to(QUEUE).parcel()).await.unwrap();
    broker.rabbit.peer.pause();
    // Given up by who waits for it: its confirm, when it comes, is nobody's.
    let parcel = to(QUEUE);
    let waited = tokio::time::timeout(Duration::from_millis(50), hasty.deliver(&parcel.parcel())).await;
    assert!(waited.is_err());
    let error = hasty.deliver(&to(QUEUE).parcel()).await.unwrap_err();
    is(&error, ErrorClass::Temporary, "no answer within 200ms (setting timeout)");
    let unreachable = broker.settings().with("connect_timeout", "200ms");
    is(&open(&unreachable).await.unwrap_err(), ErrorClass::Temporary, "no connection within 200ms");
    broker.rabbit.peer.go_on();
    let slow = open(&by_header.with("timeout", "30s")).await.unwrap();
    is(&slow.deliver(&to("nobody").parcel()).await.unwrap_err(), ErrorClass::Temporary, "no queue");
    slow.deliver(&to(QUEUE).parcel()).await.unwrap();
    broker.take(QUEUE).await;

    broker.rabbit.control(&["set_vm_memory_high_watermark", "0.0000001"]);
    // It says so to who sends; until then it only does not answer.
    let sample = Sample::new("hello").key("kept");
    let blocked = loop {
        let parcel = sample.parcel();
        let waited = tokio::time::timeout(Duration::from_millis(200), patient.deliver(&parcel)).await;
        if let Ok(Err(error)) = waited {
            break error;
        }
    };
    is(&blocked, ErrorClass::Temporary, "(connection blocked");
    broker.rabbit.control(&["set_vm_memory_high_watermark", "0.4"]);
    while let Err(error) = patient.deliver(&sample.parcel()).await {
        is(&error, ErrorClass::Temporary, "(connection blocked");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert!(broker.take(QUEUE).await.iter().all(|held| held.key == "kept"));
}

#[tokio::test]
async fn only_who_is_known_and_trusted_gets_on() {
    use ErrorClass::Temporary;
    let broker = Broker::start().await;
    let base = broker.settings();
    let sample = Sample::new("hello");
    let wrong = base.clone().with("password", "hunter3hunter3");
    let error = open(&wrong).await.unwrap_err();
    is(&error, Temporary, "ACCESS_REFUSED");
    assert!(!format!("{error:?} {:?}", error.to_failure()).contains("hunter"));
    let guest = Settings::default().with("url", format!("amqp://127.0.0.1:{}", broker.rabbit.port));
    is(&open(&guest.clone().with("routing_key", QUEUE)).await.unwrap_err(), Temporary, "ACCESS_REFUSED");
    let elsewhere = base.clone().with("url", format!("amqp://127.0.0.1:{}/some%2Fwhere", broker.rabbit.port));
    is(&open(&elsewhere).await.unwrap_err(), Temporary, "vhost some/where not found");
    let unset = base.clone().with("password", "env:PILLARBOX_TEST_NOT_SET");
    is(&open(&unset).await.unwrap_err(), Temporary, "password: the environment's variable");
    is(&open(&RabbitMq::settings_at(free_port())).await.unwrap_err(), Temporary, "cannot connect");
    let sender = open(&base).await.unwrap();
    let checked = AmqpKind.check(&base).unwrap();
    assert!(!format!("{sender:?} {checked:?} {base:?}").contains("hunter"));
    assert_eq!(checked.open(&context()).await.unwrap().describe().kind, "amqp");

    let encrypted = base.with("url", format!("amqps://127.0.0.1:{}", broker.rabbit.tls_port));
    is(&open(&encrypted).await.unwrap_err(), Temporary, "invalid peer certificate");
    let trusting =
        encrypted.clone().with("ca_file", broker.rabbit.folder.path().join("ca.crt").to_str().unwrap());
    open(&trusting).await.unwrap().deliver(&sample.parcel()).await.unwrap();
    let careless = encrypted.with("danger_accept_invalid_certs", true);
    open(&careless).await.unwrap().deliver(&sample.parcel()).await.unwrap();
    let unencrypted = trusting.with("url", format!("amqps://127.0.0.1:{}", broker.rabbit.port));
    is(&open(&unencrypted).await.unwrap_err(), Temporary, "cannot set up TLS with the server");
    assert_eq!(broker.take(QUEUE).await.len(), 2);
}

#[test]
fn settings_have_defaults() {
    let checked = AmqpSettings::check(&RabbitMq::settings_at(7)).unwrap();
    assert_eq!((checked.connect_timeout.as_secs(), checked.timeout.as_secs()), (10, 30));
    assert_eq!((checked.virtual_host.as_str(), checked.exchange.as_str()), ("/", ""));
    assert!(checked.mandatory && checked.persistent);
    assert_eq!(checked.content_type, "application/octet-stream");
    assert_eq!(AmqpKind.describe().capabilities.body_bytes_max, Some(16 * 1024 * 1024));
    assert_eq!(AmqpKind.describe().uri_prefixes, ["amqp://", "amqps://"]);
    for (path, host) in [("", "/"), ("%2f", "/"), ("a", "a"), ("a%2Fb%25", "a/b%"), ("%c3%bc", "ü")] {
        let url = format!("amqp://h/{path}");
        let checked = AmqpSettings::check(&RabbitMq::settings_at(7).with("url", url)).unwrap();
        assert_eq!(checked.virtual_host, host);
    }
}

#[test]
fn every_problem_is_told_at_once() {
    let wrong = Settings::default()
        .with("url", "amqp://u:hunter2@h")
        .with("user", RabbitMq::USER)
        .with("exchange", "a\nb")
        .with("routing_key", "{hedaer:to}")
        .with("content_type", "")
        .with("body_bytes_max", 0)
        .with("connect_timeout", "0s")
        .with("timeout", "soon")
        .with("ca_file", "");
    let error = AmqpSettings::check(&wrong).unwrap_err();
    let keys: Vec<&str> = error.0.iter().map(|problem| problem.key.as_str()).collect();
    let expected = [
        "url",
        "user",
        "exchange",
        "routing_key",
        "content_type",
        "body_bytes_max",
        "connect_timeout",
        "timeout",
        "ca_file",
    ];
    assert_eq!(keys, expected);
    assert!(!error.to_string().contains("hunter2"));
    for (key, value) in [
        ("url", json!("amqp://h/%")),
        ("url", json!("amqp://h/%2")),
        ("url", json!("amqp://h/%ff")),
        ("url", json!("amqp://h/a/b")),
        ("password", json!("env:")),
        ("routing_key", json!("")),
        ("routing_key", json!("x".repeat(256))),
        ("exchange", json!("x".repeat(256))),
        ("ca_file", json!("ca.pem")),
        ("danger_accept_invalid_certs", json!(true)),
        ("queue", json!("x")),
    ] {
        let error = AmqpSettings::check(&RabbitMq::settings_at(7).with(key, value)).unwrap_err();
        assert!(error.0.iter().all(|problem| problem.key == key || key == "password"), "{key}: {error}");
    }
    assert!(AmqpSettings::check(&RabbitMq::settings_at(7).with("body_bytes_max", u64::MAX)).is_err());
}
