//! The engine's side of a message that was handed out: who may say how it ended, and that it is said once.

use std::fmt;
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use pillarbox_store::{AttemptNote, Failure, Leased, Route, Timestamp};
use tokio::sync::Notify;
use tokio::task::AbortHandle;
use tracing::Span;

use crate::lane::{LEASE_MARGIN, Lane};

/// Nobody has said yet how it ended.
const OPEN: u8 = 0;
/// Somebody says it right now: the outcome is on its way to the box.
const CLAIMED: u8 = 1;
/// It is said.
const SETTLED: u8 = 2;

/// One message that was handed to an adapter. Holds one of its lane's credits until it is settled.
pub(crate) struct Ticket {
    leased: Leased,
    lane: Arc<Lane>,
    group: Arc<Group>,
    started: Timestamp,
    state: AtomicU8,
    send_key: OnceLock<String>,
    worker: OnceLock<AbortHandle>,
    span: Span,
}

/// The messages that were handed out together.
#[derive(Debug, Default)]
pub(crate) struct Group {
    unsettled: AtomicUsize,
    orphans: Mutex<Vec<Orphan>>,
    /// Something happened that the one who waits for the group has to look at. It is one waiter.
    pub(crate) changed: Notify,
}

/// A message that the adapter let go of without an outcome. Already claimed, for the engine.
#[derive(Debug)]
pub(crate) struct Orphan {
    pub(crate) ticket: Arc<Ticket>,
    pub(crate) panicked: bool,
}

impl Group {
    pub(crate) fn unsettled(&self) -> usize {
        self.unsettled.load(Ordering::Acquire)
    }

    pub(crate) fn take_orphans(&self) -> Vec<Orphan> {
        std::mem::take(&mut *self.orphans.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Ticket {
    pub(crate) fn new(lane: &Arc<Lane>, group: &Arc<Group>, leased: Leased, started: Timestamp) -> Arc<Self> {
        group.unsettled.fetch_add(1, Ordering::AcqRel);
        let span = tracing::info_span!(
            parent: None,
            "attempt",
            // Not `message`: subscribers take that name for the event's text.
            message_id = %leased.message.id,
            delivery = %leased.lease.delivery(),
            port = %leased.port,
            route = leased.route.as_str(),
            attempt = leased.attempts.saturating_add(1),
        );
        Arc::new(Self::with_state(lane, group, leased, started, span, OPEN))
    }

    fn with_state(
        lane: &Arc<Lane>,
        group: &Arc<Group>,
        leased: Leased,
        started: Timestamp,
        span: Span,
        state: u8,
    ) -> Self {
        Self {
            leased,
            lane: Arc::clone(lane),
            group: Arc::clone(group),
            started,
            state: AtomicU8::new(state),
            send_key: OnceLock::new(),
            worker: OnceLock::new(),
            span,
        }
    }

    pub(crate) fn leased(&self) -> &Leased {
        &self.leased
    }

    pub(crate) fn lane(&self) -> &Arc<Lane> {
        &self.lane
    }

    pub(crate) fn span(&self) -> &Span {
        &self.span
    }

    pub(crate) fn retries_left(&self) -> u32 {
        let made = self.leased.attempts_on_route.saturating_add(1);
        self.lane.retry().attempts.saturating_sub(made)
    }

    /// How much of the attempt's time is left, by the lease: what is begun with it is settled before that ends.
    pub(crate) fn time_left(&self) -> Duration {
        self.leased.ends.since(self.lane.core().clock.steady()).saturating_sub(LEASE_MARGIN)
    }

    pub(crate) fn send_key(&self) -> &str {
        self.send_key.get_or_init(|| {
            let (port, message) = (&self.leased.port, self.leased.message.id);
            let backup = match self.leased.route {
                Route::Primary => "",
                Route::Backup => "/backup",
            };
            if pillarbox_store::mutant::is("send-key-changes") {
                return format!("{}/{port}/{message}/{}", self.lane.core().box_id, self.leased.attempts);
            }
            format!("{}/{port}/{message}{backup}", self.lane.core().box_id)
        })
    }

    /// What the history keeps of this attempt.
    pub(crate) fn note(&self, now: Timestamp, failure: Option<Failure>) -> AttemptNote {
        AttemptNote { started: self.started, took: now.since(self.started), failure }
    }

    /// Whether nobody has said yet how it ended.
    pub(crate) fn is_open(&self) -> bool {
        self.state.load(Ordering::Acquire) == OPEN
    }

    /// Takes the right to say how it ended. True for one caller only.
    pub(crate) fn claim(&self) -> bool {
        let claimed = self.state.compare_exchange(OPEN, CLAIMED, Ordering::AcqRel, Ordering::Acquire).is_ok();
        claimed || pillarbox_store::mutant::is("double-outcome")
    }

    /// Gives a claim back: the message is with the adapter again.
    pub(crate) fn reopen(&self) {
        let was = self.state.compare_exchange(CLAIMED, OPEN, Ordering::AcqRel, Ordering::Acquire);
        debug_assert!(was.is_ok(), "only a claimed ticket is reopened");
        self.group.changed.notify_one();
    }

    /// Ends a claim: the message is no longer with the adapter, its credit is free.
    pub(crate) fn finish(&self) {
        if self.state.swap(SETTLED, Ordering::AcqRel) == SETTLED {
            return;
        }
        self.lane.return_credits(1);
        if self.group.unsettled.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.group.changed.notify_one();
        }
    }

    /// Ends the ticket and leaves the message, with its credit, to the caller.
    pub(crate) fn withdraw(&self) {
        if self.state.swap(SETTLED, Ordering::AcqRel) != SETTLED {
            self.group.unsettled.fetch_sub(1, Ordering::AcqRel);
        }
    }

    /// Says which task sends it, so that the engine can end that.
    pub(crate) fn set_worker(&self, worker: AbortHandle) {
        let _first_stays = self.worker.set(worker);
    }

    /// Ends the task that sends it, where that is the engine's own.
    pub(crate) fn abort_worker(&self) {
        if let Some(worker) = self.worker.get() {
            worker.abort();
        }
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        if self.state.load(Ordering::Acquire) != OPEN || pillarbox_store::mutant::is("let-go-is-forgotten") {
            return;
        }
        let (leased, span) = (self.leased.clone(), self.span.clone());
        let ticket = Self::with_state(&self.lane, &self.group, leased, self.started, span, CLAIMED);
        let orphan = Orphan { ticket: Arc::new(ticket), panicked: std::thread::panicking() };
        self.group.orphans.lock().unwrap_or_else(PoisonError::into_inner).push(orphan);
        self.group.changed.notify_one();
    }
}

impl fmt::Debug for Ticket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = match self.state.load(Ordering::Acquire) {
            OPEN => "open",
            CLAIMED => "claimed",
            _ => "settled",
        };
        f.debug_struct("Ticket")
            .field("delivery", &self.leased.lease.delivery())
            .field("state", &state)
            .finish_non_exhaustive()
    }
}
