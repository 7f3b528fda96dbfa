//! A million messages that wait, or ten: filled, opened again, used, emptied; and a million that are suspended.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use pillarbox_benches::Bodies;
use pillarbox_store::{Batch, EngineKind, Leased, Store};

use crate::client::{Client as _, Fault, Shared, Target as _};
use crate::figures::Figures;
use crate::front::{MIB, Plan, drive};
use crate::meter;
use crate::store::boxed::Boxed;

const BODY_BYTES: usize = 1024;
/// Who fills and empties: so many tasks, so many messages a batch.
const TASKS: u64 = 4;
const BATCH: u64 = 1_000;

/// Opens a box and measures what that takes.
async fn open(folder: &Path, figures: &mut Figures) -> Result<(Boxed, u64), Fault> {
    // What a process has before it has a box, the bodies' pool included.
    let pool = Bodies::new(BODY_BYTES);
    let base = meter::rss();
    drop(pool);
    let start = Instant::now();
    let boxed = Boxed::open(folder, EngineKind::Journal, BODY_BYTES).await?;
    figures.set("open_seconds", start.elapsed().as_secs_f64());
    Ok((boxed, base))
}

fn memory(figures: &mut Figures, name: &str, base: u64, messages: u64) {
    figures.set(name, meter::rss().saturating_sub(base) as f64 / messages as f64);
}

fn disk(figures: &mut Figures, name: &str, boxed: &Boxed) {
    figures.set(name, boxed.store.stats().disk.disk_bytes as f64 / MIB);
}

async fn put(boxed: &Boxed, count: u64) -> Result<(), Fault> {
    let done = Arc::new(AtomicU64::new(0));
    let tasks: Vec<_> = (0..TASKS)
        .map(|_| {
            let (mut worker, done) = (boxed.worker(), done.clone());
            tokio::spawn(async move {
                let bodies = Bodies::new(BODY_BYTES);
                loop {
                    let first = done.fetch_add(BATCH, Ordering::Relaxed);
                    if first >= count {
                        return Ok::<(), Fault>(());
                    }
                    let batch: Vec<Bytes> =
                        (first..count.min(first + BATCH)).map(|number| bodies.get(number)).collect();
                    worker.submit(&batch).await?;
                    if first % (count / 10).max(1) < BATCH {
                        eprint!(" {}%", first * 100 / count);
                    }
                }
            })
        })
        .collect();
    for task in tasks {
        task.await??;
    }
    eprintln!();
    Ok(())
}

/// Fills a new box.
pub(crate) async fn fill(count: u64, folder: &Path) -> Result<Figures, Fault> {
    let mut figures = Figures::default();
    let (boxed, base) = open(folder, &mut figures).await?;
    let start = Instant::now();
    put(&boxed, count).await?;
    let took = start.elapsed().as_secs_f64();
    figures.set("fill_seconds", took);
    figures.set("fill_messages_per_second", count as f64 / took);
    memory(&mut figures, "rss_bytes_per_message", base, count);
    disk(&mut figures, "disk_mib", &boxed);
    boxed.close().await?;
    drop(boxed);
    // Most of it went to the disk past the host's cache. Afterwards the cache has what an opening reads.
    let mut again = Figures::default();
    let (boxed, _) = open(folder, &mut again).await?;
    figures.set("open_cold_seconds", again.get("open_seconds").unwrap_or(f64::NAN));
    boxed.close().await?;
    Ok(figures)
}

/// Opens what [`fill`] left in this new process, works with the backlog in place, and completes all of it.
pub(crate) async fn reopen_and_use(plan: &Plan, count: u64, folder: &Path) -> Result<Figures, Fault> {
    let mut figures = Figures::default();
    let (boxed, base) = open(folder, &mut figures).await?;
    let waiting = waiting(&boxed);
    if waiting != count {
        return Err(format!("{waiting} wait after the reopening, {count} were put in").into());
    }
    memory(&mut figures, "rss_bytes_per_message", base, count);
    boxed.settle().await?;
    let target: Shared = Arc::new(boxed.clone());
    let with_backlog = drive(*plan, &target, folder, None).await?;
    for name in ["messages_per_second", "submit_p99_us", "lease_p99_us", "complete_p99_us"] {
        figures.set(name, with_backlog.get(name).unwrap_or(f64::NAN));
    }
    let start = Instant::now();
    settle_all(&boxed, delete_all).await?;
    figures.set("complete_all_seconds", start.elapsed().as_secs_f64());
    disk(&mut figures, "disk_mib_after", &boxed);
    tokio::time::sleep(Duration::from_secs(2)).await;
    disk(&mut figures, "disk_mib_2_seconds_later", &boxed);
    boxed.close().await?;
    Ok(figures)
}

fn waiting(boxed: &Boxed) -> u64 {
    boxed.store.ports().iter().map(|port| port.counts.ready).sum()
}

fn delete_all(batch: Batch, leased: &[Leased]) -> Batch {
    leased.iter().fold(batch, |batch, delivery| batch.delete(delivery.lease, None))
}

fn suspend_all(batch: Batch, leased: &[Leased]) -> Batch {
    leased
        .iter()
        .fold(batch, |batch, delivery| batch.suspend(delivery.lease, "parked by the benchmark", None))
}

/// Leases everything that is ready and settles it.
async fn settle_all(boxed: &Boxed, fate: fn(Batch, &[Leased]) -> Batch) -> Result<(), Fault> {
    let tasks: Vec<_> = (0..TASKS)
        .map(|_| {
            let boxed = boxed.clone();
            tokio::spawn(async move {
                loop {
                    let leased = boxed.store.lease(&boxed.want(usize::try_from(BATCH)?)).await?;
                    if leased.is_empty() {
                        return Ok::<(), Fault>(());
                    }
                    boxed.commit(&fate(Batch::new(boxed.ids.batch()), &leased)).await?;
                }
            })
        })
        .collect();
    for task in tasks {
        task.await??;
    }
    match waiting(boxed) {
        0 => Ok(()),
        left => Err(format!("{left} deliveries are left").into()),
    }
}

/// A box with many suspended deliveries: what they cost, and whether the others are slower for them.
pub(crate) async fn suspended(plan: &Plan, count: u64, folder: &Path) -> Result<Figures, Fault> {
    let mut figures = Figures::default();
    let (boxed, _) = open(folder, &mut figures).await?;
    put(&boxed, count).await?;
    let start = Instant::now();
    settle_all(&boxed, suspend_all).await?;
    figures.set("suspend_all_seconds", start.elapsed().as_secs_f64());
    boxed.close().await?;
    drop(boxed);
    let (boxed, _) = open(folder, &mut figures).await?;
    boxed.settle().await?;
    let target: Shared = Arc::new(boxed.clone());
    let beside = drive(*plan, &target, folder, None).await?;
    for name in ["messages_per_second", "submit_p99_us", "lease_p99_us", "complete_p99_us"] {
        figures.set(name, beside.get(name).unwrap_or(f64::NAN));
    }
    let kept: u64 = boxed.store.ports().iter().map(|port| port.counts.suspended).sum();
    if kept != count {
        return Err(format!("{kept} are suspended, {count} were").into());
    }
    disk(&mut figures, "disk_mib", &boxed);
    boxed.close().await?;
    Ok(figures)
}
