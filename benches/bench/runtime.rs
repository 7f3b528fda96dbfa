//! Through the runtime: submitted, dispatched, handed to an adapter that does nothing, completed, gone.

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::Bytes;
use hdrhistogram::Histogram;
use pillarbox_benches::Bodies;
use pillarbox_runtime::adapter::{
    Adapter, BatchSender, Capabilities, Outgoing, SendError, Transport, TransportInfo,
};
use pillarbox_runtime::{Port, RouteConfig, Runtime};
use pillarbox_store::{Batch, EngineKind, PortName, Store};
use tokio::sync::Notify;

use crate::client::{Client as _, Fault};
use crate::figures::Figures;
use crate::front::{MIB, Plan};
use crate::meter::{self, Meter};
use crate::store::boxed::Boxed;

/// What may be with the adapter at once, and in one batch.
const IN_FLIGHT: usize = 4_096;
const BATCH: usize = 1_024;
/// Clients wait while so many are submitted and not sent.
const BACKLOG_MAX: u64 = 16_384;
const WARM_UP: Duration = Duration::from_millis(500);
const DRAIN: Duration = Duration::from_secs(60);

/// Takes every message and does nothing with it.
#[derive(Debug, Default, Clone)]
struct Nothing {
    calls: Arc<Calls>,
}

#[derive(Debug, Default)]
struct Calls {
    messages: AtomicU64,
    more: Notify,
    last: Mutex<Option<Instant>>,
}

impl Transport for Nothing {
    fn describe(&self) -> TransportInfo {
        TransportInfo {
            kind: "nothing",
            name: "Nothing",
            version: "1.0",
            description: "takes every message and does nothing with it",
            capabilities: Capabilities::default().init_at_start(),
            uri_prefixes: &[],
        }
    }
}

#[async_trait]
impl BatchSender for Nothing {
    fn messages_max(&self) -> usize {
        BATCH
    }

    async fn send_batch(&self, messages: &[Outgoing]) -> Vec<Result<(), SendError>> {
        *self.calls.last.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
        self.calls.messages.fetch_add(messages.len() as u64, Ordering::AcqRel);
        self.calls.more.notify_waiters();
        messages.iter().map(|_| Ok(())).collect()
    }
}

fn port(name: PortName, adapter: &Nothing) -> Port {
    let route = RouteConfig::new(Adapter::batch_sender(adapter.clone()));
    Port::new(name, route.in_flight(IN_FLIGHT).batch(BATCH, 64 * 1024 * 1024))
}

/// A box with a runtime over it.
struct Running {
    boxed: Boxed,
    runtime: Runtime,
    adapter: Nothing,
}

async fn start(folder: &Path, engine: EngineKind, body_bytes: usize) -> Result<Running, Fault> {
    let boxed = Boxed::open(folder, engine, body_bytes).await?;
    if engine == EngineKind::Journal {
        boxed.settle().await?;
    }
    let adapter = Nothing::default();
    let store: Arc<dyn Store> = boxed.store.clone();
    let runtime = Runtime::builder(store).port(port(boxed.port.clone(), &adapter)).start().await?;
    Ok(Running { boxed, runtime, adapter })
}

/// How many messages a second go all the way.
pub(crate) async fn rate(plan: &Plan, engine: EngineKind, folder: &Path) -> Result<Figures, Fault> {
    let running = start(folder, engine, plan.workload.body_bytes).await?;
    let bodies = Bodies::new(plan.workload.body_bytes);
    let submitted = Arc::new(AtomicU64::new(0));
    let ended = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let count = plan.workload.batch as u64;
    let tasks: Vec<_> = (0..plan.workload.clients)
        .map(|_| {
            let (mut worker, calls) = (running.boxed.worker(), running.adapter.calls.clone());
            let (submitted, ended, bodies) = (submitted.clone(), ended.clone(), bodies.clone());
            tokio::spawn(async move {
                let mut seen = Histogram::<u64>::new(2)?;
                while !ended.load(Ordering::Acquire) {
                    let first = submitted.fetch_add(count, Ordering::AcqRel);
                    let batch: Vec<Bytes> = (first..first + count).map(|number| bodies.get(number)).collect();
                    let start = Instant::now();
                    worker.submit(&batch).await?;
                    seen.record(u64::try_from(start.elapsed().as_nanos())?)?;
                    wait_for_room(&submitted, &calls).await;
                }
                Ok::<_, Fault>(seen)
            })
        })
        .collect();
    tokio::time::sleep(WARM_UP).await;
    let calls = &running.adapter.calls;
    let (meter, start) = (Meter::start(folder, None)?, Instant::now());
    let (stats, before) = (running.boxed.store.stats(), gone(&running));
    tokio::time::sleep(plan.span).await;
    let (messages, took, cost) = (gone(&running) - before, start.elapsed(), meter.cost()?);
    let after = running.boxed.store.stats();
    ended.store(true, Ordering::Release);
    let mut seen = Histogram::<u64>::new(2)?;
    for task in tasks {
        seen.add(task.await??)?;
    }
    drained(&running).await?;
    let (sent, asked) = (calls.messages.load(Ordering::Acquire), submitted.load(Ordering::Acquire));
    if sent != asked {
        return Err(format!("{asked} were submitted and {sent} were sent").into());
    }
    let mut figures = Figures::default();
    let payload = messages as f64 * plan.workload.body_bytes as f64;
    figures.set("seconds", took.as_secs_f64());
    figures.set("messages", messages as f64);
    figures.set("messages_per_second", messages as f64 / took.as_secs_f64());
    figures.latencies("submit", &seen);
    figures.set("cpu_seconds_per_100000", cost.cpu.as_secs_f64() / messages as f64 * 100_000.0);
    figures.set("disk_bytes_per_payload_byte", cost.disk.bytes_written as f64 / payload);
    let flushes = after.disk.flushes.saturating_sub(stats.disk.flushes) as f64;
    figures.set("flushes_per_commit", flushes / (after.batches.saturating_sub(stats.batches) as f64));
    figures.set("peak_rss_mib", meter::peak_rss() as f64 / MIB);
    end(running).await?;
    Ok(figures)
}

/// Deliveries that have left the box: those handed to the adapter, without those whose completion is not durable yet.
fn gone(running: &Running) -> u64 {
    let sent = running.adapter.calls.messages.load(Ordering::Acquire);
    let open: u64 = running.boxed.store.ports().iter().map(|port| port.counts.leased).sum();
    sent.saturating_sub(open)
}

async fn wait_for_room(submitted: &AtomicU64, calls: &Calls) {
    loop {
        let more = calls.more.notified();
        let open = submitted.load(Ordering::Acquire).saturating_sub(calls.messages.load(Ordering::Acquire));
        if open <= BACKLOG_MAX {
            return;
        }
        more.await;
    }
}

/// Waits until nothing is left in the box.
async fn drained(running: &Running) -> Result<(), Fault> {
    let store = &running.boxed.store;
    let mut watch = store.watch(&running.boxed.port).ok_or("the port is gone")?;
    let deadline = Instant::now() + DRAIN;
    while store.ports().iter().any(|port| port.counts.live() > 0) {
        if Instant::now() > deadline {
            return Err(format!("the box was not empty after {DRAIN:?}: {:?}", store.ports()).into());
        }
        // A completion that makes nothing ready is no change that is told.
        let _look_again = tokio::time::timeout(Duration::from_millis(5), watch.changed()).await;
    }
    Ok(())
}

async fn end(running: Running) -> Result<(), Fault> {
    running.runtime.shutdown(DRAIN).await;
    Ok(running.boxed.store.close().await?)
}

/// One message at a time through an idle port: when the adapter is called.
pub(crate) async fn idle(plan: &Plan, folder: &Path) -> Result<Figures, Fault> {
    let running = start(folder, EngineKind::Journal, plan.workload.body_bytes).await?;
    let mut worker = running.boxed.worker();
    let bodies = Bodies::new(plan.workload.body_bytes);
    let (mut submit, mut call) = (Histogram::<u64>::new(3)?, Histogram::<u64>::new(3)?);
    let calls = &running.adapter.calls;
    let end_at = Instant::now() + plan.span;
    let mut number = 0;
    while Instant::now() < end_at {
        let body = [bodies.get(number)];
        let start = Instant::now();
        worker.submit(&body).await?;
        submit.record(u64::try_from(start.elapsed().as_nanos())?)?;
        number += 1;
        loop {
            let more = calls.more.notified();
            if calls.messages.load(Ordering::Acquire) >= number {
                break;
            }
            more.await;
        }
        let called = calls.last.lock().unwrap_or_else(PoisonError::into_inner).ok_or("no call was noted")?;
        call.record(u64::try_from(called.saturating_duration_since(start).as_nanos())?)?;
        drained(&running).await?;
    }
    let mut figures = Figures::default();
    figures.set("messages", number as f64);
    figures.latencies("submit", &submit);
    figures.latencies("adapter_call", &call);
    end(running).await?;
    Ok(figures)
}

/// How many ports wait for a message now and then, and how often one of them gets one.
const PORTS: usize = 1_000;
const NOW_AND_THEN: Duration = Duration::from_millis(10);

/// A thousand ports, most of them idle: what that costs.
pub(crate) async fn ports(plan: &Plan, folder: &Path) -> Result<Figures, Fault> {
    let boxed = Boxed::open(folder, EngineKind::Journal, plan.workload.body_bytes).await?;
    let adapter = Nothing::default();
    let store: Arc<dyn Store> = boxed.store.clone();
    let names =
        (0..PORTS).map(|number| PortName::new(&format!("port-{number}"))).collect::<Result<Vec<_>, _>>()?;
    let base = meter::rss();
    let builder =
        names.iter().fold(Runtime::builder(store), |it, name| it.port(port(name.clone(), &adapter)));
    let runtime = builder.start().await?;
    tokio::time::sleep(WARM_UP).await;
    let mut figures = Figures::default();
    let (cpu, start) = (meter::own_cpu(), Instant::now());
    tokio::time::sleep(plan.span).await;
    figures.set("idle_cpu_percent", percent(cpu, start));
    let bodies = Bodies::new(plan.workload.body_bytes);
    let (cpu, start) = (meter::own_cpu(), Instant::now());
    let mut tick = tokio::time::interval(NOW_AND_THEN);
    let mut number = 0_u64;
    while start.elapsed() < plan.span {
        tick.tick().await;
        let name = names.get(usize::try_from(number)? % PORTS).ok_or("no port")?;
        boxed.commit(&Batch::new(boxed.ids.batch()).submit(name, boxed.message(bodies.get(number))?)).await?;
        number += 1;
    }
    figures.set("messages", number as f64);
    figures.set("busy_cpu_percent", percent(cpu, start));
    figures.set("cpu_us_per_message", (meter::own_cpu() - cpu).as_secs_f64() * 1e6 / number as f64);
    figures.set("ports", PORTS as f64);
    figures.set("rss_kib_per_port", (meter::rss().saturating_sub(base)) as f64 / 1024.0 / PORTS as f64);
    let running = Running { boxed, runtime, adapter };
    drained(&running).await?;
    end(running).await?;
    Ok(figures)
}

fn percent(cpu: Duration, start: Instant) -> f64 {
    (meter::own_cpu() - cpu).as_secs_f64() / start.elapsed().as_secs_f64() * 100.0
}
