//! Decisions about transactions of destinations: kept from the end of their deliveries until somebody forgets them.

use std::collections::BTreeMap;

use hashbrown::HashSet;

use super::Ledger;
use super::apply::Applying;
use super::recover::Recovery;
use crate::engine::{Damage, Key, Loss, WriteSet};
use crate::message_box::keys;
use crate::{BatchId, Decision, Decisions, Error, Timestamp};

/// The decisions that are kept.
#[derive(Debug, Default)]
pub(super) struct Kept {
    /// By the transaction: where its record is, and what that says.
    known: BTreeMap<BatchId, (u64, Decision)>,
    /// The next free number of a record.
    next: u64,
    lost_until: Option<Timestamp>,
}

impl Ledger {
    /// Keeps the decision. One that is kept already stays as it is.
    pub(super) fn decide(&mut self, transaction: BatchId, destination: &str, with: &mut Applying<'_>) {
        if transaction == keys::decision::NONE || self.decisions.known.contains_key(&transaction) {
            return;
        }
        let number = self.decisions.next;
        self.decisions.next += 1;
        let decision = Decision { transaction, destination: destination.to_owned(), decided: with.now };
        keys::decision::write(with.writes, number, &decision);
        self.decisions.known.insert(transaction, (number, decision));
    }

    /// Forgets the decision, where it is kept.
    pub(super) fn forget_decision(&mut self, transaction: BatchId, writes: &mut WriteSet) {
        if let Some((number, _)) = self.decisions.known.remove(&transaction) {
            writes.delete(keys::decision::key(number));
        }
    }

    /// Every decision that is kept.
    pub(crate) fn decisions(&self) -> Decisions {
        let known = self.decisions.known.values().map(|(_, decision)| decision.clone()).collect();
        Decisions { known, lost_until: self.decisions.lost_until }
    }

    /// The number of the next record of a decision.
    pub(crate) fn next_decision(&self) -> u64 {
        self.decisions.next
    }

    /// How many decisions are kept.
    pub(crate) fn decisions_kept(&self) -> u64 {
        self.decisions.known.len() as u64
    }
}

/// Records of decisions, until every record was given.
#[derive(Debug, Default)]
pub(super) struct FoundDecisions(Vec<(u64, Decision)>);

impl FoundDecisions {
    pub(super) fn visit(&mut self, key: Key, head: &[u8]) -> Result<(), Error> {
        self.0.push((key.number, keys::decision::read(head)?));
        Ok(())
    }
}

impl Recovery {
    /// Keeps every decision that was found; of two about one transaction, which no box writes, the first.
    pub(super) fn finish_decisions(&mut self, damages: &[Damage], orphans: &mut Vec<Key>) {
        let mut found = std::mem::take(&mut self.decisions).0;
        found.sort_unstable_by_key(|(number, _)| *number);
        let kept = &mut self.ledger.decisions;
        let mut seen = HashSet::new();
        for (number, decision) in found {
            kept.next = number + 1;
            if decision.transaction == keys::decision::NONE {
                kept.lost_until = kept.lost_until.max(Some(decision.decided));
            } else if seen.insert(decision.transaction) {
                kept.known.insert(decision.transaction, (number, decision));
            } else {
                orphans.push(keys::decision::key(number));
            }
        }
        if damages.iter().any(hides_a_decision) {
            // Opened again, the box finds the same damage: what is begun meanwhile may be among what is lost by then.
            kept.lost_until = Some(Timestamp::from_micros(i64::MAX));
        }
    }
}

fn hides_a_decision(damage: &Damage) -> bool {
    match (damage.loss, damage.key) {
        (Loss::None, _) => false,
        (Loss::Unknown, _) | (Loss::Record, None) => true,
        (Loss::Record, Some(key)) => key.family == keys::decision::FAMILY,
    }
}
