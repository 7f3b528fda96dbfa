//! Retry, backup, suspended: the whole way down.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use pillarbox_store::{AttemptOutcome, DeliveryState, ErrorKind, PortSpec, Route, Store};

use super::kit::{Bench, Scripted, Treat, info, name, seconds, settle, steady};
use crate::adapter::{Adapter, Outgoing, SendError, Sender, Transport, TransportInfo};
use crate::{Port, RetryPolicy, RouteConfig};

/// Fails every message in its own way.
#[derive(Debug)]
struct Failing(fn(&Outgoing) -> SendError);

impl Transport for Failing {
    fn describe(&self) -> TransportInfo {
        info("failing")
    }
}

#[async_trait]
impl Sender for Failing {
    async fn send(&self, message: &Outgoing) -> Result<(), SendError> {
        Err((self.0)(message))
    }
}

fn failing(error: fn(&Outgoing) -> SendError) -> RouteConfig {
    RouteConfig::new(Adapter::sender(Failing(error))).retry(steady(2))
}

#[tokio::test(start_paused = true)]
async fn primary_then_backup_then_suspended() {
    let primary = failing(|message| {
        assert!(!message.send_key().ends_with("/backup"));
        SendError::temporary("primary is down").caused_by(std::io::Error::other("connection refused"))
    });
    let backup = failing(|message| {
        assert!(message.send_key().ends_with("/backup"));
        SendError::temporary("backup is down")
    });
    let bench = Bench::start([Port::new(name("p"), primary).backup(backup)]).await;
    let id = bench.submit("p", "a").await;
    seconds(5).await;
    let record = bench.record(id);
    assert_eq!((record.state, record.route), (DeliveryState::Suspended, Route::Backup));
    let told: Vec<_> = record.attempts.iter().map(|attempt| (attempt.route, attempt.outcome)).collect();
    let expected = [
        (Route::Primary, AttemptOutcome::Resubmitted),
        (Route::Primary, AttemptOutcome::MovedToBackup),
        (Route::Backup, AttemptOutcome::Resubmitted),
        (Route::Backup, AttemptOutcome::Suspended),
    ];
    assert_eq!(told, expected);
    let down = "primary is down: connection refused";
    assert_eq!(bench.failures(id), [down, down, "backup is down", "backup is down"]);
    let reason = "2 attempts on the backup route failed, the last: backup is down";
    assert_eq!(record.reason.unwrap(), reason);
}

#[tokio::test(start_paused = true)]
async fn the_backup_delivers_what_the_primary_cannot() {
    let scripted = Scripted::new();
    let primary = failing(|_| SendError::temporary("down"));
    let backup = RouteConfig::new(scripted.adapter()).retry(steady(2));
    let bench = Bench::start([Port::new(name("p"), primary).backup(backup)]).await;
    let id = bench.submit("p", "a").await;
    seconds(1).await;
    assert_eq!((bench.state(id), scripted.wire()), (DeliveryState::Done, vec!["a".to_owned()]));
    assert_eq!(bench.record(id).attempts.len(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_permanent_error_suspends_at_once_and_spares_the_backup() {
    let scripted = Scripted::new();
    let primary = failing(|_| SendError::permanent("no such customer"));
    let backup = RouteConfig::new(scripted.adapter());
    let bench = Bench::start([Port::new(name("p"), primary).backup(backup)]).await;
    let id = bench.submit("p", "a").await;
    seconds(5).await;
    assert_eq!(bench.state(id), DeliveryState::Suspended);
    assert_eq!(bench.record(id).attempts.len(), 1);
    assert!(scripted.calls().is_empty());
}

#[tokio::test(start_paused = true)]
async fn retry_after_is_obeyed_beyond_the_policys_longest_wait() {
    let primary = failing(|_| SendError::temporary("busy").retry_after(Duration::from_secs(90)));
    let bench = Bench::start([Port::new(name("p"), primary)]).await;
    let id = bench.submit("p", "a").await;
    seconds(89).await;
    assert_eq!((bench.state(id), bench.record(id).attempts.len()), (DeliveryState::RetryWait, 1));
    seconds(2).await;
    assert_eq!((bench.state(id), bench.record(id).attempts.len()), (DeliveryState::Suspended, 2));
}

#[tokio::test(start_paused = true)]
async fn attempts_wait_as_the_policy_says() {
    let primary = failing(|_| SendError::temporary("busy")).retry(steady(4));
    let bench = Bench::start([Port::new(name("p"), primary)]).await;
    let id = bench.submit("p", "a").await;
    seconds(5).await;
    let attempts = bench.record(id).attempts;
    let waits: Vec<_> =
        attempts.windows(2).map(|pair| pair[1].started.since(pair[0].started).as_millis() / 10).collect();
    assert_eq!(waits, [10, 20, 40]);
}

#[tokio::test(start_paused = true)]
async fn a_box_that_knows_no_backup_makes_the_ladder_suspend() {
    let scripted = Scripted::new().treat("a", Treat::Refuse);
    let primary = RouteConfig::new(scripted.adapter()).retry(steady(1));
    let backup = RouteConfig::new(scripted.adapter());
    let bench = Bench::start([Port::new(name("p"), primary).backup(backup)]).await;
    let without =
        pillarbox_store::Batch::new(bench.ids.batch()).define_port(&name("p"), PortSpec { backup: false });
    bench.store.commit(&without).await.unwrap();
    let id = bench.submit("p", "a").await;
    settle().await;
    assert_eq!(bench.state(id), DeliveryState::Suspended);
    assert_eq!(bench.failures(id), ["refused a"]);
    assert_eq!(bench.in_flight(), 0);
}

/// Found by the simulation: what is not charged has its first pause again and again, a millisecond here.
#[tokio::test(start_paused = true)]
async fn without_room_in_the_box_the_pauses_of_failed_messages_grow() {
    static CALLS: AtomicUsize = AtomicUsize::new(0);
    let primary = failing(|_| {
        CALLS.fetch_add(1, Ordering::Relaxed);
        SendError::temporary("down")
    });
    let quick = RetryPolicy { first: Duration::from_millis(1), ..steady(2) };
    let bench = Bench::start([Port::new(name("p"), primary.retry(quick))]).await;
    let id = bench.submit("p", "a").await;
    bench.store.inner().refuse_commits = vec![ErrorKind::Full; 100_000];
    seconds(60).await;
    let calls = CALLS.load(Ordering::Relaxed);
    assert!((20..=60).contains(&calls), "{calls} calls in a minute");
    assert!(bench.record(id).attempts.is_empty(), "none is charged");
    bench.store.inner().refuse_commits.clear();
    seconds(10).await;
    assert_eq!(bench.state(id), DeliveryState::Suspended);
}
