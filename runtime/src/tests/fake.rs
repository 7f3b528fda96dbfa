//! A small store in memory: leases, states, histories, refusals, watches. No durability, no retention.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use pillarbox_store::engine::EngineStats;
use pillarbox_store::{
    Attempt, AttemptNote, AttemptOutcome, Batch, BodyWriter, BoxId, BoxStats, Clock, Committed, Counts,
    DeliveryDetail, DeliveryId, DeliveryInfo, DeliveryState, Error, ErrorKind, Filter, Headers, Lease,
    Leased, Message, MessageId, MessageInfo, Op, OpResult, PortInfo, PortName, Refusal, Route, Store,
    Timestamp, Want, Watch,
};
use tokio::sync::watch;

#[derive(Debug)]
pub(super) struct FakeStore {
    clock: Arc<dyn Clock>,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
pub(super) struct Inner {
    ports: BTreeMap<PortName, PortRecord>,
    pub(super) live: BTreeMap<u64, Record>,
    pub(super) ended: BTreeMap<u64, Record>,
    deliveries: u64,
    tokens: u64,
    /// How many operations each commit had.
    pub(super) commits: Vec<usize>,
    pub(super) lease_calls: u64,
    pub(super) leased_limits: Vec<usize>,
    /// What the next commits answer instead of working.
    pub(super) refuse_commits: Vec<ErrorKind>,
    /// What every lease answers instead of working.
    pub(super) refuse_leases: Option<ErrorKind>,
}

#[derive(Debug)]
struct PortRecord {
    backup: bool,
    defined: bool,
    paused: bool,
    changes: watch::Sender<u64>,
}

#[derive(Debug, Clone)]
pub(super) struct Record {
    pub(super) message: Message,
    pub(super) port: PortName,
    pub(super) state: DeliveryState,
    pub(super) route: Route,
    pub(super) attempts: Vec<Attempt>,
    pub(super) on_route: u32,
    submitted: Timestamp,
    pub(super) due: Option<Timestamp>,
    lease: Option<(u64, Timestamp)>,
    pub(super) reason: Option<String>,
    carried: Headers,
}

impl FakeStore {
    pub(super) fn new(clock: Arc<dyn Clock>) -> Self {
        Self { clock, inner: Mutex::default() }
    }

    pub(super) fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The record of a delivery, live or ended.
    pub(super) fn record(&self, id: DeliveryId) -> Record {
        let inner = self.inner();
        inner.live.get(&id.number()).or_else(|| inner.ended.get(&id.number())).cloned().unwrap()
    }

    /// Ends the lease of a delivery, as if its time were up.
    pub(super) fn revoke(&self, id: DeliveryId) {
        let mut inner = self.inner();
        let record = inner.live.get_mut(&id.number()).unwrap();
        (record.state, record.lease) = (DeliveryState::Suspended, None);
    }
}

impl Inner {
    fn changed(&self, port: &PortName) {
        if let Some(port) = self.ports.get(port) {
            port.changes.send_modify(|changes| *changes += 1);
        }
    }

    fn expire(&mut self, now: Timestamp) {
        for record in self.live.values_mut() {
            let lease_over = record.lease.is_some_and(|(_, ends)| ends <= now);
            if lease_over || record.due.is_some_and(|due| due <= now) {
                (record.state, record.lease, record.due) = (DeliveryState::Ready, None, None);
            }
        }
    }

    fn submit(&mut self, message: &Message, ports: &[PortName], now: Timestamp) -> OpResult {
        if let Some((&first, _)) =
            self.live.iter().chain(&self.ended).find(|(_, r)| r.message.id == message.id)
        {
            return OpResult::Refused(Refusal::Duplicate { first: DeliveryId::new(first) });
        }
        if !ports.iter().all(|port| self.ports.get(port).is_some_and(|port| port.defined)) {
            return OpResult::Refused(Refusal::NoSuchPort);
        }
        let first = self.deliveries + 1;
        for port in ports {
            self.deliveries += 1;
            let record = Record {
                message: message.clone(),
                port: port.clone(),
                state: DeliveryState::Ready,
                route: Route::Primary,
                attempts: Vec::new(),
                on_route: 0,
                submitted: now,
                due: None,
                lease: None,
                reason: None,
                carried: Headers::default(),
            };
            self.live.insert(self.deliveries, record);
            self.changed(port);
        }
        OpResult::Submitted { first: DeliveryId::new(first) }
    }

    /// Applies a change to a delivery whose lease is owned.
    fn settle(
        &mut self,
        lease: Lease,
        note: Option<&AttemptNote>,
        outcome: AttemptOutcome,
        now: Timestamp,
        change: impl FnOnce(&mut Record, bool) -> Result<(), Refusal>,
    ) -> OpResult {
        self.expire(now);
        let number = lease.delivery().number();
        let Some(record) = self.live.get_mut(&number) else { return OpResult::Refused(Refusal::NotOwned) };
        if record.lease.is_none_or(|(token, _)| token != lease.token()) {
            return OpResult::Refused(Refusal::NotOwned);
        }
        let backup = self.ports.get(&record.port).is_some_and(|port| port.backup);
        let route = record.route;
        if let Err(refusal) = change(record, backup) {
            return OpResult::Refused(refusal);
        }
        record.lease = None;
        if let Some(note) = note {
            record.attempts.push(Attempt {
                number: u32::try_from(record.attempts.len()).unwrap() + 1,
                route,
                started: note.started,
                took: note.took,
                outcome,
                failure: note.failure.clone(),
            });
            record.on_route = if record.route == route { record.on_route + 1 } else { 0 };
        }
        let port = record.port.clone();
        if record.state.is_terminal() {
            let record = self.live.remove(&number).unwrap();
            self.ended.insert(number, record);
        } else {
            self.changed(&port);
        }
        OpResult::Applied
    }

    fn set_port(&mut self, name: &PortName, change: impl FnOnce(&mut PortRecord)) -> OpResult {
        let Some(port) = self.ports.get_mut(name) else { return OpResult::Refused(Refusal::NoSuchPort) };
        change(port);
        self.changed(name);
        OpResult::Applied
    }

    fn apply(&mut self, op: &Op, now: Timestamp) -> OpResult {
        match op {
            Op::Submit { message, ports, .. } => self.submit(message, ports, now),
            Op::Delete { lease, attempt } => {
                self.settle(*lease, attempt.as_ref(), AttemptOutcome::Delivered, now, |record, _| {
                    record.state = DeliveryState::Done;
                    Ok(())
                })
            }
            Op::Resubmit { lease, at, attempt, carried } => {
                self.settle(*lease, attempt.as_ref(), AttemptOutcome::Resubmitted, now, |record, _| {
                    let state = if *at > now { DeliveryState::RetryWait } else { DeliveryState::Ready };
                    (record.state, record.due, record.carried) =
                        (state, Some(*at).filter(|_| *at > now), carried.clone());
                    Ok(())
                })
            }
            Op::MoveToBackup { lease, attempt } => {
                self.settle(*lease, attempt.as_ref(), AttemptOutcome::MovedToBackup, now, |record, backup| {
                    if !backup {
                        return Err(Refusal::NoBackup);
                    }
                    (record.state, record.route) = (DeliveryState::Ready, Route::Backup);
                    Ok(())
                })
            }
            Op::Suspend { lease, reason, attempt } => {
                self.settle(*lease, attempt.as_ref(), AttemptOutcome::Suspended, now, |record, _| {
                    (record.state, record.reason) = (DeliveryState::Suspended, Some(reason.clone()));
                    Ok(())
                })
            }
            Op::DefinePort { port, spec } => {
                let changes = || watch::channel(0).0;
                let fresh = || PortRecord { backup: false, defined: true, paused: false, changes: changes() };
                let record = self.ports.entry(port.clone()).or_insert_with(fresh);
                (record.backup, record.defined) = (spec.backup, true);
                OpResult::Applied
            }
            Op::RetirePort { port } => self.set_port(port, |port| port.defined = false),
            Op::PausePort { port } => self.set_port(port, |port| port.paused = true),
            Op::UnpausePort { port } => self.set_port(port, |port| port.paused = false),
            _ => panic!("the fake does not know {op:?}"),
        }
    }
}

#[async_trait]
impl Store for FakeStore {
    fn id(&self) -> BoxId {
        BoxId::from_bytes([7; 16])
    }

    async fn commit(&self, batch: &Batch) -> Result<Committed, Error> {
        // A real commit takes a moment.
        tokio::task::yield_now().await;
        let now = self.clock.now();
        let mut inner = self.inner();
        if !inner.refuse_commits.is_empty() {
            let kind = inner.refuse_commits.remove(0);
            return Err(Error::new(kind, "commit to the fake"));
        }
        inner.commits.push(batch.ops().len());
        let results = batch.ops().iter().map(|op| inner.apply(op, now)).collect();
        Ok(Committed::new(results, false))
    }

    async fn lease(&self, want: &Want) -> Result<Vec<Leased>, Error> {
        let now = self.clock.now();
        let mut inner = self.inner();
        inner.lease_calls += 1;
        inner.leased_limits.push(want.limit);
        if let Some(kind) = inner.refuse_leases {
            return Err(Error::new(kind, "lease from the fake"));
        }
        if inner.ports.get(&want.port).is_none_or(|port| port.paused) {
            // What is due stays due: `next_due` goes on to name a time that has passed.
            return Ok(Vec::new());
        }
        inner.expire(now);
        let Inner { live, tokens, .. } = &mut *inner;
        let fits = |record: &Record| {
            record.state == DeliveryState::Ready && record.port == want.port && record.route == want.route
        };
        let (mut leased, mut bytes) = (Vec::new(), 0);
        for (&number, record) in live.iter_mut().filter(|(_, record)| fits(record)) {
            if leased.len() >= want.limit || (bytes >= want.bytes_max && !leased.is_empty()) {
                break;
            }
            *tokens += 1;
            bytes += record.message.body.len();
            let ends = now.plus(want.lease_for);
            (record.state, record.lease) = (DeliveryState::Leased, Some((*tokens, ends)));
            leased.push(Leased {
                lease: Lease::new(DeliveryId::new(number), *tokens),
                message: record.message.clone(),
                port: record.port.clone(),
                route: record.route,
                attempts: u32::try_from(record.attempts.len()).unwrap(),
                attempts_on_route: record.on_route,
                submitted: record.submitted,
                ends,
                carried: record.carried.clone(),
            });
        }
        Ok(leased)
    }

    fn release(&self, leases: &[Lease]) {
        let mut inner = self.inner();
        for lease in leases {
            let Some(record) = inner.live.get_mut(&lease.delivery().number()) else { continue };
            if record.lease.is_some_and(|(token, _)| token == lease.token()) {
                (record.state, record.lease) = (DeliveryState::Ready, None);
                let port = record.port.clone();
                inner.changed(&port);
            }
        }
    }

    fn watch(&self, port: &PortName) -> Option<Watch> {
        Some(Watch::from_receiver(self.inner().ports.get(port)?.changes.subscribe()))
    }

    fn next_due(&self, port: &PortName, route: Route) -> Option<Timestamp> {
        let inner = self.inner();
        let mine = inner.live.values().filter(|record| record.port == *port && record.route == route);
        mine.filter_map(|record| record.due.or(record.lease.map(|(_, ends)| ends))).min()
    }

    fn stage(&self) -> Result<BodyWriter, Error> {
        Err(Error::new(ErrorKind::Closed, "stage in the fake"))
    }

    async fn message(&self, _id: MessageId) -> Result<Option<MessageInfo>, Error> {
        Ok(None)
    }

    async fn delivery(&self, _id: DeliveryId) -> Result<Option<DeliveryDetail>, Error> {
        Ok(None)
    }

    async fn body(&self, _id: MessageId, _fragment: u32) -> Result<Option<Bytes>, Error> {
        Ok(None)
    }

    async fn deliveries(&self, _filter: &Filter) -> Result<Vec<DeliveryInfo>, Error> {
        Ok(Vec::new())
    }

    fn ports(&self) -> Vec<PortInfo> {
        let info = |(name, port): (&PortName, &PortRecord)| PortInfo {
            name: name.clone(),
            backup: port.backup,
            defined: port.defined,
            paused: port.paused,
            counts: Counts::default(),
            next_due: None,
        };
        self.inner().ports.iter().map(info).collect()
    }

    fn stats(&self) -> BoxStats {
        BoxStats { engine: "fake", disk: EngineStats::default(), groups: 0, batches: 0 }
    }

    fn failed(&self) -> Option<Error> {
        None
    }

    async fn close(&self) -> Result<(), Error> {
        Ok(())
    }
}
