//! Reading from a segment: a window for going through it, and single records with their checksums.

#![warn(clippy::indexing_slicing)]

use std::io;

use bytes::Bytes;
use crc32c::crc32c_append;

use super::disk::DiskFile;
use super::format::{ENTRY_BYTES, TableEntry};
use crate::engine::Record;

/// Read at once, at least: enough for the tables of many small groups, little where bodies are skipped.
const WINDOW_BYTES: usize = 32 * 1024;
/// A head and a body that lie no further apart than this are read together.
const GAP_BYTES_MAX: u32 = 4096;

/// A file, read in pieces that mostly follow each other.
#[derive(Debug)]
pub(super) struct Window<'a> {
    file: &'a dyn DiskFile,
    buffer: Vec<u8>,
    at: u64,
    filled: usize,
}

impl<'a> Window<'a> {
    /// A window over `file` that has read nothing yet.
    pub(super) const fn new(file: &'a dyn DiskFile) -> Self {
        Self { file, buffer: Vec::new(), at: 0, filled: 0 }
    }

    /// The bytes from `at` on, `bytes` of them or as many as the file has.
    pub(super) fn read(&mut self, at: u64, bytes: usize) -> io::Result<&[u8]> {
        let inside = at.checked_sub(self.at).and_then(|skip| usize::try_from(skip).ok());
        let skip = match inside {
            Some(skip) if skip.checked_add(bytes).is_some_and(|end| end <= self.filled) => skip,
            _ => {
                let wanted = bytes.max(WINDOW_BYTES);
                if self.buffer.len() < wanted {
                    self.buffer.resize(wanted, 0);
                }
                self.filled = 0;
                self.filled = self.file.read_at(self.buffer.get_mut(..wanted).unwrap_or_default(), at)?;
                self.at = at;
                0
            }
        };
        let end = self.filled.min(skip + bytes);
        Ok(self.buffer.get(skip..end).unwrap_or_default())
    }
}

/// Why a record could not be read.
#[derive(Debug)]
pub(super) enum ReadFault {
    /// The disk did not answer.
    Disk(io::Error),
    /// It did, with bytes that do not match their checksum.
    Mismatch(&'static str),
}

impl From<io::Error> for ReadFault {
    fn from(error: io::Error) -> Self {
        Self::Disk(error)
    }
}

/// Reads the table entry at `at`, mended where one byte of it has changed. The caller knows whose it should be.
pub(super) fn read_entry(file: &dyn DiskFile, seed: u32, at: u64) -> Result<TableEntry, ReadFault> {
    let mut bytes = [0; ENTRY_BYTES];
    if file.read_at(&mut bytes, at)? < ENTRY_BYTES {
        return Err(ReadFault::Mismatch("the file ends before the record's table entry does"));
    }
    TableEntry::decode_or_mend(&bytes, seed, at)
        .ok_or(ReadFault::Mismatch("the record's table entry does not match its checksum"))
}

/// A record as it was read, and whether it is as it was written.
#[derive(Debug)]
pub(super) struct Raw {
    pub(super) record: Record,
    pub(super) is_head_sound: bool,
    pub(super) is_body_sound: bool,
}

/// Reads the head and body that `entry` names, as they are.
pub(super) fn read_raw(file: &dyn DiskFile, seed: u32, entry: &TableEntry) -> io::Result<Raw> {
    let (head_bytes, body_bytes) = (entry.head_bytes as usize, entry.body_bytes as usize);
    let gap = entry.body_at.checked_sub(entry.head_at.saturating_add(entry.head_bytes));
    let (head, body) = match gap {
        Some(gap) if gap <= GAP_BYTES_MAX => {
            let skip = head_bytes + gap as usize;
            let both = read_bytes(file, entry.head_at, skip + body_bytes)?;
            (both.slice(..head_bytes.min(both.len())), both.slice(skip.min(both.len())..))
        }
        _ => (read_bytes(file, entry.head_at, head_bytes)?, read_bytes(file, entry.body_at, body_bytes)?),
    };
    let is_body_sound =
        !entry.is_body_damaged && body.len() == body_bytes && crc32c_append(seed, &body) == entry.body_crc;
    Ok(Raw { is_head_sound: is_head_sound(seed, entry, &head), is_body_sound, record: Record { head, body } })
}

/// Whether `head` is what `entry` says.
pub(super) fn is_head_sound(seed: u32, entry: &TableEntry, head: &[u8]) -> bool {
    !entry.is_head_damaged
        && head.len() == entry.head_bytes as usize
        && crc32c_append(seed, head) == entry.head_crc
}

/// The bytes from `at` on, `bytes` of them or as many as the file has.
pub(super) fn read_bytes(file: &dyn DiskFile, at: u32, bytes: usize) -> io::Result<Bytes> {
    if bytes == 0 {
        return Ok(Bytes::new());
    }
    let mut buffer = vec![0; bytes];
    let filled = file.read_at(&mut buffer, u64::from(at))?;
    buffer.truncate(filled);
    Ok(Bytes::from(buffer))
}
