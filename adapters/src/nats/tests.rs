//! The NATS adapter against a real server.

use std::fs;
use std::process::Command;
use std::time::Duration;

use async_nats::jetstream::stream::{Config, StorageType};
use async_nats::jetstream::{self, Context};
use pillarbox_runtime::adapter::{
    AdapterKind as _, DoubleSafety, ErrorClass, SendError, Settings, Transport as _,
};
use pillarbox_store::{ErrorKind, FRAGMENT_BYTES, HeaderValue};
use serde_json::json;
use tempfile::TempDir;

use super::NatsKind;
use super::send::NatsSender;
use super::settings::NatsSettings;
use crate::parcel::sample::{ID, KEY, Sample, bytes, context, stored};
use crate::peer::{Peer, certificates, free_port, program};
use crate::proxy::Proxy;

/// A server that flushes before it answers, with a stream.
struct Server {
    peer: Peer,
    port: u16,
    _folder: TempDir,
}

impl Server {
    /// Starts a server with `more` in its configuration.
    async fn start(more: &str) -> Self {
        let mut server = Self::start_unseen(more);
        server.ready().await;
        server
    }

    /// The same without a look whether it is there.
    fn start_unseen(more: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (port, config) = (free_port(), folder.path().join("nats.conf"));
        let data = folder.path().join("data").display().to_string();
        let text = format!(
            "listen: \"127.0.0.1:{port}\"\njetstream {{ store_dir: {data:?}, sync_interval: always }}\n{more}\n"
        );
        fs::write(&config, text).unwrap();
        let peer = Peer::start("nats", folder.path(), move || {
            let mut command = Command::new(program("nats-server"));
            command.arg("-c").arg(&config);
            command
        });
        Self { peer, port, _folder: folder }
    }

    async fn with_stream() -> Self {
        let server = Self::start("").await;
        server.context().await.create_stream(stream()).await.unwrap();
        server
    }

    async fn ready(&mut self) {
        let port = self.port;
        self.peer
            .ready(async || match connect(port).await {
                // A server that wants a password is there as well.
                Err(error) if error.to_string().contains("authorization") => Ok(()),
                Err(error) => Err(error.to_string()),
                Ok(context) => context.query_account().await.map(drop).map_err(|error| error.to_string()),
            })
            .await;
    }

    async fn crash(&mut self) {
        self.peer.kill();
        self.peer.start_again();
        self.ready().await;
    }

    async fn context(&self) -> Context {
        connect(self.port).await.unwrap()
    }

    async fn count(&self) -> u64 {
        self.context().await.get_stream("ORDERS").await.unwrap().cached_info().state.messages
    }
}

fn stream() -> Config {
    Config {
        name: "ORDERS".to_owned(),
        subjects: vec!["orders.*".to_owned()],
        storage: StorageType::File,
        duplicate_window: Duration::from_secs(120),
        max_message_size: -1,
        ..Config::default()
    }
}

async fn connect(port: u16) -> Result<Context, async_nats::ConnectError> {
    Ok(jetstream::new(async_nats::connect(format!("nats://127.0.0.1:{port}")).await?))
}

fn settings(port: u16) -> Settings {
    Settings::default().with("url", format!("nats://127.0.0.1:{port}")).with("subject", "orders.new")
}

async fn open(settings: &Settings) -> Result<NatsSender, SendError> {
    NatsSender::open(NatsSettings::check(settings).unwrap()).await
}

fn is(error: &SendError, class: ErrorClass, part: &str) {
    let chain = error.to_failure().chain.join(" <- ");
    assert_eq!(error.class(), class, "{chain}");
    assert!(chain.contains(part), "{chain}");
}

/// Sends until it works: the client connects again by itself, in its own time.
async fn deliver_at_last(sender: &NatsSender, sample: &Sample) {
    while let Err(error) = sender.deliver(&sample.parcel()).await {
        is(&error, ErrorClass::Temporary, "nats://127.0.0.1");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn a_message_is_published_and_a_repeat_is_recognised() {
    let server = Server::with_stream().await;
    let sender = open(&settings(server.port).with("stream", "ORDERS")).await.unwrap();
    let sample = Sample::new("hello")
        .header("Order", "A-17 ü")
        .header("raw", HeaderValue::Bytes(vec![1, 255]))
        .attempt(4);
    sender.deliver(&sample.parcel()).await.unwrap();
    sender.deliver(&sample.clone().attempt(5).parcel()).await.unwrap();
    assert_eq!(server.count().await, 1);
    let stream = server.context().await.get_stream("ORDERS").await.unwrap();
    let seen = stream.get_raw_message(1).await.unwrap();
    assert_eq!((seen.subject.as_str(), &seen.payload[..]), ("orders.new", &b"hello"[..]));
    for (name, value) in [
        ("Nats-Msg-Id", KEY),
        ("Nats-Expected-Stream", "ORDERS"),
        ("x-pillarbox-message-id", ID),
        ("x-pillarbox-attempt", "4"),
        ("x-pillarbox-h-order", "A-17 ü"),
        ("x-pillarbox-h-raw", "01ff"),
    ] {
        assert_eq!(seen.headers.get(name).map(|value| value.as_str()), Some(value), "{name}");
    }
    assert!(seen.headers.get("x-pillarbox-in-doubt").is_none());
    sender.deliver(&sample.in_doubt().key("doubted").parcel()).await.unwrap();
    let doubted = stream.get_raw_message(2).await.unwrap();
    assert_eq!(doubted.headers.get("x-pillarbox-in-doubt").map(|value| value.as_str()), Some("true"));
    let window = sender.describe().capabilities.double_safety;
    assert_eq!(window, DoubleSafety::Keyed(Some(Duration::from_secs(120))));
}

#[tokio::test]
async fn bodies_of_every_length_arrive_up_to_the_servers_limit() {
    let server = Server::with_stream().await;
    let sender = open(&settings(server.port)).await.unwrap();
    let lengths = [0, 1, FRAGMENT_BYTES, FRAGMENT_BYTES + 1, 3 * FRAGMENT_BYTES];
    let stream = server.context().await.get_stream("ORDERS").await.unwrap();
    for (at, len) in (1..).zip(lengths) {
        let sample = Sample::new(stored(bytes(len), None)).key(&format!("key/{len}"));
        sender.deliver(&sample.parcel()).await.unwrap();
        assert!(stream.get_raw_message(at).await.unwrap().payload == bytes(len), "{len}");
    }
    let most = usize::try_from(sender.describe().capabilities.body_bytes_max.unwrap()).unwrap();
    let long = Sample::new(stored(bytes(most + 1), None)).key("long");
    is(&sender.deliver(&long.parcel()).await.unwrap_err(), ErrorClass::Permanent, "(its max_payload)");
    let headers = Sample::new(stored(bytes(most), None)).key("long").header("long", "x".repeat(20_000));
    let error = sender.deliver(&headers.parcel()).await.unwrap_err();
    is(&error, ErrorClass::Permanent, "max payload size exceeded");
    let broken = Sample::new(stored(bytes(FRAGMENT_BYTES + 1), Some((1, ErrorKind::Corrupt)))).key("broken");
    is(&sender.deliver(&broken.parcel()).await.unwrap_err(), ErrorClass::Permanent, "could not be read");
    assert_eq!(server.count().await, lengths.len() as u64);
    let small = Config { max_message_size: 64, ..stream_of("SMALL", "small") };
    server.context().await.create_stream(small).await.unwrap();
    let sender = open(&settings(server.port).with("subject", "small")).await.unwrap();
    let large = Sample::new(bytes(100));
    is(&sender.deliver(&large.parcel()).await.unwrap_err(), ErrorClass::Permanent, "refuses the message");
}

fn stream_of(name: &str, subject: &str) -> Config {
    Config { name: name.to_owned(), subjects: vec![subject.to_owned()], ..stream() }
}

#[tokio::test]
async fn what_was_answered_survives_a_crash_and_is_recognised_after_it() {
    let mut server = Server::with_stream().await;
    // What is published before the client notices is answered by nobody.
    let sender = open(&settings(server.port).with("timeout", "300ms")).await.unwrap();
    let samples: Vec<_> = (0..20).map(|n| Sample::new("hello").key(&format!("key/{n}"))).collect();
    for sample in &samples[..10] {
        sender.deliver(&sample.parcel()).await.unwrap();
    }
    server.peer.kill();
    is(&sender.deliver(&samples[10].parcel()).await.unwrap_err(), ErrorClass::Temporary, "nats://127.0.0.1");
    server.peer.start_again();
    server.ready().await;
    for sample in &samples {
        deliver_at_last(&sender, sample).await;
    }
    assert_eq!(server.count().await, 20);
}

#[tokio::test]
async fn a_lost_answer_leaves_one_message() {
    let mut server = Server::with_stream().await;
    let proxy = Proxy::start(server.port).await;
    let sender = open(&settings(proxy.port).with("timeout", "500ms")).await.unwrap();
    let sample = Sample::new("hello");
    proxy.lose(b"HPUB", b"\"seq\"");
    let error = sender.deliver(&sample.parcel()).await.unwrap_err();
    is(&error, ErrorClass::Temporary, "no answer within 500ms (setting timeout)");
    assert!(proxy.has_lost());
    server.crash().await;
    assert_eq!(server.count().await, 1, "it was there when the answer was lost");
    deliver_at_last(&sender, &sample.attempt(2)).await;
    assert_eq!(server.count().await, 1);
}

#[tokio::test]
async fn a_server_that_hangs_is_given_up_and_adds_nothing_twice() {
    let server = Server::with_stream().await;
    let hasty = open(&settings(server.port).with("timeout", "200ms")).await.unwrap();
    let sample = Sample::new("hello");
    server.peer.pause();
    let error = hasty.deliver(&sample.parcel()).await.unwrap_err();
    is(&error, ErrorClass::Temporary, "no answer within 200ms (setting timeout)");
    let unreachable = settings(server.port).with("connect_timeout", "200ms");
    is(&open(&unreachable).await.unwrap_err(), ErrorClass::Temporary, "");
    server.peer.go_on();
    deliver_at_last(&open(&settings(server.port)).await.unwrap(), &sample.attempt(2)).await;
    assert_eq!(server.count().await, 1);
}

#[tokio::test]
async fn what_will_not_do_is_told_when_it_is_opened() {
    use ErrorClass::Temporary;
    let server = Server::with_stream().await;
    let base = settings(server.port);
    let other = base.clone().with("subject", "invoices");
    is(&open(&other).await.unwrap_err(), Temporary, "there is no stream for the subject \"invoices\"");
    let elsewhere = base.clone().with("stream", "INVOICES");
    is(&open(&elsewhere).await.unwrap_err(), Temporary, "goes to the stream \"ORDERS\", not to \"INVOICES\"");
    let long = base.clone().with("window", "1h");
    is(&open(&long).await.unwrap_err(), Temporary, "recognises a repeat for 120s (its duplicate window)");
    let context = server.context().await;
    let silent = Config { no_ack: true, ..stream_of("SILENT", "silent") };
    context.create_stream(silent).await.unwrap();
    is(&open(&base.clone().with("subject", "silent")).await.unwrap_err(), Temporary, "answers nothing");
    is(&open(&settings(free_port())).await.unwrap_err(), Temporary, "cannot connect");
    // The stream goes while the adapter is open; then another takes its subject.
    let sender = open(&base).await.unwrap();
    context.delete_stream("ORDERS").await.unwrap();
    let sample = Sample::new("hello");
    is(&sender.deliver(&sample.parcel()).await.unwrap_err(), Temporary, "no stream takes the subject");
    context.create_stream(stream_of("OTHER", "orders.new")).await.unwrap();
    is(&sender.deliver(&sample.parcel()).await.unwrap_err(), Temporary, "expected stream does not match");
}

#[tokio::test]
async fn credentials_are_needed_and_never_shown() {
    let server = Server::start("authorization { user: outbox, password: hunter2hunter2 }").await;
    let base = settings(server.port);
    is(&open(&base).await.unwrap_err(), ErrorClass::Temporary, "cannot connect");
    let wrong = base.clone().with("user", "outbox").with("password", "hunter3hunter3");
    let error = open(&wrong).await.unwrap_err();
    is(&error, ErrorClass::Temporary, "authorization violation");
    assert!(!format!("{error:?} {:?}", error.to_failure()).contains("hunter"));
    let right = base.clone().with("user", "outbox").with("password", "hunter2hunter2");
    is(&open(&right).await.unwrap_err(), ErrorClass::Temporary, "there is no stream for the subject");
    let options =
        async_nats::ConnectOptions::with_user_and_password("outbox".into(), "hunter2hunter2".into());
    let client = options.connect(format!("nats://127.0.0.1:{}", server.port)).await.unwrap();
    jetstream::new(client).create_stream(stream()).await.unwrap();
    let sender = open(&right).await.unwrap();
    sender.deliver(&Sample::new("hello").parcel()).await.unwrap();
    let checked = NatsKind.check(&right).unwrap();
    assert!(!format!("{sender:?} {checked:?} {right:?}").contains("hunter"));
    assert_eq!(checked.open(&context()).await.unwrap().describe().kind, "nats");
    let unset = base.with("token", "env:PILLARBOX_TEST_NOT_SET");
    is(&open(&unset).await.unwrap_err(), ErrorClass::Temporary, "token: the environment's variable");
}

#[tokio::test]
async fn only_whom_we_trust_gets_the_message() {
    let folder = tempfile::tempdir().unwrap();
    certificates(folder.path());
    let path = |name: &str| folder.path().join(name).display().to_string();
    let more = format!("tls {{ cert_file: {:?}, key_file: {:?} }}", path("server.crt"), path("server.key"));
    let mut server = Server::start_unseen(&more);
    let encrypted = settings(server.port).with("url", format!("tls://127.0.0.1:{}", server.port));
    let trusting = encrypted.clone().with("ca_file", path("ca.crt"));
    // It is there once it says that it has no stream.
    let probe = async || match open(&trusting).await {
        Err(error) if error.to_string().contains("there is no stream") => Ok(()),
        other => other.map(drop),
    };
    server.peer.ready(probe).await;
    is(&open(&encrypted).await.unwrap_err(), ErrorClass::Temporary, "invalid peer certificate");
    let careless = encrypted.with("danger_accept_invalid_certs", true);
    is(&open(&careless).await.unwrap_err(), ErrorClass::Temporary, "there is no stream");
}

#[test]
fn settings_have_defaults() {
    let checked = NatsSettings::check(&settings(7)).unwrap();
    assert_eq!((checked.connect_timeout.as_secs(), checked.timeout.as_secs()), (10, 30));
    assert_eq!((checked.window.as_secs(), checked.stream), (120, None));
    assert_eq!(NatsKind.describe().uri_prefixes, ["nats://", "tls://"]);
}

#[test]
fn every_problem_is_told_at_once() {
    let wrong = Settings::default()
        .with("url", "nats://u:hunter2@h")
        .with("user", "u")
        .with("token", "env:")
        .with("subject", "orders.>")
        .with("stream", "a.b")
        .with("window", "1")
        .with("connect_timeout", "0s")
        .with("timeout", "soon")
        .with("ca_file", "");
    let error = NatsSettings::check(&wrong).unwrap_err();
    let keys: Vec<&str> = error.0.iter().map(|problem| problem.key.as_str()).collect();
    let expected =
        ["url", "token", "user", "subject", "stream", "window", "connect_timeout", "timeout", "ca_file"];
    assert_eq!(keys, expected);
    assert!(!error.to_string().contains("hunter2"));
    for (key, value) in [
        ("url", json!("nats://h/x")),
        ("subject", json!("a..b")),
        ("ca_file", json!("ca.pem")),
        ("danger_accept_invalid_certs", json!(true)),
        ("strem", json!("x")),
    ] {
        let error = NatsSettings::check(&settings(7).with(key, value)).unwrap_err();
        assert_eq!((error.0.len(), error.0[0].key.as_str()), (1, key), "{error}");
    }
}
