//! The reference model of a box: what the documentation of `Store` and `Op` says, in the simplest data structures,
//! with no regard for speed, disks or crashes. The real box must be indistinguishable from it.

use std::collections::BTreeMap;

use pillarbox_store::{
    AttemptNote, AttemptOutcome, Batch, BatchId, Counts, DeliveryId, DeliveryState, Lease, Message,
    MessageId, Op, OpResult, PortName, Refusal, Route, Timestamp,
};

/// One delivery.
#[derive(Debug, Clone)]
pub struct ModelDelivery {
    /// Its message.
    pub message: MessageId,
    /// Its port.
    pub port: PortName,
    /// Where it stands.
    pub state: DeliveryState,
    /// Its route.
    pub route: Route,
    /// Attempts in all.
    pub attempts: u32,
    /// Attempts on the route.
    pub on_route: u32,
    /// When it is due, while it waits for a time.
    pub due: Timestamp,
    /// The state as it was last committed, where time or a lease has moved it on since: what a reopening finds.
    pub committed: Option<DeliveryState>,
    /// The lease that may settle it, and when that ends.
    pub lease: Option<(Lease, Timestamp)>,
    /// Every attempt: its outcome and error.
    pub history: Vec<(AttemptOutcome, Option<String>)>,
    /// Why it is suspended or was terminated.
    pub reason: Option<String>,
}

/// A port.
#[derive(Debug, Clone, Copy, Default)]
pub struct ModelPort {
    /// It has a backup route.
    pub backup: bool,
    /// Messages may be submitted.
    pub defined: bool,
    /// Its deliveries are held back.
    pub paused: bool,
}

/// A box.
#[derive(Debug, Clone, Default)]
pub struct Model {
    /// Its ports.
    pub ports: BTreeMap<PortName, ModelPort>,
    /// Its deliveries, ended ones included.
    pub deliveries: BTreeMap<DeliveryId, ModelDelivery>,
    /// The bodies of the answers that it keeps.
    pub answers: BTreeMap<DeliveryId, Vec<u8>>,
    /// The decisions that it keeps, with their destinations.
    pub decisions: BTreeMap<BatchId, String>,
    /// The bodies of its messages.
    pub bodies: BTreeMap<MessageId, Vec<u8>>,
    applied: BTreeMap<BatchId, Vec<OpResult>>,
}

impl Model {
    /// Applies `batch` and tells what each operation's result must be. The numbers of new deliveries are the real
    /// box's to choose: `chosen` are its results.
    pub fn commit(
        &mut self,
        batch: &Batch,
        all_or_none: bool,
        chosen: &[OpResult],
        now: Timestamp,
    ) -> Vec<OpResult> {
        if let Some(results) = self.applied.get(&batch.id()) {
            return results.clone();
        }
        let before = self.clone();
        let mut results = Vec::new();
        for (op, chosen) in batch.ops().iter().zip(chosen) {
            results.push(self.apply(op, chosen, now).unwrap_or_else(OpResult::Refused));
        }
        if all_or_none && results.iter().any(|result| !result.is_applied()) {
            *self = before;
            return results
                .into_iter()
                .map(|result| match result {
                    OpResult::Refused(refusal) => OpResult::Refused(refusal),
                    _ => OpResult::Refused(Refusal::Voided),
                })
                .collect();
        }
        // To forget twice does no harm.
        let forgets = batch.ops().iter().all(|op| matches!(op, Op::Forget { .. }));
        if !forgets && results.iter().any(OpResult::is_applied) {
            self.applied.insert(batch.id(), results.clone());
        }
        results
    }

    fn apply(&mut self, op: &Op, chosen: &OpResult, now: Timestamp) -> Result<OpResult, Refusal> {
        match op {
            Op::Submit { message, ports, not_before } => {
                return self.submit(message, ports, *not_before, chosen);
            }
            Op::Delete { lease, .. }
            | Op::Respond { lease, .. }
            | Op::Resubmit { lease, .. }
            | Op::MoveToBackup { lease, .. }
            | Op::Suspend { lease, .. } => {
                self.settle(op, lease, now)?;
                let delivery = self.owned(lease)?;
                delivery.lease = None;
                delivery.committed = None;
                if let Op::Respond { answer, .. } = op {
                    self.answers.insert(lease.delivery(), answer.body().to_vec());
                }
            }
            Op::Hold { .. } | Op::Resume { .. } | Op::Terminate { .. } => self.administer(op)?,
            Op::Decide { transaction, destination } => {
                self.decisions.entry(*transaction).or_insert_with(|| destination.clone());
            }
            Op::Forget { transaction } => {
                self.decisions.remove(transaction);
            }
            Op::DefinePort { port, spec } => {
                let known = self.ports.entry(port.clone()).or_default();
                known.defined = true;
                known.backup = spec.backup;
                if !spec.backup {
                    self.leave_backup(port);
                }
            }
            Op::RetirePort { port } => self.port(port)?.defined = false,
            Op::PausePort { port } => self.port(port)?.paused = true,
            Op::UnpausePort { port } => self.port(port)?.paused = false,
            other => unreachable!("the model does not know {other:?}"),
        }
        Ok(OpResult::Applied)
    }

    fn leave_backup(&mut self, port: &PortName) {
        use DeliveryState::{Ready, RetryWait};
        let waits = |d: &&mut ModelDelivery| matches!(d.state, Ready | RetryWait) && d.route == Route::Backup;
        for delivery in self.deliveries.values_mut().filter(|d| d.port == *port).filter(waits) {
            delivery.state = Ready;
            delivery.route = Route::Primary;
            delivery.on_route = 0;
            delivery.committed = None;
        }
    }

    fn submit(
        &mut self,
        message: &Message,
        ports: &[PortName],
        not_before: Option<Timestamp>,
        chosen: &OpResult,
    ) -> Result<OpResult, Refusal> {
        if let Some((first, _)) = self.deliveries.iter().find(|(_, d)| d.message == message.id) {
            return Err(Refusal::Duplicate { first: *first });
        }
        let unique: std::collections::BTreeSet<_> = ports.iter().collect();
        if ports.is_empty() || unique.len() != ports.len() {
            return Err(Refusal::BadPorts);
        }
        if !ports.iter().all(|port| self.ports.get(port).is_some_and(|port| port.defined)) {
            return Err(Refusal::NoSuchPort);
        }
        // An all-or-none batch that is void chose no numbers: any free ones do, they are undone.
        let free = self.deliveries.keys().last().map_or(1, |last| last.number() + 1);
        let first = match chosen {
            OpResult::Submitted { first } => first.number(),
            _ => free,
        };
        assert!(first >= free, "numbers rise: {first} after {free}");
        for (place, port) in (0..).zip(ports) {
            self.deliveries.insert(DeliveryId::new(first + place), new(message.id, port, not_before));
        }
        let body = message.body.to_bytes().expect("a test's body is in memory");
        self.bodies.insert(message.id, body.to_vec());
        Ok(OpResult::Submitted { first: DeliveryId::new(first) })
    }

    /// What the holder of a lease decides.
    fn settle(&mut self, op: &Op, lease: &Lease, now: Timestamp) -> Result<(), Refusal> {
        let (port, route) = {
            let delivery = self.owned(lease)?;
            (delivery.port.clone(), delivery.route)
        };
        if let Op::MoveToBackup { .. } = op {
            if route == Route::Backup {
                return Err(Refusal::OnBackup);
            }
            if !self.ports.get(&port).is_some_and(|port| port.backup) {
                return Err(Refusal::NoBackup);
            }
        }
        let delivery = self.owned(lease)?;
        match op {
            Op::Delete { attempt, .. } | Op::Respond { attempt, .. } => {
                charge(delivery, attempt.as_ref(), AttemptOutcome::Delivered);
                delivery.state = DeliveryState::Done;
            }
            Op::Resubmit { at, attempt, .. } => {
                charge(delivery, attempt.as_ref(), AttemptOutcome::Resubmitted);
                delivery.state = if *at > now { DeliveryState::RetryWait } else { DeliveryState::Ready };
                delivery.due = *at;
            }
            Op::MoveToBackup { attempt, .. } => {
                charge(delivery, attempt.as_ref(), AttemptOutcome::MovedToBackup);
                delivery.state = DeliveryState::Ready;
                delivery.route = Route::Backup;
                delivery.on_route = 0;
            }
            Op::Suspend { reason, attempt, .. } => {
                charge(delivery, attempt.as_ref(), AttemptOutcome::Suspended);
                delivery.state = DeliveryState::Suspended;
                delivery.reason = Some(reason.clone());
            }
            other => unreachable!("{other:?} settles nothing"),
        }
        Ok(())
    }

    /// What an operator decides about a delivery that nobody works on.
    fn administer(&mut self, op: &Op) -> Result<(), Refusal> {
        use DeliveryState::{Ready, RetryWait, Scheduled, Suspended, Terminated};
        let delivery = match op {
            Op::Hold { delivery, reason } => {
                let delivery = self.in_state(*delivery, &[Ready, Scheduled, RetryWait])?;
                delivery.state = Suspended;
                delivery.reason = Some(reason.clone());
                delivery
            }
            Op::Resume { delivery } => {
                let delivery = self.in_state(*delivery, &[Suspended, Scheduled, RetryWait])?;
                if delivery.state == Suspended {
                    delivery.route = Route::Primary;
                    delivery.on_route = 0;
                }
                delivery.state = Ready;
                delivery.reason = None;
                delivery
            }
            Op::Terminate { delivery, reason } => {
                let delivery = self.in_state(*delivery, &[Ready, Scheduled, RetryWait, Suspended])?;
                delivery.state = Terminated;
                delivery.reason = Some(reason.clone());
                delivery
            }
            other => unreachable!("{other:?} is no operator's"),
        };
        delivery.committed = None;
        Ok(())
    }

    /// Time passes for one route, as a call to `lease` finds it.
    pub fn advance(&mut self, port: &PortName, route: Route, now: Timestamp) {
        for delivery in self.deliveries.values_mut().filter(|d| d.port == *port && d.route == route) {
            let waits = matches!(delivery.state, DeliveryState::Scheduled | DeliveryState::RetryWait);
            let ended = delivery.lease.is_some_and(|(_, ends)| ends <= now);
            if waits && delivery.due <= now {
                delivery.committed = Some(delivery.state);
            }
            if (waits && delivery.due <= now) || ended {
                delivery.state = DeliveryState::Ready;
                delivery.lease = None;
            }
        }
    }

    /// Which deliveries a call to `lease` may give out.
    pub fn leasable(&self, port: &PortName, route: Route) -> Vec<DeliveryId> {
        if self.ports.get(port).is_none_or(|port| port.paused) {
            return Vec::new();
        }
        let ready =
            |d: &ModelDelivery| d.state == DeliveryState::Ready && d.port == *port && d.route == route;
        self.deliveries.iter().filter(|(_, delivery)| ready(delivery)).map(|(id, _)| *id).collect()
    }

    /// Records a lease that the real box gave.
    pub fn leased(&mut self, lease: Lease, ends: Timestamp) {
        let delivery = self.deliveries.get_mut(&lease.delivery()).expect("a leased delivery is known");
        delivery.state = DeliveryState::Leased;
        delivery.lease = Some((lease, ends));
    }

    /// Gives a lease back.
    pub fn release(&mut self, lease: &Lease) {
        if let Ok(delivery) = self.owned(lease) {
            delivery.state = DeliveryState::Ready;
            delivery.lease = None;
        }
    }

    /// The process ended: leases are gone, and so is what time alone had changed.
    pub fn reopen(&mut self) {
        use DeliveryState::{Leased, Ready};
        for delivery in self.deliveries.values_mut().filter(|d| matches!(d.state, Leased | Ready)) {
            delivery.state = delivery.committed.take().unwrap_or(Ready);
            delivery.lease = None;
        }
    }

    /// A port's counts.
    pub fn counts(&self, port: &PortName) -> Counts {
        let mut counts = Counts::default();
        for delivery in self.deliveries.values().filter(|delivery| delivery.port == *port) {
            *match delivery.state {
                DeliveryState::Ready => &mut counts.ready,
                DeliveryState::Scheduled => &mut counts.scheduled,
                DeliveryState::RetryWait => &mut counts.retry_wait,
                DeliveryState::Leased => &mut counts.leased,
                DeliveryState::Suspended => &mut counts.suspended,
                DeliveryState::Done => &mut counts.done,
                DeliveryState::Terminated => &mut counts.terminated,
                DeliveryState::InDoubt => &mut counts.in_doubt,
            } += 1;
        }
        counts
    }

    fn port(&mut self, name: &PortName) -> Result<&mut ModelPort, Refusal> {
        self.ports.get_mut(name).ok_or(Refusal::NoSuchPort)
    }

    fn owned(&mut self, lease: &Lease) -> Result<&mut ModelDelivery, Refusal> {
        let delivery = self.deliveries.get_mut(&lease.delivery()).ok_or(Refusal::NotOwned)?;
        if delivery.lease.is_some_and(|(held, _)| held == *lease) {
            Ok(delivery)
        } else {
            Err(Refusal::NotOwned)
        }
    }

    fn in_state(&mut self, id: DeliveryId, states: &[DeliveryState]) -> Result<&mut ModelDelivery, Refusal> {
        let delivery = self.deliveries.get_mut(&id).ok_or(Refusal::NoSuchDelivery)?;
        if states.contains(&delivery.state) {
            Ok(delivery)
        } else {
            Err(Refusal::WrongState { state: delivery.state })
        }
    }
}

fn new(message: MessageId, port: &PortName, not_before: Option<Timestamp>) -> ModelDelivery {
    ModelDelivery {
        message,
        port: port.clone(),
        state: if not_before.is_some() { DeliveryState::Scheduled } else { DeliveryState::Ready },
        route: Route::Primary,
        attempts: 0,
        on_route: 0,
        due: not_before.unwrap_or(Timestamp::EPOCH),
        committed: None,
        lease: None,
        history: Vec::new(),
        reason: None,
    }
}

fn charge(delivery: &mut ModelDelivery, attempt: Option<&AttemptNote>, outcome: AttemptOutcome) {
    let Some(note) = attempt else { return };
    delivery.attempts += 1;
    delivery.on_route += 1;
    delivery.history.push((outcome, note.failure.as_ref().map(pillarbox_store::Failure::text)));
}
