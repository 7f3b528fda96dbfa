//! Transactions that a real server holds prepared, with a crash before each of their steps and of those that settle what it
//! left.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use pillarbox_runtime::adapter::{
    Adapter, AdapterKind as _, CheckedSettings, DoubleSafety, ErrorClass, OpenContext, SendError, Settings,
    Shape, TransactionId, Transport as _,
};
use pillarbox_runtime::{AdapterSource, Port, RetryPolicy, RouteConfig, Runtime};
use pillarbox_store::{BoxConfig, IdSource, Message, MessageBox, PortName, Store};
use serde_json::json;

use super::PostgresKind;
use super::settings::PostgresSettings;
use super::tests::{ORDERS, Server, connect, is, many, settings};
use super::two_phase::TwoPhase;
use crate::parcel::Parcel;
use crate::parcel::sample::Sample;
use crate::proxy::Proxy;

/// A box, and another one.
const BOX: &str = "01020304-0506-7000-8000-00000000000a";
const OTHER: &str = "01020304-0506-7000-8000-00000000000b";
/// What is held prepared, by anybody.
const HELD: &str = "SELECT count(*) FROM pg_prepared_xacts";
/// A session that may still prepare something.
const BEGUN: &str = "SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'pillarbox:%'";

/// A server that holds prepared transactions, with a table and no ledger.
async fn server() -> Server {
    let server = Server::start(&["-c", "max_prepared_transactions=8"]).await;
    server.run("DROP TABLE pillarbox_sent; CREATE TABLE orders (id text, body bytea)").await;
    server
}

fn two_phase(port: u16) -> Settings {
    settings(port).with("two_phase", true)
}

async fn open(settings: &Settings) -> Result<TwoPhase, SendError> {
    TwoPhase::open(PostgresSettings::check(settings).unwrap()).await
}

fn id(of: &str, number: u8) -> TransactionId {
    TransactionId::parse(&format!("{of}/01020304-0506-7000-8000-0000000001{number:02x}")).unwrap()
}

async fn prepare(sender: &TwoPhase, id: &TransactionId, samples: &[Sample]) -> Result<(), SendError> {
    let parcels: Vec<Parcel<'_>> = samples.iter().map(Sample::parcel).collect();
    sender.write(id, &parcels).await
}

fn prefix() -> String {
    format!("{BOX}/")
}

/// Waits for the server.
async fn until<F: Future<Output = bool>>(what: &str, look: impl Fn() -> F) {
    let waiting = async {
        while !look().await {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    let waited = tokio::time::timeout(Duration::from_secs(30), waiting).await;
    assert!(waited.is_ok(), "{what}");
}

#[tokio::test]
async fn what_is_prepared_is_seen_by_nobody_before_the_commit() {
    let server = server().await;
    let sender = open(&two_phase(server.port)).await.unwrap();
    let (one, two) = (id(BOX, 1), id(BOX, 2));
    prepare(&sender, &one, &many(3)).await.unwrap();
    prepare(&sender, &two, &many(2)).await.unwrap();
    assert_eq!((server.count(ORDERS).await, server.count(HELD).await), (0, 2));
    // Another box's, another database's, and what is nobody's transaction of ours.
    prepare(&sender, &id(OTHER, 1), &many(1)).await.unwrap();
    let client = connect(server.port).await.unwrap();
    for name in ["pillarbox:x".to_owned(), format!("pillarbox:{BOX}/x"), format!("{BOX}/x")] {
        client.batch_execute(&format!("BEGIN; PREPARE TRANSACTION '{name}'")).await.unwrap();
    }
    let mut listed = sender.list(&prefix()).await.unwrap();
    listed.sort();
    assert_eq!(listed, [one.clone(), two.clone()]);
    sender.publish(&one).await.unwrap();
    assert_eq!((server.count(ORDERS).await, sender.list(&prefix()).await.unwrap()), (3, vec![two.clone()]));
    sender.discard(&two).await.unwrap();
    // What has ended has ended.
    sender.publish(&one).await.unwrap();
    sender.discard(&one).await.unwrap();
    assert_eq!((server.count(ORDERS).await, sender.list(&prefix()).await.unwrap()), (3, vec![]));
    assert_eq!(server.count(HELD).await, 4, "the others' are as they were");
    let capabilities = sender.describe().capabilities;
    assert_eq!(
        (capabilities.double_safety, capabilities.shape),
        (DoubleSafety::TwoPhase, Shape::TransactionalBatch)
    );
    assert!(!format!("{sender:?}").contains("hunter"));
}

#[tokio::test]
async fn what_a_server_holds_survives_its_crash_and_a_restart_of_ours() {
    let mut server = server().await;
    let sender = open(&two_phase(server.port)).await.unwrap();
    let (decided, undecided) = (id(BOX, 1), id(BOX, 2));
    prepare(&sender, &decided, &many(3)).await.unwrap();
    prepare(&sender, &undecided, &many(2)).await.unwrap();
    server.peer.kill();
    is(&sender.publish(&decided).await.unwrap_err(), ErrorClass::Temporary, "");
    is(&sender.list(&prefix()).await.unwrap_err(), ErrorClass::Temporary, "cannot connect");
    server.crash().await;
    // By one that knows nothing of it, and by the one that prepared it.
    let later = open(&two_phase(server.port)).await.unwrap();
    assert_eq!(later.list(&prefix()).await.unwrap().len(), 2);
    later.publish(&decided).await.unwrap();
    sender.discard(&undecided).await.unwrap();
    assert_eq!((server.count(ORDERS).await, server.count(HELD).await), (3, 0));
}

#[tokio::test]
async fn a_lost_answer_leaves_what_is_listed_and_settled() {
    let server = server().await;
    let proxy = Proxy::start(server.port).await;
    let sender = open(&two_phase(proxy.port)).await.unwrap();
    proxy.lose(b"PREPARE TRANSACTION", b"PREPARE TRANSACTION");
    let lost = prepare(&sender, &id(BOX, 1), &many(3)).await.unwrap_err();
    is(&lost, ErrorClass::Temporary, "the connection broke before the answer");
    assert!(proxy.has_lost());
    assert_eq!(sender.list(&prefix()).await.unwrap(), [id(BOX, 1)]);
    sender.discard(&id(BOX, 1)).await.unwrap();
    assert_eq!(server.count(HELD).await, 0);
    prepare(&sender, &id(BOX, 2), &many(3)).await.unwrap();
    proxy.lose(b"COMMIT PREPARED", b"COMMIT PREPARED");
    is(
        &sender.publish(&id(BOX, 2)).await.unwrap_err(),
        ErrorClass::Temporary,
        "the connection broke before the answer",
    );
    assert!(proxy.has_lost());
    assert_eq!(sender.list(&prefix()).await.unwrap(), []);
    sender.publish(&id(BOX, 2)).await.unwrap();
    prepare(&sender, &id(BOX, 3), &many(3)).await.unwrap();
    proxy.lose(b"ROLLBACK PREPARED", b"ROLLBACK PREPARED");
    is(
        &sender.discard(&id(BOX, 3)).await.unwrap_err(),
        ErrorClass::Temporary,
        "the connection broke before the answer",
    );
    sender.discard(&id(BOX, 3)).await.unwrap();
    assert_eq!((server.count(ORDERS).await, server.count(HELD).await), (3, 0));
}

/// What prepares late would be left for ever, were it not looked for.
#[tokio::test]
async fn a_session_that_may_still_prepare_is_listed_and_ended_before_its_transaction_is() {
    let server = server().await;
    let sender = open(&two_phase(server.port).with("timeout", "300ms")).await.unwrap();
    let mut other = connect(server.port).await.unwrap();
    let lock = other.transaction().await.unwrap();
    lock.batch_execute("LOCK TABLE orders").await.unwrap();
    // Given up in the middle, as the route's timeout does, and still at work there.
    let dropped = id(BOX, 1);
    {
        let (one, samples) = (dropped.clone(), many(1));
        let working = prepare(&sender, &one, &samples);
        let seen = until("it begins", || async { server.count(BEGUN).await == 1 });
        tokio::select! {
            done = working => panic!("{done:?}"),
            () = seen => {}
        }
    }
    // A process that is gone, and whose connection the server takes for good.
    let gone = connect(server.port).await.unwrap();
    let name = format!("translate('{}', '-/', '')", id(BOX, 2));
    let name = format!("'pillarbox:' || encode(decode({name}, 'hex'), 'base64')");
    gone.batch_execute(&format!("BEGIN; SELECT set_config('application_name', {name}, true)")).await.unwrap();
    assert!(sender.list(&prefix()).await.unwrap().contains(&id(BOX, 2)));
    assert_eq!(sender.list(&format!("{OTHER}/")).await.unwrap(), []);
    for id in [dropped, id(BOX, 2)] {
        sender.discard(&id).await.unwrap();
    }
    assert_eq!(server.count(BEGUN).await, 0);
    let late = gone.batch_execute(&format!("PREPARE TRANSACTION 'pillarbox:{}'", id(BOX, 2))).await;
    assert!(late.is_err() && gone.is_closed());
    // A session that was named so by hand is nothing of ours.
    gone_astray(server.port).await;
    assert_eq!(sender.list(&prefix()).await.unwrap(), []);
    lock.rollback().await.unwrap();
    assert_eq!((server.count(ORDERS).await, server.count(HELD).await), (0, 0));
    prepare(&sender, &id(BOX, 3), &many(1)).await.unwrap();
    sender.publish(&id(BOX, 3)).await.unwrap();
    assert_eq!(server.count(ORDERS).await, 1);
}

async fn gone_astray(port: u16) {
    let client = connect(port).await.unwrap();
    client.batch_execute("SET application_name = 'pillarbox:not base 64'").await.unwrap();
}

/// The first holds the row that all others wait for: its end needs a connection.
#[tokio::test]
async fn those_that_wait_for_what_is_prepared_leave_a_connection_for_its_end() {
    let server = server().await;
    server.run("CREATE TABLE sums (n int); INSERT INTO sums VALUES (0)").await;
    let settings = two_phase(server.port)
        .with("statement", "UPDATE sums SET n = n + $1")
        .with("parameters", json!(["attempt"]))
        .with("connections_max", 3);
    let one = open(&settings).await.unwrap();
    prepare(&one, &id(BOX, 1), &many(1)).await.unwrap();
    // Left by a process before: what is there is ended while others wait for it.
    let two = open(&settings).await.unwrap();
    let samples = many(1);
    let numbers = [id(BOX, 2), id(BOX, 3), id(BOX, 4)];
    let work = |id: TransactionId| {
        let (two, samples) = (&two, &samples);
        async move {
            prepare(two, &id, samples).await.unwrap();
            two.publish(&id).await.unwrap();
        }
    };
    let waiting = futures_util::future::join_all(numbers.into_iter().map(work));
    let ending = async {
        let waits = "SELECT count(*) FROM pg_locks WHERE NOT granted";
        until("two wait for the first", || async { server.count(waits).await == 2 }).await;
        assert!(two.list(&prefix()).await.unwrap().contains(&id(BOX, 1)));
        two.publish(&id(BOX, 1)).await.unwrap();
    };
    futures_util::future::join(waiting, ending).await;
    assert_eq!(server.count("SELECT n::bigint FROM sums").await, 4);
}

/// The statement itself cannot be looked at before what was left is settled.
#[tokio::test]
async fn what_holds_the_whole_table_is_settled_all_the_same() {
    let server = server().await;
    server
        .run("CREATE PROCEDURE renew(text) LANGUAGE sql AS 'TRUNCATE orders; INSERT INTO orders (id) VALUES ($1)'")
        .await;
    let renewing =
        two_phase(server.port).with("statement", "CALL renew($1)").with("parameters", json!(["message_id"]));
    prepare(&open(&renewing).await.unwrap(), &id(BOX, 1), &many(1)).await.unwrap();
    let later = open(&two_phase(server.port)).await.unwrap();
    assert_eq!(later.list(&prefix()).await.unwrap(), [id(BOX, 1)]);
    later.publish(&id(BOX, 1)).await.unwrap();
    prepare(&later, &id(BOX, 2), &many(1)).await.unwrap();
    later.publish(&id(BOX, 2)).await.unwrap();
    assert_eq!(server.count(ORDERS).await, 2);
    let wrong = two_phase(server.port).with("statement", "INSERT INTO nothing VALUES ($1)");
    let error = open(&wrong).await.unwrap_err();
    is(&error, ErrorClass::Temporary, "the server does not take the statement");
}

#[tokio::test]
async fn what_is_refused_is_classed_and_leaves_nothing() {
    let server = server().await;
    server
        .run("CREATE TABLE late (id text UNIQUE DEFERRABLE INITIALLY DEFERRED, body text CHECK (body <> 'never'))")
        .await;
    let statement = "INSERT INTO late (id, body) VALUES ($1, $2)";
    let sender = open(&two_phase(server.port).with("statement", statement)).await.unwrap();
    let never = prepare(&sender, &id(BOX, 1), &[Sample::new("never")]).await.unwrap_err();
    is(&never, ErrorClass::Permanent, "the server refuses it with 23514");
    let no_text = prepare(&sender, &id(BOX, 2), &[Sample::new(vec![255])]).await.unwrap_err();
    is(&no_text, ErrorClass::Permanent, "the body is no text in UTF-8");
    // It is looked at when it is prepared only.
    let twice = prepare(&sender, &id(BOX, 3), &many(2)).await.unwrap_err();
    is(&twice, ErrorClass::Permanent, "the server refuses it with 23505");
    for number in 1..=3 {
        sender.discard(&id(BOX, number)).await.unwrap();
    }
    // What cannot be prepared is told with the server's words.
    let temporary =
        "WITH x AS (SELECT $1::text, $2::text) SELECT set_config('a.b', 'c', false), pg_notify('a', 'b')";
    let notifies = open(&two_phase(server.port).with("statement", temporary)).await.unwrap();
    let error = prepare(&notifies, &id(BOX, 4), &many(1)).await.unwrap_err();
    is(
        &error,
        ErrorClass::Temporary,
        "cannot PREPARE a transaction that has executed LISTEN, UNLISTEN, or NOTIFY",
    );
    notifies.discard(&id(BOX, 4)).await.unwrap();
    assert_eq!((server.count(HELD).await, server.count(BEGUN).await), (0, 0));
    prepare(&sender, &id(BOX, 5), &many(1)).await.unwrap();
    sender.publish(&id(BOX, 5)).await.unwrap();
    assert_eq!(server.count("SELECT count(*) FROM late").await, 1);
}

#[tokio::test]
async fn what_only_a_person_can_settle_is_told_with_the_words_for_it() {
    let server = server().await;
    let sender = open(&two_phase(server.port)).await.unwrap();
    prepare(&sender, &id(BOX, 1), &many(1)).await.unwrap();
    server.run(&format!("ROLLBACK PREPARED 'pillarbox:{}'", id(BOX, 1))).await;
    server.run("CREATE ROLE plain LOGIN PASSWORD 'hunter3hunter3'; GRANT INSERT ON orders TO plain").await;
    // The box has recorded the messages as sent: that they are not there must not pass for done.
    let gone = sender.publish(&id(BOX, 1)).await.unwrap_err();
    is(&gone, ErrorClass::Permanent, "it is prepared there no more, and not by us");
    prepare(&sender, &id(BOX, 2), &many(1)).await.unwrap();
    let plain = two_phase(server.port).with("user", "plain").with("password", "hunter3hunter3");
    let plain = open(&plain).await.unwrap();
    assert_eq!(plain.list(&prefix()).await.unwrap(), [id(BOX, 2)]);
    let error = plain.publish(&id(BOX, 2)).await.unwrap_err();
    is(&error, ErrorClass::Permanent, &format!("a superuser: COMMIT PREPARED 'pillarbox:{}'", id(BOX, 2)));
    let error = plain.discard(&id(BOX, 2)).await.unwrap_err();
    is(&error, ErrorClass::Permanent, &format!("a superuser: ROLLBACK PREPARED 'pillarbox:{}'", id(BOX, 2)));
    prepare(&plain, &id(BOX, 3), &many(1)).await.unwrap();
    plain.publish(&id(BOX, 3)).await.unwrap();
    sender.publish(&id(BOX, 2)).await.unwrap();
    assert_eq!(server.count(ORDERS).await, 2);
}

#[tokio::test]
async fn a_server_that_is_not_set_up_for_it_is_told_what_to_set() {
    let server = Server::start(&[]).await;
    server.run("CREATE TABLE orders (id text, body bytea)").await;
    let error = open(&two_phase(server.port)).await.unwrap_err();
    is(&error, ErrorClass::Temporary, "max_prepared_transactions is 0 there; set it to 4 (connections_max)");
    drop(server);
    let server = self::server().await;
    let error = open(&two_phase(server.port).with("connections_max", 9)).await.unwrap_err();
    is(&error, ErrorClass::Temporary, "max_prepared_transactions is 8 there; set it to 9");
    // Others may have taken all of them.
    let sender = open(&two_phase(server.port)).await.unwrap();
    let client = connect(server.port).await.unwrap();
    for number in 0..8 {
        client.batch_execute(&format!("BEGIN; PREPARE TRANSACTION 'theirs {number}'")).await.unwrap();
    }
    let error = prepare(&sender, &id(BOX, 1), &many(1)).await.unwrap_err();
    is(&error, ErrorClass::Temporary, "maximum number of prepared transactions reached");
    sender.discard(&id(BOX, 1)).await.unwrap();
    server.run("ALTER DATABASE postgres SET default_transaction_read_only = on").await;
    is(&open(&two_phase(server.port)).await.unwrap_err(), ErrorClass::Temporary, "the database is read-only");
}

#[test]
fn it_has_no_ledger_and_a_connection_to_end_with() {
    let wrong = two_phase(7).with("ledger", "sent").with("connections_max", 1);
    let error = PostgresSettings::check(&wrong).unwrap_err();
    let keys: Vec<&str> = error.0.iter().map(|problem| problem.key.as_str()).collect();
    assert_eq!(keys, ["ledger", "connections_max"]);
    let checked = PostgresKind.check(&two_phase(7)).unwrap();
    let claimed = checked.describe(PostgresKind.describe()).capabilities;
    assert!(claimed.all_or_none && claimed.double_safety == DoubleSafety::TwoPhase);
    let plain = PostgresKind.check(&settings(7)).unwrap().describe(PostgresKind.describe()).capabilities;
    assert_eq!((plain.double_safety, plain.shape), (DoubleSafety::Ledger, Shape::AsynchronousBatch));
}

fn port() -> PortName {
    PortName::new("orders").unwrap()
}

/// What is opened counts its steps with the test.
#[derive(Debug)]
struct Opened {
    settings: Settings,
    left: Arc<AtomicUsize>,
}

#[async_trait]
impl CheckedSettings for Opened {
    async fn open(&self, _context: &OpenContext) -> Result<Adapter, SendError> {
        let mut sender = open(&self.settings).await?;
        sender.steps_left = Arc::clone(&self.left);
        Ok(Adapter::transactional(sender))
    }
}

/// A life of a box up to `steps` steps of the adapter, after which nothing of it works any more. Gives how many were
/// left.
async fn life(server: &Server, store: &Arc<MessageBox>, submit: &[&str], steps: usize) -> usize {
    let left = Arc::new(AtomicUsize::new(steps));
    let opened = Opened { settings: two_phase(server.port), left: Arc::clone(&left) };
    let info = opened.describe(super::two_phase_info(super::info(1)));
    let pause = Duration::from_millis(1);
    let policy = RetryPolicy { attempts: 1_000, first: pause, max: pause, ..RetryPolicy::default() };
    let source = AdapterSource::Checked(Arc::new(opened), info);
    let runtime = Runtime::builder(Arc::clone(store) as Arc<dyn Store>)
        .port(Port::new(port(), RouteConfig::new(source).retry(policy)))
        .start()
        .await
        .unwrap();
    for body in submit {
        let message = Message::new(IdSource::system().message(), (*body).to_owned());
        runtime.submit(&port(), message).await.unwrap();
    }
    let client = connect(server.port).await.unwrap();
    loop {
        let counts = store.ports().into_iter().next().unwrap().counts;
        let is_done = counts.done == 3 && store.decisions().await.unwrap().known.is_empty();
        let held: i64 = client.query_one(HELD, &[]).await.unwrap().get(0);
        if left.load(Ordering::SeqCst) == 0 || (is_done && held == 0) {
            break;
        }
        tokio::time::sleep(pause).await;
    }
    let left = left.swap(0, Ordering::SeqCst);
    runtime.shutdown(Duration::ZERO).await;
    left
}

async fn take(server: &Server) -> Vec<String> {
    let client = connect(server.port).await.unwrap();
    let rows = client.query("DELETE FROM orders RETURNING convert_from(body, 'UTF8')", &[]).await.unwrap();
    rows.iter().map(|row| row.get(0)).collect()
}

fn open_box(at: &std::path::Path) -> Arc<MessageBox> {
    Arc::new(MessageBox::open(BoxConfig::new(at.join("box"))).unwrap())
}

#[tokio::test]
async fn a_crash_before_any_step_and_another_while_settling_lose_nothing_and_repeat_nothing() {
    let mut server = server().await;
    let mut crashes = 0;
    for first in 1.. {
        let place = tempfile::tempdir().unwrap();
        let store = open_box(place.path());
        let quiet = life(&server, &store, &["a", "b", "c"], first).await > 0;
        store.close().await.unwrap();
        // Every other time, the server has crashed as well.
        if first % 2 == 0 {
            server.crash().await;
        }
        let mut taken = take(&server).await;
        let store = open_box(place.path());
        life(&server, &store, &[], first % 7 + 1).await;
        store.close().await.unwrap();
        taken.extend(take(&server).await);
        // Opened as configuration opens it: what is decided appears without waiting for another message.
        let store = open_box(place.path());
        let checked = PostgresKind.check(&two_phase(server.port)).unwrap();
        let source = AdapterSource::Checked(checked.into(), PostgresKind.describe());
        let runtime = Runtime::builder(Arc::clone(&store) as Arc<dyn Store>)
            .port(Port::new(port(), RouteConfig::new(source)))
            .start()
            .await
            .unwrap();
        let left = i64::try_from(3 - taken.len()).unwrap();
        let place = format!("a crash before step {first}");
        until(&place, || async { server.count(ORDERS).await == left && server.count(HELD).await == 0 }).await;
        runtime.shutdown(Duration::from_secs(5)).await;
        store.close().await.unwrap();
        taken.extend(take(&server).await);
        taken.sort();
        assert_eq!(
            (taken, server.count(BEGUN).await),
            (vec!["a".into(), "b".into(), "c".into()], 0),
            "{place}"
        );
        if quiet {
            break;
        }
        crashes += 1;
    }
    assert!(crashes > 6, "{crashes}");
}
