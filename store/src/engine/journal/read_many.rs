//! Reading several records at once: those that were written in a row lie in a row, and are read with three reads.

#![warn(clippy::indexing_slicing)]

use std::sync::Arc;

use bytes::Bytes;
use crc32c::crc32c_append;

use super::Journal;
use super::disk::DiskFile;
use super::format::{ENTRY_BYTES, EntryKind, TableEntry, segment_seed};
use super::index::Place;
use super::read::{is_head_sound, read_bytes};
use crate::Error;
use crate::engine::{Engine, Key, Record};

/// Records read at once have no more bytes together.
pub(super) const RUN_BYTES_MAX: u32 = 1024 * 1024;

/// Where a record is, as the index had it a moment ago.
type Found = (Key, Place);

impl Journal {
    /// The records under `keys`, in their order.
    pub(super) fn read_many(&self, keys: &[Key]) -> Vec<Result<Option<Record>, Error>> {
        let (found, files) = {
            let live = self.live();
            // What is not there is its own run, and found out about by itself.
            let nowhere = Place::new(u32::MAX, 0, u32::MAX);
            let found: Vec<Found> =
                keys.iter().map(|key| (*key, live.place(*key).unwrap_or(nowhere))).collect();
            let runs = found.chunk_by(follows_upto(RUN_BYTES_MAX));
            let file =
                |run: &[Found]| live.segment(run.first()?.1.segment).map(|segment| segment.file.clone());
            let files: Vec<Option<Arc<dyn DiskFile>>> = runs.map(file).collect();
            (found, files)
        };
        let mut records = Vec::with_capacity(keys.len());
        for (run, file) in found.chunk_by(follows_upto(RUN_BYTES_MAX)).zip(files) {
            let seed = |segment: u32| segment_seed(self.salt, u64::from(segment));
            let together = run
                .first()
                .zip(file)
                .and_then(|((_, first), file)| read_run(&*file, seed(first.segment), run));
            let together = together.unwrap_or_default().into_iter().chain(std::iter::repeat(None));
            for (record, (key, _)) in together.zip(run) {
                // What cannot be read like this, for whatever reason, is read and judged by itself.
                records.push(record.map_or_else(|| self.get(*key), |record| Ok(Some(record))));
            }
        }
        records
    }
}

/// The records of a run, those that are sound: of keys that were put right one behind the other into a segment whose
/// checksums start from `seed`. Nothing where it is no run.
pub(super) fn read_run(file: &dyn DiskFile, seed: u32, run: &[(Key, Place)]) -> Option<Vec<Option<Record>>> {
    let [(_, first), _, ..] = run else { return None };
    let at = first.at();
    let table = read_bytes(file, u32::try_from(at).ok()?, run.len() * ENTRY_BYTES).ok()?;
    let mut entries = Vec::with_capacity(run.len());
    for ((bytes, (key, _)), at) in table.chunks_exact(ENTRY_BYTES).zip(run).zip((at..).step_by(ENTRY_BYTES)) {
        let entry = TableEntry::decode(bytes, seed, at)?;
        let is_it = entry.key == *key && entry.kind == EntryKind::Put;
        entries.push(is_it.then_some(entry)?);
    }
    let heads = Span::read(file, entries.iter().map(|entry| (entry.head_at, entry.head_bytes)))?;
    let bodies = Span::read(file, entries.iter().map(|entry| (entry.body_at, entry.body_bytes)))?;
    let sound = |entry: &TableEntry| {
        let head = heads.slice(entry.head_at, entry.head_bytes)?;
        let body = bodies.slice(entry.body_at, entry.body_bytes)?;
        let is_sound = is_head_sound(seed, entry, &head)
            && !entry.is_body_damaged
            && crc32c_append(seed, &body) == entry.body_crc;
        is_sound.then_some(Record { head, body })
    };
    Some(entries.iter().map(sound).collect())
}

/// Whether the second of two records was written right behind the first, as long as no more than so many bytes come
/// together.
pub(super) fn follows_upto(bytes_max: u32) -> impl FnMut(&Found, &Found) -> bool {
    let mut bytes = 0_u32;
    move |(_, before), (_, after)| {
        bytes = bytes.max(before.bytes).saturating_add(after.bytes);
        let is_next = before.segment == after.segment
            && before.at() + ENTRY_BYTES as u64 == after.at()
            && bytes <= bytes_max;
        if !is_next {
            bytes = 0;
        }
        is_next
    }
}

/// A part of a file.
struct Span {
    at: u32,
    bytes: Bytes,
}

impl Span {
    /// Reads pieces that follow each other without a gap; `None` where they do not.
    fn read(file: &dyn DiskFile, pieces: impl Iterator<Item = (u32, u32)>) -> Option<Self> {
        let mut span: Option<(u32, u32)> = None;
        for (at, bytes) in pieces.filter(|(_, bytes)| *bytes > 0) {
            let end = at.checked_add(bytes)?;
            span = match span {
                None => Some((at, end)),
                Some((begin, before)) if before == at => Some((begin, end)),
                Some(_) => return None,
            };
        }
        let (at, end) = span.unwrap_or_default();
        Some(Self { at, bytes: read_bytes(file, at, (end - at) as usize).ok()? })
    }

    /// One of the pieces; `None` where the file ends before it does.
    fn slice(&self, at: u32, bytes: u32) -> Option<Bytes> {
        if bytes == 0 {
            return Some(Bytes::new());
        }
        let from = at.checked_sub(self.at)? as usize;
        let to = from.checked_add(bytes as usize)?;
        (to <= self.bytes.len()).then(|| self.bytes.slice(from..to))
    }
}
