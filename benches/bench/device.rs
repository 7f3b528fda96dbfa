//! The block device below a folder, and what it has written and flushed so far.
//!
//! The counters are those of the whole device: what others do on it at the same time is in them.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::client::Fault;

const SECTOR_BYTES: u64 = 512;
/// Places in the device's line of counters.
const SECTORS_WRITTEN: usize = 6;
const FLUSHES: usize = 15;

/// A block device.
#[derive(Debug)]
pub(crate) struct Device {
    counters: PathBuf,
}

/// What it has done since the machine started.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Done {
    pub(crate) bytes_written: u64,
    pub(crate) flushes: u64,
}

impl Device {
    /// The device below `folder`.
    pub(crate) fn below(folder: &Path) -> Result<Self, Fault> {
        let number = fs::metadata(folder)?.dev();
        let (major, minor) = (rustix::fs::major(number), rustix::fs::minor(number));
        let counters = PathBuf::from(format!("/sys/dev/block/{major}:{minor}/stat"));
        if counters.exists() {
            return Ok(Self { counters });
        }
        Err(format!(
            "the file system below {} has no block device of its own ({major}:{minor}), so nobody counts what \
             reaches the disk; put CARGO_TARGET_DIR on a disk with ext4 or xfs",
            folder.display()
        )
        .into())
    }

    /// What it has done so far.
    pub(crate) fn done(&self) -> Result<Done, Fault> {
        let line = fs::read_to_string(&self.counters)?;
        parse(&line).ok_or_else(|| format!("{}: not understood: {line}", self.counters.display()).into())
    }
}

fn parse(line: &str) -> Option<Done> {
    let counters: Vec<u64> = line.split_whitespace().map_while(|word| word.parse().ok()).collect();
    let bytes_written = counters.get(SECTORS_WRITTEN)? * SECTOR_BYTES;
    // Kernels before 5.5 count no flushes.
    Some(Done { bytes_written, flushes: counters.get(FLUSHES).copied().unwrap_or(0) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_counters_is_understood() {
        let line = " 2218 93 9600 321 2413 530 2840 1351 0 440 4782 360 124 1962 69 834 147\n";
        assert_eq!(parse(line), Some(Done { bytes_written: 2840 * 512, flushes: 834 }));
        assert_eq!(parse("1 2 3"), None);
    }
}
