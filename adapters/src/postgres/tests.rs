//! The PostgreSQL adapter against a real server.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, Stdio};

use pillarbox_runtime::adapter::{
    AdapterKind as _, DoubleSafety, ErrorClass, Reconciled, SendError, Settings, Transport as _,
};
use pillarbox_store::{ErrorKind, FRAGMENT_BYTES, HeaderValue};
use serde_json::json;
use tempfile::TempDir;
use tokio_postgres::{Client, NoTls};

use super::PostgresKind;
use super::send::PostgresSender;
use super::settings::PostgresSettings;
use crate::parcel::Parcel;
use crate::parcel::sample::{ID, KEY, Sample, bytes, context, stored};
use crate::peer::{Peer, certificates, free_port, plain_user, program, run};
use crate::proxy::Proxy;

const LEDGER: &str =
    "CREATE TABLE pillarbox_sent (key text PRIMARY KEY, at timestamptz NOT NULL DEFAULT now())";
const PASSWORD: &str = "hunter2hunter2";

/// A server with a database of its own and a ledger in it. It need not flush: what is killed here is a process, not the
/// machine.
pub(super) struct Server {
    pub(super) peer: Peer,
    pub(super) port: u16,
    folder: TempDir,
}

impl Server {
    pub(super) async fn start(more: &'static [&'static str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        if let Some((user, group)) = plain_user() {
            chown(folder.path(), Some(user), Some(group)).unwrap();
        }
        let (port, data) = (free_port(), folder.path().join("data"));
        let secret = folder.path().join("password");
        fs::write(&secret, PASSWORD).unwrap();
        fs::set_permissions(&secret, fs::Permissions::from_mode(0o644)).unwrap();
        let mut create = as_plain_user("initdb");
        create.args([
            "--auth=scram-sha-256",
            "--username=test",
            "--encoding=UTF8",
            "--locale=C",
            "--no-sync",
        ]);
        create.arg("--pwfile").arg(&secret).arg("-D").arg(&data);
        let made = create.output().unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        let peer = Peer::start("postgres", folder.path(), move || command(port, &data, more));
        let mut server = Self { peer, port, folder };
        server.ready().await;
        server.run(LEDGER).await;
        server
    }

    async fn ready(&mut self) {
        let port = self.port;
        self.peer.ready(async || connect(port).await.map(drop)).await;
    }

    pub(super) async fn run(&self, sql: &str) {
        connect(self.port).await.unwrap().batch_execute(sql).await.unwrap();
    }

    pub(super) async fn count(&self, sql: &str) -> i64 {
        connect(self.port).await.unwrap().query_one(sql, &[]).await.unwrap().get(0)
    }

    pub(super) async fn crash(&mut self) {
        self.peer.kill();
        // What a killed server leaves keeps the next one from starting, were its number another's by now.
        let _stale = fs::remove_file(self.folder.path().join("data/postmaster.pid"));
        self.peer.start_again();
        self.ready().await;
    }
}

fn as_plain_user(name: &str) -> Command {
    let mut command = Command::new(program(name));
    command.current_dir("/").stdin(Stdio::null());
    if let Some((user, group)) = plain_user() {
        command.uid(user).gid(group);
    }
    command
}

fn command(port: u16, data: &Path, more: &[&str]) -> Command {
    let mut command = as_plain_user("postgres");
    command.arg("-D").arg(data).arg("-k").arg(data).args(["-p", &port.to_string()]);
    command.args(["-c", "listen_addresses=127.0.0.1", "-c", "fsync=off", "-c", "shared_buffers=16MB"]);
    command.args(more);
    command
}

pub(super) async fn connect(port: u16) -> Result<Client, tokio_postgres::Error> {
    let url = format!("host=127.0.0.1 port={port} user=test password={PASSWORD} dbname=postgres");
    let (client, connection) = tokio_postgres::connect(&url, NoTls).await?;
    let _driver = run(connection);
    Ok(client)
}

pub(super) fn settings(port: u16) -> Settings {
    Settings::default()
        .with("url", format!("postgres://127.0.0.1:{port}/postgres"))
        .with("user", "test")
        .with("password", PASSWORD)
        .with("tls", false)
        .with("statement", "INSERT INTO orders (id, body) VALUES ($1, $2)")
        .with("parameters", json!(["message_id", "body"]))
}

async fn open(settings: &Settings) -> Result<PostgresSender, SendError> {
    PostgresSender::open(PostgresSettings::check(settings).unwrap()).await
}

async fn deliver(sender: &PostgresSender, samples: &[Sample]) -> Vec<Result<(), SendError>> {
    let parcels: Vec<Parcel<'_>> = samples.iter().map(Sample::parcel).collect();
    sender.deliver(&parcels).await
}

async fn deliver_one(sender: &PostgresSender, sample: &Sample) -> Result<(), SendError> {
    sender.deliver(&[sample.parcel()]).await.pop().unwrap()
}

pub(super) fn is(error: &SendError, class: ErrorClass, part: &str) {
    let chain = error.to_failure().chain.join(" <- ");
    assert_eq!(error.class(), class, "{chain}");
    assert!(chain.contains(part), "{chain}");
}

pub(super) fn many(count: usize) -> Vec<Sample> {
    (0..count).map(|n| Sample::new("hello").key(&format!("key/{n}"))).collect()
}

pub(super) const ORDERS: &str = "SELECT count(*) FROM orders";

#[tokio::test]
async fn a_message_becomes_what_the_statement_makes_of_it_once() {
    let server = Server::start(&[]).await;
    server
        .run("CREATE TABLE typed (id uuid, key text, n int8, port text, try int4, at timestamptz, price numeric,
              yes bool, none int4, raw text, body bytea, doc jsonb, doubt bool, told text); CREATE TABLE bodies (body bytea);")
        .await;
    let settings = settings(server.port)
        .with(
            "statement",
            "INSERT INTO typed VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)",
        )
        .with(
            "parameters",
            json!([
                "message_id",
                "send_key",
                "delivery",
                "port",
                "attempt",
                "submitted",
                "header:Price",
                "header:yes",
                "header:none?",
                "header:raw",
                "body",
                "body",
                "in_doubt",
                "in_doubt"
            ]),
        );
    let sender = open(&settings).await.unwrap();
    let sample = Sample::new("{\"a\": \"ü\"}")
        .header("price", "12.50")
        .header("yes", true)
        .header("raw", HeaderValue::Bytes(vec![1, 255]))
        .attempt(4);
    deliver_one(&sender, &sample).await.unwrap();
    deliver_one(&sender, &sample.clone().attempt(5)).await.unwrap();
    let all = "SELECT format('%s|%s|%s|%s|%s|%s|%s|%s|%s|%s|%s|%s|%s|%s', id, key, n, port, try, \
               at AT TIME ZONE 'UTC', price, yes, none IS NULL, raw, convert_from(body, 'UTF8'), \
               doc->>'a', doubt, told) FROM typed";
    let client = connect(server.port).await.unwrap();
    let rows = client.query(all, &[]).await.unwrap();
    let lines: Vec<&str> = rows.iter().map(|row| row.get(0)).collect();
    let expected =
        format!("{ID}|{KEY}|7|orders|4|2026-01-02 03:04:05.678901|12.50|t|t|01ff|{{\"a\": \"ü\"}}|ü|f|false");
    assert_eq!(lines, [expected]);
    deliver_one(&sender, &sample.in_doubt().key("doubted")).await.unwrap();
    let doubted = client.query_one("SELECT doubt, told FROM typed WHERE key = 'doubted'", &[]).await.unwrap();
    assert_eq!((doubted.get(0), doubted.get(1)), (true, "true"));
    let missing = deliver_one(&sender, &Sample::new("{}").key("other")).await.unwrap_err();
    is(&missing, ErrorClass::Permanent, "the message has no header \"price\"");

    let settings =
        settings.with("statement", "INSERT INTO bodies VALUES ($1)").with("parameters", json!(["body"]));
    let sender = open(&settings.with("body_bytes_max", 3 * FRAGMENT_BYTES)).await.unwrap();
    for len in [0, 1, FRAGMENT_BYTES + 1, 3 * FRAGMENT_BYTES] {
        let sample = Sample::new(stored(bytes(len), None)).key(&format!("bodies/{len}"));
        deliver_one(&sender, &sample).await.unwrap();
        let body: Vec<u8> = client.query_one("DELETE FROM bodies RETURNING body", &[]).await.unwrap().get(0);
        assert!(body == bytes(len), "{len}");
    }
    let long = Sample::new(stored(bytes(3 * FRAGMENT_BYTES + 1), None)).key("long");
    is(&deliver_one(&sender, &long).await.unwrap_err(), ErrorClass::Permanent, "(setting body_bytes_max)");
    let broken = Sample::new(stored(bytes(FRAGMENT_BYTES + 1), Some((1, ErrorKind::Corrupt)))).key("broken");
    is(&deliver_one(&sender, &broken).await.unwrap_err(), ErrorClass::Permanent, "could not be read");
    assert_eq!(sender.describe().capabilities.double_safety, DoubleSafety::Ledger);
}

#[tokio::test]
async fn a_lost_answer_and_a_killed_server_leave_each_message_once() {
    let mut server = Server::start(&[]).await;
    server.run("CREATE TABLE orders (id text, body bytea)").await;
    let proxy = Proxy::start(server.port).await;
    let sender = open(&settings(proxy.port)).await.unwrap();
    let first = many(10);
    proxy.lose(b"COMMIT", b"COMMIT");
    for sent in deliver(&sender, &first).await {
        is(&sent.unwrap_err(), ErrorClass::Temporary, "the connection broke before the answer");
    }
    assert!(proxy.has_lost());
    server.crash().await;
    assert_eq!(server.count(ORDERS).await, 10, "they were committed when the answer was lost");
    deliver(&sender, &first).await.into_iter().for_each(|sent| sent.unwrap());
    assert_eq!(server.count(ORDERS).await, 10);

    // Cut off in front of the commit: nothing has happened.
    let second: Vec<_> = many(20).split_off(10);
    let fresh = open(&settings(proxy.port)).await.unwrap();
    proxy.lose(b"BEGIN", b"INSERT 0 10");
    assert!(!proxy.has_lost());
    for sent in deliver(&fresh, &second).await {
        is(&sent.unwrap_err(), ErrorClass::Temporary, "the connection broke before the answer");
    }
    assert!(proxy.has_lost());
    server.peer.kill();
    for sent in deliver(&fresh, &second).await {
        is(&sent.unwrap_err(), ErrorClass::Temporary, "");
    }
    server.crash().await;
    assert_eq!(server.count(ORDERS).await, 10);
    // Some of these are there already; two senders with the same messages at once, each in its own order.
    let mut backwards = many(20);
    backwards.reverse();
    let all = many(20);
    let (one, other) = futures_util::future::join(deliver(&sender, &all), deliver(&fresh, &backwards)).await;
    one.into_iter().chain(other).for_each(|sent| sent.unwrap());
    assert_eq!(server.count(ORDERS).await, 20);
    assert_eq!(server.count("SELECT count(*) FROM pillarbox_sent").await, 20);
}

#[tokio::test]
async fn the_ledger_tells_what_became_of_a_message_in_doubt() {
    let mut server = Server::start(&[]).await;
    server.run("CREATE TABLE orders (id text, body bytea)").await;
    let proxy = Proxy::start(server.port).await;
    let sender = open(&settings(proxy.port)).await.unwrap();
    assert!(sender.describe().capabilities.reconciles);
    proxy.lose(b"COMMIT", b"COMMIT");
    deliver_one(&sender, &Sample::new("a").key("landed")).await.unwrap_err();
    assert_eq!(sender.ask("landed").await.unwrap(), Reconciled::Landed);
    assert_eq!(sender.ask("never").await.unwrap(), Reconciled::NotLanded);
    assert_eq!(sender.ask("never").await.unwrap(), Reconciled::NotLanded, "asking records nothing");
    // One that is not over yet is waited for, however it ends.
    for (end, told) in [("COMMIT", Reconciled::Landed), ("ROLLBACK", Reconciled::NotLanded)] {
        let other = connect(server.port).await.unwrap();
        let begun = format!("BEGIN; INSERT INTO pillarbox_sent (key) VALUES ('{end}')");
        other.batch_execute(&begun).await.unwrap();
        let ending = async {
            while server.count("SELECT count(*) FROM pg_locks WHERE NOT granted").await == 0 {
                tokio::task::yield_now().await;
            }
            other.batch_execute(end).await.unwrap();
        };
        let (asked, ()) = futures_util::future::join(sender.ask(end), ending).await;
        assert_eq!(asked.unwrap(), told, "{end}");
    }
    let hasty = open(&settings(server.port).with("timeout", "200ms")).await.unwrap();
    let other = connect(server.port).await.unwrap();
    other.batch_execute("BEGIN; INSERT INTO pillarbox_sent (key) VALUES ('held')").await.unwrap();
    is(&hasty.ask("held").await.unwrap_err(), ErrorClass::Temporary, "");
    server.peer.kill();
    is(&sender.ask("landed").await.unwrap_err(), ErrorClass::Temporary, "");
    server.crash().await;
    assert_eq!(sender.ask("landed").await.unwrap(), Reconciled::Landed);
}

#[tokio::test]
async fn a_message_that_is_refused_costs_the_others_nothing() {
    let server = Server::start(&[]).await;
    server.run("CREATE TABLE orders (id text, body text CHECK (body <> 'never'))").await;
    let sender = open(&settings(server.port)).await.unwrap();
    let mut samples = many(9);
    samples[3] = Sample::new("never").key("never");
    samples[5] = Sample::new(vec![255, 254]).key("no text");
    samples[7] = Sample::new("a\0b").key("nul");
    let sent = deliver(&sender, &samples).await;
    is(sent[3].as_ref().unwrap_err(), ErrorClass::Permanent, "the server refuses it with 23514");
    is(sent[5].as_ref().unwrap_err(), ErrorClass::Permanent, "the body is no text in UTF-8");
    is(sent[7].as_ref().unwrap_err(), ErrorClass::Permanent, "the server refuses it with 22021");
    assert_eq!(sent.iter().filter(|sent| sent.is_ok()).count(), 6);
    assert_eq!(server.count(ORDERS).await, 6);
    assert_eq!(
        server.count("SELECT count(*) FROM pillarbox_sent").await,
        6,
        "a refusal leaves no key behind"
    );

    // A trigger's refusal; then a table that is gone; then one that is there again.
    server
        .run("CREATE FUNCTION no() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RAISE EXCEPTION ''closed''; END';
              CREATE TRIGGER no BEFORE INSERT ON orders FOR EACH ROW EXECUTE FUNCTION no()")
        .await;
    let next = Sample::new("next").key("next");
    is(&deliver_one(&sender, &next).await.unwrap_err(), ErrorClass::Permanent, "closed");
    server.run("DROP TABLE orders").await;
    is(&deliver_one(&sender, &next).await.unwrap_err(), ErrorClass::Temporary, "refuses it with 42P01");
    server.run("CREATE TABLE orders (id text, body text)").await;
    deliver_one(&sender, &next).await.unwrap();
    // The right is taken away, and the disk is read-only.
    server.run("ALTER DATABASE postgres SET default_transaction_read_only = on").await;
    let error = open(&settings(server.port)).await.unwrap_err();
    is(&error, ErrorClass::Temporary, "cannot be written");
}

#[tokio::test]
async fn what_is_not_set_up_is_told_when_it_is_opened() {
    use ErrorClass::Temporary;
    let server = Server::start(&[]).await;
    let base = settings(server.port);
    is(&open(&base).await.unwrap_err(), Temporary, "the server does not take the statement");
    server.run("CREATE TABLE orders (id text, body bytea); CREATE UNLOGGED TABLE fast (key text PRIMARY KEY); CREATE TABLE keyless (key text)").await;
    let few = base.clone().with("parameters", json!(["body"]));
    is(
        &open(&few).await.unwrap_err(),
        Temporary,
        "the statement has 2 parameters, and the setting parameters lists 1",
    );
    for (ledger, part) in
        [("none", "cannot be looked at"), ("fast", "is unlogged"), ("keyless", "cannot be written")]
    {
        let error = open(&base.clone().with("ledger", ledger)).await.unwrap_err();
        is(&error, Temporary, &format!("the ledger \"{ledger}\" {part}"));
        is(&error, Temporary, &format!("make it: CREATE TABLE \"{ledger}\" (key text PRIMARY KEY"));
    }
    let sender = open(&base.clone().with("ledger", "public.pillarbox_sent")).await.unwrap();
    deliver_one(&sender, &Sample::new("hello")).await.unwrap();
    assert_eq!(server.count("SELECT count(*) FROM pillarbox_sent").await, 1, "a probe leaves nothing behind");
    let nowhere = base.clone().with("url", format!("postgres://127.0.0.1:{}/nowhere", server.port));
    is(&open(&nowhere).await.unwrap_err(), Temporary, "nowhere");
    is(&open(&settings(free_port())).await.unwrap_err(), Temporary, "cannot connect");
    let wrong = base.clone().with("password", "hunter3hunter3");
    let error = open(&wrong).await.unwrap_err();
    is(&error, Temporary, "the server does not let us in");
    assert!(!format!("{error:?} {:?}", error.to_failure()).contains("hunter"));
    let checked = PostgresKind.check(&base).unwrap();
    assert!(!format!("{sender:?} {checked:?} {base:?}").contains("hunter"));
    assert_eq!(checked.open(&context()).await.unwrap().describe().kind, "postgres");
    let unset = base.clone().with("password", "env:PILLARBOX_TEST_NOT_SET");
    is(&open(&unset).await.unwrap_err(), Temporary, "password: the environment's variable");
    let encrypted = base.with("tls", true).with("danger_accept_invalid_certs", true);
    is(&open(&encrypted).await.unwrap_err(), Temporary, "the server speaks no TLS; set it up there");
}

#[tokio::test]
async fn a_server_that_hangs_is_given_up_and_does_nothing_twice() {
    let server = Server::start(&["-c", "synchronous_commit=off"]).await;
    server.run("CREATE TABLE orders (id text, body bytea)").await;
    let hasty = open(&settings(server.port).with("timeout", "300ms")).await.unwrap();
    let samples = many(3);
    server.peer.pause();
    // Its children are in its group: nobody answers.
    for sent in deliver(&hasty, &samples).await {
        is(
            &sent.unwrap_err(),
            ErrorClass::Temporary,
            "no end of the transaction within 300ms (setting timeout)",
        );
    }
    let unreachable = settings(server.port).with("connect_timeout", "200ms");
    is(&open(&unreachable).await.unwrap_err(), ErrorClass::Temporary, "no connection within 200ms");
    server.peer.go_on();
    let patient = open(&settings(server.port)).await.unwrap();
    deliver(&patient, &samples).await.into_iter().for_each(|sent| sent.unwrap());
    assert_eq!(server.count(ORDERS).await, 3);
    // Somebody holds a lock.
    let mut other = connect(server.port).await.unwrap();
    let lock = other.transaction().await.unwrap();
    lock.batch_execute("LOCK TABLE orders").await.unwrap();
    let next = Sample::new("next").key("next");
    is(&deliver_one(&hasty, &next).await.unwrap_err(), ErrorClass::Temporary, "");
    lock.rollback().await.unwrap();
    deliver_one(&patient, &next).await.unwrap();
    assert_eq!(server.count(ORDERS).await, 4);
}

#[tokio::test]
async fn only_whom_we_trust_gets_the_message() {
    let mut server = Server::start(&[]).await;
    server.run("CREATE TABLE orders (id text, body bytea)").await;
    let data = server.folder.path().join("data");
    certificates(&data);
    fs::set_permissions(data.join("server.key"), fs::Permissions::from_mode(0o600)).unwrap();
    if let Some((user, group)) = plain_user() {
        chown(data.join("server.key"), Some(user), Some(group)).unwrap();
    }
    fs::write(data.join("postgresql.auto.conf"), "ssl = on\n").unwrap();
    server.crash().await;
    let encrypted = settings(server.port).with("tls", true);
    is(&open(&encrypted).await.unwrap_err(), ErrorClass::Temporary, "invalid peer certificate");
    let sender = open(&encrypted.with("ca_file", data.join("ca.crt").to_str().unwrap())).await.unwrap();
    deliver_one(&sender, &Sample::new("hello")).await.unwrap();
    assert_eq!(server.count(ORDERS).await, 1);
    let ours = "SELECT count(*) FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) \
                WHERE ssl AND application_name = 'pillarbox'";
    assert_eq!(server.count(ours).await, 1);
}

#[test]
fn settings_have_defaults() {
    let least = Settings::default()
        .with("url", "postgresql://db.example.com/orders")
        .with("user", "me")
        .with("statement", "  with x as (select 1) insert into y select 1");
    let checked = PostgresSettings::check(&least).unwrap();
    assert_eq!(
        (checked.address.port, checked.tls, checked.ledger.as_deref()),
        (5432, true, Some("\"pillarbox_sent\""))
    );
    assert_eq!((checked.batch_max, checked.connections_max), (100, 4));
    assert_eq!((checked.connect_timeout.as_secs(), checked.timeout.as_secs()), (10, 30));
    assert_eq!(PostgresKind.describe().capabilities.body_bytes_max, Some(checked.body_bytes_max));
}

#[test]
fn every_problem_is_told_at_once() {
    let wrong = Settings::default()
        .with("url", "postgres://u:hunter2@h/db")
        .with("user", "")
        .with("password", "env:")
        .with("tls", false)
        .with("ca_file", "ca.pem")
        .with("statement", "ROLLBACK")
        .with("parameters", json!(["body", "bodi", "header: "]))
        .with("ledger", "a\"b")
        .with("batch_max", 0)
        .with("connections_max", 1001)
        .with("body_bytes_max", 0)
        .with("connect_timeout", "1")
        .with("timeout", "9999h");
    let error = PostgresSettings::check(&wrong).unwrap_err();
    let keys: Vec<&str> = error.0.iter().map(|problem| problem.key.as_str()).collect();
    let expected = [
        "url",
        "user",
        "password",
        "ca_file",
        "statement",
        "parameters[1]",
        "parameters[2]",
        "ledger",
        "batch_max",
        "connections_max",
        "body_bytes_max",
        "connect_timeout",
        "timeout",
    ];
    assert_eq!(keys, expected);
    assert!(!error.to_string().contains("hunter2"));
    for url in ["postgres://h", "postgres://h/a/b", "mysql://h/db"] {
        let error = PostgresSettings::check(&settings(7).with("url", url)).unwrap_err();
        assert_eq!((error.0.len(), error.0[0].key.as_str()), (1, "url"), "{url}");
    }
}
