//! Opening: from the files to the live records, telling a torn tail from damage.
//!
//! A group counts as acknowledged when a later group says that it was flushed, or when a later segment exists. What
//! is wrong with an acknowledged group is damage: it is listed, and what is whole stays. The groups after these
//! may have been cut short by a crash: they count up to the first that is not whole, and the rest is a torn tail.

#![warn(clippy::indexing_slicing)]

use std::collections::BTreeMap;
use std::io::{self, IoSlice};
use std::sync::Arc;

use crc32c::crc32c_append;

use super::damages::Damages;
use super::disk::{Disk, DiskFile};
use super::format::{
    ENTRY_BYTES, EntryKind, GROUP_HEADER_BYTES, GroupHeader, GroupKind, GroupMark, HeaderCopy,
    SEGMENT_HEADER_BYTES, SEGMENT_START, SegmentHeader, TableEntry, segment_seed,
};
use super::index::Place;
use super::read::{Window, is_head_sound};
use super::read_error;
use super::scan::{Group, Scanner, Step, is_trailer_sound};
use super::segment::{FileName, LiveMap, Segment};
use crate::engine::TornTail;
use crate::{Error, ErrorKind};

/// Copied at once when the unproven end of the last segment is written again.
const COPY_BYTES: usize = 1024 * 1024;

/// A file that is kept to be written over, and its length.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Spare {
    pub(super) name: FileName,
    pub(super) file_bytes: u64,
}

/// What opening found.
#[derive(Debug)]
pub(super) struct Opened {
    pub(super) live: LiveMap,
    pub(super) salt: u64,
    pub(super) next_segment: u32,
    pub(super) next_record: u64,
    /// The newest segment and where its groups end.
    pub(super) last: Option<(u32, u64)>,
    pub(super) spares: Vec<Spare>,
    pub(super) damages: Damages,
    pub(super) torn_tail: Option<TornTail>,
}

/// Reads every file of `disk`'s folder. `salt` is used where there is no journal yet.
pub(super) fn open(disk: &dyn Disk, salt: u64) -> Result<Opened, Error> {
    disk.create_folder().map_err(|error| Error::io("create the journal's folder", error))?;
    let mut replay = Replay::new(disk, salt);
    replay.list()?;
    replay.read_headers()?;
    let numbers: Vec<u32> = replay.files.keys().copied().collect();
    for (index, &number) in numbers.iter().enumerate() {
        match numbers.get(index + 1) {
            Some(&next) => replay.sealed_segment(number, next)?,
            None => replay.last_segment(number)?,
        }
    }
    Ok(replay.opened)
}

#[derive(Debug)]
struct SegmentFile {
    file: Arc<dyn DiskFile>,
    file_bytes: u64,
    header: Option<SegmentHeader>,
}

#[derive(Debug)]
struct Replay<'a> {
    disk: &'a dyn Disk,
    files: BTreeMap<u32, SegmentFile>,
    opened: Opened,
    /// The number of the next group; 0 where not known.
    expected: u64,
    entries: Vec<(u64, TableEntry)>,
}

impl<'a> Replay<'a> {
    fn new(disk: &'a dyn Disk, salt: u64) -> Self {
        let opened = Opened {
            live: LiveMap::default(),
            salt,
            next_segment: 1,
            next_record: 1,
            last: None,
            spares: Vec::new(),
            damages: Damages::default(),
            torn_tail: None,
        };
        Self { disk, files: BTreeMap::new(), opened, expected: 0, entries: Vec::new() }
    }

    fn list(&mut self) -> Result<(), Error> {
        let names = self.disk.list().map_err(|error| Error::io("list the journal's folder", error))?;
        for name in names.iter().filter_map(|name| FileName::parse(name)) {
            self.opened.next_segment = self.opened.next_segment.max(name.number().saturating_add(1));
            if let FileName::New(_) = name {
                // A segment that was being made when the process ended; nothing was ever in it.
                self.disk
                    .remove(&name.to_string())
                    .map_err(|error| Error::io("remove an unfinished segment", error).with("file", name))?;
                continue;
            }
            let file = self.disk.open(&name.to_string()).map_err(|error| read_error(error, name))?;
            let file_bytes = file.file_bytes().map_err(|error| read_error(error, name))?;
            match name {
                FileName::Segment(number) => {
                    self.files.insert(number, SegmentFile { file, file_bytes, header: None });
                }
                FileName::Damaged(_) => {
                    self.opened.damages.note(
                        name,
                        0,
                        file_bytes,
                        None,
                        "set aside earlier because of damage",
                    );
                }
                FileName::Spare(_) | FileName::New(_) => self.opened.spares.push(Spare { name, file_bytes }),
            }
        }
        Ok(())
    }

    fn read_headers(&mut self) -> Result<(), Error> {
        let mut salts: BTreeMap<u64, usize> = BTreeMap::new();
        for (&number, segment) in &mut self.files {
            let name = FileName::Segment(number);
            let mut bytes = [0; 2 * SEGMENT_HEADER_BYTES];
            segment.file.read_at(&mut bytes, 0).map_err(|error| read_error(error, name))?;
            let (first, second) = bytes.split_at(SEGMENT_HEADER_BYTES);
            let copies = [SegmentHeader::decode(first), SegmentHeader::decode(second)];
            let header = sound_header(copies, name)?.filter(|header| header.number == u64::from(number));
            for (offset, copy) in [0, SEGMENT_HEADER_BYTES as u64].into_iter().zip(copies) {
                if copy != header.map_or(HeaderCopy::Damaged, HeaderCopy::Sound) || header.is_none() {
                    let what = "a copy of the segment header is damaged";
                    self.opened.damages.note_mended(name, offset, SEGMENT_HEADER_BYTES as u64, None, what);
                }
            }
            segment.header = header;
            if let Some(salt) = header.map(|header| header.salt) {
                *salts.entry(salt).or_default() += 1;
            }
        }
        // Where files of another journal got in, the greater number of files decides.
        if let Some((&salt, _)) = salts.iter().max_by_key(|(_, files)| **files) {
            self.opened.salt = salt;
        } else if let Some(salt) = self.salt_of_groups()? {
            self.opened.salt = salt;
        }
        Ok(())
    }

    /// The salt in the first group header that can be read, for a journal without any sound segment header.
    fn salt_of_groups(&self) -> Result<Option<u64>, Error> {
        for (&number, segment) in &self.files {
            let mut bytes = [0; GROUP_HEADER_BYTES];
            let read = segment.file.read_at(&mut bytes, SEGMENT_START);
            read.map_err(|error| read_error(error, FileName::Segment(number)))?;
            if let Some(header) = GroupHeader::decode_header(&bytes, SEGMENT_START) {
                return Ok(Some(header.salt));
            }
        }
        Ok(None)
    }

    /// Takes up a segment before its groups are read: returns its file, its length and its scanner.
    fn begin(&mut self, number: u32, end: Option<u64>) -> Result<(Arc<dyn DiskFile>, u64, Scanner), Error> {
        let name = FileName::Segment(number);
        let Some(SegmentFile { file, file_bytes, header }) = self.files.remove(&number) else {
            return Err(Error::new(ErrorKind::Unavailable, "find a segment again").with("file", name));
        };
        let before = self.opened.last.map(|(number, _)| u64::from(number));
        if let (Some(header), Some(before)) = (header, before) {
            if header.previous > before {
                let missing = u32::try_from(header.previous).unwrap_or(u32::MAX);
                self.opened.damages.note(FileName::Segment(missing), 0, 0, None, "the file is missing");
            } else if self.expected != 0 && header.first_record > self.expected {
                let missing = header.first_record - self.expected;
                let what = format!("{missing} groups are missing before this segment");
                self.opened.damages.note(name, SEGMENT_START, 0, None, what);
            }
        }
        // A first record below what was met already would be nonsense; the groups' own numbers decide then.
        let expected = header.map_or(0, |header| header.first_record).max(self.expected);
        self.opened.live.add_segment(number, Segment::new(file.clone(), 0, file_bytes));
        let scanner = Scanner::new(self.opened.salt, number, expected, end, file_bytes);
        Ok((file, file_bytes, scanner))
    }

    fn finish(&mut self, number: u32, scanner_end: u64, expected: u64) {
        self.opened.live.extend_segment(number, scanner_end, 0);
        self.opened.last = Some((number, scanner_end));
        self.expected = expected;
        self.opened.next_record = self.opened.next_record.max(expected);
    }

    /// A segment with another one behind it: all of its groups were flushed.
    fn sealed_segment(&mut self, number: u32, next: u32) -> Result<(), Error> {
        let name = FileName::Segment(number);
        let end = self.files.get(&next).and_then(|next| next.header);
        let end = end.filter(|next| next.previous == u64::from(number)).map(|next| next.previous_end);
        let (file, _, mut scanner) = self.begin(number, end)?;
        let mut window = Window::new(&*file);
        while let Some(step) = scanner.next(&mut window).map_err(|error| read_error(error, name))? {
            self.acknowledged(number, step, &mut window).map_err(|error| read_error(error, name))?;
        }
        self.finish(number, scanner.position(), scanner.expected());
        Ok(())
    }

    /// The newest segment: its last groups may have been cut short.
    fn last_segment(&mut self, number: u32) -> Result<(), Error> {
        let name = FileName::Segment(number);
        let first_record = self.files.get(&number).and_then(|segment| segment.header);
        let mut proven_below = first_record.map_or(0, |header| header.first_record);
        let (file, file_bytes, mut scanner) = self.begin(number, None)?;
        let first_expected = scanner.expected();
        let mut window = Window::new(&*file);
        let mut steps = Vec::new();
        while let Some(step) = scanner.next(&mut window).map_err(|error| read_error(error, name))? {
            if let Step::Group(group) | Step::Cut(group) = step {
                proven_below = proven_below.max(group.header.flushed_below);
            }
            steps.push(step);
        }
        let mut tail = Tail { end: SEGMENT_START, expected: first_expected, ..Tail::default() };
        for step in steps {
            if !self.tail_step(number, step, proven_below, &mut tail, &mut window)? {
                break;
            }
        }
        let Tail { end, expected, unproven_from, closing, .. } = tail;
        self.note_torn_tail(number, &tail, file_bytes, &mut window)?;
        let rewritten = match closing {
            Some(mark) => complete_mark(&*file, &mark),
            None => rewrite(&*file, unproven_from.unwrap_or(end), end),
        };
        rewritten
            .and_then(|()| file.sync_data())
            .map_err(|error| Error::io("flush the journal's last groups again", error).with("file", name))?;
        self.finish(number, end, expected);
        Ok(())
    }

    /// Takes one step through the newest segment; false at the torn tail.
    fn tail_step(
        &mut self,
        number: u32,
        step: Step,
        proven_below: u64,
        tail: &mut Tail,
        window: &mut Window<'_>,
    ) -> Result<bool, Error> {
        let fault = |error| read_error(error, FileName::Segment(number));
        let step = match step {
            Step::Group(group) if is_half_written(window, &group).map_err(fault)? => {
                Step::Group(Group { has_header: true, ..group })
            }
            other => other,
        };
        match step {
            Step::Lost { from, expected, .. } if expected >= proven_below && expected != 0 => {
                tail.expected = expected;
                tail.torn_at = Some(from);
                return Ok(false);
            }
            Step::Cut(group) => {
                tail.expected = group.header.record;
                tail.torn_at = Some(group.at);
                return Ok(false);
            }
            Step::Group(group) if group.header.record >= proven_below => {
                // A group that may have been cut short is missing before it: then this one does not count either.
                let is_next = group.header.record <= tail.expected.max(proven_below);
                if !is_next
                    || !is_whole(window, self.opened.salt, &group, &mut self.entries).map_err(fault)?
                {
                    tail.expected = tail.expected.max(proven_below);
                    tail.torn_at = Some(group.at);
                    return Ok(false);
                }
                tail.unproven_from.get_or_insert(group.at);
            }
            Step::BadTrailer(group) if group.header.record >= proven_below && !is_closing(&group) => {
                return Ok(true);
            }
            Step::BadTrailer(group) if is_half_written(window, &group).map_err(fault)? => return Ok(true),
            _ => {}
        }
        self.acknowledged(number, step, window).map_err(fault)?;
        if let Step::Group(group) = step {
            tail.end = group.end();
            tail.expected = group.header.record.saturating_add(1);
            tail.closing = is_closing(&group).then_some(group);
        } else if let Step::Lost { to, .. } = step {
            tail.end = to;
        }
        Ok(true)
    }

    fn note_torn_tail(
        &mut self,
        number: u32,
        tail: &Tail,
        file_bytes: u64,
        window: &mut Window<'_>,
    ) -> Result<(), Error> {
        let file = FileName::Segment(number);
        let offset = tail.torn_at.unwrap_or(tail.end);
        let bytes = window.read(offset, GROUP_HEADER_BYTES).map_err(|error| read_error(error, file))?;
        let header = GroupHeader::decode_header(bytes, offset);
        let bytes = match header {
            Some(header) if header.segment == u64::from(number) => u64::from(header.group_bytes),
            // Behind the groups of a file that was used before there is always something.
            _ if tail.torn_at.is_none() => return Ok(()),
            _ => file_bytes.saturating_sub(offset),
        };
        let bytes = bytes.min(file_bytes.saturating_sub(offset));
        tracing::warn!(%file, offset, bytes, "dropped the unfinished end of the journal, as left by a crash");
        self.opened.torn_tail = Some(TornTail { file: file.to_string(), offset, bytes });
        Ok(())
    }

    /// Takes one step through groups that were flushed: what is wrong is damage, what is whole stays.
    fn acknowledged(&mut self, number: u32, step: Step, window: &mut Window<'_>) -> io::Result<()> {
        let name = FileName::Segment(number);
        let marks = GROUP_HEADER_BYTES as u64;
        match step {
            Step::Group(group) => {
                if !group.has_header {
                    self.opened.damages.note_mended(
                        name,
                        group.at,
                        marks,
                        None,
                        "a group's header is damaged",
                    );
                }
                self.load(number, step, window)
            }
            Step::BadTrailer(group) => {
                let at = group.trailer_at();
                self.opened.damages.note_mended(name, at, marks, None, "a group's trailer is damaged");
                Ok(())
            }
            Step::Cut(group) => {
                self.opened.live.set_damaged(number);
                let what = format!("group {} ends after the file does", group.header.record);
                self.opened.damages.note(name, group.at, u64::from(group.header.group_bytes), None, what);
                Ok(())
            }
            Step::Lost { from, to, expected } => {
                self.opened.live.set_damaged(number);
                let what = format!("no group can be read here; the next should be {expected}");
                self.opened.damages.note(name, from, to - from, None, what);
                self.load(number, step, window)
            }
        }
    }

    /// Applies the entries of a group, or what is left of them where no group can be made out.
    fn load(&mut self, number: u32, step: Step, window: &mut Window<'_>) -> io::Result<()> {
        let name = FileName::Segment(number);
        let seed = segment_seed(self.opened.salt, u64::from(number));
        self.entries.clear();
        let mut unread = Vec::new();
        let (offsets, is_table) = step.entries();
        for at in offsets {
            let bytes = window.read(at, ENTRY_BYTES)?;
            if let Some(entry) = TableEntry::decode(bytes, seed, at) {
                self.entries.push((at, entry));
            } else if !is_table {
                // Nothing says that there was one.
            } else if let Some(entry) = TableEntry::mend(bytes, seed, at) {
                self.entries.push((at, entry));
                self.note_mended(name, at, &entry);
            } else {
                unread.push(at);
            }
        }
        self.mend_by_table(name, step, &unread, seed, window)?;
        for index in 0..self.entries.len() {
            let Some(&(at, entry)) = self.entries.get(index) else { break };
            self.load_entry(number, at, &entry, seed, window)?;
        }
        Ok(())
    }

    fn note_mended(&mut self, name: FileName, at: u64, entry: &TableEntry) {
        let what = format!("part of the table entry of {:?} had changed; nothing is lost", entry.key);
        self.opened.damages.note_mended(name, at, ENTRY_BYTES as u64, Some(entry.key), what);
    }

    /// The table's checksum tells whether changing one byte of its only bad entry mends it; others are damage.
    fn mend_by_table(
        &mut self,
        name: FileName,
        step: Step,
        unread: &[u64],
        seed: u32,
        window: &mut Window<'_>,
    ) -> io::Result<()> {
        if let (Step::Group(group), [at]) = (step, unread) {
            let bytes = window.read(*at, ENTRY_BYTES)?;
            let candidates = TableEntry::mend_byte(bytes, seed, *at);
            let place = self.entries.partition_point(|(before, _)| before < at);
            for entry in candidates {
                self.entries.insert(place, (*at, entry));
                if table_crc(&self.entries, seed) == group.header.table_crc {
                    self.note_mended(name, *at, &entry);
                    return Ok(());
                }
                self.entries.remove(place);
            }
        }
        for at in unread {
            self.opened.live.set_damaged(name.number());
            self.opened.damages.note(name, *at, ENTRY_BYTES as u64, None, "a table entry is damaged");
        }
        Ok(())
    }

    fn load_entry(
        &mut self,
        number: u32,
        at: u64,
        entry: &TableEntry,
        seed: u32,
        window: &mut Window<'_>,
    ) -> io::Result<()> {
        let live = &mut self.opened.live;
        match entry.kind {
            EntryKind::Delete | EntryKind::DeleteNumbers if crate::mutant::is("lost-tombstone") => {}
            EntryKind::Delete => live.remove(entry.key),
            EntryKind::DeleteBelow | EntryKind::DeleteNumbers => {
                live.remove_numbers(entry.key.family, entry.numbers());
            }
            EntryKind::Put => {
                live.put(entry.key, Place::new(number, at, entry.stored_bytes()));
                let head = window.read(u64::from(entry.head_at), entry.head_bytes as usize)?;
                let (at, bytes, what) = if !is_head_sound(seed, entry, head) {
                    (entry.head_at, entry.head_bytes, "the record's head does not match its checksum")
                } else if entry.is_body_damaged {
                    (
                        entry.body_at,
                        entry.body_bytes,
                        "the record's body was found damaged before it was moved",
                    )
                } else {
                    return Ok(());
                };
                // The key still leads here, so that reading it fails rather than showing an older record.
                live.set_damaged(number);
                let name = FileName::Segment(number);
                self.opened.damages.note(name, u64::from(at), u64::from(bytes), Some(entry.key), what);
            }
        }
        Ok(())
    }
}

#[derive(Debug, Default)]
struct Tail {
    end: u64,
    expected: u64,
    torn_at: Option<u64>,
    unproven_from: Option<u64>,
    /// The closing mark, if that is what the segment ends with.
    closing: Option<Group>,
}

fn is_closing(group: &Group) -> bool {
    group.header.kind == GroupKind::Closing
}

/// The checksum of a table with these entries.
fn table_crc(entries: &[(u64, TableEntry)], seed: u32) -> u32 {
    entries.iter().fold(0, |crc, (at, entry)| crc32c_append(crc, &entry.encode(seed, *at)))
}

/// Whether half of a closing mark is missing, as a crash while it was being written leaves it. Nothing was in it. Where
/// a single byte differs, that is damage.
fn is_half_written(window: &mut Window<'_>, group: &Group) -> io::Result<bool> {
    if !is_closing(group) || crate::mutant::is("half-mark-is-damage") {
        return Ok(false);
    }
    for (at, wanted) in marks(group) {
        let have = window.read(at, GROUP_HEADER_BYTES)?;
        let same = have.iter().zip(&wanted).filter(|(have, wanted)| have == wanted).count();
        if same + 1 < wanted.len() {
            return Ok(true);
        }
    }
    Ok(false)
}

/// The two halves of a closing mark: where, and what.
fn marks(group: &Group) -> [(u64, [u8; GROUP_HEADER_BYTES]); 2] {
    let header = &group.header;
    [
        (group.at, header.encode(GroupMark::Header, group.at)),
        (group.trailer_at(), header.encode(GroupMark::Trailer, group.at)),
    ]
}

/// Writes a closing mark again, whole: it may be in the host's memory only, and the next segment will count on it.
fn complete_mark(file: &dyn DiskFile, group: &Group) -> io::Result<()> {
    marks(group).into_iter().try_for_each(|(at, mark)| file.write_all_at(&mut [IoSlice::new(&mark)], at))
}

/// The header that a segment's two copies give, if any.
fn sound_header(copies: [HeaderCopy; 2], name: FileName) -> Result<Option<SegmentHeader>, Error> {
    let sound = copies.iter().find_map(|copy| match copy {
        HeaderCopy::Sound(header) => Some(*header),
        _ => None,
    });
    match copies {
        [HeaderCopy::OtherVersion(first), HeaderCopy::OtherVersion(second)] if first == second => {
            Err(Error::new(ErrorKind::Incompatible, "open the journal: another version wrote it")
                .with("file", name)
                .with("format_version", first)
                .with("supported", super::format::FORMAT_VERSION))
        }
        _ => Ok(sound),
    }
}

/// Whether every byte of a group is as it was written.
fn is_whole(
    window: &mut Window<'_>,
    salt: u64,
    group: &Group,
    entries: &mut Vec<(u64, TableEntry)>,
) -> io::Result<bool> {
    if is_closing(group) || crate::mutant::is("torn-group-replayed") {
        // Nothing is in it: one sound mark says all.
        return Ok(true);
    }
    if !group.has_header || !is_trailer_sound(window, group)? {
        return Ok(false);
    }
    let seed = segment_seed(salt, group.header.segment);
    let mut table_crc = 0;
    entries.clear();
    let mut at = group.at + GROUP_HEADER_BYTES as u64;
    for _ in 0..group.header.entries {
        let bytes = window.read(at, ENTRY_BYTES)?;
        table_crc = crc32c_append(table_crc, bytes);
        let Some(entry) = TableEntry::decode(bytes, seed, at) else { return Ok(false) };
        if entry.kind == EntryKind::Put {
            entries.push((at, entry));
        }
        at += ENTRY_BYTES as u64;
    }
    if table_crc != group.header.table_crc {
        return Ok(false);
    }
    if crate::mutant::is("record-checksum-ignored") {
        return Ok(true);
    }
    // First all heads, then all bodies: the order in which they lie in the file.
    for (_, entry) in entries.iter() {
        if !is_head_sound(seed, entry, window.read(u64::from(entry.head_at), entry.head_bytes as usize)?) {
            return Ok(false);
        }
    }
    for (_, entry) in entries.iter() {
        let body = window.read(u64::from(entry.body_at), entry.body_bytes as usize)?;
        if body.len() != entry.body_bytes as usize || crc32c_append(seed, body) != entry.body_crc {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Writes the bytes from `from` to `to` again, unchanged. Where a flush had failed, the host may hold pages that
/// never reached the disk and that it takes for clean: a flush now would say yes without writing them.
fn rewrite(file: &dyn DiskFile, from: u64, to: u64) -> io::Result<()> {
    let mut buffer = Vec::new();
    let mut at = from;
    while at < to {
        let bytes = usize::try_from(to - at).unwrap_or(COPY_BYTES).min(COPY_BYTES);
        buffer.resize(bytes, 0);
        if file.read_at(&mut buffer, at)? < bytes {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        file.write_all_at(&mut [IoSlice::new(&buffer)], at)?;
        at += bytes as u64;
    }
    Ok(())
}
