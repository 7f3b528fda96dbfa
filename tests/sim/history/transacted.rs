//! The rules for destinations that prepare a transaction and commit it when the box has recorded its messages as sent.

use pillarbox_store::DeliveryId;

use super::check::Checker;
use super::rows::{Row, State};
use super::{Invariant, Part};

/// A delivery in a transaction, and its attempt's number.
type InIt = (DeliveryId, u32);

/// The transactions that destinations hold prepared, by their names.
pub(super) type Prepared = std::collections::BTreeMap<String, Vec<InIt>>;

impl Checker {
    /// Whether a destination holds this attempt prepared.
    pub(super) fn is_prepared(&self, row: &Row) -> bool {
        let wanted = (row.delivery, row.attempts + 1);
        self.prepared.values().flatten().any(|in_it| *in_it == wanted)
    }

    pub(super) fn prepare(&mut self, transaction: &str, parts: &[Part]) {
        let mut all = Vec::new();
        let mut wrong = Vec::new();
        for Part { to, attempt, body, in_doubt } in parts {
            self.arrived(to, *body);
            let Some(row) = self.places.get(to).and_then(|delivery| self.rows.get_mut(delivery)) else {
                continue;
            };
            all.push((row.delivery, *attempt));
            if *attempt > row.attempts + 1 {
                let text = format!("its attempt's number is ahead of the history: {attempt} of {row:?}");
                wrong.push((Invariant::I4, text));
            } else if row.says_too_little(*attempt, *in_doubt) {
                let text =
                    format!("it was cut off before the route had two phases, and does not say so: {row:?}");
                wrong.push((Invariant::I5, text));
            }
            if *attempt == row.attempts + 1 {
                // Whoever said so was cut off before the box knew.
                row.sent = None;
            }
        }
        self.prepared.insert(transaction.to_owned(), all);
        for (invariant, text) in wrong {
            self.broken(invariant, text);
        }
    }

    /// What is committed at the destination is recorded as sent in the box, by then, and committed this once.
    pub(super) fn committed(&mut self, transaction: &str) {
        for (delivery, _attempt) in self.prepared.remove(transaction).unwrap_or_default() {
            let Some(row) = self.rows.get_mut(&delivery) else { continue };
            row.committed += 1;
            let wrong = match (row.state, row.committed) {
                (State::Done, 1) => continue,
                (State::Done, _) => "it was committed twice",
                _ => "it was committed, and the box has not recorded it as sent",
            };
            let text = format!("{wrong}: {row:?} in {transaction}");
            self.broken(Invariant::I12, text);
        }
    }

    /// What the box has recorded as sent is not rolled back, unless another transaction of it is there to be committed.
    pub(super) fn rolled_back(&mut self, transaction: &str) {
        for in_it in self.prepared.remove(transaction).unwrap_or_default() {
            let Some(row) = self.rows.get(&in_it.0) else { continue };
            let is_elsewhere = self.prepared.values().flatten().any(|other| *other == in_it);
            if row.is_transacted && row.committed == 0 && !is_elsewhere {
                let text = format!("it was rolled back, and is recorded as sent: {row:?} in {transaction}");
                self.broken(Invariant::I12, text);
            }
        }
    }

    /// At the end nothing is left prepared, and both sides agree.
    pub(super) fn check_both_sides(&mut self) {
        let mut wrong: Vec<String> = Vec::new();
        wrong.extend(self.prepared.keys().map(|name| format!("{name} is left prepared")));
        let differs = |row: &&Row| row.committed != u32::from(row.is_transacted);
        wrong.extend(
            self.rows
                .values()
                .filter(differs)
                .map(|row| format!("done on one side, or more than once: {row:?}")),
        );
        for text in wrong {
            self.broken(Invariant::I12, text);
        }
    }
}
