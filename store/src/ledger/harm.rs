//! What damage means for the deliveries: which are parked, and which are missing.

use std::ops::Range;

use super::recover::{Harm, Recovery};
use super::{DeliveryRow, Ledger, MessageRow};
use crate::DeliveryState;
use crate::engine::{Damage, Key, Loss};
use crate::message_box::keys;

/// Numbers that are left out where damage may hide that they were given before.
const SKIPPED: u64 = 1 << 20;

impl Recovery {
    /// Suspends the deliveries whose own record is lost: how they stood is not known, and one that was parked, or had
    /// ended while its message went on to others, must not be sent as if it were new.
    pub(super) fn park(&mut self, damages: &[Damage], harm: &mut Harm) {
        let lost = |damage: &&Damage| damage.loss == Loss::Record;
        let of_deliveries = damages
            .iter()
            .filter(lost)
            .filter_map(|damage| damage.key)
            .filter(|key| key.family == keys::delivery::FAMILY);
        let mut unknown: Vec<u64> = of_deliveries.map(|key| key.number).collect();
        // A failed attempt is noted together with the record: where there is only the one, the other was lost.
        let half = |row: &DeliveryRow| row.has_history() && !row.has_record() && !row.state.is_terminal();
        let halves = self.ledger.deliveries.range(0).filter(|(_, row)| half(row));
        unknown.extend(halves.map(|(number, _)| number));
        unknown.sort_unstable();
        unknown.dedup();
        for number in unknown {
            let known = self.ledger.deliveries.get(number);
            if known.is_none_or(|row| row.state.is_terminal() || row.has_record()) {
                continue;
            }
            self.ledger.deliveries.update(number, |row| {
                row.state = DeliveryState::Suspended;
                row.due = 0;
                row.set(DeliveryRow::RECORD, true);
            });
            harm.parked.push(number);
        }
    }

    /// Looks for numbers of deliveries of which nothing is left, where damage may have taken them. `gaps` are numbers
    /// that were given to bodies.
    pub(super) fn find_missing(&mut self, damages: &[Damage], gaps: &[Range<u64>], harm: &mut Harm) {
        if !damages.iter().any(|damage| self.hides_numbers(damage)) {
            return;
        }
        let bodies = self.ledger.long_bodies.values().map(|number| *number..number + 1);
        let mut known: Vec<Range<u64>> = bodies.chain(gaps.iter().cloned()).collect();
        known.extend(self.ledger.deliveries.range(0).map(|(number, _)| number..number + 1));
        harm.missing = without(known, 1..self.top);
        harm.may_be_forgotten = self.ledger.has_forgotten();
        let top = self.top;
        self.top = top.saturating_add(SKIPPED);
        harm.hidden = top..self.top;
    }

    /// Whether damage may hide that a number was given to a delivery.
    fn hides_numbers(&self, damage: &Damage) -> bool {
        match (damage.loss, damage.key) {
            (Loss::None, _) => false,
            (Loss::Unknown, _) | (Loss::Record, None) => true,
            (Loss::Record, Some(Key { family, number, .. })) => match family {
                keys::message::FAMILY => self.ledger.messages.get(number).is_none(),
                keys::finished::FAMILY | keys::applied::FAMILY => true,
                _ => false,
            },
        }
    }
}

impl Ledger {
    /// Each message whose body is kept in pieces, with the body's number.
    pub(crate) fn long_bodies(&self) -> impl Iterator<Item = (u64, u64)> {
        self.long_bodies.iter().map(|(message, body)| (*message, *body))
    }

    /// The number of a delivery's message.
    pub(crate) fn message_of(&self, delivery: u64) -> Option<u64> {
        self.deliveries.get(delivery).and_then(|row| delivery.checked_sub(u64::from(row.ordinal)))
    }

    /// Every message that is still needed, not only known by its traces.
    pub(crate) fn messages_with_record(&self) -> impl Iterator<Item = (u64, &MessageRow)> {
        self.messages.range(0).filter(|(_, row)| row.count > 0)
    }

    /// The numbers of a message's deliveries that have not ended.
    pub(crate) fn open_deliveries(&self, number: u64, row: &MessageRow) -> Vec<Range<u64>> {
        let is_open = |number: &u64| self.deliveries.get(*number).is_some_and(|row| !row.state.is_terminal());
        let numbers = (number..number + u64::from(row.count)).filter(is_open);
        let mut ranges: Vec<Range<u64>> = Vec::new();
        for number in numbers {
            match ranges.last_mut() {
                Some(last) if last.end == number => last.end += 1,
                _ => ranges.push(number..number + 1),
            }
        }
        ranges
    }

    /// How many traces there are.
    pub(crate) fn traces(&self) -> u64 {
        self.finished.len() as u64
    }

    /// How many batches are remembered.
    pub(crate) fn remembered(&self) -> u64 {
        self.applied.len()
    }

    /// The next sequence number of a remembered batch, and the next free number of a delivery.
    pub(crate) fn next_numbers(&self) -> (u64, u64) {
        (self.applied.next(), self.next)
    }

    /// Whether traces may have been forgotten so far.
    fn has_forgotten(&self) -> bool {
        self.pages.front().is_none_or(|page| page.sequence > 0)
    }
}

/// What of `all` is in none of `known`.
fn without(mut known: Vec<Range<u64>>, all: Range<u64>) -> Vec<Range<u64>> {
    known.sort_unstable_by_key(|range| range.start);
    let mut missing = Vec::new();
    let mut from = all.start;
    for range in known {
        if range.start.min(all.end) > from {
            missing.push(from..range.start.min(all.end));
        }
        from = from.max(range.end);
    }
    if from < all.end {
        missing.push(from..all.end);
    }
    missing
}

#[cfg(test)]
mod tests;
