//! Attempts that are under way, and those of which nobody knows how they ended.
//!
//! An intent names the deliveries that were about to be sent together. What has ended, or whose attempt did, leaves it.
//! What is in one when the box is opened is in doubt.

use std::collections::{BTreeMap, BTreeSet};

use super::apply::Applying;
use super::recover::Recovery;
use super::{DeliveryRow, Ledger};
use crate::engine::{Key, WriteSet};
use crate::message_box::keys;
use crate::message_box::keys::intent::Attempted;
use crate::{DeliveryId, DeliveryState, Doubt, DoubtVerdict, Error, Lease, Refusal};

/// Beside a number that has left its intent.
const GONE: u64 = 1 << 63;

/// Deliveries that were about to be sent together.
#[derive(Debug)]
struct Intent {
    attempted: Attempted,
    /// In rising order, but for [`GONE`].
    members: Vec<u64>,
    live: usize,
}

/// What is known of attempts whose outcome is not recorded.
#[derive(Debug, Default)]
pub(super) struct Intents {
    known: BTreeMap<u64, Intent>,
    /// The number of the latest one; the first is 1.
    latest: u64,
    /// Those of the batch that is being applied, all sent in the same manner.
    collecting: Vec<u64>,
    /// Whether that is in transactions.
    transacted: bool,
    /// Intents whose record is not as it should be.
    stale: BTreeSet<u64>,
    doubts: BTreeMap<u64, Doubt>,
    /// Deliveries whose record of a doubt is not as it should be.
    unwritten: BTreeSet<u64>,
    /// Nothing comes after the next group.
    is_urgent: bool,
}

impl Intents {
    /// A delivery leaves its intent.
    fn leave(&mut self, intent: u64, delivery: u64, has_ended: bool) -> Option<Attempted> {
        let of = self.known.get_mut(&intent)?;
        let place = of.members.binary_search_by_key(&delivery, |member| member & !GONE).ok()?;
        let member = of.members.get_mut(place).filter(|member| **member & GONE == 0)?;
        *member |= GONE;
        of.live -= 1;
        // What has ended may stay in the record: nothing is in doubt that is over.
        if of.live == 0 || !has_ended {
            self.stale.insert(intent);
        }
        Some(of.attempted)
    }

    fn doubt(&mut self, delivery: u64, attempted: Attempted, crashes: u32) {
        let before = self.doubts.get(&delivery);
        // Whatever somebody has decided since: what may have landed may still be there.
        let may_have_landed = before.is_some_and(|doubt| !doubt.transacted);
        let doubt = Doubt {
            crashes: before.map_or(0, |doubt| doubt.crashes).saturating_add(crashes),
            begun: attempted.begun,
            resend: false,
            transacted: attempted.transacted && !may_have_landed,
        };
        self.doubts.insert(delivery, doubt);
        self.unwritten.insert(delivery);
    }

    pub(super) fn doubt_of(&self, delivery: u64) -> Option<Doubt> {
        if self.doubts.is_empty() { None } else { self.doubts.get(&delivery).copied() }
    }

    /// The intent, where it is there and names the delivery; else 0.
    pub(super) fn still_names(&self, intent: u64, delivery: u64) -> u64 {
        let of = self.known.get(&intent);
        if of.is_some_and(|of| of.members.binary_search(&delivery).is_ok()) { intent } else { 0 }
    }

    fn clear(&mut self, delivery: u64) {
        if !self.doubts.is_empty() && self.doubts.remove(&delivery).is_some() {
            self.unwritten.insert(delivery);
        }
    }
}

impl Ledger {
    /// The delivery is about to be sent. The record is written at the batch's end, or before the next one where it is full or
    /// of the other manner.
    pub(super) fn intend(
        &mut self,
        lease: &Lease,
        transacted: bool,
        with: &mut Applying<'_>,
    ) -> Result<(), Refusal> {
        let row = self.owned(lease)?;
        let is_full = self.intents.collecting.len() >= keys::intent::DELIVERIES_MAX;
        if is_full || self.intents.transacted != transacted {
            self.write_intent(with);
            self.intents.transacted = transacted;
        }
        let number = lease.delivery.number();
        let intent = self.intents.latest + 1;
        let held = self.ports.get_mut(row.port as usize).map(|port| port.lane(row.route()));
        let held = held.and_then(|lane| lane.leases.get_mut(&number));
        if let Some(held) = held.filter(|held| held.intent == 0) {
            held.intent = intent;
            self.intents.collecting.push(number);
        }
        Ok(())
    }

    /// Writes what [`Ledger::intend`] has collected.
    pub(super) fn write_intent(&mut self, with: &mut Applying<'_>) {
        let intents = &mut self.intents;
        if intents.collecting.is_empty() {
            return;
        }
        intents.latest += 1;
        let mut members = std::mem::take(&mut intents.collecting);
        members.sort_unstable();
        let attempted = Attempted { begun: with.now, transacted: intents.transacted };
        keys::intent::write(with.writes, intents.latest, attempted, members.iter().copied());
        let live = members.len();
        intents.known.insert(intents.latest, Intent { attempted, members, live });
    }

    /// An attempt that was intended has an outcome, or was not made.
    pub(super) fn attempt_is_over(&mut self, delivery: u64, intent: u64, has_ended: bool) {
        if intent != 0 {
            self.intents.leave(intent, delivery, has_ended);
        }
    }

    /// Whoever made an attempt that was intended never said how it ended.
    pub(super) fn attempt_is_lost(&mut self, delivery: u64, intent: u64) {
        if intent != 0
            && let Some(attempted) = self.intents.leave(intent, delivery, false)
        {
            self.intents.doubt(delivery, attempted, 0);
        }
    }

    /// An outcome is recorded.
    pub(super) fn is_sure(&mut self, delivery: u64) {
        self.intents.clear(delivery);
    }

    pub(crate) fn doubt(&self, delivery: u64) -> Option<Doubt> {
        self.intents.doubt_of(delivery)
    }

    /// Deliveries in doubt with a number of at least `from`, in order.
    pub(crate) fn doubtful(&self, from: u64) -> impl Iterator<Item = u64> {
        self.intents.doubts.range(from..).map(|(number, _)| *number)
    }

    /// Whether something about attempts is to be written that no batch brought.
    pub(crate) fn has_unwritten_intents(&self) -> bool {
        !self.intents.stale.is_empty() || !self.intents.unwritten.is_empty()
    }

    /// The next group brings the records up to date though it has nothing else to write.
    pub(crate) fn write_intents_down(&mut self) {
        self.intents.is_urgent = true;
    }

    /// Brings the records up to date, with a group that has something to write in any case: a box whose disk is full opens
    /// as long as nothing is asked of it that takes room.
    pub(super) fn flush_intents(&mut self, writes: &mut WriteSet) {
        let intents = &mut self.intents;
        if writes.is_empty() && !std::mem::take(&mut intents.is_urgent) {
            return;
        }
        for number in std::mem::take(&mut intents.stale) {
            match intents.known.get(&number) {
                Some(intent) if intent.live > 0 => {
                    let members = intent.members.iter().copied().filter(|member| member & GONE == 0);
                    keys::intent::write(writes, number, intent.attempted, members);
                }
                _ => {
                    intents.known.remove(&number);
                    writes.delete(keys::intent::key(number));
                }
            }
        }
        for delivery in std::mem::take(&mut intents.unwritten) {
            match intents.doubts.get(&delivery) {
                Some(doubt) => keys::doubt::write(writes, delivery, doubt),
                None => writes.delete(keys::doubt::key(delivery)),
            }
        }
    }

    /// What is intended and not leased was cut off: by a crash, where the box was just opened.
    pub(crate) fn cut_off(&mut self, crashes: u32) {
        let Self { intents, deliveries, .. } = self;
        let mut cut = Vec::new();
        for (intent, of) in &intents.known {
            let members = of.members.iter().copied().filter(|member| member & GONE == 0);
            cut.extend(members.map(|member| (*intent, member, of.attempted)));
        }
        for (intent, delivery, attempted) in cut {
            let state = deliveries.get(delivery).map(|row| row.state);
            let has_ended = state.is_none_or(DeliveryState::is_terminal);
            if state == Some(DeliveryState::Leased) {
                continue;
            }
            intents.leave(intent, delivery, has_ended);
            if !has_ended && !crate::mutant::is("crash-leaves-no-doubt") {
                intents.doubt(delivery, attempted, crashes);
            }
        }
        let empty = intents.known.iter().filter(|(_, intent)| intent.live == 0).map(|(number, _)| *number);
        intents.stale.extend(empty.collect::<Vec<_>>());
    }

    /// Parks a delivery in doubt whose lease is held, until somebody settles it.
    pub(super) fn hold_in_doubt(&mut self, lease: &Lease, with: &mut Applying<'_>) -> Result<(), Refusal> {
        self.check_hold_in_doubt(lease)?;
        let number = lease.delivery.number();
        let row = self.owned(lease)?;
        self.settle_lease(number, &row, false);
        self.park(number, DeliveryState::InDoubt, with);
        Ok(())
    }

    pub(super) fn check_hold_in_doubt(&self, lease: &Lease) -> Result<(), Refusal> {
        self.owned(lease)?;
        self.doubt(lease.delivery.number()).map(|_doubt| ()).ok_or(Refusal::NotInDoubt)
    }

    pub(super) fn check_doubt(&self, delivery: DeliveryId) -> Result<DeliveryRow, Refusal> {
        let row = self.delivery(delivery).ok_or(Refusal::NoSuchDelivery)?;
        if row.state == DeliveryState::Leased {
            return Err(Refusal::WrongState { state: row.state });
        }
        self.doubt(delivery.number()).map(|_doubt| row).ok_or(Refusal::NotInDoubt)
    }

    fn park(&mut self, delivery: u64, state: DeliveryState, with: &mut Applying<'_>) {
        self.set_state(delivery, state, |row| {
            row.due = 0;
            row.set(DeliveryRow::CARRIED, false);
        });
        self.record(delivery, Some("nobody knows whether it was sent"), None, with);
    }

    /// Somebody knows, or decides, what becomes of a delivery in doubt.
    pub(super) fn settle_doubt(
        &mut self,
        delivery: DeliveryId,
        verdict: DoubtVerdict,
        with: &mut Applying<'_>,
    ) -> Result<(), Refusal> {
        let row = self.check_doubt(delivery)?;
        let number = delivery.number();
        self.leave_queue(number, &row);
        match verdict {
            DoubtVerdict::Landed => {
                self.finish(
                    number,
                    DeliveryState::Done,
                    None,
                    "settled by hand: the destination has it",
                    with,
                );
            }
            DoubtVerdict::Suspend => {
                self.park(number, DeliveryState::Suspended, with);
            }
            DoubtVerdict::Resend => {
                self.set_state(number, DeliveryState::Ready, |row| {
                    row.due = 0;
                    row.set(DeliveryRow::CARRIED, false);
                });
                self.record(number, None, None, with);
                self.resend(number);
                self.open.fresh.push(number);
            }
        }
        Ok(())
    }

    /// Somebody has decided that it is sent again, whatever became of it before.
    pub(super) fn resend(&mut self, delivery: u64) {
        if let Some(doubt) = self.intents.doubts.get_mut(&delivery) {
            (doubt.resend, doubt.crashes) = (true, 0);
            self.intents.unwritten.insert(delivery);
        }
    }
}

/// Records of attempts, until every record was given.
#[derive(Debug, Default)]
pub(super) struct FoundIntents {
    intents: Vec<(u64, Attempted, Vec<u64>)>,
    doubts: Vec<(u64, Doubt)>,
}

impl FoundIntents {
    pub(super) fn visit(&mut self, key: Key, head: &[u8]) -> Result<(), Error> {
        if key.family == keys::doubt::FAMILY {
            self.doubts.push((key.number, keys::doubt::read(head)?));
        } else {
            let (attempted, members) = keys::intent::read(head)?;
            self.intents.push((key.number, attempted, members));
        }
        Ok(())
    }
}

impl Recovery {
    /// Keeps what was found of deliveries that have not ended.
    pub(super) fn finish_intents(&mut self, orphans: &mut Vec<Key>) {
        let found = std::mem::take(&mut self.intents);
        let Ledger { intents, deliveries, .. } = &mut self.ledger;
        for (number, doubt) in found.doubts {
            if deliveries.get(number).is_some_and(|row| !row.state.is_terminal()) {
                intents.doubts.insert(number, doubt);
            } else {
                orphans.push(keys::doubt::key(number));
            }
        }
        for (number, attempted, members) in found.intents {
            intents.latest = intents.latest.max(number);
            let live = members.len();
            intents.known.insert(number, Intent { attempted, members, live });
        }
    }
}
