//! The segments there are, what lives in each, and what their files are called.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use super::disk::DiskFile;
use super::index::{Index, Place};
use crate::engine::Key;

/// What a file of the journal's folder is, by its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FileName {
    /// A segment.
    Segment(u32),
    /// A freed segment, kept to be written over.
    Spare(u32),
    /// A segment in which nothing readable lives and something was damaged, set aside for a person.
    Damaged(u32),
    /// A segment that was being made.
    New(u32),
}

impl FileName {
    /// What `name` says, or `None` for a file that is none of the journal's.
    pub(super) fn parse(name: &str) -> Option<Self> {
        let (digits, kind) = name.split_once('.')?;
        if digits.len() != 16 || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        let number = digits.parse().ok()?;
        match kind {
            "seg" => Some(Self::Segment(number)),
            "spare" => Some(Self::Spare(number)),
            "damaged" => Some(Self::Damaged(number)),
            "new" => Some(Self::New(number)),
            _ => None,
        }
    }

    /// The segment number in it.
    pub(super) const fn number(self) -> u32 {
        match self {
            Self::Segment(number) | Self::Spare(number) | Self::Damaged(number) | Self::New(number) => number,
        }
    }
}

impl std::fmt::Display for FileName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let kind = match self {
            Self::Segment(_) => "seg",
            Self::Spare(_) => "spare",
            Self::Damaged(_) => "damaged",
            Self::New(_) => "new",
        };
        write!(f, "{:016}.{kind}", self.number())
    }
}

/// One segment.
#[derive(Debug)]
pub(super) struct Segment {
    /// Its file. A reader keeps a clone, and so may see the file written over when the segment was freed meanwhile.
    pub(super) file: Arc<dyn DiskFile>,
    /// Where its groups end.
    pub(super) end: u64,
    /// The length of its file.
    pub(super) file_bytes: u64,
    /// Records that live in it.
    pub(super) records: u64,
    /// How many of these each family has.
    by_family: Vec<u32>,
    /// Bytes that it carries for them.
    pub(super) live_bytes: u64,
    /// Something in it could not be read, so its file is never written over.
    pub(super) is_damaged: bool,
}

impl Segment {
    /// A segment in which nothing lives yet.
    pub(super) fn new(file: Arc<dyn DiskFile>, end: u64, file_bytes: u64) -> Self {
        Self { file, end, file_bytes, records: 0, by_family: Vec::new(), live_bytes: 0, is_damaged: false }
    }
}

impl Segment {
    fn of_family(&mut self, family: u8) -> &mut u32 {
        let at = usize::from(family);
        if self.by_family.len() <= at {
            self.by_family.resize(at + 1, 0);
        }
        &mut self.by_family[at]
    }
}

/// Every live record's place, and every segment with what lives in it: what readers and the writer share.
#[derive(Debug, Default)]
pub(super) struct LiveMap {
    index: Index,
    segments: BTreeMap<u32, Segment>,
    end_bytes: u64,
    live_bytes: u64,
    file_bytes: u64,
}

impl LiveMap {
    /// Where the record of a key is.
    pub(super) fn place(&self, key: Key) -> Option<Place> {
        self.index.get(key)
    }

    /// How many records live.
    pub(super) const fn records(&self) -> u64 {
        self.index.records()
    }

    /// Bytes carried for live records.
    pub(super) const fn live_bytes(&self) -> u64 {
        self.live_bytes
    }

    /// Bytes of all groups, dead or alive.
    pub(super) const fn end_bytes(&self) -> u64 {
        self.end_bytes
    }

    /// Bytes of all segment files.
    pub(super) const fn file_bytes(&self) -> u64 {
        self.file_bytes
    }

    /// A segment.
    pub(super) fn segment(&self, number: u32) -> Option<&Segment> {
        self.segments.get(&number)
    }

    /// Every segment, oldest first.
    pub(super) fn segments(&self) -> impl Iterator<Item = (u32, &Segment)> {
        self.segments.iter().map(|(number, segment)| (*number, segment))
    }

    /// The oldest segment, where there is another one behind it.
    pub(super) fn oldest_of_several(&self) -> Option<(u32, &Segment)> {
        let (number, segment) = self.segments.first_key_value()?;
        (self.segments.len() > 1).then_some((*number, segment))
    }

    /// Adds a segment.
    pub(super) fn add_segment(&mut self, number: u32, segment: Segment) {
        self.end_bytes += segment.end;
        self.file_bytes += segment.file_bytes;
        self.segments.insert(number, segment);
    }

    /// Takes a segment away. Nothing lives in it.
    pub(super) fn remove_segment(&mut self, number: u32) {
        if let Some(segment) = self.segments.remove(&number) {
            self.end_bytes -= segment.end;
            self.file_bytes -= segment.file_bytes;
        }
    }

    /// Every record that lives in a segment, in the order in which they stand there.
    pub(super) fn records_in(&self, number: u32) -> Vec<(Key, Place)> {
        let Some(segment) = self.segments.get(&number) else { return Vec::new() };
        let mut found = Vec::with_capacity(usize::try_from(segment.records).unwrap_or_default());
        for (family, count) in (0..=u8::MAX).zip(&segment.by_family) {
            let of_family = self.index.iter(family).filter(|(_, place)| place.segment == number);
            // Numbers ascend with time: those of an old segment mostly come first, and nothing is looked for behind them.
            found.extend(of_family.take(*count as usize));
        }
        found.sort_unstable_by_key(|(_, place)| place.at());
        found
    }

    /// Notes that a segment's groups now end at `end`, and its file at `file_bytes` or later.
    pub(super) fn extend_segment(&mut self, number: u32, end: u64, file_bytes: u64) {
        let Some(segment) = self.segments.get_mut(&number) else { return };
        self.end_bytes = self.end_bytes - segment.end + end;
        segment.end = end;
        let longer = file_bytes.saturating_sub(segment.file_bytes);
        segment.file_bytes += longer;
        self.file_bytes += longer;
    }

    /// Notes that something in a segment cannot be read.
    pub(super) fn set_damaged(&mut self, number: u32) {
        if let Some(segment) = self.segments.get_mut(&number) {
            segment.is_damaged = true;
        }
    }

    /// A record is now at `place`.
    pub(super) fn put(&mut self, key: Key, place: Place) {
        if let Some(segment) = self.segments.get_mut(&place.segment) {
            segment.records += 1;
            *segment.of_family(key.family) += 1;
            segment.live_bytes += u64::from(place.bytes);
        }
        self.live_bytes += u64::from(place.bytes);
        if let Some(before) = self.index.put(key, place) {
            forget(&mut self.segments, &mut self.live_bytes, key.family, before);
        }
    }

    /// A record is gone.
    pub(super) fn remove(&mut self, key: Key) {
        if let Some(before) = self.index.remove(key) {
            forget(&mut self.segments, &mut self.live_bytes, key.family, before);
        }
    }

    /// Every record of a family that has one of these numbers is gone.
    pub(super) fn remove_numbers(&mut self, family: u8, numbers: Range<u64>) {
        let Self { index, segments, live_bytes, .. } = self;
        index.remove_numbers(family, numbers, |before| forget(segments, live_bytes, family, before));
    }
}

fn forget(segments: &mut BTreeMap<u32, Segment>, live_bytes: &mut u64, family: u8, place: Place) {
    if let Some(segment) = segments.get_mut(&place.segment) {
        segment.records -= 1;
        *segment.of_family(family) -= 1;
        segment.live_bytes -= u64::from(place.bytes);
    }
    *live_bytes -= u64::from(place.bytes);
}
