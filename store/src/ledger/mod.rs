//! The pure state machine: a batch, the state and the time go in, writes and refusals come out.
//!
//! No file, clock, thread or lock in here. The box applies the waiting batches to the [`Ledger`] one after another,
//! hands the writes to the engine as one group, and calls [`Ledger::publish`] once they are durable: only then can
//! what became ready be leased. The next group is applied meanwhile.
//!
//! ```text
//!            submit                lease              delete
//!   (none) ---------> Ready <--------------> Leased ----------> Done
//!      |                ^    release, expiry   |
//!      | not before     | due                  | resubmit     move to backup: Ready on the backup route
//!      +--------> Scheduled                    +------------> RetryWait ---> Ready
//!                                              | suspend
//!      Ready, Scheduled, RetryWait -- hold --> Suspended -- resume --> Ready on the primary route
//!      Ready, Scheduled, RetryWait, Suspended, InDoubt -- terminate --> Terminated
//!      Leased, Ready in doubt -- hold in doubt --> InDoubt -- settle doubt --> Done, Ready, Suspended
//! ```

mod answers;
mod applied;
mod apply;
mod decisions;
mod deliveries;
mod finish;
mod harm;
mod intents;
mod leases;
mod ports;
mod prepared;
mod queue;
mod recover;
mod settle;
mod table;
/// Lets a message be found by its id. `of` is what the table of ids belongs to: the messages, how ids are hashed, and a
/// number that none reaches.
fn find_by_id(
    ids: &mut HashTable<ShortNumber>,
    of: (&Table<MessageRow>, &DefaultHashBuilder, u64),
    number: u64,
    id: MessageId,
) {
    let (messages, hasher, next) = of;
    let hash = std::hash::BuildHasher::hash_one(hasher, id);
    let rehash = |short: &ShortNumber| {
        let id = messages.get(short.number(next)).map_or(MessageId::from_bytes([0; 16]), |row| row.id);
        std::hash::BuildHasher::hash_one(hasher, id)
    };
    ids.insert_unique(hash, ShortNumber::of(number), rehash);
}

#[cfg(test)]
mod tests;

use std::collections::VecDeque;

use hashbrown::{DefaultHashBuilder, HashMap, HashSet, HashTable};

use crate::message_box::keys;
use crate::{DeliveryId, DeliveryState, MessageId, PortName, Retention, Route, Timestamp};

use deliveries::Deliveries;
pub(crate) use leases::{Carried, Picked};
pub(crate) use ports::PortState;
pub(crate) use prepared::{Prepared, PreparedBody, PreparedOp};
pub(crate) use recover::{Harm, Recovery};
use table::Table;

/// A message with at least one delivery that is still known.
///
/// Packed, since there may be many millions: 38 bytes instead of 40.
#[derive(Debug, Clone, Copy)]
#[repr(C, packed(2))]
pub(crate) struct MessageRow {
    pub(crate) id: MessageId,
    pub(crate) submitted: Timestamp,
    pub(crate) body_len: u64,
    /// Deliveries without an outcome: its body stays while there is one.
    pub(crate) live: u16,
    /// Deliveries still known: its id stays while there is one.
    pub(crate) known: u16,
    /// Deliveries that it was submitted with; 0 where only traces are left.
    pub(crate) count: u16,
}

/// A delivery that is still known.
#[derive(Debug, Clone, Copy)]
pub(crate) struct DeliveryRow {
    /// When it is due, in microseconds; the page of its trace once it has ended.
    pub(crate) due: i64,
    pub(crate) attempts: u32,
    pub(crate) attempts_on_route: u32,
    pub(crate) port: u32,
    /// Its place among its message's deliveries: its number less this is the message's.
    pub(crate) ordinal: u16,
    pub(crate) state: DeliveryState,
    bits: u8,
}

impl DeliveryRow {
    /// It is on the backup route.
    const BACKUP: u8 = 1;
    /// A record of family 4 exists.
    const RECORD: u8 = 2;
    /// That record carries headers for the next attempt.
    const CARRIED: u8 = 4;
    /// Records of family 5 exist.
    const HISTORY: u8 = 8;

    fn new(port: u32, ordinal: u16, not_before: Timestamp) -> Self {
        Self {
            due: not_before.as_micros(),
            attempts: 0,
            attempts_on_route: 0,
            port,
            ordinal,
            state: if not_before > Timestamp::EPOCH {
                DeliveryState::Scheduled
            } else {
                DeliveryState::Ready
            },
            bits: 0,
        }
    }

    pub(crate) fn route(&self) -> Route {
        if self.has(Self::BACKUP) { Route::Backup } else { Route::Primary }
    }

    pub(crate) fn has_record(&self) -> bool {
        self.has(Self::RECORD)
    }

    pub(crate) fn has_history(&self) -> bool {
        self.has(Self::HISTORY)
    }

    /// Counts one more attempt.
    fn charge(&mut self) {
        self.attempts = self.attempts.saturating_add(1);
        self.attempts_on_route = self.attempts_on_route.saturating_add(1);
    }

    fn has(&self, bit: u8) -> bool {
        self.bits & bit != 0
    }

    fn set(&mut self, bit: u8, on: bool) {
        if on { self.bits |= bit } else { self.bits &= !bit }
    }
}

/// The low 48 bits of a number: known numbers are never that far apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct ShortNumber([u8; 6]);

impl ShortNumber {
    fn of(number: u64) -> Self {
        let [a, b, c, d, e, f, ..] = number.to_le_bytes();
        Self([a, b, c, d, e, f])
    }

    /// The number, where none is greater than `highest`.
    fn number(self, highest: u64) -> u64 {
        let [a, b, c, d, e, f] = self.0;
        let low = u64::from_le_bytes([a, b, c, d, e, f, 0, 0]);
        highest - (highest.wrapping_sub(low) & ((1 << 48) - 1))
    }
}

/// A page of traces.
#[derive(Debug, Clone, Copy)]
struct Page {
    sequence: u64,
    rows: u32,
    newest: Timestamp,
}

/// What a group changed that only counts once it is durable, or that is to be restored if it cannot be written.
#[derive(Debug, Default)]
struct Unpublished {
    /// Deliveries that it made ready or due later; not leasable before it is durable.
    fresh: Vec<u64>,
    /// Ports that it changed.
    touched: Vec<u32>,
    /// Leases that it settled.
    settled: Vec<(u64, leases::Held)>,
    /// Bodies that its messages took over.
    adopted: Vec<u64>,
}

/// The state of a box.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    /// The next free number of a delivery or body.
    next: u64,
    messages: Table<MessageRow>,
    deliveries: Deliveries,
    /// Message id -> message number; the ids themselves are in `messages`.
    ids: HashTable<ShortNumber>,
    hasher: DefaultHashBuilder,
    /// Message number -> number of its body's fragments, for long bodies only.
    long_bodies: HashMap<u64, u64>,
    /// Bodies that belong to no message yet.
    staged: HashSet<u64>,
    ports: Vec<PortState>,
    names: HashMap<PortName, u32>,
    /// The port last submitted to: the next message mostly goes there too.
    last_named: Option<(PortName, u32)>,
    next_token: u64,
    /// What the group being decided about changed.
    open: Unpublished,
    /// The same of groups that are on their way to the disk, oldest first.
    sealed: VecDeque<Unpublished>,
    /// To be used again, for its memory.
    spare: Unpublished,
    /// The ports of the message being submitted; kept for its memory.
    port_numbers: Vec<u32>,
    /// Traces of this group that are not written yet.
    page: keys::finished::Page,
    next_page: u64,
    finished: VecDeque<u64>,
    pages: VecDeque<Page>,
    retention: Retention,
    answers: answers::Answers,
    decisions: decisions::Kept,
    intents: intents::Intents,
    applied: applied::Applied,
}

impl Ledger {
    pub(crate) fn number_of(&self, id: MessageId) -> Option<u64> {
        let hash = std::hash::BuildHasher::hash_one(&self.hasher, id);
        let same =
            |short: &ShortNumber| self.messages.get(short.number(self.next)).is_some_and(|row| row.id == id);
        self.ids.find(hash, same).map(|short| short.number(self.next))
    }

    /// Has the processor fetch what finding these takes. It waits for all of them together, where looking for one after
    /// the other waits for each: the table is large, and where an id is in it is random.
    fn touch_ids(&self, ids: impl Iterator<Item = MessageId>) {
        let hashes = ids.map(|id| std::hash::BuildHasher::hash_one(&self.hasher, id));
        let found = hashes.filter_map(|hash| self.ids.find(hash, |_likely| true));
        std::hint::black_box(found.fold(0, |read, ShortNumber([byte, ..])| read ^ byte));
    }

    pub(crate) fn message(&self, number: u64) -> Option<&MessageRow> {
        self.messages.get(number)
    }

    pub(crate) fn delivery(&self, id: DeliveryId) -> Option<DeliveryRow> {
        self.deliveries.get(id.number())
    }

    /// Every known delivery with a number of at least `from`, in order.
    pub(crate) fn deliveries_from(&self, from: u64) -> impl Iterator<Item = (u64, DeliveryRow)> {
        self.deliveries.range(from)
    }

    pub(crate) fn ports(&self) -> &[PortState] {
        &self.ports
    }

    pub(crate) fn port(&self, number: u32) -> Option<&PortState> {
        self.ports.get(number as usize)
    }

    pub(crate) fn port_number(&self, name: &PortName) -> Option<u32> {
        match &self.last_named {
            Some((last, number)) if last == name => Some(*number),
            _ => self.names.get(name).copied(),
        }
    }

    /// Where the fragments of a message's body are; `None` where the body is in the message's own record.
    pub(crate) fn fragments_of(&self, message: u64) -> Option<u64> {
        self.long_bodies.get(&message).copied()
    }

    /// A number for a body that is put in ahead of its message.
    pub(crate) fn begin_staging(&mut self) -> u64 {
        let number = self.next;
        self.next += 1;
        self.staged.insert(number);
        number
    }

    /// The group is on its way to the disk; what is applied from now on belongs to the next one.
    pub(crate) fn seal(&mut self) {
        for port in &self.open.touched {
            if let Some(port) = self.ports.get_mut(*port as usize) {
                port.touched = false;
            }
        }
        let next = std::mem::take(&mut self.spare);
        self.sealed.push_back(std::mem::replace(&mut self.open, next));
    }

    /// The oldest sealed group is durable: what became ready can be leased. Gives the ports that changed, for waking
    /// those who wait on them.
    pub(crate) fn publish(&mut self) -> Vec<u32> {
        let Some(mut group) = self.sealed.pop_front() else { return Vec::new() };
        for number in group.fresh.drain(..) {
            let Some(row) = self.deliveries.get(number) else { continue };
            let Some(port) = self.ports.get_mut(row.port as usize) else { continue };
            port.enqueue(number, &row);
        }
        group.settled.clear();
        group.adopted.clear();
        let touched = std::mem::take(&mut group.touched);
        self.spare = group;
        touched
    }

    /// Every group that is not published yet.
    fn unpublished(&self) -> impl Iterator<Item = &Unpublished> {
        self.sealed.iter().chain([&self.open])
    }

    /// Takes over what `before` knows of bodies that belong to no message yet: their fragments are written.
    pub(crate) fn keep_staging(&mut self, before: &Self) {
        self.staged.clone_from(&before.staged);
        self.staged.extend(before.unpublished().flat_map(|group| &group.adopted).copied());
        self.next = self.next.max(before.next);
    }

    /// Every lease that was held before the groups that are being given up.
    pub(crate) fn held_leases(&self) -> Vec<(u64, leases::Held)> {
        let held = self.ports.iter().flat_map(PortState::held);
        held.chain(self.unpublished().flat_map(|group| &group.settled).copied()).collect()
    }

    fn touch(&mut self, port: u32) {
        if let Some(state) = self.ports.get_mut(port as usize)
            && !state.touched
        {
            state.touched = true;
            self.open.touched.push(port);
        }
    }

    fn know(&mut self, number: u64, row: MessageRow) {
        self.messages.insert(number, row);
        find_by_id(&mut self.ids, (&self.messages, &self.hasher, self.next), number, row.id);
    }

    /// Makes every message's id known that is not, after all of them were put in: into room for all of them, since
    /// growing step by step takes longer than everything else.
    fn know_all(&mut self) {
        self.ids = HashTable::with_capacity(self.messages.len());
        for (number, row) in self.messages.range(0) {
            find_by_id(&mut self.ids, (&self.messages, &self.hasher, self.next), number, row.id);
        }
    }

    fn forget(&mut self, number: u64) {
        let Some(row) = self.messages.remove(number) else { return };
        let id = row.id;
        let hash = std::hash::BuildHasher::hash_one(&self.hasher, id);
        if let Ok(entry) = self.ids.find_entry(hash, |have| *have == ShortNumber::of(number)) {
            let _removed = entry.remove();
        }
    }
}
