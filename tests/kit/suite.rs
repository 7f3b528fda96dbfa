//! Random lives of a box, step by step beside the model: one suite for every engine.

use std::sync::Arc;
use std::time::Duration;

use pillarbox_store::{
    ATTEMPTS_KEPT, Answer, AttemptNote, Batch, BatchId, Clock, DeliveryId, DeliveryInfo, DeliveryState,
    Failure, Filter, Headers, IdSource, Lease, Message, Op, PortName, PortSpec, Route, Store, Want,
};
use proptest::prelude::*;

use crate::clock::ManualClock;
use crate::model::Model;

/// One step of a life. Numbers pick among what is there at that moment.
#[derive(Debug, Clone)]
pub enum Step {
    /// A batch of operations.
    Commit {
        /// What it does.
        ops: Vec<Draw>,
        /// One refusal voids it.
        all_or_none: bool,
    },
    /// The batch of the last commit again.
    Repeat,
    /// Lease from a port.
    Lease {
        /// Which.
        port: usize,
        /// The backup route.
        backup: bool,
        /// At most so many.
        limit: usize,
        /// For so many seconds.
        seconds: u64,
    },
    /// Give a lease back.
    Release(usize),
    /// Let time pass.
    Wait(u64),
    /// Close the box and open it again.
    Reopen,
}

/// One operation to draw.
#[derive(Debug, Clone)]
pub enum Draw {
    /// Submit to these ports a body of so many bytes, not before so many seconds from now.
    Submit(Vec<usize>, usize, Option<u64>),
    /// Submit the id of an earlier message again.
    SubmitAgain(usize),
    /// Settle a lease, possibly one that ended long ago: in this way, so many seconds from now, charged or not.
    Settle(usize, u8, u64, bool),
    /// Hold, resume or terminate a delivery, possibly one that does not exist.
    Administer(usize, u8),
    /// Define (with or without backup), retire, pause or unpause a port.
    Port(usize, u8),
    /// Decide about one of a few transactions, or forget that.
    Decide(u8, bool),
}

/// Names of the ports; the last is never defined at first.
const PORTS: [&str; 4] = ["alpha", "beta", "gamma", "nowhere"];

fn draw() -> impl Strategy<Value = Draw> {
    prop_oneof![
        4 => (prop::collection::vec(0..4usize, 0..4), 0..2_000usize, prop::option::weighted(0.2, 0..20u64))
            .prop_map(|(ports, bytes, wait)| Draw::Submit(ports, bytes, wait)),
        5 => (0..3usize, 0..400usize).prop_map(|(port, bytes)| Draw::Submit(vec![port], bytes, None)),
        1 => any::<usize>().prop_map(Draw::SubmitAgain),
        8 => (any::<usize>(), 0..5u8, 0..20u64, any::<bool>()).prop_map(|(l, how, s, c)| Draw::Settle(l, how, s, c)),
        3 => (any::<usize>(), 0..3u8).prop_map(|(delivery, how)| Draw::Administer(delivery, how)),
        1 => (0..4usize, 0..5u8).prop_map(|(port, how)| Draw::Port(port, how)),
        2 => (0..6u8, any::<bool>()).prop_map(|(number, forget)| Draw::Decide(number, forget)),
    ]
}

/// A life of up to so many steps.
pub fn life(steps: usize) -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        8 => (prop::collection::vec(draw(), 0..8), prop::bool::weighted(0.3))
            .prop_map(|(ops, all_or_none)| Step::Commit { ops, all_or_none }),
        1 => Just(Step::Repeat),
        6 => (0..4usize, prop::bool::weighted(0.3), 0..6usize, 1..30u64)
            .prop_map(|(port, backup, limit, seconds)| Step::Lease { port, backup, limit, seconds }),
        1 => any::<usize>().prop_map(Step::Release),
        3 => (0..15u64).prop_map(Step::Wait),
        1 => Just(Step::Reopen),
    ];
    prop::collection::vec(step, 1..steps)
}

/// Opens the box under test: a new one the first time, the same one after that.
pub type Open<'a> = &'a mut dyn FnMut(ManualClock, IdSource) -> Arc<dyn Store>;

/// Runs one life, comparing after every step.
pub async fn live(steps: Vec<Step>, open: Open<'_>) {
    let clock = ManualClock::default();
    let ids = IdSource::seeded(Arc::new(clock.clone()), 7);
    let store = open(clock.clone(), ids.clone());
    let mut run = Run { clock, ids, store, model: Model::default(), leases: Vec::new(), last: None };
    run.define_ports().await;
    for step in steps {
        run.step(step, open).await;
        run.compare_counts();
    }
    run.compare_all().await;
}

struct Run {
    clock: ManualClock,
    ids: IdSource,
    store: Arc<dyn Store>,
    model: Model,
    leases: Vec<Lease>,
    last: Option<(Batch, bool)>,
}

impl Run {
    async fn define_ports(&mut self) {
        let mut batch = Batch::new(self.ids.batch());
        for (place, name) in PORTS.iter().take(3).enumerate() {
            batch = batch.define_port(&port(name), PortSpec { backup: place != 1 });
        }
        self.commit(batch, false).await;
    }

    async fn step(&mut self, step: Step, open: Open<'_>) {
        match step {
            Step::Commit { ops, all_or_none } => {
                let mut batch = Batch::new(self.ids.batch());
                for op in ops.into_iter().filter_map(|op| self.op(op)) {
                    batch.push(op);
                }
                let batch = if all_or_none { batch.all_or_none() } else { batch };
                self.commit(batch, all_or_none).await;
            }
            Step::Repeat => {
                if let Some((batch, all_or_none)) = self.last.clone() {
                    self.commit(batch, all_or_none).await;
                }
            }
            Step::Lease { port: place, backup, limit, seconds } => {
                let route = if backup { Route::Backup } else { Route::Primary };
                let lease_for = Duration::from_secs(seconds);
                self.lease(&port(PORTS[place]), route, limit, lease_for).await;
            }
            Step::Release(place) => {
                if let Some(lease) = pick(&self.leases, place).copied() {
                    self.store.release(&[lease]);
                    self.model.release(&lease);
                }
            }
            Step::Wait(seconds) => self.clock.advance(Duration::from_secs(seconds)),
            Step::Reopen => {
                self.store.close().await.expect("closing a healthy box");
                self.store = open(self.clock.clone(), self.ids.clone());
                self.model.reopen();
                // A lease of the life before must not settle anything in this one.
                self.leases.clear();
                self.compare_all().await;
            }
        }
    }

    /// The operation that a draw means now; none where it needs something that is not there yet.
    fn op(&self, draw: Draw) -> Option<Op> {
        let now = self.clock.now();
        let later = |seconds: u64| now.plus(Duration::from_secs(seconds));
        Some(match draw {
            Draw::Submit(places, bytes, wait) => Op::Submit {
                message: Message::new(self.ids.message(), vec![(bytes % 251) as u8; bytes])
                    .header("bytes", i64::try_from(bytes).ok()?)
                    .ok()?,
                ports: places.into_iter().map(|place| port(PORTS[place])).collect(),
                not_before: wait.map(later),
            },
            Draw::SubmitAgain(place) => {
                let known: Vec<_> = self.model.deliveries.values().map(|delivery| delivery.message).collect();
                let message = Message::new(*pick(&known, place)?, "again");
                Op::Submit { message, ports: vec![port(PORTS[0])], not_before: None }
            }
            Draw::Settle(place, how, seconds, charged) => {
                let lease = *pick(&self.leases, place)?;
                let failure =
                    (1..4).contains(&how).then(|| Failure::new(how == 3, vec![format!("error {seconds}")]));
                let note = AttemptNote { started: now, took: Duration::from_micros(seconds), failure };
                let attempt = charged.then_some(note);
                match how {
                    0 => Op::Delete { lease, attempt },
                    1 => Op::Resubmit { lease, at: later(seconds), attempt, carried: Headers::default() },
                    2 => Op::MoveToBackup { lease, attempt },
                    3 => Op::Suspend { lease, reason: format!("reason {seconds}"), attempt },
                    _ => Op::Respond { lease, answer: Box::new(answer(seconds)?), attempt },
                }
            }
            Draw::Administer(place, how) => {
                let known: Vec<DeliveryId> = self.model.deliveries.keys().copied().collect();
                let delivery = *pick(&known, place).unwrap_or(&DeliveryId::new(1_000_000));
                match how {
                    0 => Op::Hold { delivery, reason: "held".to_owned() },
                    1 => Op::Resume { delivery },
                    _ => Op::Terminate { delivery, reason: "ended".to_owned() },
                }
            }
            Draw::Decide(number, forget) => {
                // The id of nothing but zeros is none.
                let transaction = BatchId::from_bytes([number + 1; 16]);
                let destination = format!("destination {number}");
                if forget { Op::Forget { transaction } } else { Op::Decide { transaction, destination } }
            }
            Draw::Port(place, how) => {
                let port = port(PORTS[place]);
                match how {
                    0 => Op::DefinePort { port, spec: PortSpec { backup: true } },
                    1 => Op::DefinePort { port, spec: PortSpec { backup: false } },
                    2 => Op::RetirePort { port },
                    3 => Op::PausePort { port },
                    _ => Op::UnpausePort { port },
                }
            }
        })
    }

    async fn commit(&mut self, batch: Batch, all_or_none: bool) {
        // Within an all-or-none batch the box checks against the state before it, the model step by step: a batch
        // that touches one thing twice, or a port that it changes itself, is the one place where they may differ.
        if all_or_none && !independent(&batch) {
            return;
        }
        let now = self.clock.now();
        let real = self.store.commit(&batch).await.expect("a healthy box commits");
        let model = self.model.commit(&batch, all_or_none, real.results(), now);
        assert_eq!(real.results(), model, "{batch:?}");
        self.last = Some((batch, all_or_none));
    }

    async fn lease(&mut self, port: &PortName, route: Route, limit: usize, lease_for: Duration) {
        let now = self.clock.now();
        let known = self.model.ports.contains_key(port);
        if known {
            self.model.advance(port, route, now);
        }
        let may = self.model.leasable(port, route);
        let want = Want { port: port.clone(), route, limit, bytes_max: u64::MAX, lease_for };
        let leased = self.store.lease(&want).await.expect("a healthy box leases");
        assert_eq!(leased.len(), limit.min(may.len()), "{want:?} of {may:?}");
        for leased in leased {
            let id = leased.lease.delivery();
            assert!(may.contains(&id), "{id:?} may not be leased: {:?}", self.model.deliveries.get(&id));
            let model = &self.model.deliveries[&id];
            assert_eq!((leased.attempts, leased.attempts_on_route), (model.attempts, model.on_route));
            assert_eq!(leased.message.id, model.message);
            assert_eq!(
                leased.message.body.to_bytes().expect("a leased body is read").to_vec(),
                self.model.bodies[&model.message]
            );
            self.model.leased(leased.lease, leased.ends);
            self.leases.push(leased.lease);
        }
    }

    fn compare_counts(&self) {
        for info in self.store.ports() {
            let model = self.model.ports[&info.name];
            assert_eq!((info.backup, info.defined, info.paused), (model.backup, model.defined, model.paused));
            assert_eq!(info.counts, self.model.counts(&info.name), "{}", info.name);
        }
        assert_eq!(self.store.ports().len(), self.model.ports.len());
    }

    async fn compare_all(&self) {
        let decisions = self.store.decisions().await.expect("a healthy box answers");
        let known = decisions.known.into_iter().map(|decision| (decision.transaction, decision.destination));
        assert!(known.eq(self.model.decisions.clone()) && decisions.lost_until.is_none());
        let mut filter = Filter { limit: 7, ..Filter::default() };
        let mut listed = Vec::new();
        loop {
            let page = self.store.deliveries(&filter).await.expect("a healthy box lists");
            filter.after = page.last().map(|info| info.id);
            let end = page.len() < 7;
            listed.extend(page);
            if end {
                break;
            }
        }
        let known: Vec<DeliveryId> = self.model.deliveries.keys().copied().collect();
        assert_eq!(listed.iter().map(|info| info.id).collect::<Vec<_>>(), known);
        for info in listed {
            let model = &self.model.deliveries[&info.id];
            let have = (info.message, &info.port, info.state, info.route, info.attempts);
            assert_eq!(have, (model.message, &model.port, model.state, model.route, model.attempts));
            let waits = matches!(model.state, DeliveryState::Scheduled | DeliveryState::RetryWait);
            assert_eq!(info.due, waits.then_some(model.due));
            let parked = matches!(model.state, DeliveryState::Suspended | DeliveryState::Terminated);
            assert_eq!(info.reason, if parked { model.reason.clone() } else { None });
            self.compare_answer(&info).await;
            let detail = self
                .store
                .delivery(info.id)
                .await
                .expect("a healthy box answers")
                .expect("a listed delivery is known");
            let attempts = detail.attempts.iter();
            let history: Vec<_> =
                attempts.map(|a| (a.outcome, a.failure.as_ref().map(Failure::text))).collect();
            let kept = model.history.len().saturating_sub(ATTEMPTS_KEPT as usize);
            assert_eq!(history, model.history[kept..]);
            self.compare_message(info.message).await;
        }
    }

    async fn compare_answer(&self, info: &DeliveryInfo) {
        let kept = self.model.answers.get(&info.id);
        assert_eq!(info.answer_len, kept.map(|body| body.len() as u64));
        let answered = self.store.answer(info.id).await.expect("a healthy box answers");
        assert_eq!(
            answered.as_ref().map(|answered| answered.answer.body().as_ref()),
            kept.map(Vec::as_slice)
        );
        if let Some(answered) = answered {
            assert_eq!((answered.delivery, answered.message), (info.id, info.message));
            let bytes = i64::try_from(answered.answer.body().len()).expect("it is short");
            assert_eq!(answered.answer.headers().get("bytes"), Some(&bytes.into()));
        }
    }

    async fn compare_message(&self, id: pillarbox_store::MessageId) {
        let live = self.model.deliveries.values().any(|d| d.message == id && !d.state.is_terminal());
        let info =
            self.store.message(id).await.expect("a healthy box answers").expect("its delivery is known");
        assert_eq!(info.headers.is_some(), live);
        let body = self.store.body(id, 0).await.expect("a healthy box answers");
        assert_eq!(body.map(|body| body.to_vec()), live.then(|| self.model.bodies[&id].clone()));
    }
}

/// Whether no two operations of a batch are about the same thing.
fn independent(batch: &Batch) -> bool {
    let mut seen = std::collections::BTreeSet::new();
    batch.ops().iter().all(|op| match op {
        Op::Submit { message, .. } => seen.insert(message.id.to_string()),
        Op::Delete { lease, .. }
        | Op::Respond { lease, .. }
        | Op::Resubmit { lease, .. }
        | Op::MoveToBackup { lease, .. }
        | Op::Suspend { lease, .. } => seen.insert(lease.delivery().to_string()),
        Op::Hold { delivery, .. } | Op::Resume { delivery } | Op::Terminate { delivery, .. } => {
            seen.insert(delivery.to_string())
        }
        Op::Decide { transaction, .. } | Op::Forget { transaction } => seen.insert(transaction.to_string()),
        _ => false,
    })
}

/// An answer in one piece or in several, with its length in a header.
fn answer(seconds: u64) -> Option<Answer> {
    let bytes = usize::try_from(seconds).ok()? * 40_000;
    Answer::new(vec![(seconds % 251) as u8; bytes]).ok()?.header("bytes", i64::try_from(bytes).ok()?).ok()
}

fn pick<T>(from: &[T], place: usize) -> Option<&T> {
    if from.is_empty() { None } else { from.get(place % from.len()) }
}

fn port(name: &str) -> PortName {
    PortName::new(name).expect("the suite's names are names")
}
