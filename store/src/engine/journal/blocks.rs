//! Writing a segment in whole blocks, past the host's cache.
//!
//! Groups are filled up to the next block, so that no block that was flushed is written again. In a spare segment, which
//! has its place on the disk, all of them are; in a new one, which grows, those that give little away by it. The first
//! group begins behind the segment's header and goes the usual way, as does everything where the host cannot do it.

use std::io::{self, IoSlice};
use std::sync::Arc;

use super::disk::{BlockFile, Disk};
use super::format::GROUP_HEADER_BYTES;
use super::group::GroupSize;
use super::pool::ALIGNED_BYTES;
use super::reserve::is_full;
use super::write::Current;
use crate::Durability;

/// What filling up to a block may give away of a new segment: so many bytes, or a quarter of the group.
const GIVEN_AWAY_BYTES_MAX: u64 = 512;

/// How the segment being written is written in blocks.
#[derive(Debug)]
pub(super) struct Blocks {
    file: Arc<dyn BlockFile>,
    /// Up to here the file was written before; `None` where it is new.
    end: Option<u64>,
}

/// How far a group has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Landed {
    /// It is written.
    Written,
    /// It is on the disk.
    Synced,
}

impl Blocks {
    /// For the file `name`, whose first `end` bytes were written before if it is not new; `None` where the host cannot.
    pub(super) fn open(disk: &dyn Disk, name: &str, end: Option<u64>) -> Option<Self> {
        let file = disk.open_blocks(name)?;
        let block_bytes = file.block_bytes();
        (block_bytes.is_power_of_two() && block_bytes <= ALIGNED_BYTES).then_some(Self { file, end })
    }
}

impl Current {
    /// A group begins in memory at a multiple of this.
    pub(super) fn block_bytes(&self) -> usize {
        self.blocks.as_ref().map_or(1, |blocks| blocks.file.block_bytes())
    }

    /// The size of a group with what fills it up to the end of a block, where there is room for that or it gives little
    /// away.
    pub(super) fn size_in_blocks(&self, size: GroupSize) -> GroupSize {
        let filled = self.blocks.as_ref().and_then(|blocks| {
            let filled = size.to_block_end(self.position, blocks.file.block_bytes())?;
            let is_worth_it = match blocks.end {
                Some(end) => self.position.checked_add(filled.group_bytes)? <= end,
                None => {
                    let given_away = filled.group_bytes - size.group_bytes;
                    given_away <= GIVEN_AWAY_BYTES_MAX.max(size.group_bytes / 4)
                }
            };
            is_worth_it.then_some(filled)
        });
        filled.unwrap_or(size)
    }

    /// Writes a group at the position. Where it is `alone`, with nothing unflushed before it, it may be synced in the
    /// same call.
    pub(super) fn write(&mut self, group: &[u8], durability: Durability, alone: bool) -> io::Result<Landed> {
        let flushed = durability == Durability::Flushed;
        if let Some(blocks) =
            self.blocks.as_ref().filter(|blocks| blocks.take(self.position, group.len() as u64))
        {
            let written = if flushed && alone && !crate::mutant::is("skipped-flush") {
                blocks.file.write_blocks_synced_at(group, self.position).map(|()| Landed::Synced)
            } else {
                blocks.file.write_blocks_at(group, self.position).map(|()| Landed::Written)
            };
            match written {
                Err(error) if error.kind() == io::ErrorKind::Unsupported => self.blocks = None,
                Err(_) if flushed && crate::mutant::is("failed-flush-passes") => return Ok(Landed::Synced),
                other => return other,
            }
        }
        self.file.write_all_at(&mut [IoSlice::new(group)], self.position)?;
        if flushed {
            self.file.start_sync(self.position..self.position + group.len() as u64);
        }
        Ok(Landed::Written)
    }

    /// What was written of a group that failed is no whole group. That it cannot even be taken for the beginning of one is
    /// worth a try, and no more: the next group goes to the same place. But blocks may have been written in any order,
    /// and even be on the disk: of these, both ends are wiped for good. False where that fails.
    pub(super) fn wipe(&self, group_bytes: u64) -> bool {
        let mark = [0; GROUP_HEADER_BYTES];
        let wipe = |at| match self.file.write_all_at(&mut [IoSlice::new(&mark)], at) {
            // A place that was never written needs no wiping, and on a full disk has no room for it. One that was, has.
            Err(error) if is_full(&error) && self.is_blank(at) => Ok(()),
            other => other,
        };
        let begin = wipe(self.position);
        let is_past_cache =
            self.blocks.as_ref().is_some_and(|blocks| blocks.take(self.position, group_bytes));
        if !is_past_cache {
            return true;
        }
        let trailer_at = self.position + group_bytes - GROUP_HEADER_BYTES as u64;
        let wipe_end = || match self.file.file_bytes()? {
            // It did not get so far, and need not be made longer for this.
            length if length <= trailer_at => Ok(()),
            _ => wipe(trailer_at),
        };
        begin.and_then(|()| wipe_end()).and_then(|()| self.file.sync_data()).is_ok()
    }

    /// Whether there is nothing where a group header would be: behind the file's end, or zeros.
    fn is_blank(&self, at: u64) -> bool {
        let mut found = [0; GROUP_HEADER_BYTES];
        let read = self.file.read_at(&mut found, at);
        read.is_ok() && found.iter().all(|byte| *byte == 0)
    }
}

impl Blocks {
    /// Whether a group of so many bytes at this place is one for them.
    fn take(&self, at: u64, group_bytes: u64) -> bool {
        let block_bytes = self.file.block_bytes() as u64;
        let end = at + group_bytes;
        at.is_multiple_of(block_bytes)
            && end.is_multiple_of(block_bytes)
            && self.end.is_none_or(|last| end <= last)
    }
}
