//! Writing to a file of the host's past its cache (`O_DIRECT`).
//!
//! The disk takes the bytes from where they were encoded: no copy, no pages to be found, marked and written back, which
//! is half of what a group costs the processor otherwise.

use std::fs::{File, OpenOptions};
use std::io::{self, IoSlice};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use rustix::io::{Errno, ReadWriteFlags};

use super::disk::BlockFile;

/// What a file system is taken to want that does not tell: no disk has larger blocks.
const BLOCK_BYTES: usize = 4096;

/// A file that is open for this alone.
#[derive(Debug)]
pub(super) struct HostBlocks {
    file: File,
    block_bytes: usize,
    /// The file system says what it wants, as those do that carry a synced write out by themselves. Others may leave that
    /// to a program (FUSE), which is asked in so many words.
    is_told: bool,
}

impl HostBlocks {
    /// Opens the file at `path`; `None` where its file system does not take whole blocks.
    pub(super) fn open(path: &Path) -> Option<Self> {
        let flags = i32::try_from(rustix::fs::OFlags::DIRECT.bits()).ok()?;
        let file = OpenOptions::new().write(true).custom_flags(flags).open(path).ok()?;
        let (block_bytes, is_told) = block_bytes(&file)?;
        Some(Self { file, block_bytes, is_told })
    }

    fn write(&self, mut blocks: &[u8], mut offset: u64, flags: ReadWriteFlags) -> io::Result<()> {
        let mut is_first = true;
        while !blocks.is_empty() {
            match rustix::io::pwritev2(&self.file, &[IoSlice::new(blocks)], offset, flags) {
                Ok(bytes) => {
                    // The rest has to begin with a block again.
                    let whole = bytes - bytes % self.block_bytes;
                    if whole == 0 {
                        return Err(io::ErrorKind::WriteZero.into());
                    }
                    offset += whole as u64;
                    blocks = blocks.get(whole..).unwrap_or_default();
                    is_first = false;
                }
                Err(Errno::INTR) => {}
                Err(Errno::INVAL | Errno::OPNOTSUPP) if is_first => {
                    return Err(io::ErrorKind::Unsupported.into());
                }
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }
}

impl BlockFile for HostBlocks {
    fn block_bytes(&self) -> usize {
        self.block_bytes
    }

    fn write_blocks_at(&self, blocks: &[u8], offset: u64) -> io::Result<()> {
        self.write(blocks, offset, ReadWriteFlags::empty())
    }

    fn write_blocks_synced_at(&self, blocks: &[u8], offset: u64) -> io::Result<()> {
        if self.is_told {
            // The same as a write and an `fdatasync`, in one call.
            return self.write(blocks, offset, ReadWriteFlags::DSYNC);
        }
        self.write(blocks, offset, ReadWriteFlags::empty())?;
        self.file.sync_data()
    }
}

/// The blocks that the file system wants, and whether it told so; `None` where it wants none that we could give it.
fn block_bytes(file: &File) -> Option<(usize, bool)> {
    use rustix::fs::{AtFlags, StatxFlags, statx};
    let figures = statx(file, c"", AtFlags::EMPTY_PATH, StatxFlags::DIOALIGN).ok();
    let told = figures.filter(|figures| figures.stx_mask & StatxFlags::DIOALIGN.bits() != 0);
    let Some(figures) = told else { return Some((BLOCK_BYTES, false)) };
    // Where it tells zero, it does not do it.
    let wanted = usize::try_from(figures.stx_dio_offset_align.max(figures.stx_dio_mem_align)).ok()?;
    let is_possible = figures.stx_dio_offset_align > 0 && wanted.is_power_of_two() && wanted <= BLOCK_BYTES;
    is_possible.then_some((wanted, true))
}
