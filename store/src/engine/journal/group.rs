//! Encoding a group: one pass over its changes, into buffers that are kept from group to group.

use std::io::{self, IoSlice};

use crc32c::{crc32c, crc32c_append};

use super::disk::DiskFile;
use super::format::{
    ALIGNMENT, ENTRY_BYTES, EntryKind, GROUP_HEADER_BYTES, GroupHeader, GroupKind, GroupMark, TableEntry,
    group_bytes, segment_seed,
};
use crate::engine::{BODY_BYTES_MAX, HEAD_BYTES_MAX, Key, Write};
use crate::{Error, ErrorKind};

/// Bodies shorter than this are copied into the group's buffer; for longer ones the kernel is handed their own
/// memory, which costs less than the copy.
const COPIED_BYTES_MAX: usize = 8 * 1024;
/// A buffer that grew beyond this for one group is given back.
const KEPT_BYTES_MAX: usize = 8 * 1024 * 1024;

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
}

/// The buffers of the group being written.
#[derive(Debug, Default)]
pub(super) struct GroupBuffers {
    /// Header and table.
    front: Vec<u8>,
    heads: Vec<u8>,
    /// Short bodies, then padding and trailer.
    bodies: Vec<u8>,
}

impl GroupBuffers {
    /// Encodes the changes as a group of the size `size` and writes it to `file` in one piece.
    ///
    /// # Errors
    /// Any: some bytes from the front may have been written, the last ones were not.
    pub(super) fn write<'a>(
        &mut self,
        file: &dyn DiskFile,
        place: GroupPlace,
        size: GroupSize,
        changes: impl Iterator<Item = Change<'a>>,
    ) -> io::Result<()> {
        let long_bodies = self.encode(place, size, changes);
        let result = if long_bodies.is_empty() {
            let slices = &mut [&*self.front, &self.heads, &self.bodies].map(IoSlice::new);
            file.write_all_at(slices, place.at)
        } else {
            let mut slices = vec![IoSlice::new(&self.front), IoSlice::new(&self.heads)];
            let mut rest = &*self.bodies;
            let mut taken = 0;
            for (copied, body) in long_bodies {
                let (before, after) = rest.split_at_checked(copied - taken).unwrap_or((rest, &[]));
                slices.extend([IoSlice::new(before), IoSlice::new(body)]);
                (rest, taken) = (after, copied);
            }
            slices.push(IoSlice::new(rest));
            file.write_all_at(&mut slices, place.at)
        };
        for buffer in [&mut self.front, &mut self.heads, &mut self.bodies] {
            buffer.clear();
            buffer.shrink_to(KEPT_BYTES_MAX);
        }
        result
    }

    /// Fills the buffers and returns the bodies that were not copied, each with the length of what goes before it.
    fn encode<'a>(
        &mut self,
        place: GroupPlace,
        size: GroupSize,
        changes: impl Iterator<Item = Change<'a>>,
    ) -> Vec<(usize, &'a [u8])> {
        let seed = segment_seed(place.salt, u64::from(place.segment));
        let mut entry_at = place.at + GROUP_HEADER_BYTES as u64;
        // The segment's largest size and the longest group keep every offset within 32 bits.
        let mut head_at = entry_at as u32 + size.entries * ENTRY_BYTES as u32;
        let mut body_at = head_at + size.heads_bytes;
        let mut long_bodies = Vec::new();
        self.front.resize(GROUP_HEADER_BYTES, 0);
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
                    self.heads.extend_from_slice(head);
                    if body.len() < COPIED_BYTES_MAX {
                        self.bodies.extend_from_slice(body);
                    } else {
                        long_bodies.push((self.bodies.len(), body));
                    }
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
            self.front.extend_from_slice(&entry.encode(seed, entry_at));
            entry_at += ENTRY_BYTES as u64;
        }
        let (_, table) = self.front.split_at(GROUP_HEADER_BYTES);
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
        if let Some(front) = self.front.first_chunk_mut() {
            *front = header.encode(GroupMark::Header, place.at);
        }
        let content = u64::from(size.heads_bytes) + u64::from(size.bodies_bytes);
        let padding = content.next_multiple_of(ALIGNMENT) - content;
        self.bodies.extend(std::iter::repeat_n(0, padding as usize));
        self.bodies.extend_from_slice(&header.encode(GroupMark::Trailer, place.at));
        long_bodies
    }
}
