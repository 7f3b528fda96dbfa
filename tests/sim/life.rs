//! One simulated life: a process over a disk, its crashes, restarts and shutdowns, and what is asked of it.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use pillarbox_runtime::Runtime;
use pillarbox_sim::disk::{Cut, Fault, SimDisk};
use pillarbox_sim::history::{What, body_hash};
use pillarbox_store::engine::Engine as _;
use pillarbox_store::engine::journal::{Journal, JournalConfig};
use pillarbox_store::{
    Batch, BoxConfig, Committing, DeliveryId, DeliveryInfo, Error, Filter, IdSource, MessageBox, MessageId,
    Store,
};
use rand::Rng;

use crate::plan::{Plan, pick};
use crate::recorder::Recorder;
use crate::world::World;

const SEGMENT_BYTES: u64 = 64 * 1024;

/// A running process.
#[derive(Debug)]
pub(crate) struct Process {
    pub(crate) runtime: Runtime,
    pub(crate) store: Arc<Recorder>,
    pub(crate) journal: Arc<Journal>,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Life {
    pub(crate) world: World,
    pub(crate) plan: Plan,
    pub(crate) disk: SimDisk,
    pub(crate) process: Option<Process>,
    pub(crate) ids: IdSource,
    /// Batches of clients, to be committed again.
    pub(crate) batches: Vec<Batch>,
    pub(crate) messages: Vec<(MessageId, Vec<u8>)>,
    pub(crate) highest: u64,
    salt: u64,
    /// It cannot go on: the box did not open.
    pub(crate) is_over: bool,
}

impl Life {
    pub(crate) fn new(seed: u64, trace: bool) -> Self {
        let world = World::new(seed, trace);
        let plan = Plan::draw(seed);
        if trace {
            println!("{plan:#?}");
        }
        for port in &plan.ports {
            world.record(What::Port(port.name.clone(), port.limits()));
        }
        let ids = IdSource::seeded(world.clock.clone(), seed ^ 0x1D5);
        let disk = SimDisk::new(seed ^ 0xD15C);
        let (messages, batches) = (Vec::new(), Vec::new());
        Self {
            world,
            plan,
            disk,
            process: None,
            ids,
            batches,
            messages,
            highest: 0,
            salt: seed,
            is_over: false,
        }
    }

    /// Runs something until it ends or the process has died under it.
    pub(crate) async fn alive<T>(&self, work: impl Future<Output = T>) -> Option<T> {
        let death = async {
            while !self.disk.has_stopped() {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        };
        tokio::select! {
            biased;
            done = work => Some(done),
            () = death => None,
        }
    }

    /// Opens the box and starts a process over it. Crashes meanwhile are part of it.
    pub(crate) async fn start(&mut self) {
        for round in 0.. {
            self.world.on(&self.disk);
            let breaks = !self.world.is_calm() && round < 3 && self.plan.breaks > 0;
            if breaks && self.world.percent(15) {
                self.world.mark("crash: while opening");
                self.disk.plan(self.world.draw(|random| random.random_range(0..14)), Fault::Stop);
            }
            match self.open().await {
                Ok(Some(process)) => {
                    self.process = Some(process);
                    return;
                }
                Ok(None) => {}
                Err(error) => {
                    let figures = self.disk.figures();
                    if figures.faults + figures.refused == 0 && !self.disk.has_stopped() {
                        self.world.record(What::Opened(Err(error.to_string())));
                        self.is_over = true;
                        return;
                    }
                }
            }
            self.disk.calm();
            self.end_process("while opening", self.draw_cut()).await;
        }
    }

    async fn open(&mut self) -> Result<Option<Process>, Error> {
        let settings = JournalConfig { segment_bytes: SEGMENT_BYTES, spare_segments_max: 2, salt: self.salt };
        let journal = Journal::open(Arc::new(self.disk.clone()), settings)?;
        if journal.torn_tail().is_some() {
            self.world.mark("opening: torn tail");
        }
        let config = BoxConfig {
            committing: Committing::Inline,
            clock: self.world.clock.clone(),
            ids: self.ids.clone(),
            retention: self.plan.retention,
            ..BoxConfig::in_memory()
        };
        let journal = Arc::new(journal);
        let inner = MessageBox::with_engine(journal.clone(), config)?;
        if let Some(damage) = inner.damage().first() {
            self.world.record(What::Opened(Err(format!("damaged by a crash alone: {damage:?}"))));
            self.is_over = true;
        }
        self.world.record(What::Opened(Ok(())));
        let store = Arc::new(Recorder { inner, world: self.world.clone() });
        audit(&self.world, &store, self.plan.traces_kept).await;
        let builder = Runtime::builder(store.clone()).clock(self.world.clock.clone()).ids(self.ids.clone());
        let builder = self.plan.ports(&self.world).fold(builder, |builder, port| builder.port(port));
        let Some(runtime) = self.alive(builder.start()).await else { return Ok(None) };
        Ok(Some(Process { runtime: runtime?, store, journal }))
    }

    pub(crate) fn draw_cut(&self) -> Cut {
        let cut = self.world.draw(|random| {
            *pick(random, &[Cut::Process, Cut::All, Cut::Nothing, Cut::Sectors, Cut::Sectors, Cut::Sectors])
        });
        self.world.mark(match cut {
            Cut::Process => "crash: process only",
            Cut::All => "crash: everything kept",
            Cut::Nothing => "crash: only the flushed kept",
            Cut::Sectors => "crash: some sectors kept",
        });
        cut
    }

    /// The process ends where it stands, and the disk keeps what it keeps.
    pub(crate) async fn end_process(&mut self, why: &'static str, cut: Cut) {
        // A flush that failed makes the host forget what it was to write.
        let keeps_written = match cut {
            Cut::Process => true,
            Cut::All => self.disk.figures().faults == 0,
            Cut::Nothing | Cut::Sectors => false,
        };
        self.disk = self.disk.cut(cut);
        self.world.record(What::Crash { why, keeps_written });
        if let Some(Process { runtime, store, journal }) = self.process.take() {
            let tasks = runtime.tasks().clone();
            drop(runtime);
            self.world.die();
            tasks.idle().await;
            drop((store, journal));
        }
        self.world.die();
        // What was aborted goes when it is its turn.
        for _ in 0..3 {
            tokio::task::yield_now().await;
        }
    }

    /// Crashes and starts again.
    pub(crate) async fn crash(&mut self, why: &'static str) {
        let cut = self.draw_cut();
        self.end_process(why, cut).await;
        self.start().await;
    }

    /// Shuts down as asked, and starts again.
    pub(crate) async fn shut_down(&mut self, deadline: Duration) {
        self.world.mark("shutdown");
        self.world.record(What::Drain);
        let Some(process) = &self.process else { return };
        let report = self.alive(process.runtime.shutdown(deadline)).await;
        if report.as_ref().is_some_and(|report| report.released > 0) {
            self.world.mark("shutdown: something was cut off");
        }
        if report.is_some_and(|report| !report.hung.is_empty()) {
            self.world.mark("shutdown: an adapter hung");
        }
        if self.plan.breaks > 0 && !self.world.is_calm() && self.world.percent(25) {
            self.world.mark("crash: while closing");
            let fault = if self.world.percent(70) { Fault::Stop } else { Fault::Error };
            self.disk.plan(self.world.draw(|random| random.random_range(0..3)), fault);
        }
        let closed = process.store.inner.close().await.is_ok();
        // After a clean end nothing is left to lose, whatever the disk does.
        let cut = if closed { Cut::Nothing } else { self.draw_cut() };
        self.end_process("shut down", cut).await;
        self.start().await;
    }

    /// Whether the process cannot go on by itself.
    pub(crate) fn has_failed(&self) -> bool {
        self.disk.has_stopped()
            || self.process.as_ref().is_none_or(|process| process.store.inner.failed().is_some())
    }

    pub(crate) async fn audit(&self) {
        if let Some(process) = self.process.as_ref().filter(|_| !self.has_failed()) {
            audit(&self.world, &process.store, self.plan.traces_kept).await;
        }
    }

    /// Every delivery that is parked.
    pub(crate) async fn suspended(&self) -> Vec<DeliveryId> {
        let Some(process) = &self.process else { return Vec::new() };
        let state = Some(pillarbox_store::DeliveryState::Suspended);
        let filter = Filter { state, limit: 1_000, ..Filter::default() };
        let found = process.store.inner.deliveries(&filter).await.unwrap_or_default();
        found.into_iter().map(|info| info.id).collect()
    }
}

/// Every delivery that the box knows.
pub(crate) async fn deliveries(store: &MessageBox) -> Result<Vec<DeliveryInfo>, Error> {
    let mut found = Vec::new();
    loop {
        let after = found.last().map(|info: &DeliveryInfo| info.id);
        let page = store.deliveries(&Filter { after, limit: 1_000, ..Filter::default() }).await?;
        let is_last = page.len() < 1_000;
        found.extend(page);
        if is_last {
            return Ok(found);
        }
    }
}

/// Asks the box for everything.
async fn audit(world: &World, store: &Recorder, traces_kept: bool) {
    let Ok(found) = deliveries(&store.inner).await else { return };
    let mut answers = BTreeMap::new();
    for info in found.iter().filter(|info| info.answer_len.is_some()) {
        let Ok(answered) = store.inner.answer(info.id).await else { return };
        answers.extend(answered.map(|answered| (info.id, body_hash(answered.answer.body()))));
    }
    let counts: BTreeMap<_, _> =
        store.inner.ports().into_iter().map(|port| (port.name, port.counts)).collect();
    world.record(What::Audit { found, answers, counts, traces_kept });
}
