//! A disk that is only looked at.
//!
//! Opening a journal tidies up: it writes its unproven end again and removes a segment that was never finished. Over
//! this disk all of that goes nowhere, and what is read is what was there.

use std::io::{self, IoSlice};
use std::sync::Arc;

use super::disk::{Disk, DiskFile};

/// Passes reading on and takes every change without making it.
#[derive(Debug)]
pub(super) struct LookedAt(pub(super) Arc<dyn Disk>);

impl Disk for LookedAt {
    fn create_folder(&self) -> io::Result<()> {
        Ok(())
    }

    fn list(&self) -> io::Result<Vec<String>> {
        self.0.list()
    }

    fn create(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        self.open(name)
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        Ok(Arc::new(LookedAtFile(self.0.open(name)?)))
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
        self.0.free_bytes()
    }
}

#[derive(Debug)]
struct LookedAtFile(Arc<dyn DiskFile>);

impl DiskFile for LookedAtFile {
    fn file_bytes(&self) -> io::Result<u64> {
        self.0.file_bytes()
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.0.read_at(buffer, offset)
    }

    fn write_all_at(&self, _slices: &mut [IoSlice<'_>], _offset: u64) -> io::Result<()> {
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }
}
