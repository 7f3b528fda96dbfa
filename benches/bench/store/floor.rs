//! The floors: a bare log file. One write and one fdatasync a group, the same bodies, the same group commit, and
//! nothing else: no index, no states, no checksum, no way to find a message again.
//!
//! An entry is a head of 24 bytes and, where a message is submitted, its body; a completion is a head. Clients encode
//! theirs, the writer thread hands all of a group to the system in one call.

use std::fs::{File, OpenOptions};
use std::io::{self, IoSlice};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use async_trait::async_trait;
use bytes::Bytes;
use hdrhistogram::Histogram;

use crate::client::{Client, Counts, Fault, Target};
use crate::group::{Group, Writer};

/// The ring's length: as much as a journal that writes over its spare segments goes through.
const RING_BYTES: u64 = 320 * 1024 * 1024;
const HEAD_BYTES: usize = 24;
/// The kernel takes so many slices at once.
const SLICES_MAX: usize = 1_024;

/// What lies below the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ground {
    /// A file that was written and flushed before, written over from its start again and again.
    Ring,
    /// A new file that grows.
    Appended,
}

/// A bare log.
pub(crate) struct Floor {
    group: Arc<Group<Log>>,
    totals: Arc<Totals>,
    next: Arc<AtomicU64>,
}

#[derive(Default)]
struct Totals {
    commits: AtomicU64,
    flushes: AtomicU64,
    flush: Mutex<Option<Histogram<u64>>>,
}

/// Where the writer stands.
pub(crate) struct Log {
    file: File,
    at: u64,
    wraps: bool,
    totals: Arc<Totals>,
}

impl Floor {
    pub(crate) fn open(folder: &Path, ground: Ground) -> Result<Self, Fault> {
        let path = folder.join("log");
        let file = OpenOptions::new().create(true).truncate(true).read(true).write(true).open(path)?;
        if ground == Ground::Ring {
            written_before(&file, RING_BYTES)?;
        }
        File::open(folder)?.sync_all()?;
        let totals = Arc::new(Totals { flush: Mutex::new(Some(Histogram::new(3)?)), ..Totals::default() });
        let log = Log { file, at: 0, wraps: ground == Ground::Ring, totals: totals.clone() };
        Ok(Self { group: Arc::new(Group::start(log)), totals, next: Arc::default() })
    }
}

/// Fills the file's first `bytes` and flushes them: what is written over them needs no new blocks.
pub(crate) fn written_before(file: &File, bytes: u64) -> Result<(), Fault> {
    let chunk = vec![0x5a_u8; 1024 * 1024];
    let mut at = 0;
    while at < bytes {
        write_all_at(file, &mut [IoSlice::new(&chunk)], at)?;
        at += chunk.len() as u64;
    }
    Ok(file.sync_all()?)
}

fn write_all_at(file: &File, mut slices: &mut [IoSlice<'_>], mut at: u64) -> io::Result<()> {
    while !slices.is_empty() {
        let now = slices.get(..slices.len().min(SLICES_MAX)).unwrap_or_default();
        match rustix::io::pwritev(file, now, at) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(bytes) => {
                at += bytes as u64;
                IoSlice::advance_slices(&mut slices, bytes);
            }
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

impl Writer for Log {
    type Item = Vec<u8>;
    type Answer = ();

    fn write(&mut self, group: Vec<Vec<u8>>) -> Result<Vec<()>, Fault> {
        let bytes: usize = group.iter().map(Vec::len).sum();
        if self.wraps && self.at + bytes as u64 > RING_BYTES {
            self.at = 0;
        }
        let mut slices: Vec<IoSlice<'_>> = group.iter().map(|entry| IoSlice::new(entry)).collect();
        write_all_at(&self.file, &mut slices, self.at)?;
        self.at += bytes as u64;
        let start = Instant::now();
        self.file.sync_data()?;
        let took = u64::try_from(start.elapsed().as_nanos()).unwrap_or(u64::MAX);
        if let Some(flush) = self.totals.flush.lock().unwrap_or_else(PoisonError::into_inner).as_mut() {
            flush.record(took)?;
        }
        self.totals.flushes.fetch_add(1, Ordering::Relaxed);
        self.totals.commits.fetch_add(group.len() as u64, Ordering::Relaxed);
        Ok(vec![(); group.len()])
    }
}

#[async_trait]
impl Target for Floor {
    async fn client(&self) -> Result<Box<dyn Client>, Fault> {
        Ok(Box::new(Scribe { group: self.group.clone(), next: self.next.clone(), open: Vec::new() }))
    }

    fn counts(&self) -> Counts {
        Counts {
            commits: self.totals.commits.load(Ordering::Relaxed),
            flushes: Some(self.totals.flushes.load(Ordering::Relaxed)),
        }
    }

    fn more(&self) -> Vec<(&'static str, f64)> {
        let flush = self.totals.flush.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(flush) = flush.as_ref() else { return Vec::new() };
        vec![("flush_p50_us", flush.value_at_quantile(0.5) as f64 / 1_000.0)]
    }

    async fn close(&self) -> Result<(), Fault> {
        self.group.close().map(drop)
    }
}

/// One client of a bare log.
struct Scribe {
    group: Arc<Group<Log>>,
    next: Arc<AtomicU64>,
    open: Vec<u64>,
}

fn head(number: u64, len: usize) -> [u8; HEAD_BYTES] {
    let mut head = [0; HEAD_BYTES];
    head[..8].copy_from_slice(&number.to_le_bytes());
    head[8..16].copy_from_slice(&(len as u64).to_le_bytes());
    head
}

#[async_trait]
impl Client for Scribe {
    async fn submit(&mut self, bodies: &[Bytes]) -> Result<(), Fault> {
        let bytes = bodies.iter().map(|body| HEAD_BYTES + body.len()).sum();
        let mut entries = Vec::with_capacity(bytes);
        for body in bodies {
            let number = self.next.fetch_add(1, Ordering::Relaxed);
            entries.extend_from_slice(&head(number, body.len()));
            entries.extend_from_slice(body);
            self.open.push(number);
        }
        self.group.commit(entries).await
    }

    /// Nothing can be found in a bare log: a client goes on with what it has just put in.
    async fn take(&mut self, count: usize) -> Result<usize, Fault> {
        let kept = self.open.len().saturating_sub(count);
        self.open.drain(..kept);
        Ok(self.open.len())
    }

    async fn complete(&mut self) -> Result<(), Fault> {
        let entries = self.open.drain(..).flat_map(|number| head(number, 0)).collect();
        self.group.commit(entries).await
    }
}
