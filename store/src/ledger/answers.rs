//! Answers: kept with the delivery that brought them, up to a bound of their own.

use std::collections::BTreeMap;

use hashbrown::HashMap;

use super::Ledger;
use super::apply::Applying;
use super::recover::Recovery;
use crate::engine::{Key, WriteSet};
use crate::message_box::keys;
use crate::message_box::keys::answer::AnswerHead;
use crate::{Answer, AttemptNote, DeliveryState, Error, Lease, Refusal, Timestamp};

/// What is known of a kept answer.
#[derive(Debug, Clone, Copy)]
struct Kept {
    delivery: u64,
    received: Timestamp,
    body_len: u64,
}

/// The answers that are kept.
#[derive(Debug, Default)]
pub(super) struct Answers {
    /// In the order in which they came. Not in that of their times: a clock may be set.
    order: BTreeMap<u64, Kept>,
    /// Delivery -> its answer's place in the order.
    places: HashMap<u64, u64>,
    next: u64,
    bytes: u64,
}

impl Answers {
    fn insert(&mut self, sequence: u64, kept: Kept) {
        // Two with one place are no box's own; both are kept.
        let sequence = if self.order.contains_key(&sequence) { self.next } else { sequence };
        self.next = self.next.max(sequence.saturating_add(1));
        self.bytes = self.bytes.saturating_add(kept.body_len);
        self.places.insert(kept.delivery, sequence);
        self.order.insert(sequence, kept);
    }

    fn remove(&mut self, delivery: u64) -> Option<Kept> {
        let kept = self.order.remove(&self.places.remove(&delivery)?)?;
        self.bytes = self.bytes.saturating_sub(kept.body_len);
        Some(kept)
    }
}

impl Ledger {
    /// Ends a delivery that was sent and answered, and keeps the answer: both or neither.
    pub(super) fn respond(
        &mut self,
        lease: &Lease,
        answer: &Answer,
        attempt: Option<&AttemptNote>,
        with: &mut Applying<'_>,
    ) -> Result<(), Refusal> {
        let row = self.owned(lease)?;
        let number = lease.delivery.number();
        let of = self.messages.get(number - u64::from(row.ordinal)).copied().ok_or(Refusal::NotOwned)?;
        self.delete(lease, attempt, with)?;
        let (sequence, body_len) = (self.answers.next, answer.body().len() as u64);
        let head = AnswerHead { sequence, message: of.id, received: with.now, body_len };
        keys::answer::write(with.writes, number, &head, answer);
        self.answers.insert(sequence, Kept { delivery: number, received: with.now, body_len });
        Ok(())
    }

    /// How many bytes the body of a delivery's answer has; `None` where no answer is kept.
    pub(crate) fn answer_len(&self, delivery: u64) -> Option<u64> {
        let place = self.answers.places.get(&delivery)?;
        self.answers.order.get(place).map(|kept| kept.body_len)
    }

    /// How many answers are kept.
    pub(crate) fn answers(&self) -> u64 {
        self.answers.order.len() as u64
    }

    /// Forgets the oldest answers that are past one of their bounds.
    pub(super) fn forget_answers(&mut self, now: Timestamp, writes: &mut WriteSet) {
        let bounds = self.retention.answers;
        while let Some((_, oldest)) = self.answers.order.first_key_value() {
            let too_many = self.answers.order.len() as u64 > bounds.count;
            let too_large = self.answers.bytes > bounds.bytes;
            let too_old = now.since(oldest.received) > bounds.age;
            if !too_many && !too_large && !too_old {
                return;
            }
            self.forget_answer(oldest.delivery, writes);
        }
    }

    /// Forgets the answer of a delivery, where one is kept.
    pub(super) fn forget_answer(&mut self, delivery: u64, writes: &mut WriteSet) {
        if self.answers.remove(delivery).is_some() {
            keys::answer::delete_all(writes, delivery);
        }
    }
}

/// Records of answers, until every record was given.
#[derive(Debug, Default)]
pub(super) struct FoundAnswers {
    heads: Vec<(u64, AnswerHead)>,
    pieces: Vec<Key>,
}

impl FoundAnswers {
    pub(super) fn visit(&mut self, key: Key, head: &[u8]) -> Result<(), Error> {
        if key.part == 0 {
            self.heads.push((key.number, keys::answer::read(head)?.0));
        }
        self.pieces.push(key);
        Ok(())
    }
}

impl Recovery {
    /// Keeps the answers of deliveries that are done and known. What belongs to no other is of no use.
    pub(super) fn finish_answers(&mut self, orphans: &mut Vec<Key>) {
        let found = std::mem::take(&mut self.answers);
        for (delivery, head) in found.heads {
            let is_done =
                self.ledger.deliveries.get(delivery).is_some_and(|row| row.state == DeliveryState::Done);
            if is_done {
                let kept = Kept { delivery, received: head.received, body_len: head.body_len };
                self.ledger.answers.insert(head.sequence, kept);
            }
        }
        let is_used = |key: &Key| {
            self.ledger.answer_len(key.number).is_some_and(|len| key.part < keys::answer::pieces(len))
        };
        orphans.extend(found.pieces.into_iter().filter(|key| !is_used(key)));
    }
}
