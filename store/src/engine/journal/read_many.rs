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
const RUN_BYTES_MAX: u32 = 1024 * 1024;

/// Where a record is, as the index had it a moment ago.
struct Found {
    key: Key,
    place: Place,
    file: Arc<dyn DiskFile>,
}

impl Journal {
    /// The records under `keys`, in their order.
    pub(super) fn read_many(&self, keys: &[Key]) -> Vec<Result<Option<Record>, Error>> {
        let found: Vec<Option<Found>> = {
            let live = self.live();
            let find = |key: &Key| {
                let place = live.place(*key)?;
                Some(Found { key: *key, place, file: live.segment(place.segment)?.file.clone() })
            };
            keys.iter().map(find).collect()
        };
        let mut records = Vec::with_capacity(keys.len());
        for run in found.chunk_by(follows_upto(RUN_BYTES_MAX)) {
            let together = self.read_run(run).unwrap_or_default();
            let together = together.into_iter().chain(std::iter::repeat(None));
            for (record, key) in together.zip(keys.iter().skip(records.len()).take(run.len())) {
                // What cannot be read like this, for whatever reason, is read and judged by itself.
                records.push(record.map_or_else(|| self.get(*key), |record| Ok(Some(record))));
            }
        }
        records
    }

    /// The records of a run, those that are sound. Nothing where it is no run.
    fn read_run(&self, run: &[Option<Found>]) -> Option<Vec<Option<Record>>> {
        let [Some(first), _, ..] = run else { return None };
        let (file, at) = (&*first.file, first.place.at());
        let seed = segment_seed(self.salt, u64::from(first.place.segment));
        let table = read_bytes(file, u32::try_from(at).ok()?, run.len() * ENTRY_BYTES).ok()?;
        let mut entries = Vec::with_capacity(run.len());
        for ((bytes, found), at) in table.chunks_exact(ENTRY_BYTES).zip(run).zip((at..).step_by(ENTRY_BYTES))
        {
            let entry = TableEntry::decode(bytes, seed, at)?;
            let is_it = found.as_ref().is_some_and(|found| found.key == entry.key);
            entries.push(Some(entry).filter(|entry| is_it && entry.kind == EntryKind::Put)?);
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
}

/// Whether the second of two records was written right behind the first, as long as no more than so many bytes come
/// together.
fn follows_upto(bytes_max: u32) -> impl FnMut(&Option<Found>, &Option<Found>) -> bool {
    let mut bytes = 0_u32;
    move |before, after| {
        let (Some(before), Some(after)) = (before, after) else {
            bytes = 0;
            return false;
        };
        bytes = bytes.max(before.place.bytes).saturating_add(after.place.bytes);
        let is_next = before.place.segment == after.place.segment
            && before.place.at() + ENTRY_BYTES as u64 == after.place.at()
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
