//! The newest messages, kept in memory: most are leased right after they were submitted, and need not be read back then.

use std::collections::VecDeque;
use std::ops::Range;

use bytes::Bytes;

use super::keys;
use crate::engine::{Kept, Record, Write, WriteSet};

/// Longer bodies are not copied to be kept: beside that a read costs little.
const BODY_BYTES_MAX: usize = 8 * 1024;
/// What is kept at most, with what finding it takes.
const BYTES_MAX: usize = 16 * 1024 * 1024;

/// One message of a group.
#[derive(Debug)]
struct Entry {
    number: u64,
    head: Range<usize>,
    body: Range<usize>,
}

/// The messages of one group, in order of number, in memory of the engine's or of their own: a body as it was submitted
/// may be a small part of something large that would otherwise stay in memory.
#[derive(Debug)]
pub(super) struct Group {
    heads: Bytes,
    bodies: Bytes,
    /// Bytes of memory that these hold.
    room: usize,
    entries: Vec<Entry>,
    /// How many of these have not gone yet.
    live: usize,
}

impl Group {
    /// The messages that a group puts in, in the memory that the engine has them in, or else copies of the short ones.
    pub(super) fn of(writes: &WriteSet, kept: Option<Kept>) -> Option<Self> {
        kept.map_or_else(|| Self::copied(writes), |kept| Self::kept(writes, kept))
    }

    fn kept(writes: &WriteSet, kept: Kept) -> Option<Self> {
        if kept.room > BYTES_MAX {
            return None;
        }
        let mut entries = Vec::with_capacity(writes.len());
        let (mut heads, mut bodies) = (0, 0);
        for write in writes.iter() {
            let Write::Put { key, head, body } = write else { continue };
            let entry = Entry {
                number: key.number,
                head: heads..heads + head.len(),
                body: bodies..bodies + body.len(),
            };
            (heads, bodies) = (entry.head.end, entry.body.end);
            if key.family == keys::message::FAMILY {
                entries.push(entry);
            }
        }
        (!entries.is_empty()).then_some(Self {
            heads: kept.heads,
            bodies: kept.bodies,
            room: kept.room,
            live: entries.len(),
            entries,
        })
    }

    fn copied(writes: &WriteSet) -> Option<Self> {
        let short = || {
            writes.iter().filter_map(|write| match write {
                Write::Put { key, head, body }
                    if key.family == keys::message::FAMILY && body.len() <= BODY_BYTES_MAX =>
                {
                    Some((key.number, head, body))
                }
                _ => None,
            })
        };
        let sum = |(count, heads, bodies): (usize, usize, usize), (_, head, body): (u64, &[u8], &Bytes)| {
            (count + 1, heads + head.len(), bodies + body.len())
        };
        let (count, head_bytes, body_bytes) = short().fold((0, 0, 0), sum);
        let room = head_bytes + body_bytes;
        if count == 0 || room > BYTES_MAX {
            return None;
        }
        let (mut heads, mut bodies) = (Vec::with_capacity(head_bytes), Vec::with_capacity(body_bytes));
        let mut entries = Vec::with_capacity(count);
        for (number, head, body) in short() {
            let (head_from, body_from) = (heads.len(), bodies.len());
            heads.extend_from_slice(head);
            bodies.extend_from_slice(body);
            entries.push(Entry { number, head: head_from..heads.len(), body: body_from..bodies.len() });
        }
        Some(Self { heads: heads.into(), bodies: bodies.into(), room, live: entries.len(), entries })
    }

    fn cost(&self) -> usize {
        self.room + self.entries.len() * size_of::<Entry>() + size_of::<Self>()
    }

    fn last(&self) -> u64 {
        self.entries.last().map_or(0, |entry| entry.number)
    }
}

/// The groups, oldest first.
#[derive(Debug, Default)]
pub(super) struct Recent {
    groups: VecDeque<Group>,
    bytes: usize,
}

impl Recent {
    /// Keeps the messages of a durable group. What no longer fits goes, oldest first.
    pub(super) fn keep(&mut self, group: Group) {
        self.bytes += group.cost();
        self.groups.push_back(group);
        while self.bytes > BYTES_MAX {
            let Some(oldest) = self.groups.pop_front() else { return };
            self.bytes -= oldest.cost();
        }
    }

    /// Gives up what a durable group has deleted. Memory that comes back early is still in the processor's caches when the
    /// next group is encoded into it.
    pub(super) fn forget(&mut self, writes: &WriteSet) {
        for write in writes.iter() {
            if let Write::DeleteNumbers { family: keys::message::FAMILY, first, count } = write {
                self.forget_numbers(first..first.saturating_add(count.into()));
            }
        }
    }

    fn forget_numbers(&mut self, numbers: Range<u64>) {
        let mut at = self.groups.partition_point(|group| group.last() < numbers.start);
        while let Some(group) = self.groups.get_mut(at) {
            let below = |bound: u64| group.entries.partition_point(|entry| entry.number < bound);
            let gone = below(numbers.end) - below(numbers.start);
            if gone == 0 {
                return;
            }
            group.live = group.live.saturating_sub(gone);
            if group.live > 0 {
                at += 1;
            } else if let Some(group) = self.groups.remove(at) {
                self.bytes -= group.cost();
            }
        }
    }

    /// The records of messages, where they are kept.
    pub(super) fn get(&self, numbers: impl Iterator<Item = u64>) -> Vec<Option<Record>> {
        // Mostly one is right behind the one before.
        let mut near: Option<(&Group, usize)> = None;
        let mut find = |number: u64| {
            let next = near.and_then(|(group, at)| Some((group, at + 1, group.entries.get(at + 1)?)));
            let (group, at) = match next {
                Some((group, at, entry)) if entry.number == number => (group, at),
                _ => {
                    let place = self.groups.partition_point(|group| group.last() < number);
                    let group = self.groups.get(place)?;
                    (group, group.entries.binary_search_by_key(&number, |entry| entry.number).ok()?)
                }
            };
            near = Some((group, at));
            let Entry { head, body, .. } = group.entries.get(at)?;
            Some(Record { head: group.heads.slice(head.clone()), body: group.bodies.slice(body.clone()) })
        };
        numbers.map(&mut find).collect()
    }
}

#[cfg(test)]
mod tests;
