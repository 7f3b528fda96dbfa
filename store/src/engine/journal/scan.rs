//! Finding the groups of a segment, also around damage.

#![warn(clippy::indexing_slicing)]

use std::io;

use super::format::{
    ALIGNMENT, ENTRY_BYTES, GROUP_HEADER_BYTES, GroupHeader, GroupKind, GroupMark, SEGMENT_END_MAX,
    SEGMENT_START, TableEntry,
};
use super::read::Window;

/// Searched through at once when the next group is not where it should be.
const SEARCH_BYTES: usize = 256 * 1024;

/// A group that was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Group {
    /// Where it begins.
    pub(super) at: u64,
    /// What its header says, or its trailer where the header is damaged.
    pub(super) header: GroupHeader,
    /// Whether the header is sound.
    pub(super) has_header: bool,
}

impl Group {
    /// Where it ends.
    pub(super) fn end(&self) -> u64 {
        self.at + u64::from(self.header.group_bytes)
    }

    /// Where its trailer is.
    pub(super) fn trailer_at(&self) -> u64 {
        self.end().saturating_sub(GROUP_HEADER_BYTES as u64)
    }
}

/// What a scan meets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// A group whose header or trailer is sound and which ends within the limit.
    Group(Group),
    /// The trailer of the group just met is damaged.
    BadTrailer(Group),
    /// A sound header whose group would end after the end of the file.
    Cut(Group),
    /// No group can be made out from `from` to `to`, though groups follow, or the segment is known to end later.
    Lost {
        /// Where it begins.
        from: u64,
        /// Where it ends.
        to: u64,
        /// The group that should have come here; 0 where that is not known.
        expected: u64,
    },
}

impl Step {
    /// Where table entries are, and whether one is known to be at each of these offsets. Where no group can be made
    /// out an entry may be anywhere: each says by itself what it is, and where it belongs.
    pub(super) fn entries(&self) -> (impl Iterator<Item = u64> + use<>, bool) {
        let entry_bytes = ENTRY_BYTES as u64;
        let (offsets, stride, is_table) = match self {
            Self::Group(group) => {
                let first = group.at + GROUP_HEADER_BYTES as u64;
                (first..first + group.header.table_bytes(), ENTRY_BYTES, true)
            }
            Self::Lost { from, to, .. } => {
                (*from..(to + 1).saturating_sub(entry_bytes), ALIGNMENT as usize, false)
            }
            Self::BadTrailer(_) | Self::Cut(_) => (0..0, 1, true),
        };
        (offsets.step_by(stride), is_table)
    }
}

/// Reads the entry at `at`, mended where one byte of it has changed and it is known to be an entry. Only the live map
/// tells whether that one counts.
pub(super) fn entry_at(
    window: &mut Window<'_>,
    seed: u32,
    at: u64,
    is_table: bool,
) -> io::Result<Option<TableEntry>> {
    let bytes = window.read(at, ENTRY_BYTES)?;
    Ok(if is_table {
        TableEntry::decode_or_mend(bytes, seed, at)
    } else {
        TableEntry::decode(bytes, seed, at)
    })
}

/// Goes through a segment's groups in order.
#[derive(Debug, Clone)]
pub(super) struct Scanner {
    salt: u64,
    segment: u64,
    position: u64,
    expected: u64,
    limit: u64,
    is_limit_known: bool,
    file_bytes: u64,
    unchecked_trailer: Option<Group>,
    found: Option<Group>,
}

impl Scanner {
    /// A scan of segment number `segment` from its first group on, which should have the number `expected` (0: not
    /// known). The segment's groups are known to end at `end`, or else somewhere within `file_bytes`.
    pub(super) fn new(salt: u64, segment: u32, expected: u64, end: Option<u64>, file_bytes: u64) -> Self {
        // What the next segment's header says is sealed, and need not be true of any segment for that.
        let end = end.filter(|end| *end <= SEGMENT_END_MAX);
        Self {
            salt,
            segment: u64::from(segment),
            position: SEGMENT_START,
            expected,
            limit: end.unwrap_or(file_bytes),
            is_limit_known: end.is_some(),
            file_bytes,
            unchecked_trailer: None,
            found: None,
        }
    }

    /// Where the groups met so far end.
    pub(super) const fn position(&self) -> u64 {
        self.position
    }

    /// The number of the group that should come next; 0 where that is not known.
    pub(super) const fn expected(&self) -> u64 {
        self.expected
    }

    /// The next thing met, or `None` at the end of the segment's groups.
    pub(super) fn next(&mut self, window: &mut Window<'_>) -> io::Result<Option<Step>> {
        if let Some(group) = self.unchecked_trailer.take()
            && !is_trailer_sound(window, &group)?
        {
            return Ok(Some(Step::BadTrailer(group)));
        }
        if let Some(group) = self.found.take() {
            return Ok(Some(self.pass(group)));
        }
        if self.position >= self.limit {
            return Ok(None);
        }
        let bytes = window.read(self.position, GROUP_HEADER_BYTES)?;
        let header = GroupHeader::decode_header(bytes, self.position).filter(|header| self.is_ours(header));
        if let Some(header) = header {
            let group = Group { at: self.position, header, has_header: true };
            if group.end() <= self.limit {
                return Ok(Some(self.pass(group)));
            }
            if !self.is_limit_known {
                self.limit = self.position;
                return Ok(Some(Step::Cut(group)));
            }
        }
        self.pass_damage(window)
    }

    fn pass(&mut self, group: Group) -> Step {
        self.position = group.end();
        self.expected = group.header.record.saturating_add(1);
        self.unchecked_trailer = Some(group).filter(|group| group.has_header);
        if group.header.kind == GroupKind::Closing && !self.is_limit_known {
            self.limit = self.position;
        }
        Step::Group(group)
    }

    fn pass_damage(&mut self, window: &mut Window<'_>) -> io::Result<Option<Step>> {
        let from = self.position;
        let expected = self.expected;
        let found = self.search(window)?;
        match found {
            Some(group) if group.at == from => Ok(Some(self.pass(group))),
            Some(group) => {
                self.found = Some(group);
                Ok(Some(Step::Lost { from, to: group.at, expected }))
            }
            None if self.is_limit_known => {
                self.position = self.limit;
                // Nothing is looked for behind the end of a file that was cut short.
                let to = self.limit.min(self.file_bytes).max(from);
                Ok(Some(Step::Lost { from, to, expected }))
            }
            None => {
                self.limit = self.position;
                Ok(None)
            }
        }
    }

    fn is_ours(&self, header: &GroupHeader) -> bool {
        header.salt == self.salt && header.segment == self.segment && header.record >= self.expected
    }

    /// The first group behind the position of which the header or the trailer is sound.
    fn search(&self, window: &mut Window<'_>) -> io::Result<Option<Group>> {
        let mut at = self.position + ALIGNMENT;
        while at < self.limit {
            let bytes = window.read(at, SEARCH_BYTES)?;
            if bytes.len() < GROUP_HEADER_BYTES {
                return Ok(None);
            }
            let mut rest = bytes;
            let mut here = at;
            while rest.len() >= GROUP_HEADER_BYTES {
                if let Some(group) = self.group_by_mark(rest, here) {
                    return Ok(Some(group));
                }
                rest = rest.get(ALIGNMENT as usize..).unwrap_or_default();
                here += ALIGNMENT;
            }
            at = here;
        }
        Ok(None)
    }

    fn group_by_mark(&self, bytes: &[u8], at: u64) -> Option<Group> {
        let group = match GroupMark::of(bytes)? {
            GroupMark::Header => {
                let header = GroupHeader::decode_header(bytes, at)?;
                Group { at, header, has_header: true }
            }
            GroupMark::Trailer => {
                let (header, at) = GroupHeader::decode_trailer(bytes, at)?;
                Group { at, header, has_header: false }
            }
        };
        let fits = group.at >= self.position && group.end() <= self.limit;
        (fits && self.is_ours(&group.header)).then_some(group)
    }
}

/// Whether the trailer of a group says the same as its header.
pub(super) fn is_trailer_sound(window: &mut Window<'_>, group: &Group) -> io::Result<bool> {
    // With the next group's header behind it, which is read next.
    let at = group.trailer_at();
    let bytes = window.read(at, GROUP_HEADER_BYTES)?;
    Ok(GroupHeader::decode_trailer(bytes, at) == Some((group.header, group.at)))
}
