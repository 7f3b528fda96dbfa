//! Where every live record is: a sorted map in memory, flat enough for many millions.
//!
//! Records of a family stand in sorted chunks of at most [`CHUNK_ROWS`] rows of 24 bytes. Numbers mostly ascend, so
//! nearly every insertion appends to the last chunk and fills it to the brim. A chunk gives its memory back as its
//! rows go, so that one survivor among many finished neighbours costs little.

use std::collections::BTreeMap;

use crate::engine::Key;

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

#[derive(Debug, Clone, Copy)]
struct Row {
    number: u64,
    part: u32,
    place: Place,
}

impl Row {
    const fn name(&self) -> (u64, u32) {
        (self.number, self.part)
    }
}

/// Chunks under a name that is no greater than any in the chunk, and greater than any in the one before.
type Family = BTreeMap<(u64, u32), Vec<Row>>;

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
        let (_, rows) = self.families.get(usize::from(key.family))?.range(..=name).next_back()?;
        let found = rows.binary_search_by_key(&name, Row::name).ok()?;
        rows.get(found).map(|row| row.place)
    }

    /// Sets where the record of a key is, and returns where it was before.
    pub(super) fn put(&mut self, key: Key, place: Place) -> Option<Place> {
        let family = usize::from(key.family);
        if self.families.len() <= family {
            self.families.resize_with(family + 1, Family::new);
        }
        let family = self.families.get_mut(family)?;
        let before = put_row(family, Row { number: key.number, part: key.part, place });
        self.records += u64::from(before.is_none());
        before
    }

    /// Forgets a key, and returns where its record was.
    pub(super) fn remove(&mut self, key: Key) -> Option<Place> {
        let name = (key.number, key.part);
        let family = self.families.get_mut(usize::from(key.family))?;
        let (&chunk, rows) = family.range_mut(..=name).next_back()?;
        let found = rows.binary_search_by_key(&name, Row::name).ok()?;
        let row = rows.remove(found);
        if rows.is_empty() {
            family.remove(&chunk);
        } else {
            shrink(rows);
        }
        self.records -= 1;
        Some(row.place)
    }

    /// Forgets every key of a family with a number below `number`, and tells where each record was.
    pub(super) fn remove_below(&mut self, family: u8, number: u64, mut removed: impl FnMut(Place)) {
        let Some(family) = self.families.get_mut(usize::from(family)) else { return };
        while let Some(mut first) = family.first_entry() {
            if first.key().0 >= number {
                break;
            }
            let rows = first.get_mut();
            let gone = rows.partition_point(|row| row.number < number);
            for row in rows.drain(..gone) {
                removed(row.place);
                self.records -= 1;
            }
            if !rows.is_empty() {
                shrink(rows);
                break;
            }
            first.remove();
        }
    }
}

fn put_row(family: &mut Family, row: Row) -> Option<Place> {
    let name = row.name();
    let Some((_, rows)) = family.range_mut(..=name).next_back() else {
        // Before everything there is: into the first chunk, which is then known by the new name.
        let rows = match family.pop_first() {
            Some((_, mut rows)) if rows.len() < CHUNK_ROWS => {
                rows.insert(0, row);
                rows
            }
            Some((known, rows)) => {
                family.insert(known, rows);
                vec![row]
            }
            None => vec![row],
        };
        family.insert(name, rows);
        return None;
    };
    match rows.binary_search_by_key(&name, Row::name) {
        Ok(found) => rows.get_mut(found).map(|old| std::mem::replace(&mut old.place, row.place)),
        Err(place) if rows.len() < CHUNK_ROWS => {
            rows.insert(place, row);
            None
        }
        // Appending to a full chunk leaves it full; anything else halves it.
        Err(place) if place == rows.len() => {
            family.insert(name, vec![row]);
            None
        }
        Err(place) => {
            let mut upper = rows.split_off(CHUNK_ROWS / 2);
            if place <= rows.len() {
                rows.insert(place, row);
            } else {
                upper.insert(place - rows.len(), row);
            }
            if let Some(name) = upper.first().map(Row::name) {
                family.insert(name, upper);
            }
            None
        }
    }
}

fn shrink(rows: &mut Vec<Row>) {
    if rows.len() <= rows.capacity() / 4 {
        rows.shrink_to(rows.len() * 2);
    }
}
