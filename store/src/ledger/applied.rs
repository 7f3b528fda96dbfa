//! Batches that were applied, remembered so that the same one committed again is applied once.

use std::collections::VecDeque;
use std::hash::BuildHasher;

use hashbrown::{DefaultHashBuilder, HashTable};

use crate::BatchId;
use crate::engine::WriteSet;
use crate::message_box::keys;
use crate::message_box::keys::applied::AppliedRecord;

/// The batches that are remembered, and the pages that they are kept in.
#[derive(Debug, Default)]
pub(super) struct Applied {
    /// Oldest first.
    records: VecDeque<AppliedRecord>,
    /// The sequence number of the first of them.
    oldest: u64,
    /// Id -> the low bits of its sequence number. Small, so that looking up is seldom waiting for memory: records lie in a
    /// row instead.
    places: HashTable<u32>,
    hasher: DefaultHashBuilder,
    /// The sequence numbers under which pages are kept, oldest first.
    pages: VecDeque<u64>,
    /// How many of the last of these have few rows.
    small: usize,
    /// Batches of the open group that are not written yet.
    page: keys::applied::Page,
}

impl Applied {
    /// What was kept: records with their sequence numbers, and the numbers of their pages, both in order. Only the newest
    /// ones are remembered; the oldest page may have others.
    pub(super) fn recovered(records: Vec<(u64, AppliedRecord)>, pages: Vec<u64>) -> Self {
        let next = records.last().map_or(0, |(sequence, _)| sequence + 1);
        let forgotten = records.len().saturating_sub(keys::applied::KEPT as usize);
        let kept = records.len() - forgotten;
        let mut applied = Self {
            records: VecDeque::with_capacity(kept),
            oldest: next - kept as u64,
            places: HashTable::with_capacity(kept),
            pages: pages.into(),
            ..Self::default()
        };
        records.into_iter().skip(forgotten).for_each(|(_, record)| applied.push(record));
        applied
    }

    /// What is remembered of a batch.
    pub(super) fn get(&self, id: BatchId) -> Option<&AppliedRecord> {
        let is_same = |place: &u32| self.at(*place).is_some_and(|record| record.id == id);
        self.at(*self.places.find(self.hasher.hash_one(id), is_same)?)
    }

    /// Reads where a batch would be found; gives something of what is there.
    pub(super) fn touch(&self, id: BatchId) -> u32 {
        self.places.find(self.hasher.hash_one(id), |_likely| true).copied().unwrap_or_default()
    }

    /// How many are remembered.
    pub(super) fn len(&self) -> u64 {
        self.records.len() as u64
    }

    /// The sequence number of the next one.
    pub(super) fn next(&self) -> u64 {
        self.oldest + self.len()
    }

    /// The ids of all, oldest first.
    #[cfg(test)]
    pub(super) fn ids(&self) -> impl Iterator<Item = BatchId> {
        self.records.iter().map(|record| record.id)
    }

    /// Remembers a batch, which is written with the group.
    pub(super) fn remember(&mut self, record: AppliedRecord, writes: &mut WriteSet) {
        self.page.push(&record);
        self.push(record);
        if self.page.is_full() {
            self.write_page(writes);
        }
    }

    /// Ends a group: what is new is written, and the oldest are forgotten.
    pub(super) fn end_group(&mut self, writes: &mut WriteSet) {
        self.write_page(writes);
        while self.len() > keys::applied::KEPT {
            self.forget_oldest();
        }
        let mut below = None;
        // A page goes once nothing of it is remembered, which is where the next one begins.
        while let Some(next) = self.pages.get(1).copied().filter(|next| *next <= self.oldest) {
            self.pages.pop_front();
            below = Some(next);
        }
        if let Some(below) = below {
            writes.delete_below(keys::applied::FAMILY, below);
        }
    }

    fn at(&self, place: u32) -> Option<&AppliedRecord> {
        // Far fewer are remembered than the low bits can tell apart.
        self.records.get(place.wrapping_sub(self.oldest as u32) as usize)
    }

    fn push(&mut self, record: AppliedRecord) {
        let (place, hash) = (self.next() as u32, self.hasher.hash_one(record.id));
        self.records.push_back(record);
        let Self { places, records, oldest, hasher, .. } = self;
        let rehash = |place: &u32| {
            let record = records.get(place.wrapping_sub(*oldest as u32) as usize);
            record.map_or(0, |record| hasher.hash_one(record.id))
        };
        places.insert_unique(hash, place, rehash);
    }

    fn forget_oldest(&mut self) {
        let place = self.oldest as u32;
        let Some(record) = self.records.pop_front() else { return };
        self.oldest += 1;
        if let Ok(entry) = self.places.find_entry(self.hasher.hash_one(record.id), |have| *have == place) {
            let _removed = entry.remove();
        }
    }

    fn write_page(&mut self, writes: &mut WriteSet) {
        let rows = self.page.count();
        if rows == 0 {
            return;
        }
        if self.small >= keys::applied::SMALL_PAGES && self.gather(writes) {
            return;
        }
        let first = self.next() - rows;
        self.page.write(writes, first);
        self.pages.push_back(first);
        self.small += 1;
    }

    /// Writes the newest pages, of few rows each, and the one being put together as one. Else something would live
    /// everywhere in the files, and had to be moved out of each before that is used again. False where that would be a
    /// large one.
    fn gather(&mut self, writes: &mut WriteSet) -> bool {
        let at = self.pages.len().saturating_sub(std::mem::take(&mut self.small));
        let Some(first) = self.pages.get(at).copied().filter(|first| *first >= self.oldest) else {
            return false;
        };
        let mut page = keys::applied::Page::default();
        let skip = usize::try_from(first - self.oldest).unwrap_or(usize::MAX);
        for record in self.records.iter().skip(skip) {
            page.push(record);
            if page.is_large() {
                return false;
            }
        }
        writes.delete_numbers(keys::applied::FAMILY, first..self.next());
        page.write(writes, first);
        self.pages.truncate(at + 1);
        self.page.clear();
        true
    }
}
