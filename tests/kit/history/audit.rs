//! The rules for what the box tells when it is asked for everything.

use std::collections::{BTreeMap, BTreeSet};

use pillarbox_store::{Counts, DeliveryId, DeliveryInfo, DeliveryState, PortName, Timestamp};

use super::check::{Batch, Checker};
use super::rows::{Difference, Row, State};
use super::{Invariant, Said};

type Found<'a> = BTreeMap<DeliveryId, &'a DeliveryInfo>;

impl Checker {
    pub(super) fn audit(
        &mut self,
        found: &[DeliveryInfo],
        counts: &BTreeMap<PortName, Counts>,
        traces_kept: bool,
    ) {
        self.traces_kept = traces_kept;
        let found: Found<'_> = found.iter().map(|info| (info.id, info)).collect();
        for doubt in std::mem::take(&mut self.doubts) {
            self.resolve(&doubt, &found);
        }
        self.compare(&found);
        self.check_seen();
        self.check_counts(counts);
    }

    /// Decides by what is in the box whether a batch that nobody knows of was applied. All of it or nothing.
    fn resolve(&mut self, batch: &Batch, found: &Found<'_>) {
        let mut fresh = BTreeSet::new();
        let mut signs = Vec::new();
        let mut hopeless = false;
        for op in &batch.ops {
            match self.sign(op, batch.at, found, &mut fresh) {
                Sign::Applied => signs.push(true),
                Sign::NotApplied => signs.push(false),
                Sign::Refusable => hopeless = true,
                Sign::Silent => {}
            }
        }
        let applied = signs.contains(&true);
        if applied && (signs.contains(&false) || (batch.strict && hopeless)) {
            let text = format!("of batch {} some is there after the crash, and some is not: {batch:?}", batch.id);
            self.broken(Invariant::I10, text);
        }
        for op in &batch.ops {
            if applied { self.take_over(op, batch.at, found) } else { self.refuse(op) }
        }
        if applied {
            self.applied.insert(batch.id, None);
        }
    }

    fn sign(
        &self,
        op: &Said,
        at: Timestamp,
        found: &Found<'_>,
        fresh: &mut BTreeSet<pillarbox_store::MessageId>,
    ) -> Sign {
        match op {
            Said::Submit { message, ports, .. } => {
                let known = self.messages.get(message).is_some_and(|message| message.is_accepted);
                if known || !self.are_fine(ports) || !fresh.insert(*message) {
                    return Sign::Refusable;
                }
                let there = found.values().filter(|info| info.message == *message).count();
                match there {
                    0 => Sign::NotApplied,
                    there if there == ports.len() => Sign::Applied,
                    // Ended and forgotten, or torn: the comparison tells.
                    _ => Sign::Applied,
                }
            }
            Said::Settle { lease, .. } => self.leases.get(lease).map_or(Sign::Silent, |delivery| {
                self.sign_of(*delivery, op, at, found)
            }),
            Said::Hold(delivery) | Said::Resume(delivery) | Said::Terminate(delivery) => {
                self.sign_of(*delivery, op, at, found)
            }
            Said::Pause(..) | Said::Other => Sign::Silent,
        }
    }

    fn sign_of(&self, delivery: DeliveryId, op: &Said, at: Timestamp, found: &Found<'_>) -> Sign {
        let (Some(row), Some(found)) = (self.rows.get(&delivery), found.get(&delivery)) else {
            return Sign::Silent;
        };
        let Some(after) = self.after(row, op, at) else { return Sign::Refusable };
        match (row.matches(found, self.now), after.matches(found, self.now)) {
            (true, false) => Sign::NotApplied,
            (false, true) => Sign::Applied,
            _ => Sign::Silent,
        }
    }

    /// The row after an operation, where it can be applied.
    fn after(&self, row: &Row, op: &Said, at: Timestamp) -> Option<Row> {
        let mut after = row.clone();
        if row.state.is_terminal() {
            return None;
        }
        match op {
            Said::Settle { how, charged, .. } => after.settle(*how, *charged, at),
            command if row.allows(command, at) => after.command(command),
            _ => return None,
        }
        Some(after)
    }

    fn take_over(&mut self, op: &Said, at: Timestamp, found: &Found<'_>) {
        match op {
            Said::Submit { message, ports, .. } => {
                let known = self.messages.get(message).is_none_or(|message| message.is_accepted);
                let there: BTreeMap<&PortName, DeliveryId> = found
                    .values()
                    .filter(|info| info.message == *message)
                    .map(|info| (&info.port, info.id))
                    .collect();
                let first = ports.iter().enumerate().find_map(|(place, port)| {
                    there.get(port).map(|number| number.number() - place as u64)
                });
                if let Some(first) = first.filter(|_| !known) {
                    self.accept(op, DeliveryId::new(first));
                }
            }
            Said::Settle { lease, .. } => {
                let delivery = self.leases.get(lease).copied();
                self.take_over_row(delivery, op, at);
            }
            Said::Hold(delivery) | Said::Resume(delivery) | Said::Terminate(delivery) => {
                self.take_over_row(Some(*delivery), op, at);
            }
            Said::Pause(port, paused) => {
                self.paused.insert(port.clone(), *paused);
            }
            Said::Other => {}
        }
    }

    fn take_over_row(&mut self, delivery: Option<DeliveryId>, op: &Said, at: Timestamp) {
        let after = delivery.and_then(|delivery| self.rows.get(&delivery)).and_then(|row| self.after(row, op, at));
        if let Some(after) = after {
            self.rows.insert(after.delivery, after);
        }
    }

    fn compare(&mut self, found: &Found<'_>) {
        let now = self.now;
        let mut wrong = Vec::new();
        for row in self.rows.values_mut() {
            let Some(info) = found.get(&row.delivery) else {
                if row.state.is_terminal() && !self.traces_kept {
                    row.is_forgotten = true;
                } else {
                    wrong.push((Invariant::I1, format!("{:?} is lost: {row:?}", row.to)));
                }
                continue;
            };
            let invariant = match row.difference(info, now) {
                None => continue,
                Some(Difference::Name) => Invariant::I3,
                Some(Difference::State) if row.state == State::Suspended => Invariant::I7,
                Some(Difference::State) => Invariant::I3,
                Some(Difference::Due) => Invariant::I8,
                Some(Difference::Attempts) => Invariant::I4,
            };
            wrong.push((invariant, format!("the box has {info:?}, the history {row:?}")));
        }
        let known = |info: &&&DeliveryInfo| !self.rows.contains_key(&info.id);
        let strange = found.values().filter(known);
        wrong.extend(strange.map(|info| {
            (Invariant::I2, format!("the box has {info:?}, which was refused or never submitted"))
        }));
        for (invariant, text) in wrong {
            self.broken(invariant, text);
        }
    }

    fn check_seen(&mut self) {
        let vanished: Vec<_> = self
            .messages
            .iter()
            .filter(|(_, message)| message.was_seen && message.is_refused && !message.is_accepted)
            .map(|(id, _)| *id)
            .collect();
        for id in vanished {
            self.broken(Invariant::I2, format!("{id} was sent and is not in the box"));
        }
    }

    fn check_counts(&mut self, counts: &BTreeMap<PortName, Counts>) {
        let now = self.now;
        let mut wrong = Vec::new();
        for (port, counts) in counts {
            let rows = || self.rows.values().filter(|row| row.to.port == *port && !row.is_forgotten);
            let has = |row: &Row, state| row.may_be_in(state, now);
            let states = [
                (DeliveryState::Ready, counts.ready),
                (DeliveryState::Scheduled, counts.scheduled),
                (DeliveryState::RetryWait, counts.retry_wait),
                (DeliveryState::Leased, counts.leased),
                (DeliveryState::Suspended, counts.suspended),
                (DeliveryState::Done, counts.done),
                (DeliveryState::Terminated, counts.terminated),
            ];
            for (state, told) in states {
                let others = states.map(|(other, _)| other);
                let may = rows().filter(|row| has(row, state)).count() as u64;
                let only = |row: &&Row| others.iter().all(|other| has(row, *other) == (*other == state));
                let must = rows().filter(only).count() as u64;
                if told < must || told > may {
                    wrong.push(format!("{port} has {told} {state:?}, by the history {must} to {may}"));
                }
            }
            let live = rows().filter(|row| !row.state.is_terminal()).count() as u64;
            if counts.live() != live {
                wrong.push(format!("{port} has {} live, by the history {live}", counts.live()));
            }
        }
        for text in wrong {
            self.broken(Invariant::I17, text);
        }
    }
}

enum Sign {
    Applied,
    NotApplied,
    /// It would have been refused in any case.
    Refusable,
    /// The box looks the same with it and without.
    Silent,
}
