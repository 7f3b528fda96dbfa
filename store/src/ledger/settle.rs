//! What the holder of a lease may decide about its delivery.

use super::apply::Applying;
use super::{DeliveryRow, Ledger};
use crate::message_box::keys;
use crate::message_box::keys::delivery::{DeliveryHead, DeliveryRest};
use crate::{
    Attempt, AttemptNote, AttemptOutcome, DeliveryState, Failure, Headers, Lease, Refusal, Route, Timestamp,
};

impl Ledger {
    pub(super) fn delete(
        &mut self,
        lease: &Lease,
        attempt: Option<&AttemptNote>,
        with: &mut Applying<'_>,
    ) -> Result<(), Refusal> {
        let row = self.owned(lease)?;
        let number = lease.delivery.number();
        self.settle_lease(number, &row, true);
        self.finish(number, DeliveryState::Done, attempt, "", with);
        Ok(())
    }

    pub(super) fn resubmit(
        &mut self,
        lease: &Lease,
        at: Timestamp,
        attempt: Option<&AttemptNote>,
        carried: &Headers,
        with: &mut Applying<'_>,
    ) -> Result<(), Refusal> {
        let number = self.settle(lease, attempt, AttemptOutcome::Resubmitted, with)?;
        let state = if at > with.now { DeliveryState::RetryWait } else { DeliveryState::Ready };
        self.set_state(number, state, |row| {
            row.due = at.as_micros();
            row.set(DeliveryRow::CARRIED, !carried.is_empty());
        });
        self.record(number, None, Some(carried), with);
        self.open.fresh.push(number);
        Ok(())
    }

    pub(super) fn check_move(&self, lease: &Lease) -> Result<DeliveryRow, Refusal> {
        let row = self.owned(lease)?;
        if row.route() == Route::Backup {
            return Err(Refusal::OnBackup);
        }
        let backup = self.port(row.port).is_some_and(|port| port.record.backup);
        if backup { Ok(row) } else { Err(Refusal::NoBackup) }
    }

    pub(super) fn move_to_backup(
        &mut self,
        lease: &Lease,
        attempt: Option<&AttemptNote>,
        with: &mut Applying<'_>,
    ) -> Result<(), Refusal> {
        self.check_move(lease)?;
        let number = self.settle(lease, attempt, AttemptOutcome::MovedToBackup, with)?;
        self.set_state(number, DeliveryState::Ready, |row| {
            row.due = 0;
            if !crate::mutant::is("backup-budget-not-fresh") {
                row.attempts_on_route = 0;
            }
            row.set(DeliveryRow::BACKUP, true);
            row.set(DeliveryRow::CARRIED, false);
        });
        self.record(number, None, None, with);
        self.open.fresh.push(number);
        Ok(())
    }

    pub(super) fn suspend(
        &mut self,
        lease: &Lease,
        reason: &str,
        attempt: Option<&AttemptNote>,
        with: &mut Applying<'_>,
    ) -> Result<(), Refusal> {
        let number = self.settle(lease, attempt, AttemptOutcome::Suspended, with)?;
        if crate::mutant::is("parked-is-ready") {
            self.open.fresh.push(number);
        }
        self.set_state(number, DeliveryState::Suspended, |row| {
            row.due = 0;
            row.set(DeliveryRow::CARRIED, false);
        });
        self.record(number, Some(reason), None, with);
        Ok(())
    }

    /// Takes the lease of a delivery whose attempt failed, and adds that attempt to its history.
    fn settle(
        &mut self,
        lease: &Lease,
        attempt: Option<&AttemptNote>,
        outcome: AttemptOutcome,
        with: &mut Applying<'_>,
    ) -> Result<u64, Refusal> {
        let row = self.owned(lease)?;
        let number = lease.delivery.number();
        self.settle_lease(number, &row, false);
        if attempt.is_some() || outcome == AttemptOutcome::MovedToBackup {
            self.is_sure(number);
        }
        self.note(number, attempt, outcome, with);
        Ok(number)
    }

    /// Ends the lease of a delivery that is being decided about, and keeps it in case the group cannot be written.
    pub(super) fn settle_lease(&mut self, number: u64, row: &DeliveryRow, has_ended: bool) {
        if let Some(held) = self.drop_lease(number, row.port, row.route()) {
            self.attempt_is_over(number, held.intent, has_ended);
            self.open.settled.push((number, held));
        }
    }

    pub(super) fn charge(&mut self, number: u64) -> Option<DeliveryRow> {
        self.deliveries.update(number, DeliveryRow::charge).map(|(_, row)| row)
    }

    /// Charges a failed attempt and adds it to the history.
    fn note(
        &mut self,
        number: u64,
        note: Option<&AttemptNote>,
        outcome: AttemptOutcome,
        with: &mut Applying<'_>,
    ) {
        let Some(note) = note else { return };
        let Some(row) = self.charge(number) else { return };
        let attempt = Attempt {
            number: row.attempts,
            route: row.route(),
            started: note.started,
            took: note.took,
            outcome,
            // Whoever made it may have passed by the bound of `Failure::new`.
            failure: note.failure.clone().map(|failure| Failure::new(failure.permanent, failure.chain)),
        };
        keys::attempt::write(with.writes, number, &attempt);
        self.deliveries.update(number, |row| row.set(DeliveryRow::HISTORY, true));
    }

    /// Moves a delivery to a state and lets `change` set what goes with it. Gives it as it is then; `None` where it is
    /// not known.
    pub(super) fn set_state(
        &mut self,
        number: u64,
        state: DeliveryState,
        change: impl FnOnce(&mut DeliveryRow),
    ) -> Option<DeliveryRow> {
        let changed = self.deliveries.update(number, |row| {
            row.state = state;
            change(row);
        });
        let (before, row) = changed?;
        if let Some(port) = self.ports.get_mut(row.port as usize) {
            port.shift(before.state, state);
        }
        self.touch(row.port);
        Some(row)
    }

    /// Writes how a delivery stands now.
    pub(super) fn record(
        &mut self,
        number: u64,
        reason: Option<&str>,
        carried: Option<&Headers>,
        with: &mut Applying<'_>,
    ) {
        let recorded = self.deliveries.update(number, |row| row.set(DeliveryRow::RECORD, true));
        let Some((_, row)) = recorded else { return };
        let fixed = DeliveryHead {
            state: row.state,
            route: row.route(),
            attempts: row.attempts,
            attempts_on_route: row.attempts_on_route,
            due: Timestamp::from_micros(row.due),
        };
        let reason = reason.map(|text| {
            let cut = text.floor_char_boundary(Failure::BYTES_MAX);
            text.get(..cut).unwrap_or_default().to_owned()
        });
        let rest = DeliveryRest { reason, carried: carried.cloned().unwrap_or_default() };
        keys::delivery::write(with.writes, number, &fixed, &rest);
    }
}
