//! A disk that is only looked at.
//!
//! Opening a journal tidies up: it writes its unproven end again and removes a segment that was never finished. Over
//! this disk all of that goes nowhere, and what is read is what was there. Where the disk below does not give a place,
//! zeros are read: they match no checksum, so that what was there counts as damaged and all the rest can be seen.

use std::io::{self, IoSlice};
use std::sync::{Arc, Mutex, PoisonError};

use super::disk::{Disk, DiskFile};

/// Read alone where a longer piece cannot be read.
const PIECE_BYTES: usize = 4096;

/// Places that the disk did not give: file and offset.
pub(super) type Unreadable = Arc<Mutex<Vec<(String, u64)>>>;

/// Passes reading on and takes every change without making it.
#[derive(Debug)]
pub(super) struct LookedAt {
    disk: Arc<dyn Disk>,
    unreadable: Unreadable,
}

impl LookedAt {
    /// Looks at `disk`, and notes in `unreadable` what it does not give.
    pub(super) fn new(disk: Arc<dyn Disk>, unreadable: Unreadable) -> Self {
        Self { disk, unreadable }
    }
}

impl Disk for LookedAt {
    fn create_folder(&self) -> io::Result<()> {
        Ok(())
    }

    fn list(&self) -> io::Result<Vec<String>> {
        self.disk.list()
    }

    fn create(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        self.open(name)
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        let file = self.disk.open(name)?;
        Ok(Arc::new(LookedAtFile { name: name.to_owned(), file, unreadable: self.unreadable.clone() }))
    }

    fn rename(&self, _from: &str, _to: &str) -> io::Result<()> {
        Ok(())
    }

    fn remove(&self, _name: &str) -> io::Result<()> {
        Ok(())
    }

    fn sync_folder(&self) -> io::Result<()> {
        Ok(())
    }

    fn free_bytes(&self) -> io::Result<u64> {
        self.disk.free_bytes()
    }
}

#[derive(Debug)]
struct LookedAtFile {
    name: String,
    file: Arc<dyn DiskFile>,
    unreadable: Unreadable,
}

impl LookedAtFile {
    /// Reads piece by piece, with zeros where one cannot be read.
    fn read_around(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let length = self.file.file_bytes()?.saturating_sub(offset);
        let length = usize::try_from(length).unwrap_or(usize::MAX).min(buffer.len());
        let mut at = offset;
        for piece in buffer.get_mut(..length).unwrap_or_default().chunks_mut(PIECE_BYTES) {
            if self.file.read_at(piece, at).is_err() {
                piece.fill(0);
                let mut unreadable = self.unreadable.lock().unwrap_or_else(PoisonError::into_inner);
                if !unreadable.iter().any(|(name, known)| *name == self.name && *known == at) {
                    unreadable.push((self.name.clone(), at));
                }
            }
            at += piece.len() as u64;
        }
        Ok(length)
    }
}

impl DiskFile for LookedAtFile {
    fn file_bytes(&self) -> io::Result<u64> {
        self.file.file_bytes()
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.file.read_at(buffer, offset).or_else(|_| self.read_around(buffer, offset))
    }

    fn write_all_at(&self, _slices: &mut [IoSlice<'_>], _offset: u64) -> io::Result<()> {
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }
}
