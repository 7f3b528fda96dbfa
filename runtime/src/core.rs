//! What every part of a runtime shares.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering};

use pillarbox_store::{BoxId, Clock, IdSource, Store};
use tokio::sync::Notify;

use crate::tasks::{Gate, Tasks};
use crate::transact::Transactions;

/// How far a runtime is on its way to the end. Only ever advances.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub(crate) enum Phase {
    /// It works.
    Running = 0,
    /// Nothing more is leased; what is being sent goes on.
    Draining = 1,
    /// What is still being sent is cut off and given back.
    Cut = 2,
    /// It is over.
    Closed = 3,
}

#[derive(Debug)]
pub(crate) struct Core {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) box_id: BoxId,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) ids: IdSource,
    pub(crate) tasks: Tasks,
    /// Dispatchers and batches under way.
    pub(crate) flights: Arc<Gate>,
    /// Transactions that adapters began and that have not ended.
    pub(crate) transactions: Transactions,
    /// Deliveries that were settled with an outcome.
    pub(crate) completed: AtomicU64,
    /// Deliveries that were given back without one.
    pub(crate) released: AtomicU64,
    /// How often in a row the box had no room for the outcome of failed attempts.
    pub(crate) refused: AtomicU32,
    /// An adapter was opened, or could not be.
    pub(crate) tried: Notify,
    phase: AtomicU8,
    // Not a `watch`: its receivers wake in an order that tokio draws at random.
    moved: Notify,
}

impl Core {
    pub(crate) fn new(store: Arc<dyn Store>, clock: Arc<dyn Clock>, ids: IdSource) -> Self {
        Self {
            box_id: store.id(),
            store,
            clock,
            ids,
            tasks: Tasks::new(),
            flights: Arc::default(),
            transactions: Transactions::default(),
            completed: AtomicU64::new(0),
            released: AtomicU64::new(0),
            refused: AtomicU32::new(0),
            tried: Notify::new(),
            phase: AtomicU8::new(Phase::Running as u8),
            moved: Notify::new(),
        }
    }

    /// Whether the runtime is that far or further.
    pub(crate) fn is(&self, phase: Phase) -> bool {
        self.phase.load(Ordering::Acquire) >= phase as u8
    }

    pub(crate) fn advance(&self, phase: Phase) {
        self.phase.fetch_max(phase as u8, Ordering::AcqRel);
        self.moved.notify_waiters();
    }

    /// Returns once the runtime is that far or further.
    pub(crate) async fn reached(&self, phase: Phase) {
        loop {
            let mut moved = std::pin::pin!(self.moved.notified());
            moved.as_mut().enable();
            if self.is(phase) {
                return;
            }
            moved.await;
        }
    }
}
