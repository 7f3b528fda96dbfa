//! Loads of unusual shape: everything due at once, one huge body, long histories.

use std::path::Path;
use std::time::{Duration, Instant};

use bytes::Bytes;
use hdrhistogram::Histogram;
use pillarbox_benches::Bodies;
use pillarbox_store::{
    AttemptNote, Batch, Clock, DeliveryId, EngineKind, Failure, HeaderValue, Headers, IdSource, Message,
    OpResult, Route, Store, SystemClock, Timestamp,
};
use rand::rngs::StdRng;
use rand::{RngCore, SeedableRng};

use crate::client::{Client as _, Fault, Target as _};
use crate::figures::Figures;
use crate::front::MIB;
use crate::meter;
use crate::store::boxed::Boxed;

const BODY_BYTES: usize = 1024;
const BATCH: usize = 1_000;
const WORKERS: usize = 4;
/// The header in which a delivery carries the time for which it was put off.
const DUE: &str = "due";
/// The grain of tokio's timer, and the longest that a worker looks away.
const TICK: Duration = Duration::from_millis(1);
const LOOK_AGAIN: Duration = Duration::from_millis(50);

async fn put(boxed: &Boxed, count: u64) -> Result<(), Fault> {
    let bodies = Bodies::new(BODY_BYTES);
    let mut worker = boxed.worker();
    for first in (0..count).step_by(BATCH) {
        let batch: Vec<Bytes> =
            (first..count.min(first + BATCH as u64)).map(|number| bodies.get(number)).collect();
        worker.submit(&batch).await?;
    }
    Ok(())
}

fn failed(started: Timestamp) -> Option<AttemptNote> {
    let chain = vec!["cannot reach the destination".to_owned(), "connection refused".to_owned()];
    Some(AttemptNote { started, took: Duration::from_millis(3), failure: Some(Failure::new(false, chain)) })
}

/// Makes every delivery fail and come due again within one second, and lets workers complete them as they do.
pub(crate) async fn storm(count: u64, folder: &Path) -> Result<Figures, Fault> {
    let boxed = Boxed::open(folder, EngineKind::Journal, BODY_BYTES).await?;
    put(&boxed, count).await?;
    // Far enough away that all of them are put off by then.
    let due = SystemClock.now().plus(Duration::from_secs(15));
    let mut put_off = 0;
    while put_off < count {
        let leased = boxed.store.lease(&boxed.want(BATCH)).await?;
        let mut batch = Batch::new(boxed.ids.batch());
        let now = SystemClock.now();
        for delivery in &leased {
            let at = due.plus(Duration::from_micros(put_off * 1_000_000 / count));
            let mut carried = Headers::default();
            carried.set(DUE, at.as_micros())?;
            batch = batch.resubmit(delivery.lease, at, failed(now), carried);
            put_off += 1;
        }
        boxed.commit(&batch).await?;
    }
    if SystemClock.now() > due {
        return Err(
            "the deliveries were due before all of them were put off: the disk is too slow for this".into()
        );
    }
    let tasks: Vec<_> = (0..WORKERS).map(|_| tokio::spawn(work_off(boxed.clone()))).collect();
    tokio::time::sleep(due.since(SystemClock.now())).await;
    let (cpu, start) = (meter::own_cpu(), Instant::now());
    let mut lag = Histogram::<u64>::new(2)?;
    for task in tasks {
        lag.add(task.await??)?;
    }
    let took = start.elapsed().as_secs_f64();
    if lag.len() != count {
        return Err(format!("{} of {count} were completed", lag.len()).into());
    }
    let mut figures = Figures::default();
    figures.set("deliveries", count as f64);
    figures.set("seconds_from_first_due_to_last_done", took);
    figures.set("cpu_seconds", (meter::own_cpu() - cpu).as_secs_f64());
    figures.latencies("late", &lag);
    boxed.close().await?;
    Ok(figures)
}

/// Completes what comes due until nothing waits any more; how late each was leased, in nanoseconds.
async fn work_off(boxed: Boxed) -> Result<Histogram<u64>, Fault> {
    let mut lag = Histogram::<u64>::new(2)?;
    loop {
        let leased = boxed.store.lease(&boxed.want(BATCH / 4)).await?;
        if leased.is_empty() {
            if boxed.store.ports().iter().all(|port| port.counts.retry_wait + port.counts.ready == 0) {
                return Ok(lag);
            }
            // The end of a lease counts as a due time, and another worker may complete that one long before.
            let due = boxed.store.next_due(&boxed.port, Route::Primary).unwrap_or_default();
            let wait = due.since(SystemClock.now()).clamp(TICK, LOOK_AGAIN);
            tokio::time::sleep(wait).await;
            continue;
        }
        let now = SystemClock.now();
        let mut batch = Batch::new(boxed.ids.batch());
        for delivery in &leased {
            let due = match delivery.carried.get(DUE) {
                Some(HeaderValue::Integer(micros)) => Timestamp::from_micros(*micros),
                _ => return Err("a delivery came back without what it carried".into()),
            };
            lag.record(u64::try_from(now.since(due).as_nanos())?)?;
            batch = batch.delete(
                delivery.lease,
                Some(AttemptNote { started: now, took: Duration::ZERO, failure: None }),
            );
        }
        boxed.commit(&batch).await?;
    }
}

const LONG_BODY_BYTES: u64 = 1024 * 1024 * 1024;
const CHUNK_BYTES: usize = 1024 * 1024;

/// A part of the long body: the same random bytes under the part's number.
fn chunk(pattern: &[u8], number: u64) -> Vec<u8> {
    let mut chunk = pattern.to_vec();
    for block in chunk.chunks_exact_mut(512) {
        block[..8].copy_from_slice(&number.to_le_bytes());
    }
    chunk
}

/// One body of 1 GiB in, flushed, out again, compared.
pub(crate) async fn long_body(folder: &Path) -> Result<Figures, Fault> {
    let mut pattern = vec![0; CHUNK_BYTES];
    StdRng::seed_from_u64(1).fill_bytes(&mut pattern);
    // The smallest pool: what is measured is the memory of the box.
    let boxed = Boxed::open(folder, EngineKind::Journal, 8).await?;
    meter::forget_peak();
    let base = meter::rss();
    let start = Instant::now();
    let mut writer = boxed.store.stage()?;
    for number in 0..LONG_BODY_BYTES / CHUNK_BYTES as u64 {
        writer.write(chunk(&pattern, number).into()).await?;
    }
    let message = Message::new(boxed.ids.message(), writer.finish().await?);
    boxed.commit(&Batch::new(boxed.ids.batch()).submit(&boxed.port, message)).await?;
    let mut figures = Figures::default();
    let gib = |start: Instant| 1024.0 / start.elapsed().as_secs_f64();
    figures.set("in_mib_per_second", gib(start));
    let start = Instant::now();
    let leased = boxed.store.lease(&boxed.want(1)).await?;
    let delivery = leased.first().ok_or("the message is not there")?;
    let (mut at, mut expected) = (0_u64, Vec::new());
    for index in 0..delivery.message.body.fragments() {
        let fragment = delivery.message.body.fragment(index)?;
        if at.is_multiple_of(CHUNK_BYTES as u64) {
            expected = chunk(&pattern, at / CHUNK_BYTES as u64);
        }
        let place = usize::try_from(at % CHUNK_BYTES as u64)?;
        if expected.get(place..place + fragment.len()) != Some(fragment.as_ref()) {
            return Err(format!("the body came back changed at byte {at}").into());
        }
        at += fragment.len() as u64;
    }
    if at != LONG_BODY_BYTES {
        return Err(format!("{at} bytes came back").into());
    }
    figures.set("out_mib_per_second", gib(start));
    boxed.commit(&Batch::new(boxed.ids.batch()).delete(delivery.lease, None)).await?;
    figures.set("peak_rss_mib", meter::peak_rss() as f64 / MIB);
    figures.set("rss_mib_before", base as f64 / MIB);
    drop(leased);
    figures.set("disk_mib_after", boxed.store.stats().disk.disk_bytes as f64 / MIB);
    boxed.close().await?;
    Ok(figures)
}

/// As many as a delivery keeps.
const ATTEMPTS_EACH: u64 = pillarbox_store::ATTEMPTS_KEPT as u64;

/// Deliveries that failed many times, all attempts kept: written, opened again, asked for.
pub(crate) async fn history(count: u64, folder: &Path) -> Result<Figures, Fault> {
    let boxed = Boxed::open(folder, EngineKind::Journal, BODY_BYTES).await?;
    let deliveries = count / ATTEMPTS_EACH;
    let known = submit_known(&boxed, deliveries).await?;
    let start = Instant::now();
    for _ in 0..ATTEMPTS_EACH {
        let mut open = deliveries;
        while open > 0 {
            let leased = boxed.store.lease(&boxed.want(BATCH)).await?;
            let now = SystemClock.now();
            let batch = leased.iter().fold(Batch::new(boxed.ids.batch()), |batch, delivery| {
                batch.resubmit(delivery.lease, now, failed(now), Headers::default())
            });
            boxed.commit(&batch).await?;
            open = open.saturating_sub(leased.len() as u64);
        }
    }
    let mut figures = Figures::default();
    figures.set("attempts", (deliveries * ATTEMPTS_EACH) as f64);
    figures.set("attempts_per_second", (deliveries * ATTEMPTS_EACH) as f64 / start.elapsed().as_secs_f64());
    figures.set("disk_mib", boxed.store.stats().disk.disk_bytes as f64 / MIB);
    boxed.close().await?;
    drop(boxed);
    let start = Instant::now();
    let boxed = Boxed::open(folder, EngineKind::Journal, BODY_BYTES).await?;
    figures.set("open_seconds", start.elapsed().as_secs_f64());
    let (mut asked, mut attempts) = (Histogram::<u64>::new(2)?, 0);
    for id in known {
        let start = Instant::now();
        let detail = boxed.store.delivery(id).await?.ok_or("a delivery is gone")?;
        asked.record(u64::try_from(start.elapsed().as_nanos())?)?;
        attempts += detail.attempts.len() as u64;
    }
    if attempts < deliveries {
        return Err(format!("only {attempts} attempts are told of {deliveries} deliveries").into());
    }
    figures.set("attempts_told", attempts as f64);
    figures.latencies("ask_for_a_delivery", &asked);
    boxed.close().await?;
    Ok(figures)
}

async fn submit_known(boxed: &Boxed, count: u64) -> Result<Vec<DeliveryId>, Fault> {
    let bodies = Bodies::new(BODY_BYTES);
    let ids = IdSource::system();
    let mut known = Vec::new();
    for first in (0..count).step_by(BATCH) {
        let mut batch = Batch::new(ids.batch());
        for number in first..count.min(first + BATCH as u64) {
            batch = batch.submit(&boxed.port, boxed.message(bodies.get(number))?);
        }
        let committed = boxed.store.commit(&batch).await?;
        known.extend(committed.results().iter().filter_map(|result| match result {
            OpResult::Submitted { first } => Some(*first),
            _ => None,
        }));
    }
    Ok(known)
}
