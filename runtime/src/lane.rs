//! A lane: one route of one port, with its adapter, its credits and its troubles.

use std::future::Future;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use pillarbox_store::{Lease, Leased, PortName, Route};
use tokio::sync::{Notify, Semaphore};
use tokio::task::AbortHandle;
use tokio::time::Instant;

use crate::RetryPolicy;
use crate::adapter::{BatchTransmitter, TransportInfo};
use crate::core::{Core, Phase};
use crate::dynamic::Addresses;
use crate::port::{AdapterSource, LaneName, RouteConfig, RouteStatus};
use crate::prepared::{Holder, settle_until_done};

/// How much longer a lease lasts than an attempt may take, so that the engine's own timeout is settled first.
pub(crate) const LEASE_MARGIN: Duration = Duration::from_secs(30);

/// How long a lane waits after its adapter could not be opened or would take no batch.
const BACK_OFF: RetryPolicy = RetryPolicy {
    attempts: u32::MAX,
    first: Duration::from_millis(200),
    factor: 2.0,
    max: Duration::from_secs(30),
    jitter: 0.2,
};

#[derive(Debug)]
pub(crate) struct Lane {
    core: Arc<Core>,
    name: LaneName,
    has_backup: bool,
    config: RouteConfig,
    info: TransportInfo,
    /// One for each message that may still be handed out. Only the dispatcher takes.
    credits: Semaphore,
    /// The most messages that the adapter's last batch announced to take.
    announced: AtomicUsize,
    /// Whether `state` has some trouble: spares the lock where there is none.
    troubled: AtomicBool,
    /// Whether the destination may hold transactions prepared that nobody works on.
    unsettled: AtomicBool,
    /// The addresses of a dynamic port.
    addresses: Option<Addresses>,
    /// The lane of the port, where this is the one of an address: every credit is one of that as well.
    parent: Option<Weak<Lane>>,
    /// Held while the adapter of an address is opened.
    pub(crate) opening: tokio::sync::Mutex<()>,
    /// Wakes the dispatcher.
    pub(crate) nudge: Notify,
    state: Mutex<LaneState>,
}

#[derive(Debug, Default)]
struct LaneState {
    adapter: Option<Arc<dyn BatchTransmitter>>,
    /// Its destination's prepared transactions.
    holder: Option<Arc<Holder>>,
    /// Failures in a row to open the adapter or to get a batch from it.
    failures: u32,
    /// Nothing is leased before this.
    back_off: Option<Instant>,
    /// Why nothing can be handed over now.
    trouble: Option<String>,
    /// What the adapter said by itself.
    complaint: Option<String>,
    /// Why the lane will not work again.
    stopped: Option<String>,
}

/// Why a call into an adapter gave nothing.
#[derive(Debug)]
pub(crate) enum CallFailed {
    /// It panicked, with this text.
    Panicked(String),
    /// It took too long.
    TimedOut,
    /// The runtime's end cut it off.
    Cut,
}

impl Lane {
    pub(crate) fn new(
        core: &Arc<Core>,
        port: PortName,
        route: Route,
        has_backup: bool,
        config: RouteConfig,
    ) -> Self {
        Self {
            core: Arc::clone(core),
            name: LaneName { port, route },
            has_backup,
            info: config.adapter.describe(),
            credits: Semaphore::new(if pillarbox_store::mutant::is("in-flight-doubled") {
                2 * config.in_flight
            } else {
                config.in_flight
            }),
            addresses: match &config.adapter {
                AdapterSource::Dynamic(directory) => Some(Addresses::new(Arc::clone(directory))),
                _ => None,
            },
            parent: None,
            opening: tokio::sync::Mutex::default(),
            config,
            announced: AtomicUsize::new(usize::MAX),
            troubled: AtomicBool::new(false),
            unsettled: AtomicBool::new(false),
            nudge: Notify::new(),
            state: Mutex::default(),
        }
    }

    /// The lane of one address, beneath the port's.
    pub(crate) fn beneath(parent: &Arc<Self>, config: RouteConfig) -> Self {
        let LaneName { port, route } = parent.name.clone();
        let lane = Self::new(&parent.core, port, route, parent.has_backup, config);
        Self { parent: Some(Arc::downgrade(parent)), ..lane }
    }

    pub(crate) fn addresses(&self) -> Option<&Addresses> {
        self.addresses.as_ref()
    }

    pub(crate) fn config(&self) -> &RouteConfig {
        &self.config
    }

    pub(crate) fn core(&self) -> &Arc<Core> {
        &self.core
    }

    pub(crate) fn name(&self) -> &LaneName {
        &self.name
    }

    pub(crate) fn has_backup(&self) -> bool {
        self.has_backup
    }

    pub(crate) fn retry(&self) -> &RetryPolicy {
        &self.config.retry
    }

    pub(crate) fn timeout(&self) -> Duration {
        self.config.timeout
    }

    pub(crate) fn lease_for(&self) -> Duration {
        self.config.timeout + LEASE_MARGIN
    }

    pub(crate) fn in_flight_max(&self) -> usize {
        self.config.in_flight
    }

    pub(crate) fn batch_bytes(&self) -> u64 {
        self.config.batch_bytes
    }

    pub(crate) fn source(&self) -> &AdapterSource {
        &self.config.adapter
    }

    pub(crate) fn info(&self) -> &TransportInfo {
        &self.info
    }

    /// Returns once a message may be handed out, with the most that the next batch may have.
    pub(crate) async fn room(&self) -> usize {
        if let Ok(permit) = self.credits.acquire().await {
            drop(permit);
        }
        let announced = self.announced.load(Ordering::Relaxed);
        self.credits.available_permits().min(self.config.batch_count).min(announced)
    }

    /// Takes credits that [`Lane::room`] saw.
    pub(crate) fn take_credits(&self, messages: usize) {
        let taken = self.credits.forget_permits(messages);
        debug_assert_eq!(taken, messages, "only the dispatcher takes credits");
    }

    /// Takes as many credits as there are, up to so many.
    pub(crate) fn try_take_credits(&self, messages: usize) -> usize {
        let most = messages.min(self.credits.available_permits());
        let permits = u32::try_from(most).ok().and_then(|most| self.credits.try_acquire_many(most).ok());
        permits.map_or(0, |permits| {
            permits.forget();
            most
        })
    }

    pub(crate) fn return_credits(&self, messages: usize) {
        self.credits.add_permits(messages);
        if let Some(parent) = self.parent.as_ref().and_then(Weak::upgrade) {
            parent.return_credits(messages);
        }
    }

    pub(crate) fn in_flight(&self) -> usize {
        self.config.in_flight.saturating_sub(self.credits.available_permits())
    }

    /// Gives messages back that were leased and never handed out: no attempt is charged.
    pub(crate) fn give_back(&self, leased: &[Leased]) {
        let leases: Vec<Lease> = leased.iter().map(|leased| leased.lease).collect();
        self.core.store.release(&leases);
        self.never_sent(leased.len());
    }

    /// Messages that were never handed out are with the box again.
    pub(crate) fn never_sent(&self, messages: usize) {
        self.return_credits(messages);
        self.core.released.fetch_add(messages as u64, Ordering::Relaxed);
    }

    /// Calls into the adapter in a task of its own, until `deadline` or the runtime's end.
    pub(crate) async fn call<T, F>(&self, deadline: Instant, call: F) -> Result<T, CallFailed>
    where
        F: Future<Output = T> + Send + 'static,
        T: Send + 'static,
    {
        let task = self.core.tasks.spawn(call);
        let _ends_with_this_call = AbortOnDrop(task.abort_handle());
        tokio::select! {
            biased;
            joined = task => joined.map_err(|error| match error.try_into_panic() {
                Ok(payload) => CallFailed::Panicked(panic_text(payload.as_ref())),
                Err(_aborted) => CallFailed::Cut,
            }),
            () = self.core.reached(Phase::Cut) => Err(CallFailed::Cut),
            () = tokio::time::sleep_until(deadline) => Err(CallFailed::TimedOut),
        }
    }

    fn state(&self) -> MutexGuard<'_, LaneState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn adapter(&self) -> Option<Arc<dyn BatchTransmitter>> {
        self.state().adapter.clone()
    }

    pub(crate) fn opened(&self, adapter: Arc<dyn BatchTransmitter>, holder: Option<Holder>) {
        let mut state = self.state();
        self.unsettled.store(holder.is_some(), Ordering::Release);
        state.holder = holder.map(Arc::new);
        state.adapter = Some(adapter);
        drop(state);
        self.core.tried.notify_waiters();
    }

    /// Whether the adapter is open, or could not be opened.
    pub(crate) fn was_tried(&self) -> bool {
        let state = self.state();
        state.adapter.is_some() || state.failures > 0
    }

    /// The destination's prepared transactions, where it has any.
    pub(crate) fn holder(&self) -> Option<Arc<Holder>> {
        self.state().holder.clone()
    }

    /// Whether the destination may hold transactions prepared that nobody works on.
    pub(crate) fn is_unsettled(&self) -> bool {
        self.unsettled.load(Ordering::Acquire)
    }

    pub(crate) fn set_unsettled(&self, unsettled: bool) {
        self.unsettled.store(unsettled, Ordering::Release);
    }

    /// A transaction may have stayed prepared at the destination: nothing is handed over before that is settled.
    pub(crate) fn leaves_unsettled(self: &Arc<Self>) {
        if self.holder().is_none() || self.unsettled.swap(true, Ordering::AcqRel) {
            return;
        }
        if self.parent.is_some() {
            self.core.tasks.spawn(settle_until_done(Arc::clone(self)));
        } else {
            self.nudge.notify_one();
        }
    }

    pub(crate) fn take_adapter(&self) -> Option<Arc<dyn BatchTransmitter>> {
        self.state().adapter.take()
    }

    /// The adapter could not be opened or takes no batch: nothing is leased for a while. Failures of batches that
    /// were under way when that began do not make it longer.
    pub(crate) fn backs_off(&self, doing: &str, why: &str) {
        let now = Instant::now();
        let random = self.core.ids.random();
        let mut state = self.state();
        self.troubled.store(true, Ordering::Release);
        state.trouble = Some(format!("cannot {doing}: {why}"));
        if state.back_off.is_none_or(|until| until <= now) {
            state.failures = state.failures.saturating_add(1);
            let wait = BACK_OFF.wait(state.failures, random);
            state.back_off = Some(now + wait);
            tracing::warn!(lane = %self.name, error = why, ?wait, "cannot {doing}; no attempt is charged");
        }
        drop(state);
        self.core.tried.notify_waiters();
        self.nudge.notify_one();
    }

    /// Until when nothing is leased.
    pub(crate) fn back_off(&self) -> Option<Instant> {
        if !self.troubled.load(Ordering::Acquire) {
            return None;
        }
        self.state().back_off.filter(|&until| until > Instant::now())
    }

    /// The adapter gave a batch that takes so many messages.
    pub(crate) fn began(&self, messages_max: usize) {
        self.announced.store(messages_max, Ordering::Relaxed);
        self.recovers();
    }

    /// What kept the lane from handing anything over is gone.
    pub(crate) fn recovers(&self) {
        if self.troubled.load(Ordering::Acquire) {
            let mut state = self.state();
            (state.failures, state.back_off, state.trouble) = (0, None, None);
            self.troubled.store(state.complaint.is_some(), Ordering::Release);
        }
    }

    /// The adapter complains by itself.
    pub(crate) fn complains(&self, text: String) {
        let mut state = self.state();
        state.complaint = Some(text);
        self.troubled.store(true, Ordering::Release);
    }

    /// A message was delivered: what the adapter complained about is over.
    pub(crate) fn delivered(&self) {
        if self.troubled.load(Ordering::Acquire) {
            let mut state = self.state();
            state.complaint = None;
            self.troubled.store(state.trouble.is_some(), Ordering::Release);
        }
    }

    /// The lane will not work again.
    pub(crate) fn stops(&self, why: String) {
        tracing::error!(lane = %self.name, error = why, "stopped");
        self.state().stopped = Some(why);
    }

    pub(crate) fn status(&self) -> RouteStatus {
        let state = self.state();
        let trouble = state.stopped.as_ref().or(state.trouble.as_ref()).or(state.complaint.as_ref());
        let beneath = self.addresses.as_ref().map(Addresses::lanes).unwrap_or_default();
        let beneath: Vec<_> = beneath.into_iter().map(|(address, lane)| (address, lane.status())).collect();
        let of_address = || {
            let told = |(address, status): &(String, RouteStatus)| {
                status.trouble.as_ref().map(|trouble| format!("{}: {trouble}", address.escape_debug()))
            };
            beneath.iter().find_map(told)
        };
        RouteStatus {
            route: self.name.route,
            kind: self.info.kind,
            open: state.adapter.is_some() || beneath.iter().any(|(_, status)| status.open),
            in_flight: self.in_flight(),
            trouble: trouble.cloned().or_else(of_address),
        }
    }
}

/// Ends a task with whoever waits for it.
pub(crate) struct AbortOnDrop(pub(crate) AbortHandle);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// What a panic said.
pub(crate) fn panic_text(payload: &(dyn std::any::Any + Send)) -> String {
    let said = payload.downcast_ref::<&str>().map(|text| (*text).to_owned());
    let said = said.or_else(|| payload.downcast_ref::<String>().cloned());
    format!("the adapter panicked: {}", said.as_deref().unwrap_or("(no text)"))
}
