//! Drives clients against a system for a while and measures what they see.

use std::path::Path;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use hdrhistogram::Histogram;
use pillarbox_benches::{Bodies, Mode, Workload};
use tokio::sync::Notify;

use crate::client::{Client, Counts, Fault, Shared};
use crate::figures::Figures;
use crate::meter::{self, Cost, Meter};

/// A run ends when so many bytes were submitted, however long it was to take: the disk is not ours alone.
const SUBMITTED_BYTES_MAX: u64 = 4 * 1024 * 1024 * 1024;
/// Before the measurement, the same work for so long.
const WARM_UP: Duration = Duration::from_millis(500);

/// However slow a system is, it is measured no longer.
const SPAN_MAX: Duration = Duration::from_secs(60);

const WARMING: u8 = 0;
const MEASURING: u8 = 1;
const ENDED: u8 = 2;

/// What to run.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Plan {
    pub(crate) workload: Workload,
    pub(crate) mode: Mode,
    pub(crate) span: Duration,
}

/// Latencies in nanoseconds.
#[derive(Debug)]
struct Seen {
    submit: Histogram<u64>,
    take: Histogram<u64>,
    complete: Histogram<u64>,
    messages: u64,
}

impl Seen {
    fn new() -> Result<Self, Fault> {
        // Two digits: a third would cost memory that counts as the measured system's.
        let histogram = || Histogram::new(2).map_err(Fault::from);
        Ok(Self { submit: histogram()?, take: histogram()?, complete: histogram()?, messages: 0 })
    }

    fn add(&mut self, other: &Self) -> Result<(), Fault> {
        self.submit.add(&other.submit)?;
        self.take.add(&other.take)?;
        self.complete.add(&other.complete)?;
        self.messages += other.messages;
        Ok(())
    }
}

/// What the clients of a run share.
struct Run {
    plan: Plan,
    bodies: Bodies,
    phase: AtomicU8,
    submitted: AtomicU64,
    turns: AtomicU64,
    over: Notify,
    fault: Mutex<Option<Fault>>,
}

impl Run {
    fn phase(&self) -> u8 {
        self.phase.load(Ordering::Acquire)
    }

    fn end(&self) {
        self.phase.store(ENDED, Ordering::Release);
        self.over.notify_one();
    }

    /// Whether every client has been around a few times, or no more will come.
    fn is_enough(&self) -> bool {
        let wanted = (self.plan.workload.clients as u64).min(16) * 4;
        self.phase() == ENDED || self.turns.load(Ordering::Relaxed) >= wanted
    }

    fn fail(&self, fault: Fault) {
        self.fault.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(fault);
        self.end();
    }
}

/// Runs the plan with clients that are tasks of the caller's tokio runtime.
pub(crate) async fn drive(
    plan: Plan,
    target: &Shared,
    folder: &Path,
    server: Option<i32>,
) -> Result<Figures, Fault> {
    let run = Arc::new(Run {
        plan,
        bodies: Bodies::new(plan.workload.body_bytes),
        phase: AtomicU8::new(WARMING),
        submitted: AtomicU64::new(0),
        turns: AtomicU64::new(0),
        over: Notify::new(),
        fault: Mutex::new(None),
    });
    let mut clients = Vec::new();
    for _ in 0..plan.workload.clients {
        clients.push(target.client().await?);
    }
    let tasks: Vec<_> = clients.into_iter().map(|client| tokio::spawn(work(run.clone(), client))).collect();
    let _early = tokio::time::timeout(WARM_UP, run.over.notified()).await;
    let before = target.counts();
    let meter = Meter::start(folder, server)?;
    let start = Instant::now();
    let _failed_already = run.phase.compare_exchange(WARMING, MEASURING, Ordering::AcqRel, Ordering::Acquire);
    let _early = tokio::time::timeout(plan.span, run.over.notified()).await;
    // Some need longer for a few turns than others for thousands.
    while !run.is_enough() && start.elapsed() < SPAN_MAX {
        let _early = tokio::time::timeout(plan.span, run.over.notified()).await;
    }
    run.end();
    let (took, cost, after) = (start.elapsed(), meter.cost()?, target.counts());
    let mut seen = Seen::new()?;
    for task in tasks {
        seen.add(&task.await??)?;
    }
    if let Some(fault) = run.fault.lock().unwrap_or_else(PoisonError::into_inner).take() {
        return Err(fault);
    }
    let counts = Counts {
        commits: after.commits.saturating_sub(before.commits),
        flushes: after.flushes.zip(before.flushes).map(|(after, before)| after.saturating_sub(before)),
    };
    Ok(figures(&plan, &seen, took, &cost, counts, server))
}

async fn work(run: Arc<Run>, mut client: Box<dyn Client>) -> Result<Seen, Fault> {
    let mut seen = Seen::new()?;
    let mut batch = Vec::with_capacity(run.plan.workload.batch);
    while run.phase() != ENDED {
        if let Err(fault) = turn(&run, client.as_mut(), &mut batch, &mut seen).await {
            run.fail(fault);
        }
    }
    Ok(seen)
}

/// Once what the mode asks for. It counts where it ends while the run is measured.
async fn turn(
    run: &Run,
    client: &mut dyn Client,
    batch: &mut Vec<Bytes>,
    seen: &mut Seen,
) -> Result<(), Fault> {
    let count = run.plan.workload.batch;
    let first = run.submitted.fetch_add(count as u64, Ordering::Relaxed);
    if first * run.plan.workload.body_bytes as u64 > SUBMITTED_BYTES_MAX {
        run.end();
        return Ok(());
    }
    batch.clear();
    batch.extend((first..).take(count).map(|number| run.bodies.get(number)));
    let start = Instant::now();
    client.submit(batch).await?;
    let submitted = Instant::now();
    let mut taken = submitted;
    let mut completed = submitted;
    if run.plan.mode == Mode::Both {
        // Others may have taken what was ours, and left theirs.
        let mut open = count;
        while open > 0 && run.phase() != ENDED {
            let got = client.take(open).await?;
            if got == 0 {
                tokio::task::yield_now().await;
                continue;
            }
            taken = Instant::now();
            client.complete().await?;
            completed = Instant::now();
            open = open.saturating_sub(got);
        }
    }
    if run.phase() == MEASURING {
        run.turns.fetch_add(1, Ordering::Relaxed);
        seen.messages += count as u64;
        seen.submit.record(nanos(submitted - start))?;
        seen.take.record(nanos(taken - submitted))?;
        seen.complete.record(nanos(completed - taken))?;
    }
    Ok(())
}

fn nanos(span: Duration) -> u64 {
    u64::try_from(span.as_nanos()).unwrap_or(u64::MAX)
}

fn figures(
    plan: &Plan,
    seen: &Seen,
    took: Duration,
    cost: &Cost,
    counts: Counts,
    server: Option<i32>,
) -> Figures {
    let mut figures = Figures::default();
    let messages = seen.messages as f64;
    let payload = messages * plan.workload.body_bytes as f64;
    figures.set("seconds", took.as_secs_f64());
    figures.set("messages", messages);
    figures.set("messages_per_second", messages / took.as_secs_f64());
    figures.latencies("submit", &seen.submit);
    if plan.mode == Mode::Both {
        figures.latencies("lease", &seen.take);
        figures.latencies("complete", &seen.complete);
    }
    figures.set("cpu_seconds_per_100000", cost.cpu.as_secs_f64() / messages * 100_000.0);
    figures.set("disk_bytes_per_payload_byte", cost.disk.bytes_written as f64 / payload);
    let turns = messages / plan.workload.batch as f64;
    let commits = if plan.mode == Mode::Both { 2.0 * turns } else { turns };
    figures.set("disk_flushes_per_commit", cost.disk.flushes as f64 / commits);
    figures.set("disk_flushes_per_second", cost.disk.flushes as f64 / took.as_secs_f64());
    if let Some(flushes) = counts.flushes {
        figures.set("flushes_per_commit", flushes as f64 / (counts.commits as f64).max(1.0));
        figures.set("flushes_per_second", flushes as f64 / took.as_secs_f64());
    }
    figures.set("peak_rss_mib", meter::peak_rss() as f64 / MIB);
    if let Some(server) = server {
        figures.set("server_rss_mib", meter::server_rss(server) as f64 / MIB);
    }
    figures
}

/// Bytes of a MiB.
pub(crate) const MIB: f64 = 1024.0 * 1024.0;
