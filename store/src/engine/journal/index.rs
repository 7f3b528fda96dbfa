//! Where every live record is: a sorted map in memory, flat enough for many millions.
//!
//! Records of a family stand in sorted chunks of at most [`CHUNK_ROWS`] rows of 16 or 24 bytes. Numbers mostly ascend, so
//! nearly every insertion appends to the last chunk and fills it to the brim. A chunk gives its memory back as its
//! rows go, so that one survivor among many finished neighbours costs little.

use std::collections::BTreeMap;

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

/// Chunks under a name that is no greater than any in the chunk, and greater than any in the one before.
type Family = BTreeMap<Name, Chunk>;

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
        let (_, chunk) = self.families.get(usize::from(key.family))?.range(..=name).next_back()?;
        chunk.get(chunk.search(name).ok()?)
    }

    /// Sets where the record of a key is, and returns where it was before.
    pub(super) fn put(&mut self, key: Key, place: Place) -> Option<Place> {
        let family = usize::from(key.family);
        if self.families.len() <= family {
            self.families.resize_with(family + 1, Family::new);
        }
        let family = self.families.get_mut(family)?;
        let before = put(family, (key.number, key.part), place);
        self.records += u64::from(before.is_none());
        before
    }

    /// Forgets a key, and returns where its record was.
    pub(super) fn remove(&mut self, key: Key) -> Option<Place> {
        let name = (key.number, key.part);
        let family = self.families.get_mut(usize::from(key.family))?;
        let (&first, chunk) = family.range_mut(..=name).next_back()?;
        let place = chunk.remove(chunk.search(name).ok()?);
        if chunk.len() == 0 {
            family.remove(&first);
        }
        self.records -= 1;
        Some(place)
    }

    /// Forgets every key of a family with a number below `number`, and tells where each record was.
    pub(super) fn remove_below(&mut self, family: u8, number: u64, mut removed: impl FnMut(Place)) {
        let Some(family) = self.families.get_mut(usize::from(family)) else { return };
        while let Some(mut first) = family.first_entry() {
            if first.key().0 >= number {
                break;
            }
            let chunk = first.get_mut();
            chunk.remove_below(number, |place| {
                removed(place);
                self.records -= 1;
            });
            if chunk.len() > 0 {
                break;
            }
            first.remove();
        }
    }
}

fn put(family: &mut Family, name: Name, place: Place) -> Option<Place> {
    let Some((_, chunk)) = family.range_mut(..=name).next_back() else {
        // Before everything there is: into the first chunk, which is then known by the new name.
        let chunk = match family.pop_first() {
            Some((_, mut chunk)) if chunk.len() < CHUNK_ROWS => {
                chunk.insert(0, name, place);
                chunk
            }
            Some((known, chunk)) => {
                family.insert(known, chunk);
                Chunk::with(name, place)
            }
            None => Chunk::with(name, place),
        };
        family.insert(name, chunk);
        return None;
    };
    match chunk.search(name) {
        Ok(found) => chunk.replace(found, place),
        Err(at) if chunk.len() < CHUNK_ROWS => {
            chunk.insert(at, name, place);
            None
        }
        // Appending to a full chunk leaves it full; anything else halves it.
        Err(at) if at == chunk.len() => {
            family.insert(name, Chunk::with(name, place));
            None
        }
        Err(at) => {
            let mut upper = chunk.split_off(CHUNK_ROWS / 2);
            if at <= chunk.len() {
                chunk.insert(at, name, place);
            } else {
                upper.insert(at - chunk.len(), name, place);
            }
            if let Some(first) = upper.first() {
                family.insert(first, upper);
            }
            None
        }
    }
}
