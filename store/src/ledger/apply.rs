//! Applying a batch: what it submits, what it says of ports and of deliveries that nobody works on.

use hashbrown::HashSet;

use super::{DeliveryRow, Ledger, MessageRow, PortState, Prepared, PreparedBody, PreparedOp};
use crate::Route;
use crate::engine::WriteSet;
use crate::message_box::keys;
use crate::message_box::keys::applied::AppliedRecord;
use crate::message_box::keys::message::MessageHead;
use crate::message_box::keys::port::PortRecord;
use crate::{
    Committed, DeliveryId, DeliveryState, MessageId, Op, OpResult, PortName, PortSpec, Refusal, Timestamp,
};

/// What is being applied with: the time, and where the writes go.
pub(super) struct Applying<'a> {
    pub(super) now: Timestamp,
    pub(super) writes: &'a mut WriteSet,
}

/// What is fetched for more messages may have gone again before it is needed.
const SUBMITTED_TOUCHED_MAX: usize = 1_024;

/// What one batch has touched so far, for the all-or-none check.
#[derive(Default)]
struct Seen {
    deliveries: HashSet<u64>,
    messages: HashSet<MessageId>,
}

impl Ledger {
    /// Applies a batch, adding what is to be written to `writes`.
    #[inline]
    pub(crate) fn apply(&mut self, batch: &mut Prepared, now: Timestamp, writes: &mut WriteSet) -> Committed {
        let mut results = std::mem::take(&mut batch.results);
        if let Some(record) = self.applied.get(batch.id).filter(|_| !crate::mutant::is("batch-applied-twice"))
        {
            return Committed { results: replay(record, batch), repeated: true };
        }
        if batch.all_or_none
            && !crate::mutant::is("all-or-none-ignored")
            && let Err(results) = self.check_all(batch)
        {
            return Committed { results, repeated: false };
        }
        let (first, before) = (self.next, writes.len());
        let mut applying = Applying { now, writes };
        let applied = |op| self.apply_one(op, batch, &mut applying).unwrap_or_else(OpResult::Refused);
        results.extend(batch.ops.iter().map(applied));
        self.write_intent(&mut Applying { now, writes });
        let staging = matches!(batch.ops.as_slice(), [PreparedOp::Stage { .. } | PreparedOp::Unstage { .. }]);
        // To do these twice does no harm, and is not worth remembering.
        let harmless =
            |op: &PreparedOp| matches!(op, PreparedOp::Other(Op::Forget { .. } | Op::Intend { .. }));
        let forgetting = batch.ops.iter().all(harmless);
        // What changed nothing (a port defined as it was) may be applied again.
        let changed = writes.len() > before || self.page.count() > 0;
        if !staging && !forgetting && changed && results.iter().any(OpResult::is_applied) {
            self.remember(batch, first, &results, writes);
        }
        Committed { results, repeated: false }
    }

    /// Ends a group: writes the traces of what finished in it and that its batches were applied, and forgets answers
    /// and batches past their retention.
    pub(crate) fn end_group(&mut self, now: Timestamp, writes: &mut WriteSet) {
        self.flush_page(now, writes);
        self.flush_intents(writes);
        self.forget_answers(now, writes);
        self.applied.end_group(writes);
    }

    fn remember(&mut self, batch: &Prepared, first: u64, results: &[OpResult], writes: &mut WriteSet) {
        let refused = |(index, result): (usize, &OpResult)| match result {
            OpResult::Refused(refusal) => Some((u32::try_from(index).unwrap_or(u32::MAX), refusal.clone())),
            _ => None,
        };
        let record = AppliedRecord {
            id: batch.id,
            next_number: self.next,
            first,
            ops: u32::try_from(results.len()).unwrap_or(u32::MAX),
            refusals: results.iter().enumerate().filter_map(refused).collect(),
        };
        self.applied.remember(record, writes);
    }

    /// Has the processor fetch what deciding about these batches looks up.
    pub(crate) fn look_ahead<'a>(&self, batches: impl Iterator<Item = &'a Prepared> + Clone) {
        let known = batches.clone().fold(0, |read, batch| read ^ self.applied.touch(batch.id));
        std::hint::black_box(known);
        let submitted = batches.flat_map(|batch| &batch.ops).filter_map(|op| match op {
            PreparedOp::Submit { id, .. } => Some(*id),
            _ => None,
        });
        self.touch_ids(submitted.take(SUBMITTED_TOUCHED_MAX));
    }

    /// Whether every operation of an all-or-none batch would be applied; else every one's result.
    fn check_all(&self, batch: &Prepared) -> Result<(), Vec<OpResult>> {
        let mut seen = Seen::default();
        let checks: Vec<_> = batch.ops.iter().map(|op| self.check(op, &mut seen)).collect();
        if checks.iter().all(Result::is_ok) {
            return Ok(());
        }
        Err(checks
            .into_iter()
            .map(|check| OpResult::Refused(check.err().unwrap_or(Refusal::Voided)))
            .collect())
    }

    fn check(&self, op: &PreparedOp, seen: &mut Seen) -> Result<(), Refusal> {
        match op {
            PreparedOp::Submit { id, ports, body, .. } => {
                self.check_submit(*id, ports, body)?;
                let fresh = seen.messages.insert(*id);
                if fresh { Ok(()) } else { Err(Refusal::Duplicate { first: DeliveryId::new(self.next) }) }
            }
            PreparedOp::Stage { .. } | PreparedOp::Unstage { .. } => Ok(()),
            PreparedOp::Other(op) => {
                let touched = self.check_other(op)?;
                let fresh = touched.is_none_or(|number| seen.deliveries.insert(number));
                if fresh { Ok(()) } else { Err(Refusal::NotOwned) }
            }
        }
    }

    fn check_submit(&self, id: MessageId, ports: &[PortName], body: &PreparedBody) -> Result<(), Refusal> {
        if let Some(number) = self.number_of(id) {
            return Err(Refusal::Duplicate { first: DeliveryId::new(number) });
        }
        let repeated =
            |(index, port): (usize, &PortName)| ports.iter().take(index).any(|other| other == port);
        if ports.is_empty() || ports.len() > usize::from(u16::MAX) || ports.iter().enumerate().any(repeated) {
            return Err(Refusal::BadPorts);
        }
        if !ports.iter().all(|name| self.defined(name).is_some()) {
            return Err(Refusal::NoSuchPort);
        }
        match body {
            PreparedBody::Staged { number, .. } if !self.staged.contains(number) => Err(Refusal::NoSuchBody),
            _ => Ok(()),
        }
    }

    /// The delivery that an operation is about, if it can be applied.
    fn check_other(&self, op: &Op) -> Result<Option<u64>, Refusal> {
        match op {
            Op::Delete { lease, .. }
            | Op::Respond { lease, .. }
            | Op::Resubmit { lease, .. }
            | Op::Intend { lease, .. }
            | Op::Suspend { lease, .. } => self.owned(lease).map(|_row| Some(lease.delivery.number())),
            Op::MoveToBackup { lease, .. } => {
                self.check_move(lease).map(|_row| Some(lease.delivery.number()))
            }
            Op::HoldInDoubt { lease } => {
                self.check_hold_in_doubt(lease).map(|()| Some(lease.delivery.number()))
            }
            Op::SettleDoubt { delivery, .. } => {
                self.check_doubt(*delivery).map(|_row| Some(delivery.number()))
            }
            Op::Hold { delivery, .. } => self.waiting(*delivery).map(|_row| Some(delivery.number())),
            Op::Resume { delivery } => self.resumable(*delivery).map(|_row| Some(delivery.number())),
            Op::Terminate { delivery, .. } => self.terminable(*delivery).map(|_row| Some(delivery.number())),
            Op::DefinePort { .. } | Op::Decide { .. } | Op::Forget { .. } => Ok(None),
            Op::RetirePort { port } | Op::PausePort { port } | Op::UnpausePort { port } => {
                self.port_number(port).map(|_number| None).ok_or(Refusal::NoSuchPort)
            }
            Op::Submit { .. } => Ok(None),
        }
    }

    fn apply_one(
        &mut self,
        op: &PreparedOp,
        batch: &Prepared,
        with: &mut Applying<'_>,
    ) -> Result<OpResult, Refusal> {
        match op {
            PreparedOp::Submit { id, ports, not_before, headers, body } => {
                self.check_submit(*id, ports, body)?;
                let headers = batch.headers.get(headers.clone()).unwrap_or_default();
                Ok(self.submit(*id, ports, *not_before, headers, body, with))
            }
            PreparedOp::Stage { number, index, bytes } => self.stage(*number, *index, bytes, with),
            PreparedOp::Unstage { number } => {
                if self.staged.remove(number) {
                    keys::fragment::delete_all(with.writes, *number);
                }
                Ok(OpResult::Applied)
            }
            PreparedOp::Other(op) => self.apply_other(op, with).map(|()| OpResult::Applied),
        }
    }

    fn apply_other(&mut self, op: &Op, with: &mut Applying<'_>) -> Result<(), Refusal> {
        match op {
            Op::Delete { lease, attempt } => self.delete(lease, attempt.as_ref(), with),
            Op::Respond { lease, answer, attempt } => self.respond(lease, answer, attempt.as_ref(), with),
            Op::Resubmit { lease, at, attempt, carried } => {
                self.resubmit(lease, *at, attempt.as_ref(), carried, with)
            }
            Op::MoveToBackup { lease, attempt } => self.move_to_backup(lease, attempt.as_ref(), with),
            Op::Suspend { lease, reason, attempt } => self.suspend(lease, reason, attempt.as_ref(), with),
            Op::Intend { lease, transacted } => self.intend(lease, *transacted, with),
            Op::HoldInDoubt { lease } => self.hold_in_doubt(lease, with),
            Op::SettleDoubt { delivery, verdict } => self.settle_doubt(*delivery, *verdict, with),
            Op::Hold { delivery, reason } => self.hold(*delivery, reason, with),
            Op::Resume { delivery } => self.resume(*delivery, with),
            Op::Terminate { delivery, reason } => self.terminate(*delivery, reason, with),
            Op::Decide { transaction, destination } => {
                self.decide(*transaction, destination, with);
                Ok(())
            }
            Op::Forget { transaction } => {
                self.forget_decision(*transaction, with.writes);
                Ok(())
            }
            Op::DefinePort { port, spec } => {
                self.define_port(port, *spec, with);
                Ok(())
            }
            Op::RetirePort { port } => self.change_port(port, with.writes, |record| record.defined = false),
            Op::PausePort { port } => self.change_port(port, with.writes, |record| record.paused = true),
            Op::UnpausePort { port } => self.change_port(port, with.writes, |record| record.paused = false),
            Op::Submit { .. } => Err(Refusal::BadPorts),
        }
    }

    fn submit(
        &mut self,
        id: MessageId,
        ports: &[PortName],
        not_before: Timestamp,
        headers: &[u8],
        body: &PreparedBody,
        with: &mut Applying<'_>,
    ) -> OpResult {
        let number = self.next;
        self.next += ports.len() as u64;
        let count = u16::try_from(ports.len()).unwrap_or(u16::MAX);
        let mut fixed =
            MessageHead { id, submitted: with.now, not_before, body_len: body.len(), fragments: 0 };
        let whole = match body {
            PreparedBody::Whole(bytes) => bytes.clone(),
            PreparedBody::Cut { pieces, .. } => {
                for (index, piece) in (0..).zip(pieces) {
                    keys::fragment::write(with.writes, number, index, piece.clone());
                }
                fixed.fragments = number;
                bytes::Bytes::new()
            }
            PreparedBody::Staged { number: staged, .. } => {
                self.open.adopted.extend(self.staged.take(staged));
                fixed.fragments = *staged;
                bytes::Bytes::new()
            }
        };
        if fixed.fragments != 0 {
            self.long_bodies.insert(number, fixed.fragments);
        }
        let row =
            MessageRow { id, submitted: with.now, body_len: body.len(), live: count, known: count, count };
        self.know(number, row);
        let mut numbers = std::mem::take(&mut self.port_numbers);
        numbers.clear();
        for (ordinal, name) in (0..).zip(ports) {
            let Some(port) = self.defined(name) else { continue };
            if self.last_named.as_ref().is_none_or(|(last, _)| last != name) {
                self.last_named = Some((name.clone(), port));
            }
            numbers.push(port);
            let row = DeliveryRow::new(port, ordinal, not_before);
            self.deliveries.insert(number + u64::from(ordinal), row);
            if let Some(state) = self.ports.get_mut(port as usize) {
                state.count(row.state, 1);
            }
            self.open.fresh.push(number + u64::from(ordinal));
            self.touch(port);
        }
        keys::message::write(with.writes, number, &fixed, &numbers, headers, whole);
        self.port_numbers = numbers;
        OpResult::Submitted { first: DeliveryId::new(number) }
    }

    fn stage(
        &mut self,
        number: u64,
        index: u32,
        bytes: &bytes::Bytes,
        with: &mut Applying<'_>,
    ) -> Result<OpResult, Refusal> {
        if !self.staged.contains(&number) {
            return Err(Refusal::NoSuchBody);
        }
        keys::fragment::write(with.writes, number, index, bytes.clone());
        Ok(OpResult::Applied)
    }

    /// The number of a port that messages may be submitted to.
    fn defined(&self, name: &PortName) -> Option<u32> {
        let number = self.port_number(name)?;
        self.port(number).is_some_and(|port| port.record.defined).then_some(number)
    }

    fn define_port(&mut self, name: &PortName, spec: PortSpec, with: &mut Applying<'_>) {
        if let Some(number) = self.port_number(name) {
            let _known = self.change_port(name, with.writes, |record| {
                record.defined = true;
                record.backup = spec.backup;
            });
            if !spec.backup {
                self.leave_backup(number, with);
            }
            return;
        }
        let number = u32::try_from(self.ports.len()).unwrap_or(u32::MAX);
        let record = PortRecord { name: name.clone(), backup: spec.backup, defined: true, paused: false };
        keys::port::write(with.writes, number, &record);
        self.names.insert(name.clone(), number);
        self.ports.push(PortState::new(record));
        self.touch(number);
    }

    /// A port has no backup route any more: what waits there goes back to the primary with its full budget, or
    /// nobody would ever send it.
    fn leave_backup(&mut self, port: u32, with: &mut Applying<'_>) {
        let Some(state) = self.ports.get_mut(port as usize) else { return };
        let mut waiting = state.take_waiting(Route::Backup);
        // What groups put there that are not durable yet is not queued.
        waiting.extend(self.unpublished().flat_map(|group| &group.fresh));
        for number in waiting {
            let Some(row) = self.deliveries.get(number) else { continue };
            let waits = matches!(row.state, DeliveryState::Ready | DeliveryState::RetryWait);
            if !waits || row.route() != Route::Backup || row.port != port {
                continue;
            }
            self.set_state(number, DeliveryState::Ready, |row| {
                row.due = 0;
                row.attempts_on_route = 0;
                row.set(DeliveryRow::BACKUP, false);
                row.set(DeliveryRow::CARRIED, false);
            });
            self.record(number, None, None, with);
            self.open.fresh.push(number);
        }
    }

    fn change_port(
        &mut self,
        name: &PortName,
        writes: &mut WriteSet,
        change: impl FnOnce(&mut PortRecord),
    ) -> Result<(), Refusal> {
        let number = self.port_number(name).ok_or(Refusal::NoSuchPort)?;
        let port = self.ports.get_mut(number as usize).ok_or(Refusal::NoSuchPort)?;
        let before = port.record.clone();
        change(&mut port.record);
        if port.record != before {
            keys::port::write(writes, number, &port.record);
            self.touch(number);
        }
        Ok(())
    }

    fn hold(&mut self, delivery: DeliveryId, reason: &str, with: &mut Applying<'_>) -> Result<(), Refusal> {
        if crate::mutant::is("refused-and-applied") && self.terminable(delivery).is_err() {
            self.set_state(delivery.number(), DeliveryState::Suspended, |_row| {});
        }
        let row = self.waiting(delivery)?;
        self.leave_queue(delivery.number(), &row);
        self.set_state(delivery.number(), DeliveryState::Suspended, |_row| {});
        self.record(delivery.number(), Some(reason), None, with);
        Ok(())
    }

    fn resume(&mut self, delivery: DeliveryId, with: &mut Applying<'_>) -> Result<(), Refusal> {
        let row = self.resumable(delivery)?;
        let number = delivery.number();
        let parked = row.state == DeliveryState::Suspended;
        self.leave_queue(number, &row);
        let carried = self.set_state(number, DeliveryState::Ready, |row| {
            row.due = 0;
            if parked {
                row.attempts_on_route = 0;
                row.set(DeliveryRow::BACKUP, false);
            }
            row.set(DeliveryRow::CARRIED, false);
        });
        debug_assert!(carried.is_some(), "a resumable delivery is known");
        self.resend(number);
        self.record(number, None, None, with);
        self.open.fresh.push(number);
        Ok(())
    }

    fn terminate(
        &mut self,
        delivery: DeliveryId,
        reason: &str,
        with: &mut Applying<'_>,
    ) -> Result<(), Refusal> {
        let row = self.terminable(delivery)?;
        self.leave_queue(delivery.number(), &row);
        self.finish(delivery.number(), DeliveryState::Terminated, None, reason, with);
        Ok(())
    }

    fn waiting(&self, delivery: DeliveryId) -> Result<DeliveryRow, Refusal> {
        use DeliveryState::{Ready, RetryWait, Scheduled};
        self.in_state(delivery, |state| matches!(state, Ready | Scheduled | RetryWait))
    }

    fn resumable(&self, delivery: DeliveryId) -> Result<DeliveryRow, Refusal> {
        use DeliveryState::{RetryWait, Scheduled, Suspended};
        self.in_state(delivery, |state| matches!(state, Suspended | Scheduled | RetryWait))
    }

    fn terminable(&self, delivery: DeliveryId) -> Result<DeliveryRow, Refusal> {
        self.in_state(delivery, |state| !state.is_terminal() && state != DeliveryState::Leased)
    }

    fn in_state(
        &self,
        delivery: DeliveryId,
        fine: impl FnOnce(DeliveryState) -> bool,
    ) -> Result<DeliveryRow, Refusal> {
        let row = self.delivery(delivery).ok_or(Refusal::NoSuchDelivery)?;
        if fine(row.state) { Ok(row) } else { Err(Refusal::WrongState { state: row.state }) }
    }

    /// Takes a delivery out of those that wait for a time. Among the ready it stays until it comes up: whoever
    /// takes it there sees that it is not ready.
    pub(super) fn leave_queue(&mut self, number: u64, row: &DeliveryRow) {
        if let Some(port) = self.ports.get_mut(row.port as usize) {
            port.lane(row.route()).due.remove(&(row.due, number));
        }
    }
}

/// The results of a batch that was applied before.
fn replay(record: &AppliedRecord, batch: &Prepared) -> Vec<OpResult> {
    let mut next = record.first;
    let mut refusals = record.refusals.iter().peekable();
    let ops = batch.ops.iter().enumerate();
    ops.map(|(index, op)| {
        if let Some((_, refusal)) = refusals.next_if(|(refused, _)| *refused as usize == index) {
            return OpResult::Refused(refusal.clone());
        }
        match op {
            PreparedOp::Submit { ports, .. } => {
                let first = DeliveryId::new(next);
                next += ports.len() as u64;
                OpResult::Submitted { first }
            }
            _ => OpResult::Applied,
        }
    })
    .collect()
}
