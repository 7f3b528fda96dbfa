//! Attempts in doubt: how their intent is recorded, what the destination is asked, and what follows from its answer.

use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use async_trait::async_trait;
use pillarbox_store::engine::hooked::Hooked;
use pillarbox_store::{
    Batch, Clock, DeliveryId, DeliveryState, Durability, IdSource, Lease, Message, PortSpec, Route, Store,
    Want,
};
use tokio::time::Instant;

use super::kit::{Bench, TestClock, body, info, name, seconds, settle, steady};
use super::watched::WatchedBox;
use crate::adapter::{
    Adapter, Capabilities, Outgoing, Reconciled, SendError, Sender, Transport, TransportInfo,
};
use crate::{DoubtPolicy, IntentRecord, Port, RouteConfig, WhenUnknown};

/// What a destination does when it is asked.
#[derive(Debug, Clone, Copy)]
enum Asked {
    Tell(Reconciled),
    Fail,
    Panic,
    Hang,
}

#[derive(Debug, Default)]
struct Seen {
    /// What the next questions meet; nobody can tell after them.
    asked: Vec<Asked>,
    questions: Vec<String>,
    /// What was sent, with `?` where it was said to be in doubt.
    sent: Vec<String>,
}

/// A destination that can be asked.
#[derive(Debug, Clone, Default)]
struct Destination(Arc<Mutex<Seen>>);

impl Destination {
    fn that(asked: &[Asked]) -> Self {
        let destination = Self::default();
        destination.seen().asked = asked.iter().rev().copied().collect();
        destination
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.0.lock().unwrap()
    }

    fn questions(&self) -> usize {
        self.seen().questions.len()
    }

    fn sent(&self) -> Vec<String> {
        self.seen().sent.clone()
    }
}

impl Transport for Destination {
    fn describe(&self) -> TransportInfo {
        TransportInfo { capabilities: Capabilities::default().reconciles(), ..info("asked") }
    }
}

#[async_trait]
impl Sender for Destination {
    async fn send(&self, message: &Outgoing) -> Result<(), SendError> {
        let doubt = if message.in_doubt() { "?" } else { "" };
        self.seen().sent.push(format!("{}{doubt}", body(message)));
        Ok(())
    }

    async fn reconcile(&self, message: &Outgoing) -> Result<Reconciled, SendError> {
        let asked = {
            let mut seen = self.seen();
            seen.questions.push(message.send_key().to_owned());
            seen.asked.pop().unwrap_or(Asked::Tell(Reconciled::Unknown))
        };
        match asked {
            Asked::Tell(told) => Ok(told),
            Asked::Fail => Err(SendError::temporary("it is away")),
            Asked::Panic => panic!("it went wrong"),
            Asked::Hang => std::future::pending().await,
        }
    }
}

async fn after_crashes(crashes: u32, destination: &Destination, policy: DoubtPolicy) -> (Bench, DeliveryId) {
    next_life(crashes, Batch::intend, Adapter::sender(destination.clone()), policy).await
}

/// A box with a message `a` that was about to be sent in this manner when the process ended, so many times; the next life
/// runs over it.
pub(super) async fn next_life(
    crashes: u32,
    about_to: fn(Batch, Lease) -> Batch,
    adapter: Adapter,
    policy: DoubtPolicy,
) -> (Bench, DeliveryId) {
    let clock: Arc<dyn Clock> = Arc::new(TestClock(Instant::now()));
    let ids = IdSource::seeded(Arc::clone(&clock), 42);
    let engine = Hooked::in_memory();
    let open = || Arc::new(WatchedBox::over(Arc::new(engine.clone()), Arc::clone(&clock), ids.clone()));
    let batch = Batch::new(ids.batch()).define_port(&name("p"), PortSpec { backup: false });
    let batch = batch.submit(&name("p"), Message::new(ids.message(), "a"));
    assert!(open().commit(&batch).await.unwrap().all_applied());
    let mut delivery = None;
    for _ in 0..crashes {
        let store = open();
        let want = Want {
            port: name("p"),
            route: Route::Primary,
            limit: 1,
            bytes_max: u64::MAX,
            lease_for: Duration::from_secs(60),
        };
        let lease = store.lease(&want).await.unwrap()[0].lease;
        let batch = about_to(Batch::new(ids.batch()).durability(Durability::Written), lease);
        assert!(store.commit(&batch).await.unwrap().all_applied());
        delivery = Some(lease.delivery());
    }
    let store = open();
    let route = RouteConfig::new(adapter).retry(steady(3)).doubt(policy);
    let port = Port::new(name("p"), route.timeout(Duration::from_secs(10)));
    let runtime = Arc::new(Bench::run(&store, &clock, &ids, [port]).await);
    settle().await;
    (Bench { store, clock, ids, runtime }, delivery.unwrap())
}

pub(super) fn policy(unknown: WhenUnknown) -> DoubtPolicy {
    DoubtPolicy { unknown, ..DoubtPolicy::default() }
}

#[tokio::test(start_paused = true)]
async fn what_the_destination_has_is_done_and_not_sent_again() {
    let destination = Destination::that(&[Asked::Tell(Reconciled::Landed)]);
    let (bench, id) = after_crashes(1, &destination, policy(WhenUnknown::Hold)).await;
    assert_eq!(
        (bench.state(id), destination.sent(), destination.questions()),
        (DeliveryState::Done, vec![], 1)
    );
    let message = bench.store.delivery(id).await.unwrap().unwrap().info.message;
    assert!(destination.seen().questions[0].ends_with(&format!("/p/{message}")));
    assert_eq!(bench.in_flight(), 0);
}

#[tokio::test(start_paused = true)]
async fn what_the_destination_does_not_have_is_sent_whatever_the_policy() {
    for unknown in [WhenUnknown::Resend, WhenUnknown::Hold, WhenUnknown::Suspend] {
        let destination = Destination::that(&[Asked::Tell(Reconciled::NotLanded)]);
        let (bench, id) = after_crashes(1, &destination, policy(unknown)).await;
        assert_eq!((bench.state(id), destination.sent()), (DeliveryState::Done, vec!["a?".to_owned()]));
    }
}

#[tokio::test(start_paused = true)]
async fn where_nobody_can_tell_the_policy_decides() {
    for (unknown, state, sent) in [
        (WhenUnknown::Resend, DeliveryState::Done, &["a?"][..]),
        (WhenUnknown::Hold, DeliveryState::InDoubt, &[]),
        (WhenUnknown::Suspend, DeliveryState::Suspended, &[]),
    ] {
        let destination = Destination::default();
        let (bench, id) = after_crashes(1, &destination, policy(unknown)).await;
        assert_eq!((bench.state(id), destination.questions()), (state, 1), "{unknown:?}");
        assert_eq!(destination.sent(), sent, "{unknown:?}");
        assert!(bench.failures(id).is_empty() && bench.in_flight() == 0, "no attempt was made for it");
    }
}

#[tokio::test(start_paused = true)]
async fn what_was_only_sent_in_transactions_is_sent_plainly_whatever_the_policy_and_nobody_is_asked() {
    for unknown in [WhenUnknown::Resend, WhenUnknown::Hold, WhenUnknown::Suspend] {
        let destination = Destination::that(&[Asked::Tell(Reconciled::Landed)]);
        let adapter = Adapter::sender(destination.clone());
        let (bench, id) = next_life(2, Batch::intend_transacted, adapter, policy(unknown)).await;
        assert_eq!((bench.state(id), destination.questions()), (DeliveryState::Done, 0));
        assert_eq!(destination.sent(), ["a"], "no doubt about it: it was not decided");
    }
}

#[tokio::test(start_paused = true)]
async fn a_destination_that_cannot_be_asked_is_asked_again_and_no_attempt_is_charged() {
    for failing in [Asked::Fail, Asked::Panic, Asked::Hang] {
        let destination = Destination::that(&[failing, failing, Asked::Tell(Reconciled::Landed)]);
        let (bench, id) = after_crashes(1, &destination, policy(WhenUnknown::Resend)).await;
        seconds(11).await;
        let trouble = bench.trouble(Route::Primary).unwrap_or_default();
        assert!(destination.questions() > 2 || trouble.contains("in doubt"), "{failing:?}: {trouble}");
        seconds(60).await;
        assert_eq!((bench.state(id), destination.questions()), (DeliveryState::Done, 3), "{failing:?}");
        assert_eq!((destination.sent(), bench.failures(id)), (vec![], vec![]), "{failing:?}");
        assert_eq!(bench.in_flight(), 0);
    }
}

#[tokio::test(start_paused = true)]
async fn what_ends_the_process_again_and_again_is_parked_and_nobody_is_asked() {
    let policy = DoubtPolicy { park_after: 3, ..DoubtPolicy::default() };
    let destination = Destination::that(&[Asked::Tell(Reconciled::NotLanded)]);
    let (bench, id) = after_crashes(2, &destination, policy).await;
    assert_eq!((bench.state(id), destination.sent()), (DeliveryState::Done, vec!["a?".to_owned()]));

    let destination = Destination::default();
    let (bench, id) = after_crashes(3, &destination, policy).await;
    assert_eq!((bench.state(id), destination.questions()), (DeliveryState::Suspended, 0));
    let reason = bench.record(id).reason.unwrap();
    assert!(reason.contains("the process ended 3 times while it was being sent"), "{reason}");
    bench.store.commit(&Batch::new(bench.ids.batch()).resume(id)).await.unwrap();
    settle().await;
    assert_eq!(bench.state(id), DeliveryState::Done, "whoever resumes it has decided");
}

#[tokio::test(start_paused = true)]
async fn an_intent_is_recorded_as_the_route_wants_it() {
    assert_eq!(DoubtPolicy::default().record, IntentRecord::Written);
    for (record, recorded) in [
        (IntentRecord::None, &[][..]),
        (IntentRecord::Written, &[Durability::Written]),
        (IntentRecord::Flushed, &[Durability::Flushed]),
    ] {
        let destination = Destination::default();
        let policy = DoubtPolicy { record, ..DoubtPolicy::default() };
        let route = RouteConfig::new(Adapter::sender(destination.clone())).doubt(policy);
        let bench = Bench::start([Port::new(name("p"), route)]).await;
        let id = bench.submit("p", "a").await;
        settle().await;
        assert_eq!((bench.state(id), destination.sent()), (DeliveryState::Done, vec!["a".to_owned()]));
        assert_eq!(bench.store.inner().intents_durable, recorded, "{record:?}");
        assert!(!bench.store.inner().intents_transacted.contains(&true));
    }
}
