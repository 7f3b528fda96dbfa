//! Encoding a group: one pass over its changes, into one piece of memory that goes to the disk as it is.

use std::ops::Range;

use bytes::Bytes;
use crc32c::{crc32c, crc32c_append};

use super::format::{
    ENTRY_BYTES, EntryKind, GROUP_BYTES_MAX, GROUP_HEADER_BYTES, GroupHeader, GroupKind, GroupMark,
    TableEntry, group_bytes, segment_seed,
};
use super::pool::Pool;
use crate::engine::{BODY_BYTES_MAX, HEAD_BYTES_MAX, Kept, Key, Write};
use crate::{Error, ErrorKind};

/// One change of a group.
#[derive(Debug, Clone, Copy)]
pub(super) enum Change<'a> {
    /// Store a record.
    Put {
        key: Key,
        head: &'a [u8],
        body: &'a [u8],
        /// The head is damaged, and kept for what can be made of it.
        is_head_damaged: bool,
        /// The same of the body.
        is_body_damaged: bool,
    },
    /// Remove a record.
    Delete { key: Key },
    /// Remove the records of a family that have one of `count` numbers from `first` on.
    DeleteNumbers { family: u8, first: u64, count: u32 },
    /// Remove the records of a family with a number below `number`.
    DeleteBelow { family: u8, number: u64 },
}

impl<'a> From<Write<'a>> for Change<'a> {
    fn from(write: Write<'a>) -> Self {
        match write {
            Write::Put { key, head, body } => {
                Self::Put { key, head, body, is_head_damaged: false, is_body_damaged: false }
            }
            Write::Delete { key } => Self::Delete { key },
            Write::DeleteNumbers { family, first, count } => Self::DeleteNumbers { family, first, count },
            Write::DeleteBelow { family, number } => Self::DeleteBelow { family, number },
        }
    }
}

/// How large a group will be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct GroupSize {
    entries: u32,
    heads_bytes: u32,
    bodies_bytes: u32,
    /// All of it.
    pub(super) group_bytes: u64,
}

impl GroupSize {
    /// The same with so many zeros before the trailer that a group that begins at `at` ends where a block does. `None`
    /// where that is longer than allowed.
    pub(super) fn to_block_end(self, at: u64, block_bytes: usize) -> Option<Self> {
        let end = at.checked_add(self.group_bytes)?.checked_next_multiple_of(block_bytes as u64)?;
        let group_bytes = end - at;
        (group_bytes <= GROUP_BYTES_MAX).then_some(Self { group_bytes, ..self })
    }

    /// The size of a group of these changes.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`]: a head, a body or the group is longer than allowed.
    pub(super) fn of<'a>(changes: impl Iterator<Item = Change<'a>>) -> Result<Self, Error> {
        let (mut entries, mut heads, mut bodies) = (0_u64, 0_u64, 0_u64);
        for change in changes {
            entries += 1;
            if let Change::Put { key, head, body, .. } = change {
                if head.len() > HEAD_BYTES_MAX || body.len() > BODY_BYTES_MAX {
                    return Err(Error::new(ErrorKind::Invalid, "store a record longer than allowed")
                        .with("key", format_args!("{key:?}"))
                        .with("head_bytes", head.len())
                        .with("body_bytes", body.len()));
                }
                heads += head.len() as u64;
                bodies += body.len() as u64;
            }
        }
        let too_long = || {
            Error::new(ErrorKind::Invalid, "write a group longer than allowed")
                .with("entries", entries)
                .with("bytes", heads + bodies)
        };
        let group_bytes = group_bytes(entries, heads, bodies).ok_or_else(too_long)?;
        let narrow = |value: u64| u32::try_from(value).map_err(|_| too_long());
        Ok(Self {
            entries: narrow(entries)?,
            heads_bytes: narrow(heads)?,
            bodies_bytes: narrow(bodies)?,
            group_bytes,
        })
    }
}

/// Where a group goes and what it is called.
#[derive(Debug, Clone, Copy)]
pub(super) struct GroupPlace {
    pub(super) salt: u64,
    pub(super) segment: u32,
    pub(super) at: u64,
    pub(super) record: u64,
    pub(super) flushed_below: u64,
    pub(super) kind: GroupKind,
    /// It begins in memory at a multiple of this.
    pub(super) aligned_to: usize,
}

/// A group as it goes to the disk.
#[derive(Debug)]
pub(super) struct Encoded {
    bytes: Bytes,
    heads: Range<usize>,
    bodies: Range<usize>,
    room: usize,
}

impl Encoded {
    /// The bytes of a group of these changes, of the size `size`, in memory of `pool`'s.
    pub(super) fn new<'a>(
        pool: &Pool,
        place: GroupPlace,
        size: GroupSize,
        changes: impl Iterator<Item = Change<'a>>,
    ) -> Self {
        let mut buffer = pool.take(size.group_bytes as usize, place.aligned_to);
        let room = buffer.room();
        encode(buffer.bytes_mut(), place, size, changes);
        let heads = GROUP_HEADER_BYTES + size.entries as usize * ENTRY_BYTES;
        let bodies = heads + size.heads_bytes as usize;
        Self {
            bytes: buffer.freeze(),
            heads: heads..bodies,
            bodies: bodies..bodies + size.bodies_bytes as usize,
            room,
        }
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The heads and bodies in it, for who reads them soon.
    pub(super) fn into_kept(self) -> Kept {
        Kept { heads: self.bytes.slice(self.heads), bodies: self.bytes.slice(self.bodies), room: self.room }
    }
}

/// Bytes that are put one after the other.
struct Out<'a>(&'a mut [u8]);

impl<'a> Out<'a> {
    /// The next `bytes` of the room, as room of its own.
    fn part(&mut self, bytes: usize) -> Out<'a> {
        let room = std::mem::take(&mut self.0);
        let (part, rest) = room.split_at_mut_checked(bytes).unwrap_or_default();
        self.0 = rest;
        Out(part)
    }

    fn put(&mut self, bytes: &[u8]) {
        let part = self.part(bytes.len()).0;
        if part.len() == bytes.len() {
            part.copy_from_slice(bytes);
        }
    }
}

/// Fills `group` with a group of these changes.
fn encode<'a>(
    group: &mut [u8],
    place: GroupPlace,
    size: GroupSize,
    changes: impl Iterator<Item = Change<'a>>,
) {
    let seed = segment_seed(place.salt, u64::from(place.segment));
    let mut entry_at = place.at + GROUP_HEADER_BYTES as u64;
    // The segment's largest size and the longest group keep every offset within 32 bits.
    let mut head_at = entry_at as u32 + size.entries * ENTRY_BYTES as u32;
    let mut body_at = head_at + size.heads_bytes;
    let mut out = Out(group);
    let mut front = out.part(GROUP_HEADER_BYTES);
    let table = out.part(size.entries as usize * ENTRY_BYTES).0;
    let mut entries = Out(&mut *table);
    let mut heads = out.part(size.heads_bytes as usize);
    let mut bodies = out.part(size.bodies_bytes as usize);
    for change in changes {
        let entry = match change {
            Change::Put { key, head, body, is_head_damaged, is_body_damaged } => {
                let entry = TableEntry {
                    kind: EntryKind::Put,
                    is_head_damaged,
                    is_body_damaged,
                    key,
                    head_at,
                    head_bytes: head.len() as u32,
                    body_at,
                    body_bytes: body.len() as u32,
                    head_crc: crc32c_append(seed, head),
                    body_crc: crc32c_append(seed, body),
                };
                heads.put(head);
                bodies.put(body);
                head_at += entry.head_bytes;
                body_at += entry.body_bytes;
                entry
            }
            Change::Delete { key } => TableEntry::removal(EntryKind::Delete, key),
            Change::DeleteNumbers { family, first, count } => {
                TableEntry::removal(EntryKind::DeleteNumbers, Key::new(family, first, count))
            }
            Change::DeleteBelow { family, number } => {
                TableEntry::removal(EntryKind::DeleteBelow, Key::new(family, number, 0))
            }
        };
        entries.put(&entry.encode(seed, entry_at));
        entry_at += ENTRY_BYTES as u64;
    }
    let header = GroupHeader {
        salt: place.salt,
        segment: u64::from(place.segment),
        record: place.record,
        flushed_below: place.flushed_below,
        group_bytes: size.group_bytes as u32,
        entries: size.entries,
        heads_bytes: size.heads_bytes,
        kind: place.kind,
        table_crc: crc32c(table),
    };
    front.put(&header.encode(GroupMark::Header, place.at));
    out.part(out.0.len().saturating_sub(GROUP_HEADER_BYTES)).0.fill(0);
    out.put(&header.encode(GroupMark::Trailer, place.at));
}
