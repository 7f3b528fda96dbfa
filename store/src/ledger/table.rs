//! A compact ordered table from numbers to rows, made for numbers that mostly rise.
//!
//! Rows lie in chunks of up to 512, found through their first numbers: about two bytes
//! a row beside the row itself. A chunk that is mostly dead is compacted, so one long-lived row does not keep
//! many dead ones' memory.

use std::collections::VecDeque;

const CHUNK_ROWS: usize = 512;

/// Number -> row.
#[derive(Debug)]
pub(crate) struct Table<T> {
    /// In order, each with its first number: rows come at the end and mostly go at the beginning.
    chunks: VecDeque<(u64, Box<Chunk<T>>)>,
}

#[derive(Debug)]
struct Chunk<T> {
    /// Offsets from the chunk's first number, rising.
    offsets: Vec<u16>,
    rows: Vec<T>,
    alive: [u64; CHUNK_ROWS / 64],
    live: usize,
}

impl<T> Default for Table<T> {
    fn default() -> Self {
        Self { chunks: VecDeque::new() }
    }
}

impl<T: Copy> Table<T> {
    pub(crate) fn len(&self) -> usize {
        self.chunks.iter().map(|(_, chunk)| chunk.live).sum()
    }

    /// Which chunk a number belongs to: the last one that begins no later.
    fn chunk_of(&self, number: u64) -> Option<usize> {
        match self.chunks.back() {
            Some((first, _)) if *first <= number => Some(self.chunks.len() - 1),
            _ => self
                .likely_chunk(number)
                .or_else(|| self.chunks.partition_point(|(first, _)| *first <= number).checked_sub(1)),
        }
    }

    /// The chunk where the number is if no number between them is missing, unless it is not there.
    fn likely_chunk(&self, number: u64) -> Option<usize> {
        let (front, _) = self.chunks.front()?;
        let guess = usize::try_from(number.checked_sub(*front)?).ok()? / CHUNK_ROWS;
        let begins = |at: usize| self.chunks.get(at).map(|(first, _)| *first);
        (begins(guess)? <= number && begins(guess + 1)? > number).then_some(guess)
    }

    pub(crate) fn get(&self, number: u64) -> Option<&T> {
        let (first, chunk) = self.chunks.get(self.chunk_of(number)?)?;
        let place = chunk.place(u16::try_from(number - first).ok()?)?;
        chunk.rows.get(place)
    }

    pub(crate) fn get_mut(&mut self, number: u64) -> Option<&mut T> {
        let at = self.chunk_of(number)?;
        let (first, chunk) = self.chunks.get_mut(at)?;
        let place = chunk.place(u16::try_from(number - *first).ok()?)?;
        chunk.rows.get_mut(place)
    }

    /// Puts a row under a number, over the one that is there.
    pub(crate) fn insert(&mut self, number: u64, row: T) {
        let at = self.chunk_of(number);
        if let Some(at) = at
            && let Some((first, chunk)) = self.chunks.get_mut(at)
            && let Ok(offset) = u16::try_from(number - *first)
        {
            let is_last = chunk.offsets.last().is_none_or(|last| *last < offset);
            if !is_last && let Some(have) = chunk.place(offset).and_then(|place| chunk.rows.get_mut(place)) {
                *have = row;
                return;
            }
            if chunk.offsets.len() < CHUNK_ROWS {
                chunk.insert(offset, row);
                return;
            }
            // Numbers mostly rise, so a full chunk is followed by a new one; only a number in its middle moves
            // the chunk's upper half out.
            if !is_last {
                let (above, upper) = chunk.split(*first);
                self.chunks.insert(at + 1, (above, Box::new(upper)));
                self.insert(number, row);
                return;
            }
        }
        self.chunks.insert(at.map_or(0, |at| at + 1), (number, Box::new(Chunk::with(row))));
    }

    /// Takes the row of a number out.
    pub(crate) fn remove(&mut self, number: u64) -> Option<T> {
        let at = self.chunk_of(number)?;
        let (first, chunk) = self.chunks.get_mut(at)?;
        let place = chunk.place(u16::try_from(number - *first).ok()?)?;
        let row = chunk.rows.get(place).copied()?;
        chunk.kill(place);
        if chunk.live == 0 {
            self.chunks.remove(at);
        } else if chunk.live * 2 < chunk.offsets.len() && chunk.offsets.len() > 32 {
            chunk.compact();
        }
        Some(row)
    }

    /// Every row with a number of at least `from`, in order.
    pub(crate) fn range(&self, from: u64) -> impl Iterator<Item = (u64, &T)> {
        self.chunks
            .range(self.chunk_of(from).unwrap_or(0)..)
            .flat_map(|(first, chunk)| {
                chunk.offsets.iter().zip(&chunk.rows).enumerate().filter_map(move |(place, (offset, row))| {
                    chunk.is_alive(place).then_some((first + u64::from(*offset), row))
                })
            })
            .filter(move |(number, _)| *number >= from)
    }
}

impl<T: Copy> Chunk<T> {
    fn with(row: T) -> Self {
        let mut chunk = Self {
            offsets: Vec::with_capacity(8),
            rows: Vec::with_capacity(8),
            alive: [0; CHUNK_ROWS / 64],
            live: 0,
        };
        chunk.push(0, row);
        chunk
    }

    /// Where the row with this offset is, if it lives.
    fn place(&self, offset: u16) -> Option<usize> {
        let guess = usize::from(offset);
        // Without holes the offset is the place.
        let place = match self.offsets.get(guess) {
            Some(have) if *have == offset => guess,
            _ => self.offsets.binary_search(&offset).ok()?,
        };
        self.is_alive(place).then_some(place)
    }

    fn is_alive(&self, place: usize) -> bool {
        self.alive.get(place / 64).is_some_and(|word| word >> (place % 64) & 1 == 1)
    }

    fn push(&mut self, offset: u16, row: T) {
        let place = self.offsets.len();
        self.offsets.push(offset);
        self.rows.push(row);
        if let Some(word) = self.alive.get_mut(place / 64) {
            *word |= 1 << (place % 64);
        }
        self.live += 1;
    }

    fn insert(&mut self, offset: u16, row: T) {
        if self.offsets.last().is_none_or(|last| *last < offset) {
            self.push(offset, row);
            return;
        }
        self.compact();
        let place = self.offsets.partition_point(|have| *have < offset);
        self.offsets.insert(place, offset);
        self.rows.insert(place, row);
        self.revive();
    }

    fn kill(&mut self, place: usize) {
        if let Some(word) = self.alive.get_mut(place / 64) {
            *word &= !(1 << (place % 64));
        }
        self.live -= 1;
    }

    /// Drops the dead rows and the room they took.
    fn compact(&mut self) {
        let alive = self.alive;
        let keep = |place: usize| alive.get(place / 64).is_some_and(|word| word >> (place % 64) & 1 == 1);
        let mut place = 0;
        self.offsets.retain(|_| {
            place += 1;
            keep(place - 1)
        });
        place = 0;
        self.rows.retain(|_| {
            place += 1;
            keep(place - 1)
        });
        self.offsets.shrink_to_fit();
        self.rows.shrink_to_fit();
        self.revive();
    }

    /// Marks every row as living.
    fn revive(&mut self) {
        self.live = self.offsets.len();
        for (index, word) in self.alive.iter_mut().enumerate() {
            let rows = self.live.saturating_sub(index * 64).min(64);
            *word = if rows == 64 { u64::MAX } else { (1 << rows) - 1 };
        }
    }

    /// Moves the upper half out, as a chunk of its own with its first number.
    fn split(&mut self, first: u64) -> (u64, Self) {
        self.compact();
        let half = self.offsets.len() / 2;
        let offsets = self.offsets.split_off(half);
        let rows = self.rows.split_off(half);
        let base = offsets.first().copied().unwrap_or(0);
        let mut above = Self {
            offsets: offsets.iter().map(|offset| offset - base).collect(),
            rows,
            alive: [0; CHUNK_ROWS / 64],
            live: 0,
        };
        above.revive();
        self.revive();
        (first + u64::from(base), above)
    }
}

#[cfg(test)]
mod tests;
