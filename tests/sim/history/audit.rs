//! The rules for what the box tells when it is asked for everything.

use std::collections::{BTreeMap, BTreeSet};

use pillarbox_store::{Counts, DeliveryId, DeliveryInfo, DeliveryState, PortName};

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
        let mut signs = Vec::new();
        let mut is_void = false;
        let mut fresh = BTreeSet::new();
        for op in &batch.ops {
            let Said::Submit { message, ports, .. } = op else { continue };
            let is_new = found.values().any(|info| self.is_new(info, *message));
            if self.messages.get(message).is_some_and(|message| message.is_accepted) {
                // Taken again only where the box had forgotten it.
                signs.extend(is_new.then_some(true));
                is_void |= batch.strict && !is_new && self.traces_kept;
            } else if !self.are_fine(ports) || !fresh.insert(*message) {
                is_void |= batch.strict;
            } else {
                signs.push(is_new);
            }
        }
        for (delivery, after) in &batch.after {
            if let (Some(row), Some(found)) = (self.rows.get(delivery), found.get(delivery)) {
                match (row.matches(found, self.now), after.matches(found, self.now)) {
                    (true, false) => signs.push(false),
                    (false, true) => signs.push(true),
                    // It looks the same either way, or is neither: the comparison tells.
                    _ => {}
                }
            }
        }
        let applied = signs.contains(&true);
        if applied && (signs.contains(&false) || is_void) {
            let text =
                format!("of batch {} some is there after the crash, and some is not: {batch:?}", batch.id);
            self.broken(Invariant::I10, text);
        }
        if applied { self.take_over(batch, found) } else { batch.ops.iter().for_each(|op| self.refuse(op)) }
    }

    /// Whether the box tells of a delivery of this message that the history does not have.
    fn is_new(&self, info: &DeliveryInfo, message: pillarbox_store::MessageId) -> bool {
        info.message == message && !self.rows.contains_key(&info.id)
    }

    /// A batch was applied although nobody heard of it.
    fn take_over(&mut self, batch: &Batch, found: &Found<'_>) {
        self.applied.insert(batch.id, None);
        for (delivery, after) in &batch.after {
            let mut after = after.clone();
            after.crash(false);
            self.rows.insert(*delivery, after);
        }
        for op in &batch.ops {
            match op {
                Said::Submit { message, ports, .. } => {
                    let number = |(place, port): (usize, &PortName)| {
                        let info =
                            found.values().find(|info| self.is_new(info, *message) && info.port == *port)?;
                        Some(info.id.number() - place as u64)
                    };
                    if let Some(first) = ports.iter().enumerate().find_map(number) {
                        self.accept(op, DeliveryId::new(first));
                    }
                }
                Said::Pause(port, paused) => {
                    self.paused.insert(port.clone(), *paused);
                }
                _ => {}
            }
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
            if row.is_forgotten {
                wrong.push((Invariant::I3, format!("{:?} had been forgotten and is back: {row:?}", row.to)));
            }
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

    /// What has ended with an answer has it still, and nothing has another one.
    pub(super) fn check_answers(&mut self, found: &[DeliveryInfo], answers: &BTreeMap<DeliveryId, u64>) {
        let differs = |row: &&Row| row.answer != answers.get(&row.delivery).copied();
        let rows = found.iter().filter_map(|info| self.rows.get(&info.id));
        let wrong: Vec<String> = rows
            .filter(differs)
            .map(|row| format!("the box has the answer {:?} to {row:?}", answers.get(&row.delivery)))
            .collect();
        for text in wrong {
            self.broken(Invariant::I11, text);
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
