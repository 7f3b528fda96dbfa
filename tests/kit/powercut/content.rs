//! One file's bytes: what readers see, what is on the disk for sure, and what a power cut leaves of the rest.

use std::ops::Range;

use rand::Rng;
use rand::rngs::StdRng;

use super::Keeps;

/// What a disk writes whole or not at all.
pub(super) const SECTOR_BYTES: usize = 512;
/// What the host's page cache writes back at once.
pub(super) const PAGE_BYTES: usize = 4096;
/// More ranges than this are put in order and merged.
const RANGES_MAX: usize = 4096;

/// A file's bytes.
#[derive(Debug, Clone, Default)]
pub(super) struct Content {
    now: Vec<u8>,
    synced: Vec<u8>,
    /// Bytes of `now` that were written since the last sync, in whole sectors.
    unsynced: Vec<Range<usize>>,
    /// The least length the file had since the last sync, where it was made shorter.
    shortened_to: Option<usize>,
}

impl Content {
    /// A file that is on the disk as it is.
    pub(super) fn on_disk(bytes: Vec<u8>) -> Self {
        Self { now: bytes.clone(), synced: bytes, ..Self::default() }
    }

    pub(super) fn len(&self) -> usize {
        self.now.len()
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.now
    }

    /// Up to `bytes` from `offset` on; fewer at the end.
    pub(super) fn read(&self, offset: usize, bytes: usize) -> &[u8] {
        let end = offset.saturating_add(bytes).min(self.now.len());
        self.now.get(offset..end).unwrap_or_default()
    }

    pub(super) fn write(&mut self, offset: usize, bytes: &[u8]) {
        let end = offset + bytes.len();
        if end > self.now.len() {
            self.now.resize(end, 0);
        }
        if let Some(place) = self.now.get_mut(offset..end) {
            place.copy_from_slice(bytes);
        }
        self.touch(offset..end);
    }

    pub(super) fn set_len(&mut self, len: usize) {
        if len < self.now.len() {
            self.shortened_to = Some(self.shortened_to.map_or(len, |least| least.min(len)));
        }
        let touched = len.min(self.now.len())..len.max(self.now.len());
        self.now.resize(len, 0);
        self.touch(touched);
    }

    fn touch(&mut self, bytes: Range<usize>) {
        let start = bytes.start / SECTOR_BYTES * SECTOR_BYTES;
        let end = bytes.end.next_multiple_of(SECTOR_BYTES);
        match self.unsynced.last_mut() {
            Some(last) if start >= last.start && start <= last.end => last.end = last.end.max(end),
            _ => self.unsynced.push(start..end),
        }
        if self.unsynced.len() > RANGES_MAX {
            self.unsynced = self.touched();
        }
    }

    /// The unsynced ranges in order, none touching another.
    fn touched(&self) -> Vec<Range<usize>> {
        let mut ranges = self.unsynced.clone();
        ranges.sort_by_key(|range| range.start);
        let mut merged: Vec<Range<usize>> = Vec::with_capacity(ranges.len());
        for range in ranges {
            match merged.last_mut() {
                Some(last) if range.start <= last.end => last.end = last.end.max(range.end),
                _ => merged.push(range),
            }
        }
        merged
    }

    /// Everything is on the disk now.
    pub(super) fn sync(&mut self) {
        if let Some(least) = self.shortened_to.take() {
            self.synced.truncate(least);
        }
        self.synced.resize(self.now.len(), 0);
        for range in std::mem::take(&mut self.unsynced) {
            copy(&mut self.synced, &self.now, range);
        }
    }

    /// What is on the disk after a power cut now.
    pub(super) fn after_cut(&self, keeps: Keeps, random: &mut StdRng) -> Vec<u8> {
        let unit = match keeps {
            Keeps::Nothing => return self.synced.clone(),
            Keeps::Pages => PAGE_BYTES,
            Keeps::Sectors => SECTOR_BYTES,
        };
        let (mut kept, visible, longest) = match self.shortened_to {
            // It was never made shorter: what was written behind that point went to other blocks.
            Some(least) if random.random() => {
                (self.synced.clone(), least / SECTOR_BYTES * SECTOR_BYTES, self.synced.len())
            }
            Some(least) => {
                (self.synced.get(..least).unwrap_or(&self.synced).to_vec(), self.now.len(), self.now.len())
            }
            None => (self.synced.clone(), self.now.len(), self.now.len()),
        };
        let len = between(kept.len(), longest, random);
        kept.resize(kept.len().max(self.now.len()), 0);
        let mut next = 0;
        for range in self.touched() {
            let mut at = (range.start / unit * unit).max(next);
            while at < range.end {
                if random.random() {
                    copy(&mut kept, self.now.get(..visible).unwrap_or_default(), at..at + unit);
                }
                at += unit;
            }
            next = at;
        }
        kept.resize(len, 0);
        kept
    }
}

/// One of the two lengths, or any in between.
fn between(a: usize, b: usize, random: &mut StdRng) -> usize {
    match random.random_range(0..3) {
        0 => a,
        1 => b,
        _ => random.random_range(a.min(b)..=a.max(b)),
    }
}

/// Copies as much of a range as both have.
fn copy(to: &mut [u8], from: &[u8], range: Range<usize>) {
    let end = range.end.min(to.len()).min(from.len());
    if let (Some(to), Some(from)) = (to.get_mut(range.start..end), from.get(range.start..end)) {
        to.copy_from_slice(from);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng;

    const ALL: [Keeps; 3] = [Keeps::Nothing, Keeps::Pages, Keeps::Sectors];

    fn random(seed: u64) -> StdRng {
        StdRng::seed_from_u64(seed)
    }

    #[test]
    fn what_was_synced_survives_every_cut() {
        let mut content = Content::default();
        content.write(0, &[1; 9_000]);
        content.sync();
        for keeps in ALL {
            assert_eq!(content.after_cut(keeps, &mut random(1)), [1; 9_000]);
        }
    }

    #[test]
    fn a_cut_that_keeps_nothing_drops_what_was_not_synced() {
        let mut content = Content::default();
        content.write(0, &[1; 1_000]);
        content.sync();
        content.write(500, &[2; 9_000]);
        assert_eq!(content.after_cut(Keeps::Nothing, &mut random(1)), [1; 1_000]);
        content.set_len(10);
        assert_eq!(content.after_cut(Keeps::Nothing, &mut random(1)), [1; 1_000]);
        assert_eq!(content.len(), 10);
    }

    /// Units that came through, of those that were overwritten in place.
    fn kept_units(keeps: Keeps, unit: usize, seed: u64) -> Vec<bool> {
        let mut content = Content::default();
        content.write(0, &[1; 16 * PAGE_BYTES]);
        content.sync();
        content.write(0, &[2; 16 * PAGE_BYTES]);
        let after = content.after_cut(keeps, &mut random(seed));
        assert_eq!(after.len(), 16 * PAGE_BYTES);
        let whole = |unit: &[u8]| {
            assert!(unit.iter().all(|byte| *byte == unit[0]), "a unit is torn");
            unit[0] == 2
        };
        after.chunks(unit).map(whole).collect()
    }

    #[test]
    fn pages_and_sectors_come_through_whole_and_some_of_them() {
        for (keeps, unit) in [(Keeps::Pages, PAGE_BYTES), (Keeps::Sectors, SECTOR_BYTES)] {
            let kept = kept_units(keeps, unit, 3);
            assert!(kept.contains(&true) && kept.contains(&false), "{kept:?}");
            assert_eq!(kept, kept_units(keeps, unit, 3), "the same seed keeps the same");
            assert_ne!(kept, kept_units(keeps, unit, 4));
        }
    }

    #[test]
    fn a_growing_file_ends_anywhere_between() {
        let mut content = Content::default();
        content.write(0, &[1; 100]);
        content.sync();
        content.write(100, &[2; 5_000]);
        let lengths: Vec<usize> =
            (0..40).map(|seed| content.after_cut(Keeps::Sectors, &mut random(seed)).len()).collect();
        assert!(lengths.iter().all(|len| (100..=5_100).contains(len)), "{lengths:?}");
        assert!(lengths.contains(&100) && lengths.contains(&5_100));
        assert!(lengths.iter().any(|len| (101..5_100).contains(len)));
    }

    #[test]
    fn a_file_that_was_emptied_is_the_old_one_or_part_of_the_new_one_and_no_mixture() {
        let mut content = Content::default();
        content.write(0, &[1; 3_000]);
        content.sync();
        content.set_len(0);
        content.write(0, &[2; 2_000]);
        for seed in 0..40 {
            let after = content.after_cut(Keeps::Sectors, &mut random(seed));
            let old = after == [1; 3_000];
            assert!(old || after.iter().all(|byte| matches!(byte, 0 | 2)), "seed {seed}");
        }
        content.sync();
        assert_eq!(content.after_cut(Keeps::Nothing, &mut random(0)), [2; 2_000]);
    }

    #[test]
    fn a_hole_reads_as_zeros() {
        let mut content = Content::default();
        content.write(1_000, &[7]);
        assert_eq!(content.read(998, 10), [0, 0, 7]);
        assert_eq!(content.read(5_000, 10), [0; 0]);
        content.sync();
        assert_eq!(content.after_cut(Keeps::Nothing, &mut random(0)).len(), 1_001);
    }
}
