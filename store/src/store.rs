//! The one trait through which everybody uses a box.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::Notify;

use crate::{
    Answered, Batch, BodyWriter, BoxId, Committed, Decisions, DeliveryDetail, DeliveryId, DeliveryInfo,
    DeliveryState, Error, Lease, Leased, MessageId, MessageInfo, PortInfo, PortName, Route, Timestamp, Want,
};

/// Which deliveries to list.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filter {
    /// Only of this port.
    pub port: Option<PortName>,
    /// Only in this state.
    pub state: Option<DeliveryState>,
    /// Only in doubt, whatever the state ([`crate::Doubt`]).
    pub in_doubt: bool,
    /// Only with a higher number than this: pass the last one of a page to get the next page.
    pub after: Option<DeliveryId>,
    /// At most so many; 0 means 100. More than 1,000 is taken as 1,000.
    pub limit: usize,
}

/// Tells that something about a port changed: deliveries became ready, a due time moved, it was paused or unpaused.
#[derive(Debug)]
pub struct Watch {
    changes: Arc<Changes>,
    seen: u64,
}

/// A port's changes, counted, and those who wait for the next one. They are woken in the order in which they came.
#[derive(Debug, Default)]
pub(crate) struct Changes {
    count: AtomicU64,
    waiting: Notify,
}

impl Changes {
    pub(crate) fn announce(&self) {
        self.count.fetch_add(1, Ordering::Release);
        self.waiting.notify_waiters();
    }

    pub(crate) fn watch(self: &Arc<Self>) -> Watch {
        Watch { changes: self.clone(), seen: self.count.load(Ordering::Acquire) }
    }
}

impl Watch {
    /// Returns after the next change; at once if there was one since the last call. A change between two calls is
    /// not missed. It also returns when the box is closed or has failed: the next call to the box tells why.
    ///
    /// # Cancel
    /// A dropped call misses nothing.
    pub async fn changed(&mut self) {
        loop {
            let next = self.changes.waiting.notified();
            let count = self.changes.count.load(Ordering::Acquire);
            if count != self.seen {
                self.seen = count;
                return;
            }
            next.await;
        }
    }
}

/// Figures of a box.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BoxStats {
    /// The engine's name.
    pub engine: &'static str,
    /// The engine's figures.
    pub disk: crate::engine::EngineStats,
    /// Commit groups applied since it was opened.
    pub groups: u64,
    /// Batches applied since it was opened.
    pub batches: u64,
}

/// A durable box of messages. Object-safe: hold it as `Arc<dyn Store>`.
///
/// Queries tell only what is durable, except that the counts of [`Store::ports`] may be ahead by what is being flushed
/// at that moment; a lease never gives out a delivery whose submission is not durable yet.
#[async_trait]
pub trait Store: fmt::Debug + Send + Sync + 'static {
    /// The box's name, made at its creation.
    fn id(&self) -> BoxId;

    /// Applies a batch in one atomic step and returns once that is durable.
    ///
    /// What could not be applied is told per operation in the result; unless the batch is all-or-none the rest was
    /// applied. A batch whose id was committed before (among the latest 65,536 batches) is not applied again: the
    /// results of then are returned.
    ///
    /// # Errors
    /// - [`crate::ErrorKind::Invalid`]: nothing was applied; a body is longer than the box allows, the batch has more
    ///   than [`Batch::OPS_MAX`] operations, or it has more than 512 MiB of bodies that were not put in ahead.
    /// - [`crate::ErrorKind::Full`]: nothing was applied; make room and commit the same batch again.
    /// - [`crate::ErrorKind::Unavailable`]: the outcome is unknown and the box has stopped; reopen it and commit
    ///   the same batch again, it is applied once.
    /// - [`crate::ErrorKind::Closed`]: nothing was applied.
    ///
    /// # Cancel
    /// A dropped call may still be applied, as with `Unavailable`.
    async fn commit(&self, batch: &Batch) -> Result<Committed, Error>;

    /// Leases ready deliveries, oldest first; none where none is ready or the port is paused.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Unavailable`] or [`crate::ErrorKind::Closed`]: nothing was leased. A delivery whose
    /// stored bytes are damaged is not leased but suspended with that reason.
    ///
    /// # Cancel
    /// What a dropped call had leased is ready again when the lease ends.
    async fn lease(&self, want: &Want) -> Result<Vec<Leased>, Error>;

    /// Gives leases back without an outcome: their deliveries are ready again, no attempt is charged. Those that were
    /// about to be sent ([`crate::Op::Intend`]) are in doubt. Leases that have ended are passed over.
    fn release(&self, leases: &[Lease]);

    /// Tells of changes to a port; `None` where the port was never defined.
    fn watch(&self, port: &PortName) -> Option<Watch>;

    /// When the next delivery of the port that waits for a time is due on that route (a lease that ends counts);
    /// `None` where none waits. [`Store::lease`] at that time finds it ready.
    fn next_due(&self, port: &PortName, route: Route) -> Option<Timestamp>;

    /// Begins a body that is put into the box fragment by fragment, ahead of its message.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Closed`] and [`crate::ErrorKind::Unavailable`] as for [`Store::commit`].
    fn stage(&self) -> Result<BodyWriter, Error>;

    /// What is known of a message and its deliveries, attempts included.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Corrupt`]; [`crate::ErrorKind::Unavailable`] where it cannot be read, or where the box has stopped
    /// after a failed write: what that write did may come to nothing, so that nothing is told before it is opened again.
    async fn message(&self, id: MessageId) -> Result<Option<MessageInfo>, Error>;

    /// What is known of a delivery, attempts included.
    ///
    /// # Errors
    /// As [`Store::message`].
    async fn delivery(&self, id: DeliveryId) -> Result<Option<DeliveryDetail>, Error>;

    /// One fragment of a message's body; `None` where there is no such message, its body is gone because every
    /// delivery has ended, or it has no such fragment.
    ///
    /// # Errors
    /// As [`Store::message`].
    async fn body(&self, id: MessageId, fragment: u32) -> Result<Option<Bytes>, Error>;

    /// What the destination answered to a delivery ([`crate::Op::Respond`]); `None` where no answer is kept: there is no
    /// such delivery, it has not ended, it ended without an answer, or the answer was forgotten
    /// ([`crate::AnswerRetention`]).
    ///
    /// # Errors
    /// As [`Store::message`].
    async fn answer(&self, id: DeliveryId) -> Result<Option<Answered>, Error>;

    /// The decisions that are kept ([`crate::Op::Decide`]).
    ///
    /// # Errors
    /// [`crate::ErrorKind::Unavailable`] or [`crate::ErrorKind::Closed`]: the box has stopped, and what it knew last
    /// may not be what its disk has.
    async fn decisions(&self) -> Result<Decisions, Error>;

    /// A page of deliveries, in order of number.
    ///
    /// # Errors
    /// As [`Store::message`].
    async fn deliveries(&self, filter: &Filter) -> Result<Vec<DeliveryInfo>, Error>;

    /// Every port, in order of name, with exact counts.
    fn ports(&self) -> Vec<PortInfo>;

    /// Figures of the box.
    fn stats(&self) -> BoxStats;

    /// Why the box has stopped; `None` while it works.
    fn failed(&self) -> Option<Error>;

    /// Takes no more work, finishes what was accepted, and closes the files. Calling it again does nothing.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Unavailable`] where the last flush failed.
    async fn close(&self) -> Result<(), Error>;
}
