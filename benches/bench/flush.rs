//! How long a flush of this disk takes: 4 KiB written over a file that was written before, and fdatasync.

use std::fs::OpenOptions;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

use crate::client::Fault;
use crate::figures::Figures;
use crate::store::floor::written_before;

const FILE_BYTES: u64 = 8 * 1024 * 1024;
const BLOCK_BYTES: u64 = 4 * 1024;

/// Flushes for so long.
pub(crate) fn measure(folder: &Path, span: Duration) -> Result<Figures, Fault> {
    let file = OpenOptions::new().create(true).truncate(true).write(true).open(folder.join("flush"))?;
    written_before(&file, FILE_BYTES)?;
    let block = vec![0xa5; usize::try_from(BLOCK_BYTES)?];
    let mut seen = Histogram::<u64>::new(3)?;
    let start = Instant::now();
    let mut at = 0;
    while start.elapsed() < span {
        file.write_all_at(&block, at)?;
        let before = Instant::now();
        file.sync_data()?;
        seen.record(u64::try_from(before.elapsed().as_nanos())?)?;
        at = (at + BLOCK_BYTES) % FILE_BYTES;
    }
    let mut figures = Figures::default();
    figures.latencies("flush", &seen);
    Ok(figures)
}
