//! The MQTT adapter against a real broker.

use std::time::Duration;

use futures_util::future::join_all;
use pillarbox_runtime::adapter::{
    AdapterKind as _, DoubleSafety, ErrorClass, SendError, Sender as _, Settings, Transport as _,
};
use pillarbox_store::{ErrorKind, FRAGMENT_BYTES, HeaderValue};
use rumqttc::{PubAck, PubAckProperties, PubAckReason};
use serde_json::json;

use self::broker::{Broker, PACKET_BYTES_MAX};
use super::MqttKind;
use super::send::MqttSender;
use super::settings::MqttSettings;
use crate::parcel::sample::{ID, KEY, Sample, bytes, context, stored};
use crate::peer::free_port;
use crate::proxy::Proxy;
use crate::servers::Mosquitto;

mod broker;

async fn open(settings: &Settings) -> Result<MqttSender, SendError> {
    MqttSender::open(MqttSettings::check(settings).unwrap()).await
}

fn is(error: &SendError, class: ErrorClass, part: &str) {
    let chain = error.to_failure().chain.join(" <- ");
    assert_eq!(error.class(), class, "{chain}");
    assert!(chain.contains(part), "{chain}");
}

#[tokio::test]
async fn a_message_has_its_key_its_headers_and_its_body() {
    let broker = Broker::start().await;
    let sender = open(&broker.settings().with("topic", "orders/{header:country}")).await.unwrap();
    let sample = Sample::new("hello")
        .header("country", "de")
        .header("Order", "A-17 ü")
        .header("raw", HeaderValue::Bytes(vec![1, 255]))
        .header("content-type", "text/plain")
        .attempt(4);
    sender.deliver(&sample.parcel()).await.unwrap();
    // The broker does not recognise a repeat; who reads can.
    sender.deliver(&sample.clone().attempt(5).parcel()).await.unwrap();
    sender.deliver(&sample.in_doubt().parcel()).await.unwrap();
    let held = broker.take().await;
    assert_eq!(held.len(), 3);
    let doubts: Vec<_> = held.iter().map(|one| one.property("x-pillarbox-in-doubt")).collect();
    assert_eq!(doubts, [None, None, Some("true".to_owned())]);
    for (held, attempt) in held.iter().zip(["4", "5"]) {
        assert_eq!((held.topic(), held.key().as_str(), held.body()), ("orders/de", KEY, &b"hello"[..]));
        for (name, value) in [
            ("x-pillarbox-message-id", ID),
            ("x-pillarbox-attempt", attempt),
            ("x-pillarbox-h-order", "A-17 ü"),
            ("x-pillarbox-h-raw", "01ff"),
        ] {
            assert_eq!(held.property(name).as_deref(), Some(value), "{name}");
        }
        assert_eq!(held.0.properties.as_ref().unwrap().content_type.as_deref(), Some("text/plain"));
    }
    assert_eq!(sender.describe().capabilities.double_safety, DoubleSafety::AtLeastOnce);
    let keeping = broker.settings().with("retain", true).with("content_type", "application/json");
    open(&keeping).await.unwrap().deliver(&Sample::new("{}").parcel()).await.unwrap();
    let held = broker.retained().await;
    assert_eq!((held.len(), held[0].topic(), held[0].body()), (1, Mosquitto::TOPIC, &b"{}"[..]));
    assert_eq!(held[0].0.properties.as_ref().unwrap().content_type.as_deref(), Some("application/json"));
    sender.close().await;
}

#[tokio::test]
async fn bodies_of_every_length_arrive_up_to_the_limit() {
    let broker = Broker::start().await;
    let sender = open(&broker.settings().with("body_bytes_max", 2 * PACKET_BYTES_MAX)).await.unwrap();
    let lengths = [0, 1, FRAGMENT_BYTES, FRAGMENT_BYTES + 1, PACKET_BYTES_MAX - 1024];
    for len in lengths {
        let sample = Sample::new(stored(bytes(len), None)).key(&format!("key/{len}"));
        sender.deliver(&sample.parcel()).await.unwrap();
    }
    for (len, part) in
        [(PACKET_BYTES_MAX, "maximum packet size"), (2 * PACKET_BYTES_MAX + 1, "body_bytes_max")]
    {
        let long = Sample::new(stored(bytes(len), None));
        is(&sender.deliver(&long.parcel()).await.unwrap_err(), ErrorClass::Permanent, part);
    }
    let broken = Sample::new(stored(bytes(FRAGMENT_BYTES + 1), Some((1, ErrorKind::Corrupt))));
    is(&sender.deliver(&broken.parcel()).await.unwrap_err(), ErrorClass::Permanent, "could not be read");
    let held = broker.take().await;
    assert_eq!(held.len(), lengths.len());
    for (held, len) in held.iter().zip(lengths) {
        assert!(held.body() == bytes(len), "{len}");
    }
}

#[tokio::test]
async fn only_the_message_that_is_refused_pays() {
    use ErrorClass::{Permanent, Temporary};
    let broker = Broker::start().await;
    let sender = open(&broker.settings().with("topic", "{header:to}")).await.unwrap();
    let to = |topic: &str| Sample::new("hello").header("to", topic);
    let samples: Vec<_> = (0..60)
        .map(|n| to(["orders/new", "nobody/new", "secret/new"][n % 3]).key(&format!("key/{n:02}")))
        .collect();
    let parcels: Vec<_> = samples.iter().map(Sample::parcel).collect();
    let sent = join_all(parcels.iter().map(|parcel| sender.deliver(parcel))).await;
    for (n, sent) in sent.into_iter().enumerate() {
        match n % 3 {
            0 => sent.unwrap(),
            1 => is(&sent.unwrap_err(), Temporary, "nobody has subscribed to the topic"),
            _ => is(&sent.unwrap_err(), Temporary, "does not let us publish to the topic (code 0x87"),
        }
    }
    let mut keys: Vec<_> = broker.take().await.iter().map(broker::Held::key).collect();
    keys.sort_unstable();
    let expected: Vec<_> = (0..60).step_by(3).map(|n| format!("key/{n:02}")).collect();
    assert_eq!(keys, expected);
    for (sample, part) in [
        (Sample::new(""), "the message has no header \"to\", which the topic is made of"),
        (to("orders/+"), "no wildcards"),
        (to("#"), "no wildcards"),
        (to(""), "the topic is empty"),
        (to("$SYS/x"), "the broker's own"),
        (to(Mosquitto::TOPIC).header("big", HeaderValue::Bytes(vec![7; 40_000])), "has 80000 bytes"),
    ] {
        is(&sender.deliver(&sample.parcel()).await.unwrap_err(), Permanent, part);
    }
    let careless = broker.settings().with("topic", "nobody/new").with("subscriber_required", false);
    open(&careless).await.unwrap().deliver(&Sample::new("").parcel()).await.unwrap();
    assert!(broker.take().await.is_empty());
    for (reason, class, part) in [
        (
            PubAckReason::TopicNameInvalid,
            Permanent,
            "refuses the message for what it is (code 0x90, saying: no)",
        ),
        (PubAckReason::PayloadFormatInvalid, Permanent, "(code 0x99, saying: no)"),
        (PubAckReason::QuotaExceeded, Temporary, "refuses the message (code 0x97, saying: no)"),
        (PubAckReason::UnspecifiedError, Temporary, "(code 0x80, saying: no)"),
        (PubAckReason::ImplementationSpecificError, Temporary, "(code 0x83, saying: no)"),
    ] {
        let properties =
            PubAckProperties { reason_string: Some("no".to_owned()), user_properties: Vec::new() };
        let mut answer = PubAck::new(1, Some(properties));
        answer.reason = reason;
        is(&sender.judge(&answer).unwrap_err(), class, part);
    }
}

#[tokio::test]
async fn a_broker_that_comes_back_is_published_to_again() {
    let mut broker = Broker::start().await;
    let sender = open(&broker.settings()).await.unwrap();
    let samples: Vec<_> = (0..20).map(|n| Sample::new("hello").key(&format!("key/{n:02}"))).collect();
    let parcels: Vec<_> = samples.iter().map(Sample::parcel).collect();
    for sent in join_all(parcels[..10].iter().map(|one| sender.deliver(one))).await {
        sent.unwrap();
    }
    let before = broker.take().await;
    assert_eq!(before.len(), 10);
    broker.mosquitto.peer.kill();
    is(&sender.deliver(&parcels[10]).await.unwrap_err(), ErrorClass::Temporary, "mqtt://127.0.0.1");
    is(&sender.deliver(&parcels[10]).await.unwrap_err(), ErrorClass::Temporary, "cannot connect");
    broker.mosquitto.peer.start_again();
    broker.mosquitto.ready().await;
    for sent in join_all(parcels[10..].iter().map(|one| sender.deliver(one))).await {
        sent.unwrap();
    }
    let keys: Vec<_> = broker.take().await.iter().map(broker::Held::key).collect();
    let expected: Vec<_> = samples[10..].iter().map(|sample| sample.send_key.clone()).collect();
    assert_eq!(keys, expected);

    // An answer that is lost: the message is there, and its repeat says that it is one.
    let proxy = Proxy::start(broker.mosquitto.port).await;
    let sender = open(&Mosquitto::settings_at(proxy.port)).await.unwrap();
    let sample = Sample::new("once or twice");
    proxy.lose(b"once or twice", b"\x40\x02\x00");
    let error = sender.deliver(&sample.parcel()).await.unwrap_err();
    is(&error, ErrorClass::Temporary, "the connection broke before the answer: ");
    assert!(proxy.has_lost());
    sender.deliver(&sample.attempt(2).parcel()).await.unwrap();
    let held = broker.take().await;
    let seen: Vec<_> = held.iter().map(|one| (one.key(), one.property("x-pillarbox-attempt"))).collect();
    assert_eq!(seen, ["1", "2"].map(|attempt| (KEY.to_owned(), Some(attempt.to_owned()))));
}

#[tokio::test]
async fn a_broker_that_hangs_is_given_up() {
    let broker = Broker::start().await;
    let hasty = open(&broker.settings().with("timeout", "200ms")).await.unwrap();
    broker.mosquitto.peer.pause();
    let parcel = Sample::new("given up");
    let waited = tokio::time::timeout(Duration::from_millis(50), hasty.deliver(&parcel.parcel())).await;
    assert!(waited.is_err());
    let error = hasty.deliver(&parcel.parcel()).await.unwrap_err();
    is(&error, ErrorClass::Temporary, "no answer within 200ms (setting timeout)");
    let unreachable = broker.settings().with("connect_timeout", "200ms");
    is(&open(&unreachable).await.unwrap_err(), ErrorClass::Temporary, "no connection within 200ms");
    broker.mosquitto.peer.go_on();
    let patient = open(&broker.settings().with("topic", "{header:to}")).await.unwrap();
    let secret = Sample::new("").header("to", "secret/x");
    is(&patient.deliver(&secret.parcel()).await.unwrap_err(), ErrorClass::Temporary, "0x87");
    patient.deliver(&Sample::new("last").header("to", Mosquitto::TOPIC).parcel()).await.unwrap();
    let held = broker.take().await;
    assert_eq!(held.last().unwrap().body(), b"last");
    assert!(held.len() <= 3, "each was published once, answered or not");
}

#[tokio::test]
async fn only_who_is_known_and_trusted_gets_on() {
    use ErrorClass::Temporary;
    let mut broker = Broker::start().await;
    let base = broker.settings();
    let sample = Sample::new("hello");
    let wrong = base.clone().with("password", "hunter3hunter3");
    let error = open(&wrong).await.unwrap_err();
    is(&error, Temporary, "the broker does not let us in: ");
    assert!(!format!("{error:?} {:?}", error.to_failure()).contains("hunter"));
    let nobody = Settings::default().with("url", format!("mqtt://127.0.0.1:{}", broker.mosquitto.port));
    is(&open(&nobody.with("topic", Mosquitto::TOPIC)).await.unwrap_err(), Temporary, "NotAuthorized");
    let unset = base.clone().with("password", "env:PILLARBOX_TEST_NOT_SET");
    is(&open(&unset).await.unwrap_err(), Temporary, "password: the environment's variable");
    is(&open(&Mosquitto::settings_at(free_port())).await.unwrap_err(), Temporary, "cannot connect");
    let sender = open(&base.clone().with("client_id", "outbox-1")).await.unwrap();
    let checked = MqttKind.check(&base).unwrap();
    assert!(!format!("{sender:?} {checked:?} {base:?}").contains("hunter"));
    assert_eq!(checked.open(&context()).await.unwrap().describe().kind, "mqtt");

    let encrypted = base.with("url", format!("mqtts://127.0.0.1:{}", broker.mosquitto.tls_port));
    is(&open(&encrypted).await.unwrap_err(), Temporary, "invalid peer certificate");
    let trusting =
        encrypted.clone().with("ca_file", broker.mosquitto.folder.path().join("ca.crt").to_str().unwrap());
    open(&trusting).await.unwrap().deliver(&sample.parcel()).await.unwrap();
    let careless = encrypted.with("danger_accept_invalid_certs", true);
    open(&careless).await.unwrap().deliver(&sample.parcel()).await.unwrap();
    assert_eq!(broker.take().await.len(), 2);
    broker.crash().await;
    // One that broke is noticed by who sends, at the latest.
    while let Err(error) = sender.deliver(&sample.parcel()).await {
        is(&error, Temporary, "the connection broke before the answer");
    }
}

#[test]
fn settings_have_defaults() {
    let checked = MqttSettings::check(&Mosquitto::settings_at(7)).unwrap();
    assert_eq!((checked.connect_timeout.as_secs(), checked.timeout.as_secs()), (10, 30));
    assert!(checked.subscriber_required && !checked.retain);
    assert_eq!((checked.client_id.as_str(), checked.content_type), ("", None));
    assert_eq!(MqttKind.describe().capabilities.body_bytes_max, Some(1024 * 1024));
    assert_eq!(MqttKind.describe().uri_prefixes, ["mqtt://", "mqtts://"]);
    let retained = MqttSettings::check(&Mosquitto::settings_at(7).with("retain", true)).unwrap();
    assert!(!retained.subscriber_required);
}

#[test]
fn every_problem_is_told_at_once() {
    let wrong = Settings::default()
        .with("url", "mqtt://u:hunter2@h")
        .with("client_id", "a\nb")
        .with("user", Mosquitto::USER)
        .with("topic", "orders/#")
        .with("retain", true)
        .with("subscriber_required", true)
        .with("content_type", "")
        .with("body_bytes_max", 0)
        .with("connect_timeout", "0s")
        .with("timeout", "soon")
        .with("ca_file", "");
    let error = MqttSettings::check(&wrong).unwrap_err();
    let keys: Vec<&str> = error.0.iter().map(|problem| problem.key.as_str()).collect();
    let expected = "url, client_id, user, topic, subscriber_required, content_type, body_bytes_max, connect_timeout, \
                    timeout, ca_file";
    assert_eq!(keys.join(", "), expected);
    assert!(!error.to_string().contains("hunter2"));
    for (key, value) in [
        ("url", json!("mqtt://h/x")),
        ("topic", json!("")),
        ("topic", json!("{hedaer:x}")),
        ("topic", json!("$SYS/{key}")),
        ("topic", json!("a\0b")),
        ("ca_file", json!("ca.pem")),
        ("danger_accept_invalid_certs", json!(true)),
        ("qos", json!(2)),
    ] {
        let error = MqttSettings::check(&Mosquitto::settings_at(7).with(key, value)).unwrap_err();
        assert_eq!(error.0[0].key.as_str(), key, "{error}");
    }
}
