//! The Redis adapter against a real server.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use pillarbox_runtime::adapter::{
    AdapterKind as _, DoubleSafety, ErrorClass, Reconciled, SendError, Settings, Transport as _,
};
use pillarbox_store::{ErrorKind, FRAGMENT_BYTES, HeaderValue};
use redis::aio::MultiplexedConnection;
use redis::streams::StreamRangeReply;
use serde_json::json;
use tempfile::TempDir;

use super::RedisKind;
use super::script::sent_key;
use super::send::RedisSender;
use super::settings::RedisSettings;
use crate::parcel::sample::{ID, KEY, Sample, bytes, context, stored};
use crate::peer::{Peer, certificates, free_port, program};
use crate::proxy::Proxy;

/// A server that flushes before it answers, as one must be where nothing is to be lost.
struct Server {
    peer: Peer,
    port: u16,
    _folder: TempDir,
}

impl Server {
    async fn start(more: &'static [&'static str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (port, data) = (free_port(), folder.path().to_owned());
        let peer = Peer::start("redis", folder.path(), move || command(port, &data, more));
        let mut server = Self { peer, port, _folder: folder };
        server.ready().await;
        server
    }

    async fn ready(&mut self) {
        let port = self.port;
        let probe = async || match connect(port).await?.ping().await {
            Err(error) if error.code() == Some("NOAUTH") => Ok(()),
            other => other,
        };
        self.peer.ready(probe).await;
    }

    async fn crash(&mut self) {
        self.peer.kill();
        self.peer.start_again();
        self.ready().await;
    }

    fn settings(&self) -> Settings {
        settings(self.port)
    }

    /// What the stream has, oldest first.
    async fn entries(&self) -> Vec<redis::streams::StreamId> {
        let mut range = redis::cmd("XRANGE");
        range.arg("orders").arg("-").arg("+");
        let found: StreamRangeReply =
            range.query_async(&mut connect(self.port).await.unwrap()).await.unwrap();
        found.ids
    }
}

trait Ping {
    async fn ping(self) -> Result<(), redis::RedisError>;
}

impl Ping for MultiplexedConnection {
    async fn ping(mut self) -> Result<(), redis::RedisError> {
        redis::cmd("PING").query_async::<String>(&mut self).await.map(drop)
    }
}

fn command(port: u16, data: &Path, more: &[&str]) -> Command {
    let mut command = Command::new(program("redis-server"));
    command.args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", "", "--dir"]).arg(data);
    command.args(["--appendonly", "yes", "--appendfsync", "always"]).args(more);
    command
}

async fn connect(port: u16) -> Result<MultiplexedConnection, redis::RedisError> {
    redis::Client::open(format!("redis://127.0.0.1:{port}/"))
        .unwrap()
        .get_multiplexed_async_connection()
        .await
}

fn settings(port: u16) -> Settings {
    Settings::default().with("url", format!("redis://127.0.0.1:{port}")).with("stream", "orders")
}

async fn open(settings: &Settings) -> Result<RedisSender, SendError> {
    RedisSender::open(RedisSettings::check(settings).unwrap()).await
}

fn is(error: &SendError, class: ErrorClass, part: &str) {
    let chain = error.to_failure().chain.join(" <- ");
    assert_eq!(error.class(), class, "{chain}");
    assert!(chain.contains(part), "{chain}");
}

#[tokio::test]
async fn asked_it_knows_what_it_has_while_the_window_lasts() {
    let server = Server::start(&[]).await;
    let sender = open(&server.settings().with("window", "1s")).await.unwrap();
    let sample = Sample::new("hello");
    assert!(sender.describe().capabilities.reconciles);
    assert_eq!(sender.ask(&sample.parcel()).await.unwrap(), Reconciled::Unknown);
    sender.deliver(&sample.parcel()).await.unwrap();
    assert_eq!(sender.ask(&sample.parcel()).await.unwrap(), Reconciled::Landed);
    assert_eq!(sender.ask(&Sample::new("").key("other").parcel()).await.unwrap(), Reconciled::Unknown);
    // The entry is still there, the key is forgotten.
    while sender.ask(&sample.parcel()).await.unwrap() == Reconciled::Landed {}
    assert_eq!(sender.ask(&sample.parcel()).await.unwrap(), Reconciled::Unknown);
}

#[tokio::test]
async fn a_message_becomes_an_entry_and_a_repeat_none() {
    let server = Server::start(&[]).await;
    let sender = open(&server.settings()).await.unwrap();
    let sample = Sample::new("hello")
        .header("Order", "A-17 ü")
        .header("count", 3)
        .header("raw", HeaderValue::Bytes(vec![1, 255]))
        .attempt(4);
    sender.deliver(&sample.parcel()).await.unwrap();
    sender.deliver(&sample.clone().attempt(5).parcel()).await.unwrap();
    let entries = server.entries().await;
    assert_eq!(entries.len(), 1);
    for (field, value) in [
        ("body", "hello"),
        ("message-id", ID),
        ("send-key", KEY),
        ("attempt", "4"),
        ("h-order", "A-17 ü"),
        ("h-count", "3"),
        ("h-raw", "01ff"),
    ] {
        assert_eq!(entries[0].get::<String>(field).as_deref(), Some(value), "{field}");
    }
    assert_eq!(entries[0].map.len(), 7);
    sender.deliver(&sample.in_doubt().key("doubted").parcel()).await.unwrap();
    let doubted = &server.entries().await[1];
    assert_eq!((doubted.get("in_doubt"), doubted.map.len()), (Some("1".to_owned()), 8));
    let mut connection = connect(server.port).await.unwrap();
    let key = sent_key("orders", KEY);
    let left: i64 = redis::cmd("PTTL").arg(&key).query_async(&mut connection).await.unwrap();
    assert!((23 * 60 * 60 * 1000..=24 * 60 * 60 * 1000).contains(&left), "{left}");
    let id: String = redis::cmd("GET").arg(&key).query_async(&mut connection).await.unwrap();
    assert_eq!(id, entries[0].id);
}

#[tokio::test]
async fn bodies_of_every_length_arrive_up_to_the_limit() {
    let server = Server::start(&[]).await;
    let sender = open(&server.settings().with("body_bytes_max", 3 * FRAGMENT_BYTES)).await.unwrap();
    for len in [0, 1, FRAGMENT_BYTES, FRAGMENT_BYTES + 1, 3 * FRAGMENT_BYTES] {
        let sample = Sample::new(stored(bytes(len), None)).key(&format!("key/{len}"));
        sender.deliver(&sample.parcel()).await.unwrap();
        let entries = server.entries().await;
        let body: Vec<u8> = entries.last().unwrap().get("body").unwrap();
        assert!(body == bytes(len), "{len}");
    }
    let long = Sample::new(stored(bytes(3 * FRAGMENT_BYTES + 1), None)).key("key/long");
    is(&sender.deliver(&long.parcel()).await.unwrap_err(), ErrorClass::Permanent, "(setting body_bytes_max)");
    let broken = Sample::new(stored(bytes(FRAGMENT_BYTES + 1), Some((1, ErrorKind::Corrupt)))).key("broken");
    is(&sender.deliver(&broken.parcel()).await.unwrap_err(), ErrorClass::Permanent, "could not be read");
    assert_eq!(server.entries().await.len(), 5);
}

#[tokio::test]
async fn what_was_added_survives_a_crash_and_so_does_its_key() {
    let mut server = Server::start(&[]).await;
    let sender = open(&server.settings()).await.unwrap();
    let samples: Vec<_> = (0..20).map(|n| Sample::new("hello").key(&format!("key/{n}"))).collect();
    let parcels: Vec<_> = samples.iter().map(Sample::parcel).collect();
    for sent in futures_util::future::join_all(parcels[..10].iter().map(|one| sender.deliver(one))).await {
        sent.unwrap();
    }
    server.peer.kill();
    is(&sender.deliver(&parcels[10]).await.unwrap_err(), ErrorClass::Temporary, "127.0.0.1");
    server.peer.start_again();
    server.ready().await;
    // The ones from before as well: what was answered is recognised.
    for sent in futures_util::future::join_all(parcels.iter().map(|one| sender.deliver(one))).await {
        sent.unwrap();
    }
    let mut keys: Vec<String> =
        server.entries().await.iter().map(|entry| entry.get("send-key").unwrap()).collect();
    keys.sort_unstable();
    keys.dedup();
    assert_eq!((keys.len(), server.entries().await.len()), (20, 20));
}

#[tokio::test]
async fn a_lost_answer_leaves_one_entry() {
    let mut server = Server::start(&[]).await;
    let proxy = Proxy::start(server.port).await;
    let sender = open(&settings(proxy.port)).await.unwrap();
    let sample = Sample::new("hello");
    proxy.lose(b"EVAL", b":1");
    let error = sender.deliver(&sample.parcel()).await.unwrap_err();
    is(&error, ErrorClass::Temporary, "the connection broke before the answer");
    assert!(proxy.has_lost());
    server.crash().await;
    assert_eq!(server.entries().await.len(), 1, "it was there when the answer was lost");
    sender.deliver(&sample.attempt(2).parcel()).await.unwrap();
    assert_eq!(server.entries().await.len(), 1);
}

#[tokio::test]
async fn a_server_that_hangs_is_given_up_and_adds_nothing_twice() {
    let server = Server::start(&[]).await;
    let sender = open(&server.settings().with("timeout", "200ms")).await.unwrap();
    let sample = Sample::new("hello");
    server.peer.pause();
    let error = sender.deliver(&sample.parcel()).await.unwrap_err();
    is(&error, ErrorClass::Temporary, "no answer within 200ms (setting timeout)");
    server.peer.go_on();
    let patient = open(&server.settings()).await.unwrap();
    patient.deliver(&sample.attempt(2).parcel()).await.unwrap();
    assert_eq!(server.entries().await.len(), 1, "both attempts reached it in the end");
    server.peer.pause();
    let hasty = server.settings().with("connect_timeout", "200ms");
    let error = open(&hasty).await.unwrap_err();
    is(&error, ErrorClass::Temporary, "no connection within 200ms (setting connect_timeout)");
    server.peer.go_on();
}

#[tokio::test]
async fn credentials_are_needed_and_never_shown() {
    let server = Server::start(&["--requirepass", "hunter2hunter2"]).await;
    is(&open(&server.settings()).await.unwrap_err(), ErrorClass::Temporary, "does not let us in");
    let wrong = server.settings().with("password", "hunter3hunter3");
    let error = open(&wrong).await.unwrap_err();
    is(&error, ErrorClass::Temporary, "does not let us in");
    assert!(!format!("{error:?} {:?}", error.to_failure()).contains("hunter"));
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "hunter2hunter2\n").unwrap();
    for password in ["hunter2hunter2".to_owned(), format!("file:{}", file.path().display())] {
        let settings = server.settings().with("user", "default").with("password", password);
        let sender = open(&settings).await.unwrap();
        sender.deliver(&Sample::new("hello").parcel()).await.unwrap();
        let checked = RedisKind.check(&settings).unwrap();
        assert!(!format!("{sender:?} {checked:?} {settings:?}").contains("hunter"));
        assert_eq!(checked.open(&context()).await.unwrap().describe().kind, "redis");
    }
    let missing = server.settings().with("password", "env:PILLARBOX_TEST_NOT_SET");
    is(&open(&missing).await.unwrap_err(), ErrorClass::Temporary, "password: the environment's variable");
}

#[tokio::test]
async fn targets_that_cannot_take_it_are_told_apart() {
    let server = Server::start(&[]).await;
    let sample = Sample::new("hello");
    let careful = open(&server.settings().with("create_stream", false)).await.unwrap();
    let error = careful.deliver(&sample.parcel()).await.unwrap_err();
    is(&error, ErrorClass::Temporary, "there is no stream \"orders\"; make it, or set create_stream");
    let mut connection = connect(server.port).await.unwrap();
    redis::cmd("SET").arg("orders").arg("x").query_async::<()>(&mut connection).await.unwrap();
    let error = careful.deliver(&sample.parcel()).await.unwrap_err();
    is(&error, ErrorClass::Permanent, "the key \"orders\" is there and is no stream");
    redis::cmd("DEL").arg("orders").query_async::<()>(&mut connection).await.unwrap();
    open(&server.settings()).await.unwrap().deliver(&sample.parcel()).await.unwrap();
    assert_eq!(server.entries().await.len(), 1, "a refusal leaves no key behind");
    let nowhere = server.settings().with("url", format!("redis://127.0.0.1:{}/99", server.port));
    is(&open(&nowhere).await.unwrap_err(), ErrorClass::Temporary, "does not let us in");
    let nobody = settings(free_port());
    is(&open(&nobody).await.unwrap_err(), ErrorClass::Temporary, "cannot connect");
}

#[tokio::test]
async fn only_whom_we_trust_gets_the_message() {
    let folder = tempfile::tempdir().unwrap();
    certificates(folder.path());
    let (port, data) = (free_port(), folder.path().to_owned());
    let mut peer = Peer::start("redis", folder.path(), move || {
        let mut command = command(0, &data, &["--tls-auth-clients", "no", "--tls-port"]);
        command.arg(port.to_string()).arg("--tls-cert-file").arg(data.join("server.crt"));
        command.arg("--tls-key-file").arg(data.join("server.key"));
        command.arg("--tls-ca-cert-file").arg(data.join("ca.crt"));
        command
    });
    let encrypted = settings(port).with("url", format!("rediss://127.0.0.1:{port}"));
    let trusting = encrypted.clone().with("ca_file", folder.path().join("ca.crt").to_str().unwrap());
    peer.ready(async || open(&trusting).await.map(drop)).await;
    is(&open(&encrypted).await.unwrap_err(), ErrorClass::Temporary, "invalid peer certificate");
    open(&trusting).await.unwrap().deliver(&Sample::new("hello").parcel()).await.unwrap();
    is(&open(&settings(port)).await.unwrap_err(), ErrorClass::Temporary, "does not let us in");
}

#[tokio::test]
async fn a_full_server_is_tried_again() {
    let server = Server::start(&[]).await;
    let sender = open(&server.settings()).await.unwrap();
    let mut connection = connect(server.port).await.unwrap();
    let mut limit = redis::cmd("CONFIG");
    limit.arg("SET").arg("maxmemory").arg("1");
    limit.query_async::<()>(&mut connection).await.unwrap();
    let error = sender.deliver(&Sample::new("hello").parcel()).await.unwrap_err();
    is(&error, ErrorClass::Temporary, "the server refuses the message");
    let mut limit = redis::cmd("CONFIG");
    limit.arg("SET").arg("maxmemory").arg("0");
    limit.query_async::<()>(&mut connection).await.unwrap();
    sender.deliver(&Sample::new("hello").parcel()).await.unwrap();
    assert_eq!(server.entries().await.len(), 1);
}

#[tokio::test]
async fn the_window_ends_and_the_stream_is_bounded() {
    let server = Server::start(&["--stream-node-max-entries", "10"]).await;
    let settings = server.settings().with("window", "1ms").with("entries_max", 10);
    let sender = open(&settings).await.unwrap();
    assert_eq!(
        sender.describe().capabilities.double_safety,
        DoubleSafety::Keyed(Some(Duration::from_millis(1)))
    );
    let mut connection = connect(server.port).await.unwrap();
    let mut ids = std::collections::BTreeSet::new();
    while ids.len() < 30 {
        // The key has gone when the server says so; then the repeat is an entry of its own.
        while redis::cmd("EXISTS")
            .arg(sent_key("orders", KEY))
            .query_async::<i64>(&mut connection)
            .await
            .unwrap()
            == 1
        {}
        sender.deliver(&Sample::new("hello").parcel()).await.unwrap();
        ids.extend(server.entries().await.into_iter().map(|entry| entry.id));
    }
    assert!(server.entries().await.len() < 25, "{}", server.entries().await.len());
}

#[test]
fn keys_stay_on_the_streams_node() {
    assert_eq!(sent_key("orders", "k"), "{orders}:sent:k");
    assert_eq!(sent_key("{a}orders", "k"), "{a}orders:sent:k");
    assert_eq!(sent_key("or}ders", "k"), "or}ders:sent:k");
}

#[test]
fn settings_have_defaults() {
    let checked = RedisSettings::check(&settings(7)).unwrap();
    assert_eq!((checked.database, checked.create_stream, checked.entries_max), (0, true, None));
    assert_eq!((checked.connect_timeout.as_secs(), checked.timeout.as_secs()), (10, 30));
    assert_eq!((checked.window.as_secs(), checked.body_bytes_max), (86_400, 16 * 1024 * 1024));
    assert!(checked.user.is_none() && checked.password.is_none() && checked.trust.ca_file.is_none());
    let described = RedisKind.describe();
    assert_eq!(described.capabilities.double_safety, DoubleSafety::Keyed(Some(checked.window)));
    assert_eq!(described.uri_prefixes, ["redis://", "rediss://"]);
}

#[test]
fn every_problem_is_told_at_once() {
    let wrong = Settings::default()
        .with("url", "redis://u:hunter2@h")
        .with("user", "env:")
        .with("password", "file:")
        .with("stream", "")
        .with("entries_max", 0)
        .with("window", "1")
        .with("body_bytes_max", 0)
        .with("connect_timeout", "0s")
        .with("timeout", "soon")
        .with("ca_file", "");
    let error = RedisSettings::check(&wrong).unwrap_err();
    let keys: Vec<&str> = error.0.iter().map(|problem| problem.key.as_str()).collect();
    let expected = [
        "url",
        "user",
        "password",
        "stream",
        "entries_max",
        "window",
        "body_bytes_max",
        "connect_timeout",
        "timeout",
        "ca_file",
    ];
    assert_eq!(keys, expected);
    assert!(!error.to_string().contains("hunter2"));
    for (key, value) in [
        ("url", json!("redis://h/one")),
        ("user", json!("only")),
        ("ca_file", json!("ca.pem")),
        ("danger_accept_invalid_certs", json!(true)),
        ("window", json!("9999999h")),
        ("strem", json!("x")),
    ] {
        let error = RedisSettings::check(&settings(7).with(key, value)).unwrap_err();
        assert_eq!((error.0.len(), error.0[0].key.as_str()), (1, key), "{error}");
    }
}
