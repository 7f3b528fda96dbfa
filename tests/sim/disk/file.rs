//! A file of the simulated disk: what it is now, what of it is flushed.

use std::collections::BTreeSet;
use std::io::{self, IoSlice};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use pillarbox_store::engine::journal::{BlockFile, DiskFile};
use rand::Rng;
use rand::rngs::StdRng;

use super::{Cut, Kind, SimDisk};

const SECTOR: usize = 512;

pub(super) fn lock(content: &Mutex<Content>) -> MutexGuard<'_, Content> {
    content.lock().unwrap_or_else(PoisonError::into_inner)
}

#[derive(Debug, Clone)]
pub(super) struct Content {
    /// Tells files apart.
    pub(super) number: u64,
    pub(super) now: Vec<u8>,
    /// What is on the disk.
    lasting: Vec<u8>,
    /// Sectors that the next flush writes. One that fails forgets them, as hosts do: only what is written again
    /// reaches the disk.
    dirty: BTreeSet<usize>,
}

impl Content {
    pub(super) fn new(number: u64) -> Self {
        Self { number, now: Vec::new(), lasting: Vec::new(), dirty: BTreeSet::new() }
    }

    /// Holds these bytes, flushed.
    pub(super) fn fill(&mut self, bytes: &[u8]) {
        self.now = bytes.to_vec();
        self.lasting = bytes.to_vec();
    }

    fn write(&mut self, at: usize, bytes: &[u8]) {
        let end = at + bytes.len();
        if self.now.len() < end {
            self.now.resize(end, 0);
        }
        if let Some(place) = self.now.get_mut(at..end) {
            place.copy_from_slice(bytes);
        }
        if !bytes.is_empty() {
            self.dirty.extend(at / SECTOR..=(end - 1) / SECTOR);
        }
    }

    fn keep(&mut self, sector: usize) {
        let start = sector * SECTOR;
        let end = (start + SECTOR).min(self.now.len());
        if self.lasting.len() < end {
            self.lasting.resize(end, 0);
        }
        if let (Some(to), Some(from)) = (self.lasting.get_mut(start..end), self.now.get(start..end)) {
            to.copy_from_slice(from);
        }
    }

    fn flush(&mut self) {
        for sector in std::mem::take(&mut self.dirty) {
            self.keep(sector);
        }
        let length = self.now.len();
        self.lasting.resize(length, 0);
    }

    /// What the next process finds of it.
    pub(super) fn after(&self, cut: Cut, random: &mut StdRng) -> Self {
        let mut after = self.clone();
        match cut {
            Cut::Process => return after,
            Cut::All => after.flush(),
            Cut::Nothing => {}
            Cut::Sectors => {
                let share = random.random_range(0.0..=1.0);
                for sector in std::mem::take(&mut after.dirty) {
                    if random.random_bool(share) {
                        after.keep(sector);
                    }
                }
                // A length can last without what was written behind the old end.
                if random.random() {
                    let length = after.now.len().max(after.lasting.len());
                    after.lasting.resize(length, 0);
                }
            }
        }
        after.dirty.clear();
        after.now.clone_from(&after.lasting);
        after
    }
}

#[derive(Debug)]
pub(super) struct OpenFile {
    pub(super) disk: SimDisk,
    pub(super) content: Arc<Mutex<Content>>,
}

impl DiskFile for OpenFile {
    fn file_bytes(&self) -> io::Result<u64> {
        Ok(lock(&self.content).now.len() as u64)
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let content = lock(&self.content);
        let rest = usize::try_from(offset).ok().and_then(|offset| content.now.get(offset..));
        let filled = rest.unwrap_or_default().iter().len().min(buffer.len());
        if let (Some(to), Some(from)) = (buffer.get_mut(..filled), rest.and_then(|rest| rest.get(..filled))) {
            to.copy_from_slice(from);
        }
        Ok(filled)
    }

    fn write_all_at(&self, slices: &mut [IoSlice<'_>], offset: u64) -> io::Result<()> {
        let at = usize::try_from(offset).map_err(|_| io::ErrorKind::FileTooLarge)?;
        let mut bytes = Vec::with_capacity(slices.iter().map(|slice| slice.len()).sum());
        slices.iter().for_each(|slice| bytes.extend_from_slice(slice));
        let mut outcome = Ok(());
        if let Err(failing) = self.disk.operate(Kind::Other) {
            if !failing.is_partial {
                return Err(failing.error);
            }
            let kept = self.disk.state().random.random_range(0..=bytes.len());
            bytes.truncate(kept);
            outcome = Err(failing.error);
        }
        let longer = (at + bytes.len()).saturating_sub(lock(&self.content).now.len());
        let free = usize::try_from(self.disk.free()).unwrap_or(usize::MAX);
        if longer > free {
            self.disk.state().figures.refused += 1;
            bytes.truncate(bytes.len().saturating_sub(longer - free));
            outcome = Err(io::ErrorKind::StorageFull.into());
        }
        lock(&self.content).write(at, &bytes);
        outcome
    }

    fn sync_data(&self) -> io::Result<()> {
        let outcome = self.disk.operate(Kind::Flush);
        let mut content = lock(&self.content);
        match outcome {
            Ok(()) => {
                content.flush();
                Ok(())
            }
            Err(failing) => {
                // Some of it was written, and the host takes the rest for clean.
                if failing.is_partial {
                    let mut random = self.disk.state().random.clone();
                    for sector in std::mem::take(&mut content.dirty) {
                        if random.random() {
                            content.keep(sector);
                        }
                    }
                }
                Err(failing.error)
            }
        }
    }
}

/// Whole blocks of a file, past the host's cache.
#[derive(Debug)]
pub(super) struct OpenBlocks(pub(super) OpenFile);

impl BlockFile for OpenBlocks {
    fn block_bytes(&self) -> usize {
        SECTOR
    }

    fn write_blocks_at(&self, blocks: &[u8], offset: u64) -> io::Result<()> {
        let at = usize::try_from(offset).map_err(|_| io::ErrorKind::FileTooLarge)?;
        let is_whole = at.is_multiple_of(SECTOR) && blocks.len().is_multiple_of(SECTOR);
        let is_aligned = blocks.as_ptr().align_offset(SECTOR) == 0;
        if !is_whole || !is_aligned || at > lock(&self.0.content).now.len() {
            return Err(io::Error::other("these are no blocks of the file (simulated)"));
        }
        self.0.write_all_at(&mut [IoSlice::new(blocks)], offset)
    }

    fn write_blocks_synced_at(&self, blocks: &[u8], offset: u64) -> io::Result<()> {
        self.write_blocks_at(blocks, offset)?;
        self.0.sync_data()
    }
}
