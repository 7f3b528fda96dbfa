//! Outcomes: a delivery ends, its trace is kept for the retention, then it is forgotten.

use super::apply::Applying;
use super::{Ledger, Page};
use crate::engine::WriteSet;
use crate::message_box::keys;
use crate::message_box::keys::delivery::{DeliveryHead, DeliveryRest};
use crate::message_box::keys::finished::Trace;
use crate::{AttemptNote, DeliveryState, Timestamp};

/// For so many messages to be forgotten the table of ids is touched at once.
const TOUCHED_AHEAD: usize = 16;

impl Ledger {
    /// Ends a delivery, by an attempt if there is one. Its message's body goes with the last one.
    pub(super) fn finish(
        &mut self,
        number: u64,
        state: DeliveryState,
        attempt: Option<&AttemptNote>,
        reason: &str,
        with: &mut Applying<'_>,
    ) {
        let page = self.next_page;
        let ended = self.set_state(number, state, |row| {
            row.due = i64::try_from(page).unwrap_or(i64::MAX);
            if attempt.is_some() {
                row.charge();
            }
        });
        let Some(row) = ended else { return };
        self.is_sure(number);
        if row.has_record() {
            with.writes.delete(keys::delivery::key(number));
        }
        let message = number - u64::from(row.ordinal);
        let Some(of) = self.messages.get_mut(message) else { return };
        of.live = of.live.saturating_sub(1);
        let of = *of;
        if of.live == 0 && !crate::mutant::is("body-stays") {
            self.drop_body(message, with.writes);
            self.drop_marks(message, of.count, with.writes);
        }
        let trace = Trace {
            delivery: number,
            message: of.id,
            port: row.port,
            ordinal: row.ordinal,
            state,
            route: row.route(),
            attempts: row.attempts,
            submitted: of.submitted,
            finished: with.now,
            body_len: of.body_len,
            started: attempt.map_or(Timestamp::EPOCH, |attempt| attempt.started),
            took_micros: attempt
                .map_or(0, |attempt| u64::try_from(attempt.took.as_micros()).unwrap_or(u64::MAX)),
            reason: reason.to_owned(),
        };
        self.page.push(&trace);
        self.finished.push_back(number);
        if self.page.is_full() {
            self.flush_page(with.now, with.writes);
        }
    }

    fn drop_body(&mut self, message: u64, writes: &mut WriteSet) {
        writes.delete_number(keys::message::FAMILY, message);
        if let Some(fragments) = self.long_bodies.remove(&message) {
            keys::fragment::delete_all(writes, fragments);
        }
    }

    /// With its message's record a forgotten delivery can no longer be implied by it.
    fn drop_marks(&self, message: u64, count: u16, writes: &mut WriteSet) {
        for number in message..message + u64::from(count) {
            if self.deliveries.get(number).is_none() {
                writes.delete(keys::delivery::key(number));
            }
        }
    }

    pub(super) fn flush_page(&mut self, now: Timestamp, writes: &mut WriteSet) {
        let rows = self.page.count();
        if rows == 0 {
            return;
        }
        self.page.write(writes, self.next_page);
        self.pages.push_back(Page { sequence: self.next_page, rows, newest: now });
        self.next_page += 1;
    }

    /// Forgets the oldest traces of earlier groups that are past the retention, a page at a time. With any batch rather
    /// than at a group's end, so that it need not be done between two flushes.
    pub(crate) fn forget_finished(&mut self, now: Timestamp, writes: &mut WriteSet) {
        let mut below = None;
        while let Some(page) = self.pages.front().copied() {
            let others = self.finished.len() as u64 - u64::from(page.rows).min(self.finished.len() as u64);
            let too_many = others >= self.retention.count;
            let too_old = now.since(page.newest) > self.retention.age;
            if !too_many && !too_old {
                break;
            }
            self.pages.pop_front();
            below = Some(page.sequence + 1);
            for row in 0..page.rows as usize {
                if row % TOUCHED_AHEAD == 0 {
                    let next = self.finished.iter().take(TOUCHED_AHEAD);
                    self.touch_ids(next.filter_map(|number| self.messages.get(*number)).map(|row| row.id));
                }
                if let Some(number) = self.finished.pop_front() {
                    self.forget_delivery(number, writes);
                }
            }
        }
        if let Some(below) = below {
            writes.delete_below(keys::finished::FAMILY, below);
        }
    }

    fn forget_delivery(&mut self, number: u64, writes: &mut WriteSet) {
        let Some(row) = self.deliveries.remove(number) else { return };
        self.forget_answer(number, writes);
        if let Some(port) = self.ports.get_mut(row.port as usize) {
            port.count(row.state, -1);
        }
        if row.has_history() {
            keys::attempt::delete_all(writes, number);
        }
        let message = number - u64::from(row.ordinal);
        let Some(of) = self.messages.get_mut(message) else { return };
        of.known = of.known.saturating_sub(1);
        let of = *of;
        if of.known == 0 {
            self.forget(message);
        }
        if of.live > 0 && !crate::mutant::is("forgotten-comes-back") {
            // Its message's record implies it: that it has ended must stay known for as long as that is there.
            let fixed = DeliveryHead {
                state: row.state,
                route: row.route(),
                attempts: row.attempts,
                attempts_on_route: row.attempts_on_route,
                due: Timestamp::EPOCH,
            };
            keys::delivery::write(writes, number, &fixed, &DeliveryRest::default());
        }
    }
}
