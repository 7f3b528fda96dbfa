//! Where every live record is: a sorted map in memory, flat enough for many millions.
//!
//! Records of a family stand in sorted chunks of at most [`CHUNK_ROWS`] rows of 16 or 24 bytes. Numbers mostly ascend, so
//! nearly every insertion appends to the last chunk and fills it to the brim. A chunk gives its memory back as its
//! rows go, so that one survivor among many finished neighbours costs little.

use std::collections::VecDeque;
use std::ops::Range;

use crate::engine::Key;
use chunk::{Chunk, Name};

mod chunk;
#[cfg(test)]
mod tests;

/// Rows of a full chunk. Longer ones would make an insertion or removal in the middle move more.
const CHUNK_ROWS: usize = 256;

/// Where a record's table entry is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    /// The segment.
    pub(super) segment: u32,
    /// The entry's offset in it, in units of 16 bytes.
    at_16: u32,
    /// Bytes that the segment carries for the record.
    pub(super) bytes: u32,
}

impl Place {
    /// The place of the entry at offset `at`, a multiple of 16 below 64 GiB.
    pub(super) fn new(segment: u32, at: u64, bytes: u32) -> Self {
        Self { segment, at_16: u32::try_from(at / 16).unwrap_or(u32::MAX), bytes }
    }

    /// The entry's offset in its segment.
    pub(super) fn at(&self) -> u64 {
        u64::from(self.at_16) * 16
    }
}

/// The chunks of a family, in order, each under a name that is no greater than any in it: rows come at the end and
/// mostly go at the beginning.
#[derive(Debug, Default)]
struct Family(VecDeque<(Name, Chunk)>);

/// The map from key to place.
#[derive(Debug, Default)]
pub(super) struct Index {
    /// By family number.
    families: Vec<Family>,
    records: u64,
}

impl Index {
    /// How many records there are.
    pub(super) const fn records(&self) -> u64 {
        self.records
    }

    /// Where the record of a key is.
    pub(super) fn get(&self, key: Key) -> Option<Place> {
        let name = (key.number, key.part);
        let family = self.families.get(usize::from(key.family))?;
        let (_, chunk) = family.0.get(family.chunk_of(name)?)?;
        chunk.get(chunk.search(name).ok()?)
    }

    /// The records of a family, in order.
    pub(super) fn iter(&self, family: u8) -> impl Iterator<Item = (Key, Place)> {
        let chunks = self.families.get(usize::from(family)).into_iter().flat_map(|family| &family.0);
        let rows = chunks.flat_map(|(_, chunk)| chunk.iter());
        rows.map(move |((number, part), place)| (Key::new(family, number, part), place))
    }

    /// Sets where the record of a key is, and returns where it was before.
    pub(super) fn put(&mut self, key: Key, place: Place) -> Option<Place> {
        let family = usize::from(key.family);
        if self.families.len() <= family {
            self.families.resize_with(family + 1, Family::default);
        }
        let family = self.families.get_mut(family)?;
        let before = family.put((key.number, key.part), place);
        self.records += u64::from(before.is_none());
        before
    }

    /// Forgets a key, and returns where its record was.
    pub(super) fn remove(&mut self, key: Key) -> Option<Place> {
        let name = (key.number, key.part);
        let family = self.families.get_mut(usize::from(key.family))?;
        let at = family.chunk_of(name)?;
        let (_, chunk) = family.0.get_mut(at)?;
        let place = chunk.remove(chunk.search(name).ok()?);
        if chunk.len() == 0 {
            family.0.remove(at);
        }
        self.records -= 1;
        Some(place)
    }

    /// Forgets every key of a family that has one of these numbers, and tells where each record was.
    pub(super) fn remove_numbers(&mut self, family: u8, numbers: Range<u64>, mut removed: impl FnMut(Place)) {
        let Some(family) = self.families.get_mut(usize::from(family)) else { return };
        let mut at = family.chunk_of((numbers.start, 0)).unwrap_or(0);
        while let Some(((first, _), chunk)) = family.0.get_mut(at) {
            if *first >= numbers.end {
                break;
            }
            chunk.remove_numbers(&numbers, |place| {
                removed(place);
                self.records -= 1;
            });
            if chunk.len() > 0 {
                at += 1;
            } else {
                family.0.remove(at);
            }
        }
    }
}

impl Family {
    /// Which chunk a name belongs to: the last one that begins no later.
    fn chunk_of(&self, name: Name) -> Option<usize> {
        match self.0.back() {
            Some((first, _)) if *first <= name => Some(self.0.len() - 1),
            _ => self
                .likely_chunk(name)
                .or_else(|| self.0.partition_point(|(first, _)| *first <= name).checked_sub(1)),
        }
    }

    /// The chunk where the name is if no number between them is missing, unless it is not there.
    fn likely_chunk(&self, name: Name) -> Option<usize> {
        let ((front, _), _) = self.0.front()?;
        let guess = usize::try_from(name.0.checked_sub(*front)?).ok()? / CHUNK_ROWS;
        let begins = |at: usize| self.0.get(at).map(|(first, _)| *first);
        (begins(guess)? <= name && begins(guess + 1)? > name).then_some(guess)
    }

    fn put(&mut self, name: Name, place: Place) -> Option<Place> {
        let Some(at) = self.chunk_of(name) else {
            // Before everything there is: into the first chunk, which is then known by the new name.
            match self.0.front_mut() {
                Some((first, chunk)) if chunk.len() < CHUNK_ROWS => {
                    chunk.insert(0, name, place);
                    *first = name;
                }
                _ => self.0.push_front((name, Chunk::with(name, place))),
            }
            return None;
        };
        let (_, chunk) = self.0.get_mut(at)?;
        match chunk.search(name) {
            Ok(found) => return chunk.replace(found, place),
            Err(row) if chunk.len() < CHUNK_ROWS => chunk.insert(row, name, place),
            // Appending to a full chunk leaves it full; anything else halves it.
            Err(row) if row == chunk.len() => self.0.insert(at + 1, (name, Chunk::with(name, place))),
            Err(row) => {
                let mut upper = chunk.split_off(CHUNK_ROWS / 2);
                if row <= chunk.len() {
                    chunk.insert(row, name, place);
                } else {
                    upper.insert(row - chunk.len(), name, place);
                }
                if let Some(first) = upper.first() {
                    self.0.insert(at + 1, (first, upper));
                }
            }
        }
        None
    }
}
