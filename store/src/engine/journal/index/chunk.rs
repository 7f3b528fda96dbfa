//! Rows of one chunk of the index, in order. Where every record has one part, as messages have, a row takes 16 bytes;
//! the first one that has others widens its chunk to 24 bytes a row.

use std::ops::Range;

use super::Place;

/// A record's number and part.
pub(super) type Name = (u64, u32);

#[derive(Debug, Clone, Copy)]
struct Narrow {
    /// Its number, less the chunk's base. Its part is 0.
    offset: u32,
    place: Place,
}

#[derive(Debug, Clone, Copy)]
struct Wide {
    number: u64,
    part: u32,
    place: Place,
}

#[derive(Debug)]
enum Rows {
    Narrow(Vec<Narrow>),
    Wide(Vec<Wide>),
}

/// Sorted rows.
#[derive(Debug)]
pub(super) struct Chunk {
    /// No row's number is lower.
    base: u64,
    rows: Rows,
}

impl Chunk {
    /// A chunk of one row.
    pub(super) fn with(name: Name, place: Place) -> Self {
        let mut chunk = Self { base: name.0, rows: Rows::Narrow(Vec::new()) };
        chunk.insert(0, name, place);
        chunk
    }

    pub(super) const fn len(&self) -> usize {
        match &self.rows {
            Rows::Narrow(rows) => rows.len(),
            Rows::Wide(rows) => rows.len(),
        }
    }

    /// The name of the first row.
    pub(super) fn first(&self) -> Option<Name> {
        match &self.rows {
            Rows::Narrow(rows) => rows.first().map(|row| (self.base + u64::from(row.offset), 0)),
            Rows::Wide(rows) => rows.first().map(|row| (row.number, row.part)),
        }
    }

    /// Where the row of a name is, or where it belongs.
    pub(super) fn search(&self, name: Name) -> Result<usize, usize> {
        match &self.rows {
            Rows::Narrow(rows) => {
                rows.binary_search_by(|row| (self.base + u64::from(row.offset), 0).cmp(&name))
            }
            Rows::Wide(rows) => rows.binary_search_by(|row| (row.number, row.part).cmp(&name)),
        }
    }

    pub(super) fn get(&self, at: usize) -> Option<Place> {
        match &self.rows {
            Rows::Narrow(rows) => rows.get(at).map(|row| row.place),
            Rows::Wide(rows) => rows.get(at).map(|row| row.place),
        }
    }

    /// Every row, in order.
    pub(super) fn iter(&self) -> impl Iterator<Item = (Name, Place)> {
        let (narrow, wide): (&[Narrow], &[Wide]) = match &self.rows {
            Rows::Narrow(rows) => (rows, &[]),
            Rows::Wide(rows) => (&[], rows),
        };
        let narrow = narrow.iter().map(|row| ((self.base + u64::from(row.offset), 0), row.place));
        narrow.chain(wide.iter().map(|row| ((row.number, row.part), row.place)))
    }

    /// Sets the place of a row, and returns the one before.
    pub(super) fn replace(&mut self, at: usize, place: Place) -> Option<Place> {
        let have = match &mut self.rows {
            Rows::Narrow(rows) => rows.get_mut(at).map(|row| &mut row.place),
            Rows::Wide(rows) => rows.get_mut(at).map(|row| &mut row.place),
        };
        have.map(|have| std::mem::replace(have, place))
    }

    /// Puts a row in before the one at `at`.
    pub(super) fn insert(&mut self, at: usize, name: Name, place: Place) {
        let (number, part) = name;
        let offset = number.checked_sub(self.base).and_then(|offset| u32::try_from(offset).ok());
        match (&mut self.rows, offset) {
            (Rows::Narrow(rows), Some(offset)) if part == 0 => rows.insert(at, Narrow { offset, place }),
            (Rows::Narrow(rows), _) => {
                let base = self.base;
                let wide =
                    |row: &Narrow| Wide { number: base + u64::from(row.offset), part: 0, place: row.place };
                let mut rows: Vec<Wide> = rows.iter().map(wide).collect();
                rows.insert(at, Wide { number, part, place });
                self.rows = Rows::Wide(rows);
            }
            (Rows::Wide(rows), _) => rows.insert(at, Wide { number, part, place }),
        }
    }

    /// Takes a row out, and gives back memory where much of it is unused.
    pub(super) fn remove(&mut self, at: usize) -> Place {
        match &mut self.rows {
            Rows::Narrow(rows) => {
                let row = rows.remove(at);
                shrink(rows);
                row.place
            }
            Rows::Wide(rows) => {
                let row = rows.remove(at);
                shrink(rows);
                row.place
            }
        }
    }

    /// Takes the rows out that have one of these numbers.
    pub(super) fn remove_numbers(&mut self, numbers: &Range<u64>, removed: impl FnMut(Place)) {
        match &mut self.rows {
            Rows::Narrow(rows) => {
                let below = |bound: u64| {
                    let offset = bound.saturating_sub(self.base);
                    rows.partition_point(|row| u64::from(row.offset) < offset)
                };
                let gone = below(numbers.start)..below(numbers.end);
                rows.drain(gone).map(|row| row.place).for_each(removed);
                shrink(rows);
            }
            Rows::Wide(rows) => {
                let below = |bound: u64| rows.partition_point(|row| row.number < bound);
                let gone = below(numbers.start)..below(numbers.end);
                rows.drain(gone).map(|row| row.place).for_each(removed);
                shrink(rows);
            }
        }
    }

    /// Moves the rows from `at` on into a chunk of their own.
    pub(super) fn split_off(&mut self, at: usize) -> Self {
        let rows = match &mut self.rows {
            Rows::Narrow(rows) => Rows::Narrow(rows.split_off(at)),
            Rows::Wide(rows) => Rows::Wide(rows.split_off(at)),
        };
        Self { base: self.base, rows }
    }

    #[cfg(test)]
    pub(super) fn bytes(&self) -> usize {
        match &self.rows {
            Rows::Narrow(rows) => rows.capacity() * size_of::<Narrow>(),
            Rows::Wide(rows) => rows.capacity() * size_of::<Wide>(),
        }
    }
}

fn shrink<T>(rows: &mut Vec<T>) {
    if rows.len() <= rows.capacity() / 4 {
        rows.shrink_to(rows.len() * 2);
    }
}
