//! The journal's bytes: what a segment, a group and a table entry look like on the disk.
//!
//! `docs/journal-format.md` draws them; the golden bytes in `format/tests.rs` hold them. Every number is little
//! endian. Checksums are CRC32C and cover, beside the bytes themselves, where they belong (salt, segment, offset),
//! so that what an earlier use of the file or a misdirected write left behind never counts.

#![warn(clippy::indexing_slicing)]

use std::ops::Range;

use crc32c::crc32c_append;

use crate::engine::{BODY_BYTES_MAX, HEAD_BYTES_MAX, Key};

#[cfg(test)]
mod tests;

/// No segment and no group has such a number. A journal that went on from one would soon have none left, so a mark that
/// names it is damage, whatever its checksum says.
const NUMBER_MAX: u64 = 1 << 62;
/// The version that this code writes, and the only one it reads.
pub(super) const FORMAT_VERSION: u32 = 1;
/// Bytes of one copy of the segment header.
pub(super) const SEGMENT_HEADER_BYTES: usize = 64;
/// Where the first group of a segment begins: after two copies of the segment header.
pub(super) const SEGMENT_START: u64 = 2 * SEGMENT_HEADER_BYTES as u64;
/// Bytes of a group's header, and of its trailer.
pub(super) const GROUP_HEADER_BYTES: usize = 64;
/// Bytes of a table entry.
pub(super) const ENTRY_BYTES: usize = 48;
/// Groups begin and end at multiples of this.
pub(super) const ALIGNMENT: u64 = 16;
/// The longest group, with all that belongs to it.
pub(super) const GROUP_BYTES_MAX: u64 = 1 << 30;
/// The largest soft size of a segment. With [`GROUP_BYTES_MAX`] it keeps every offset within 32 bits.
pub(super) const SEGMENT_BYTES_MAX: u64 = 1 << 30;
/// No segment's groups end behind this.
pub(super) const SEGMENT_END_MAX: u64 = SEGMENT_BYTES_MAX + GROUP_BYTES_MAX;
/// The smallest soft size of a segment.
pub(super) const SEGMENT_BYTES_MIN: u64 = 64 * 1024;

const SEGMENT_MAGIC: u64 = u64::from_le_bytes(*b"PBXSEGMT");
const GROUP_MAGIC: u64 = u64::from_le_bytes(*b"PBXGROUP");
const TRAILER_MAGIC: u64 = u64::from_le_bytes(*b"PBXTRAIL");

const FLAG_HEAD_DAMAGED: u8 = 1;
const FLAG_BODY_DAMAGED: u8 = 2;

/// Reads fixed fields one after the other; `None` where the bytes end.
struct Fields<'a>(&'a [u8]);

impl Fields<'_> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (field, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*field)
    }

    fn u8(&mut self) -> Option<u8> {
        self.take::<1>().map(|[byte]| byte)
    }

    fn u32(&mut self) -> Option<u32> {
        self.take().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Option<u64> {
        self.take().map(u64::from_le_bytes)
    }
}

/// Writes fixed fields one after the other into an array that holds them all.
struct FieldsOut<'a>(&'a mut [u8]);

impl FieldsOut<'_> {
    fn put(&mut self, field: &[u8]) {
        let room = std::mem::take(&mut self.0);
        if let Some((front, rest)) = room.split_at_mut_checked(field.len()) {
            front.copy_from_slice(field);
            self.0 = rest;
        }
    }
}

/// What stands at the front of a segment, twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct SegmentHeader {
    /// Differs from journal to journal.
    pub(super) salt: u64,
    /// The segment's number; never used twice in one journal.
    pub(super) number: u64,
    /// The number of its first group.
    pub(super) first_record: u64,
    /// The segment before it, or 0.
    pub(super) previous: u64,
    /// Where the groups of the segment before it end.
    pub(super) previous_end: u64,
}

/// What one copy of a segment header turned out to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum HeaderCopy {
    /// Sound, and of our version.
    Sound(SegmentHeader),
    /// Sound, or at least marked as ours, and of another version.
    OtherVersion(u32),
    /// Neither.
    Damaged,
}

impl SegmentHeader {
    /// Its bytes, both copies.
    pub(super) fn encode(&self) -> [u8; 2 * SEGMENT_HEADER_BYTES] {
        let mut copy = [0; SEGMENT_HEADER_BYTES];
        let mut out = FieldsOut(&mut copy);
        out.put(&SEGMENT_MAGIC.to_le_bytes());
        out.put(&FORMAT_VERSION.to_le_bytes());
        out.put(&[0; 4]);
        out.put(&self.salt.to_le_bytes());
        out.put(&self.number.to_le_bytes());
        out.put(&self.first_record.to_le_bytes());
        out.put(&self.previous.to_le_bytes());
        out.put(&self.previous_end.to_le_bytes());
        out.put(&[0; 4]);
        seal(&mut copy, 0);
        let mut both = [0; 2 * SEGMENT_HEADER_BYTES];
        let mut out = FieldsOut(&mut both);
        out.put(&copy);
        out.put(&copy);
        both
    }

    /// Reads one copy.
    pub(super) fn decode(bytes: &[u8]) -> HeaderCopy {
        Self::fields(bytes).unwrap_or(HeaderCopy::Damaged)
    }

    fn fields(bytes: &[u8]) -> Option<HeaderCopy> {
        let bytes = bytes.get(..SEGMENT_HEADER_BYTES)?;
        let mut fields = Fields(bytes);
        if fields.u64()? != SEGMENT_MAGIC {
            return None;
        }
        let version = fields.u32()?;
        if version != FORMAT_VERSION {
            return Some(HeaderCopy::OtherVersion(version));
        }
        if !is_sealed(bytes, 0) {
            return None;
        }
        fields.u32()?;
        let header = Self {
            salt: fields.u64()?,
            number: fields.u64()?,
            first_record: fields.u64()?,
            previous: fields.u64()?,
            previous_end: fields.u64()?,
        };
        let is_sane = header.number.max(header.first_record).max(header.previous) < NUMBER_MAX;
        is_sane.then_some(HeaderCopy::Sound(header))
    }
}

/// Puts the checksum over everything before it into the last four bytes.
pub(super) fn seal(bytes: &mut [u8], seed: u32) {
    let Some((covered, place)) = bytes.split_last_chunk_mut::<4>() else { return };
    *place = crc32c_append(seed, covered).to_le_bytes();
}

/// Whether the last four bytes are the checksum over everything before them.
fn is_sealed(bytes: &[u8], seed: u32) -> bool {
    bytes
        .split_last_chunk::<4>()
        .is_some_and(|(covered, place)| crc32c_append(seed, covered) == u32::from_le_bytes(*place))
}

/// What a group is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum GroupKind {
    /// Changes that were applied.
    Changes,
    /// The journal was closed cleanly; nothing follows in this segment.
    Closing,
    /// Records of an old segment, moved forward unchanged.
    Moved,
}

impl GroupKind {
    const fn code(self) -> u8 {
        match self {
            Self::Changes => 0,
            Self::Closing => 1,
            Self::Moved => 2,
        }
    }

    const fn from_code(code: u8) -> Option<Self> {
        match code {
            0 => Some(Self::Changes),
            1 => Some(Self::Closing),
            2 => Some(Self::Moved),
            _ => None,
        }
    }
}

/// What stands at the front of a group and, under another magic, at its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct GroupHeader {
    /// As in the segment header.
    pub(super) salt: u64,
    /// As in the segment header.
    pub(super) segment: u64,
    /// The group's number, one more than the one before it, through all segments.
    pub(super) record: u64,
    /// Every group with a lower number was on the disk when this one was written.
    pub(super) flushed_below: u64,
    /// Bytes of the whole group, header and trailer included.
    pub(super) group_bytes: u32,
    /// Entries of its table.
    pub(super) entries: u32,
    /// Bytes of all heads.
    pub(super) heads_bytes: u32,
    /// What it is.
    pub(super) kind: GroupKind,
    /// CRC32C of the table.
    pub(super) table_crc: u32,
}

/// Which of the two copies of a group header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum GroupMark {
    /// The one in front.
    Header,
    /// The one at the end.
    Trailer,
}

impl GroupMark {
    /// Which mark, if any, these bytes begin with.
    pub(super) fn of(bytes: &[u8]) -> Option<Self> {
        match Fields(bytes).u64()? {
            GROUP_MAGIC => Some(Self::Header),
            TRAILER_MAGIC => Some(Self::Trailer),
            _ => None,
        }
    }
}

impl GroupHeader {
    /// Its bytes as `mark` of a group that begins at `at`.
    pub(super) fn encode(&self, mark: GroupMark, at: u64) -> [u8; GROUP_HEADER_BYTES] {
        let mut bytes = [0; GROUP_HEADER_BYTES];
        let magic = match mark {
            GroupMark::Header => GROUP_MAGIC,
            GroupMark::Trailer => TRAILER_MAGIC,
        };
        let mut out = FieldsOut(&mut bytes);
        out.put(&magic.to_le_bytes());
        out.put(&self.salt.to_le_bytes());
        out.put(&self.segment.to_le_bytes());
        out.put(&self.record.to_le_bytes());
        out.put(&self.flushed_below.to_le_bytes());
        out.put(&self.group_bytes.to_le_bytes());
        out.put(&self.entries.to_le_bytes());
        out.put(&self.heads_bytes.to_le_bytes());
        out.put(&[self.kind.code(), 0, 0, 0]);
        out.put(&self.table_crc.to_le_bytes());
        seal(&mut bytes, position_seed(at));
        bytes
    }

    /// Reads a header that stands at `at`.
    pub(super) fn decode_header(bytes: &[u8], at: u64) -> Option<Self> {
        let bytes = bytes.get(..GROUP_HEADER_BYTES)?;
        let header = Self::fields(bytes, GROUP_MAGIC)?;
        is_sealed(bytes, position_seed(at)).then_some(header)
    }

    /// Reads a trailer that stands at `at`, and says where its group begins.
    pub(super) fn decode_trailer(bytes: &[u8], at: u64) -> Option<(Self, u64)> {
        let bytes = bytes.get(..GROUP_HEADER_BYTES)?;
        let header = Self::fields(bytes, TRAILER_MAGIC)?;
        let begin = (at + GROUP_HEADER_BYTES as u64).checked_sub(u64::from(header.group_bytes))?;
        is_sealed(bytes, position_seed(begin)).then_some((header, begin))
    }

    fn fields(bytes: &[u8], magic: u64) -> Option<Self> {
        let mut fields = Fields(bytes);
        if fields.u64()? != magic {
            return None;
        }
        let header = Self {
            salt: fields.u64()?,
            segment: fields.u64()?,
            record: fields.u64()?,
            flushed_below: fields.u64()?,
            group_bytes: fields.u32()?,
            entries: fields.u32()?,
            heads_bytes: fields.u32()?,
            kind: GroupKind::from_code(u32::from_le_bytes(fields.take()?).try_into().ok()?)?,
            table_crc: fields.u32()?,
        };
        let least = 2 * GROUP_HEADER_BYTES as u64 + header.table_bytes() + u64::from(header.heads_bytes);
        let bytes = u64::from(header.group_bytes);
        let is_sane = header.segment.max(header.record).max(header.flushed_below) < NUMBER_MAX;
        (is_sane && least <= bytes && bytes <= GROUP_BYTES_MAX && bytes.is_multiple_of(ALIGNMENT))
            .then_some(header)
    }

    /// Bytes of the table.
    pub(super) fn table_bytes(&self) -> u64 {
        u64::from(self.entries) * ENTRY_BYTES as u64
    }
}

pub(super) fn position_seed(at: u64) -> u32 {
    crc32c_append(0, &at.to_le_bytes())
}

/// What every checksum of a segment's entries, heads and bodies starts from.
pub(super) fn segment_seed(salt: u64, segment: u64) -> u32 {
    crc32c_append(crc32c_append(0, &salt.to_le_bytes()), &segment.to_le_bytes())
}

/// What an entry says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum EntryKind {
    /// A record is stored.
    Put,
    /// A record is removed.
    Delete,
    /// Records of the key's family with a number below the key's are removed.
    DeleteBelow,
    /// Records of the key's family are removed, from its number on as many numbers as its part says.
    DeleteNumbers,
}

/// One change, as the table of a group has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct TableEntry {
    /// What it says.
    pub(super) kind: EntryKind,
    /// The head was damaged when it was moved here, and is kept for what can be made of it.
    pub(super) is_head_damaged: bool,
    /// The same of the body.
    pub(super) is_body_damaged: bool,
    /// The record's name.
    pub(super) key: Key,
    /// Where the head is, from the front of the segment.
    pub(super) head_at: u32,
    /// How long it is.
    pub(super) head_bytes: u32,
    /// Where the body is, from the front of the segment.
    pub(super) body_at: u32,
    /// How long it is.
    pub(super) body_bytes: u32,
    /// CRC32C of the head, from the segment's seed on.
    pub(super) head_crc: u32,
    /// CRC32C of the body, from the segment's seed on.
    pub(super) body_crc: u32,
}

impl TableEntry {
    /// An entry that removes something.
    pub(super) const fn removal(kind: EntryKind, key: Key) -> Self {
        Self {
            kind,
            is_head_damaged: false,
            is_body_damaged: false,
            key,
            head_at: 0,
            head_bytes: 0,
            body_at: 0,
            body_bytes: 0,
            head_crc: 0,
            body_crc: 0,
        }
    }

    /// The numbers of the records that it removes, where it removes several.
    pub(super) fn numbers(&self) -> Range<u64> {
        let Key { number, part, .. } = self.key;
        match self.kind {
            EntryKind::DeleteBelow => 0..number,
            EntryKind::DeleteNumbers => number..number.saturating_add(u64::from(part)),
            EntryKind::Put | EntryKind::Delete => number..number,
        }
    }

    /// Bytes that a segment carries for it.
    pub(super) fn stored_bytes(&self) -> u32 {
        // Heads and bodies are at most 1 MiB each: no overflow from a sound entry, no panic from another.
        (ENTRY_BYTES as u32).saturating_add(self.head_bytes).saturating_add(self.body_bytes)
    }

    /// Its bytes at the offset `at` of a segment.
    pub(super) fn encode(&self, seed: u32, at: u64) -> [u8; ENTRY_BYTES] {
        let mut bytes = [0; ENTRY_BYTES];
        let kind = match self.kind {
            EntryKind::Put => 1,
            EntryKind::Delete => 2,
            EntryKind::DeleteBelow => 3,
            EntryKind::DeleteNumbers => 4,
        };
        let flags = if self.is_head_damaged { FLAG_HEAD_DAMAGED } else { 0 }
            | if self.is_body_damaged { FLAG_BODY_DAMAGED } else { 0 };
        // By constant places: there is one for every change of a group.
        bytes[0..4].copy_from_slice(&[kind, self.key.family, flags, 0]);
        bytes[4..8].copy_from_slice(&self.key.part.to_le_bytes());
        bytes[8..16].copy_from_slice(&self.key.number.to_le_bytes());
        bytes[16..20].copy_from_slice(&self.head_at.to_le_bytes());
        bytes[20..24].copy_from_slice(&self.head_bytes.to_le_bytes());
        bytes[24..28].copy_from_slice(&self.body_at.to_le_bytes());
        bytes[28..32].copy_from_slice(&self.body_bytes.to_le_bytes());
        bytes[32..36].copy_from_slice(&self.head_crc.to_le_bytes());
        bytes[36..40].copy_from_slice(&self.body_crc.to_le_bytes());
        seal(&mut bytes, crc32c_append(seed, &at.to_le_bytes()));
        bytes
    }

    /// Reads the entry at the offset `at` of a segment.
    pub(super) fn decode(bytes: &[u8], seed: u32, at: u64) -> Option<Self> {
        let bytes = bytes.get(..ENTRY_BYTES)?;
        if !is_sealed(bytes, crc32c_append(seed, &at.to_le_bytes())) {
            return None;
        }
        let mut fields = Fields(bytes);
        let kind = match fields.u8()? {
            1 => EntryKind::Put,
            2 => EntryKind::Delete,
            3 => EntryKind::DeleteBelow,
            4 => EntryKind::DeleteNumbers,
            _ => return None,
        };
        let family = fields.u8()?;
        let flags = fields.u8()?;
        fields.u8()?;
        let part = fields.u32()?;
        let number = fields.u64()?;
        let entry = Self {
            kind,
            is_head_damaged: flags & FLAG_HEAD_DAMAGED != 0,
            is_body_damaged: flags & FLAG_BODY_DAMAGED != 0,
            key: Key::new(family, number, part),
            head_at: fields.u32()?,
            head_bytes: fields.u32()?,
            body_at: fields.u32()?,
            body_bytes: fields.u32()?,
            head_crc: fields.u32()?,
            body_crc: fields.u32()?,
        };
        let fits = entry.head_bytes as usize <= HEAD_BYTES_MAX && entry.body_bytes as usize <= BODY_BYTES_MAX;
        fits.then_some(entry)
    }

    /// Reads an entry that fails its checksum as if one of its bits had flipped. A CRC32C tells any two strings of
    /// this length that differ in fewer than six bits, so at most one such bit fits.
    pub(super) fn mend(bytes: &[u8], seed: u32, at: u64) -> Option<Self> {
        let mut copy: [u8; ENTRY_BYTES] = bytes.get(..ENTRY_BYTES)?.try_into().ok()?;
        for index in 0..ENTRY_BYTES {
            for bit in 0..8 {
                *copy.get_mut(index)? ^= 1 << bit;
                if let Some(entry) = Self::decode(&copy, seed, at) {
                    return Some(entry);
                }
                *copy.get_mut(index)? ^= 1 << bit;
            }
        }
        None
    }

    /// Reads an entry that is known to be there, mended where that is possible without a doubt left by its checksum.
    pub(super) fn decode_or_mend(bytes: &[u8], seed: u32, at: u64) -> Option<Self> {
        Self::decode(bytes, seed, at).or_else(|| Self::mend(bytes, seed, at)).or_else(|| {
            match Self::mend_byte(bytes, seed, at).as_slice() {
                [only] => Some(*only),
                _ => None,
            }
        })
    }

    /// What an entry that fails its checksum may have been if one of its bytes has changed. Each fits the checksum;
    /// which one is right, if any, only something else can tell. None where more than one byte is not as it must be.
    pub(super) fn mend_byte(bytes: &[u8], seed: u32, at: u64) -> Vec<Self> {
        let mut found = Vec::new();
        let Some(Ok(mut copy)) = bytes.get(..ENTRY_BYTES).map(<[u8; ENTRY_BYTES]>::try_from) else {
            return found;
        };
        let must_be_zero = [3, 40, 41, 42, 43];
        let mut wrong: Vec<usize> = must_be_zero
            .into_iter()
            .filter(|index| copy.get(*index).is_some_and(|byte| *byte != 0))
            .collect();
        if !copy.first().is_some_and(|kind| (1..=4).contains(kind)) {
            wrong.push(0);
        }
        let indexes = match wrong.as_slice() {
            [] => 0..ENTRY_BYTES,
            [index] => *index..index + 1,
            _ => return found,
        };
        for index in indexes {
            for change in 1..=u8::MAX {
                let Some(byte) = copy.get_mut(index) else { continue };
                *byte ^= change;
                found.extend(Self::decode(&copy, seed, at));
                if let Some(byte) = copy.get_mut(index) {
                    *byte ^= change;
                }
            }
        }
        found
    }
}

/// Bytes of a group with so many entries, head bytes and body bytes; `None` where it would be longer than allowed.
pub(super) fn group_bytes(entries: u64, heads: u64, bodies: u64) -> Option<u64> {
    let bytes = entries
        .checked_mul(ENTRY_BYTES as u64)?
        .checked_add(2 * GROUP_HEADER_BYTES as u64)?
        .checked_add(heads)?
        .checked_add(bodies)?
        .checked_next_multiple_of(ALIGNMENT)?;
    (bytes <= GROUP_BYTES_MAX).then_some(bytes)
}
