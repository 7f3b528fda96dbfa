//! What each key of a group becomes: records are cut into pieces, and deletes name every key that is there.

use std::collections::{BTreeMap, HashMap};
use std::ops::{Bound, Range};

use ::sled::IVec;

use super::{KEY_BYTES, PIECE_BYTES, UNFLUSHED_BYTES_MAX, key_bytes, piece_key, value_bytes};
use crate::engine::{Key, Write, WriteSet};

/// What becomes of one key.
#[derive(Debug)]
struct Change {
    /// `None`: it goes.
    value: Option<IVec>,
    /// The database has it.
    existed: bool,
}

/// What becomes of the keys of a group.
#[derive(Debug, Default)]
pub(super) struct Changes(BTreeMap<IVec, Change>);

/// The highest number that a family may have: most records are new, and need not be looked for.
#[derive(Debug, Default)]
pub(super) struct Reach(HashMap<u8, u64>);

impl Reach {
    pub(super) fn note(&mut self, key: Key) {
        let highest = self.0.entry(key.family).or_default();
        *highest = key.number.max(*highest);
    }

    /// Whether there may be a record of the family with this number or a higher one.
    fn has(&self, family: u8, number: u64) -> bool {
        self.0.get(&family).is_some_and(|highest| *highest >= number)
    }
}

impl Changes {
    /// What the changes of `writes` come to.
    pub(super) fn of(db: &::sled::Db, reach: &mut Reach, writes: &WriteSet) -> ::sled::Result<Self> {
        let mut changes = Self::default();
        for write in writes.iter() {
            match write {
                Write::Put { key, head, body } => {
                    changes.remove(db, reach, key)?;
                    changes.put(key, value_bytes(key, head, body));
                    reach.note(key);
                }
                Write::Delete { key } => changes.remove(db, reach, key)?,
                Write::DeleteNumbers { family, first, count } => {
                    let numbers = first..first.saturating_add(u64::from(count));
                    changes.remove_numbers(db, reach, family, numbers)?;
                }
                Write::DeleteBelow { family, number } => {
                    changes.remove_numbers(db, reach, family, 0..number)?;
                }
            }
        }
        Ok(changes)
    }

    /// Sets every piece of a record of which nothing is left.
    fn put(&mut self, key: Key, value: Vec<u8>) {
        if value.len() < PIECE_BYTES {
            self.set(key_bytes(key).as_slice().into(), value.into());
            return;
        }
        for (piece, part) in (0..).zip(value.chunks(PIECE_BYTES)) {
            self.set(piece_key(&key_bytes(key), piece), part.into());
        }
    }

    fn set(&mut self, name: IVec, value: IVec) {
        self.0.entry(name).or_insert(Change { value: None, existed: false }).value = Some(value);
    }

    fn goes(&mut self, name: IVec, existed: bool) {
        self.0.entry(name).or_insert(Change { value: None, existed }).value = None;
    }

    /// Removes a record with all of its pieces, those of the group and those that are stored.
    fn remove(&mut self, db: &::sled::Db, reach: &Reach, key: Key) -> ::sled::Result<()> {
        let name = key_bytes(key);
        let is_known = self.0.contains_key(name.as_slice());
        if is_known {
            let from = (Bound::Included(name.as_slice()), Bound::Unbounded);
            let of_group =
                self.0.range_mut::<[u8], _>(from).take_while(|(known, _)| known.starts_with(&name));
            of_group.for_each(|(_, change)| change.value = None);
            return Ok(());
        }
        if !reach.has(key.family, key.number) {
            return Ok(());
        }
        let mut value = db.get(name)?;
        self.goes(name.as_slice().into(), value.is_some());
        let mut piece = 0;
        while value.is_some_and(|value| value.len() == PIECE_BYTES) {
            piece += 1;
            let next = piece_key(&name, piece);
            value = db.get(&next)?;
            if value.is_some() {
                self.goes(next, true);
            }
        }
        Ok(())
    }

    /// Removes the records of a family that have these numbers, those of the group and those that are stored.
    fn remove_numbers(
        &mut self,
        db: &::sled::Db,
        reach: &Reach,
        family: u8,
        numbers: Range<u64>,
    ) -> ::sled::Result<()> {
        let [from, to] = [numbers.start, numbers.end].map(|number| key_bytes(Key::new(family, number, 0)));
        if from >= to || !reach.has(family, numbers.start) {
            return Ok(());
        }
        let of_group = (Bound::Included(from.as_slice()), Bound::Excluded(to.as_slice()));
        self.0.range_mut::<[u8], _>(of_group).for_each(|(_, change)| change.value = None);
        for name in db.range(from..to).keys() {
            self.goes(name?, true);
        }
        Ok(())
    }

    /// By how much the number of records changes.
    pub(super) fn growth(&self) -> i64 {
        let records = self.0.iter().filter(|(name, _)| name.len() == KEY_BYTES);
        records.map(|(_, change)| i64::from(change.value.is_some()) - i64::from(change.existed)).sum()
    }

    /// The bytes of keys and values.
    pub(super) fn bytes(&self) -> usize {
        self.0.iter().map(|(name, change)| bytes(name, change)).sum()
    }

    /// Takes the later pieces of new long records out of a large group, a few at a time: nobody sees them before the
    /// first piece is there.
    pub(super) fn parts_ahead(&mut self) -> Vec<Self> {
        let mut parts = Vec::new();
        if self.bytes() <= UNFLUSHED_BYTES_MAX {
            return parts;
        }
        let is_later = |name: &IVec| {
            // The pieces of a record that is there must change with it.
            let first = name.get(..KEY_BYTES).and_then(|first| self.0.get(first));
            name.len() > KEY_BYTES && first.is_some_and(|first| !first.existed)
        };
        let later = self.0.iter().filter(|(name, change)| change.value.is_some() && is_later(name));
        let later: Vec<IVec> = later.map(|(name, _)| name.clone()).collect();
        let (mut part, mut part_bytes) = (Self::default(), 0);
        for name in later {
            let Some((name, change)) = self.0.remove_entry(&name) else { continue };
            part_bytes += bytes(&name, &change);
            part.0.insert(name, change);
            if part_bytes > UNFLUSHED_BYTES_MAX / 2 {
                parts.push(std::mem::take(&mut part));
                part_bytes = 0;
            }
        }
        if !part.0.is_empty() {
            parts.push(part);
        }
        parts
    }

    pub(super) fn into_batch(self) -> ::sled::Batch {
        let mut batch = ::sled::Batch::default();
        for (name, Change { value, existed }) in self.0 {
            match value {
                Some(value) => batch.insert(name, value),
                None if existed => batch.remove(name),
                // It came and went with this group.
                None => {}
            }
        }
        batch
    }
}

fn bytes(name: &IVec, change: &Change) -> usize {
    name.len() + change.value.as_ref().map_or(0, |value| value.len())
}

#[cfg(test)]
mod tests;
