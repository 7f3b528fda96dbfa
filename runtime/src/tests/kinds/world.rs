//! A world in which everything that an adapter and the box do is a step, and that can end before any of them.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use pillarbox_store::engine::hooked::Hooked;
use pillarbox_store::{
    Batch, Clock, DeliveryId, DeliveryState, IdSource, Message, Op, OpResult, PortSpec, Store,
};
use tokio::time::Instant;

use super::super::kit::{TestClock, name, settle, steady};
use super::super::watched::{Gate, WatchedBox};
use crate::adapter::Adapter;
use crate::{Port, Proxy, RouteConfig, Runtime};

#[derive(Debug, Default)]
struct Inner {
    steps: Vec<String>,
    crash_before: Option<usize>,
    wire: Vec<String>,
    /// Transactions that the destination holds prepared.
    prepared: BTreeMap<String, Vec<String>>,
    proxy: Option<Proxy>,
}

/// What the adapter, the box and the test share.
#[derive(Debug, Default, Clone)]
pub(super) struct World {
    inner: Arc<Mutex<Inner>>,
    ended: Arc<AtomicBool>,
}

impl World {
    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A step in a place that cannot wait. False where the world ends before it.
    pub(super) fn note(&self, step: impl Into<String>) -> bool {
        if self.ended.load(Ordering::SeqCst) {
            return false;
        }
        let mut inner = self.inner();
        if inner.crash_before == Some(inner.steps.len()) {
            self.ended.store(true, Ordering::SeqCst);
        }
        inner.steps.push(step.into());
        !self.ended.load(Ordering::SeqCst)
    }

    /// A step; where the world ends before it, it is never taken.
    pub(super) async fn step(&self, step: impl Into<String>) {
        if !self.note(step) {
            std::future::pending::<()>().await;
        }
    }

    /// Sends over the wire.
    pub(super) async fn send(&self, body: &str) {
        self.step(format!("send {body}")).await;
        self.inner().wire.push(body.to_owned());
    }

    pub(super) fn steps(&self) -> Vec<String> {
        self.inner().steps.clone()
    }

    pub(super) fn wire(&self) -> Vec<String> {
        self.inner().wire.clone()
    }

    pub(super) fn prepared(&self) -> BTreeMap<String, Vec<String>> {
        self.inner().prepared.clone()
    }

    /// Holds a transaction prepared.
    pub(super) fn hold(&self, transaction: &str, bodies: Vec<String>) {
        self.inner().prepared.insert(transaction.to_owned(), bodies);
    }

    /// Gives up what a prepared transaction holds; makes it visible where it is committed.
    pub(super) fn let_go(&self, transaction: &str, committed: bool) {
        let mut inner = self.inner();
        let bodies = inner.prepared.remove(transaction).unwrap_or_default();
        if committed {
            inner.wire.extend(bodies);
        }
    }

    pub(super) fn keep(&self, proxy: Proxy) {
        self.inner().proxy = Some(proxy);
    }

    pub(super) fn proxy(&self) -> Proxy {
        self.inner().proxy.clone().unwrap()
    }

    fn has_ended(&self) -> bool {
        self.ended.load(Ordering::SeqCst)
    }
}

fn told(batch: &Batch) -> String {
    let count = |is: fn(&Op) -> bool| batch.ops().iter().filter(|op| is(op)).count();
    let all = [
        ("delete", count(|op| matches!(op, Op::Delete { .. }))),
        ("respond", count(|op| matches!(op, Op::Respond { .. }))),
        ("resubmit", count(|op| matches!(op, Op::Resubmit { .. }))),
        ("decide", count(|op| matches!(op, Op::Decide { .. }))),
        ("forget", count(|op| matches!(op, Op::Forget { .. }))),
        ("suspend", count(|op| matches!(op, Op::Suspend { .. }))),
    ];
    let told = all.into_iter().filter(|(_, count)| *count > 0);
    let told: Vec<_> = told.map(|(what, count)| format!("{what} {count}")).collect();
    format!("box: {}", told.join(", "))
}

/// What an adapter is made of.
pub(super) type Make = fn(&World) -> Adapter;

/// How deliveries stand, in their order: the state, and the answer.
pub(super) type Stand = Vec<(DeliveryState, Option<String>)>;

/// Lives of one box: its records, and what they were submitted as.
pub(super) struct Lives {
    pub(super) world: World,
    engine: Hooked,
    clock: Arc<dyn Clock>,
    ids: IdSource,
    deliveries: Vec<DeliveryId>,
}

impl Lives {
    pub(super) async fn new(bodies: &[&str]) -> Self {
        let clock: Arc<dyn Clock> = Arc::new(TestClock(Instant::now()));
        let ids = IdSource::seeded(Arc::clone(&clock), 42);
        let mut lives =
            Self { world: World::default(), engine: Hooked::in_memory(), clock, ids, deliveries: Vec::new() };
        let store = lives.open();
        let mut batch = Batch::new(lives.ids.batch()).define_port(&name("p"), PortSpec { backup: false });
        for body in bodies {
            batch = batch.submit(&name("p"), Message::new(lives.ids.message(), (*body).to_owned()));
        }
        for result in store.commit(&batch).await.unwrap().results() {
            if let OpResult::Submitted { first } = result {
                lives.deliveries.push(*first);
            }
        }
        lives
    }

    pub(super) fn open(&self) -> Arc<WatchedBox> {
        let engine = Arc::new(self.engine.clone());
        Arc::new(WatchedBox::over(engine, Arc::clone(&self.clock), self.ids.clone()))
    }

    /// Runs until every delivery is settled or the world ends.
    async fn live(&self, make: Make) {
        self.live_until(make, |_store| true).await;
    }

    /// The same, and until the box says so too.
    pub(super) async fn live_until(&self, make: Make, is_done: fn(&WatchedBox) -> bool) {
        let store = self.open();
        let world = self.world.clone();
        store.inner().gate = Some(Gate(Box::new(move |batch| {
            // What the runtime says of its ports at the start changes nothing.
            batch.ops().iter().any(|op| matches!(op, Op::DefinePort { .. })) || world.note(told(batch))
        })));
        let route = RouteConfig::new(make(&self.world)).retry(steady(5));
        let runtime = Runtime::builder(Arc::clone(&store) as Arc<dyn Store>)
            .clock(Arc::clone(&self.clock))
            .ids(self.ids.clone())
            .port(Port::new(name("p"), route))
            .start()
            .await
            .unwrap();
        for _ in 0..10_000 {
            settle().await;
            let settled = || self.deliveries.iter().all(|id| store.record(*id).state.is_settled());
            if self.world.has_ended() || (settled() && is_done(&store)) {
                break;
            }
        }
        // Without a shutdown: as in a crash.
        drop(runtime);
        self.world.ended.store(true, Ordering::SeqCst);
    }

    pub(super) async fn stand(&self) -> Stand {
        let store = self.open();
        let mut stand = Vec::new();
        for id in &self.deliveries {
            let answered = store.answer(*id).await.unwrap();
            let answer = answered.map(|one| String::from_utf8(one.answer.body().to_vec()).unwrap());
            stand.push((store.record(*id).state, answer));
        }
        stand
    }

    pub(super) fn begin(&self, crash_before: Option<usize>) {
        self.world.ended.store(false, Ordering::SeqCst);
        let mut inner = self.world.inner();
        inner.steps.clear();
        inner.crash_before = crash_before;
    }
}

/// The steps of a life in which nothing goes wrong, and the wire after it.
pub(super) async fn undisturbed(make: Make, bodies: &[&str]) -> (Vec<String>, Vec<String>) {
    let lives = Lives::new(bodies).await;
    lives.live(make).await;
    assert!(lives.stand().await.iter().all(|(state, _)| *state == DeliveryState::Done));
    (lives.world.steps(), lives.world.wire())
}

/// A crash, and what followed.
#[derive(Debug)]
pub(super) struct Crash {
    /// The step that was not taken any more.
    pub(super) before: String,
    /// How the deliveries stood when the box was open again.
    pub(super) stand: Stand,
    /// What had been sent then.
    pub(super) wire: Vec<String>,
    /// What the destination held prepared then.
    pub(super) prepared: usize,
    /// How they stood after another life.
    pub(super) stand_at_end: Stand,
    /// What had been sent then.
    pub(super) wire_at_end: Vec<String>,
    /// The steps of that life.
    pub(super) steps_at_end: Vec<String>,
}

/// A crash before each step of a life, each followed by a life without. In any of them every message is delivered, and
/// what is sent twice is exactly what had been sent and was not recorded.
pub(super) async fn crashes(make: Make, bodies: &[&str]) -> Vec<Crash> {
    let steps = undisturbed(make, bodies).await.0;
    let mut crashes = Vec::new();
    for (place, before) in steps.into_iter().enumerate() {
        let lives = Lives::new(bodies).await;
        lives.begin(Some(place));
        lives.live(make).await;
        let (stand, wire, prepared) = (lives.stand().await, lives.world.wire(), lives.world.prepared().len());
        lives.begin(None);
        lives.live(make).await;
        let (stand_at_end, wire_at_end) = (lives.stand().await, lives.world.wire());
        let steps_at_end = lives.world.steps();
        let crash = Crash { before, stand, wire, prepared, stand_at_end, wire_at_end, steps_at_end };
        assert!(crash.stand_at_end.iter().all(|(state, _)| *state == DeliveryState::Done), "{crash:?}");
        for (body, (state, _)) in bodies.iter().zip(&crash.stand) {
            let count = |wire: &[String]| wire.iter().filter(|sent| sent == body).count();
            let again = usize::from(*state != DeliveryState::Done);
            assert_eq!(count(&crash.wire_at_end), count(&crash.wire) + again, "{body}: {crash:?}");
            assert!(matches!(state, DeliveryState::Ready | DeliveryState::Done), "{body}: {crash:?}");
        }
        crashes.push(crash);
    }
    crashes
}

/// The deliveries that were done when the box was open again.
pub(super) fn done(stand: &Stand) -> usize {
    stand.iter().filter(|(state, _)| *state == DeliveryState::Done).count()
}
