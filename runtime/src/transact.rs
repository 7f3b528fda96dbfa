//! Transacted sends: the end of a destination's transaction and the box's record of its deliveries, in the order in which
//! neither can be without the other for as long as nobody crashes.
//!
//! `prepare`, then [`decide`], then `commit`. The decision is the box's batch that ends the deliveries, all or none of
//! them, and keeps that it did so until the destination has committed. A crash leaves at most a transaction that is
//! prepared: before the decision its deliveries are ready again, after it they are done, and `prepared.rs` has the
//! destination commit what it holds under that name.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use pillarbox_store::{Error, ErrorKind, Op, Refusal};

use crate::adapter::{CommitConfirm, ErrorClass, SendError, Transaction, TransactionId};
use crate::complete::{Item, Settled, commit_all_or_none, conclude};
use crate::core::Phase;
use crate::drain::LAST_CALL;
use crate::lane::{AbortOnDrop, LEASE_MARGIN, Lane, panic_text};
use crate::prepared::forget;
use crate::proxy::ItemStatus;

/// Why a transacted completion batch did not end as it should.
#[non_exhaustive]
#[derive(Debug, thiserror::Error)]
pub enum TransactError {
    /// It has items other than deletions and answers, none at all, or answers larger together than
    /// [`crate::CompletionBatch::ANSWER_BYTES_MAX`]. What failed is completed in an ordinary batch. Nothing was done, the
    /// transaction goes on.
    #[error("only what was sent can be completed in a transaction")]
    NotSent,
    /// The transaction has ended, or is being ended, already. Nothing was done.
    #[error("the transaction has ended already")]
    Ended,
    /// The destination did not prepare it. Rolled back; the messages are still the adapter's.
    #[error("the destination did not prepare the transaction")]
    NotPrepared(#[source] SendError),
    /// An item was refused, so that none was recorded. Rolled back; those refused as `Voided` for the sake of the others
    /// are still the adapter's.
    #[error("the box refused an item of the transaction")]
    Refused(Vec<ItemStatus>),
    /// The box did not take it. Of kind `Full`: rolled back, the messages are still the adapter's. Of any other kind: the
    /// outcome is unknown, and the destination goes on holding the transaction prepared.
    #[error("the box did not record the transaction")]
    Store(#[source] Error),
    /// The deliveries are done, and the destination did not say that it committed: it may still hold the transaction
    /// prepared.
    #[error("the destination did not confirm the commit")]
    Uncommitted(#[source] SendError),
    /// The runtime ended in the middle: the outcome is unknown.
    #[error("the runtime has stopped")]
    Stopped,
}

/// How long a rollback may take, where the route's timeout is not shorter: the leases have to last until the attempt's
/// failure is recorded after it. What is not rolled back by then is left prepared and settled later.
const ROLL_BACK: Duration = Duration::from_secs(LEASE_MARGIN.as_secs() / 2);

/// Nobody has ended it.
const OPEN: u8 = 0;
/// It is being ended.
const ENDING: u8 = 1;
/// The destination has committed it.
const COMMITTED: u8 = 2;
/// It was rolled back.
const ROLLED_BACK: u8 = 3;
/// The box has recorded it, and the destination did not say that it committed.
const UNCONFIRMED: u8 = 4;

/// A transaction that the engine has joined. It is ended once.
#[derive(Debug)]
pub(crate) struct Joined {
    transaction: Arc<dyn Transaction>,
    lane: Arc<Lane>,
    state: AtomicU8,
}

/// The transactions of this process that have not ended, by their name.
#[derive(Debug, Default)]
pub(crate) struct Transactions(Mutex<BTreeMap<TransactionId, Weak<Joined>>>);

impl Transactions {
    fn known(&self) -> MutexGuard<'_, BTreeMap<TransactionId, Weak<Joined>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether somebody in this process is going to end it.
    pub(crate) fn is_live(&self, id: &TransactionId) -> bool {
        let joined = self.known().get(id).and_then(Weak::upgrade);
        joined.is_some_and(|joined| matches!(joined.state.load(Ordering::Acquire), OPEN | ENDING))
    }
}

impl Joined {
    /// Joins a transaction; the same one again gives the same.
    pub(crate) fn new(lane: &Arc<Lane>, transaction: Arc<dyn Transaction>) -> Arc<Self> {
        let mut known = lane.core().transactions.known();
        if let Some(joined) = known.get(transaction.id()).and_then(Weak::upgrade) {
            return joined;
        }
        let name = transaction.id().clone();
        let joined = Arc::new(Self { transaction, lane: Arc::clone(lane), state: AtomicU8::new(OPEN) });
        known.insert(name, Arc::downgrade(&joined));
        joined
    }

    /// What the adapter reports its end with.
    pub(crate) fn confirm(self: &Arc<Self>, lane: &Arc<Lane>) -> Box<dyn CommitConfirm> {
        Box::new(Confirm { joined: Arc::clone(self), lane: Arc::clone(lane), reported: false })
    }

    /// Takes the right to end it. True for one caller only.
    fn end(&self) -> bool {
        self.state.compare_exchange(OPEN, ENDING, Ordering::AcqRel, Ordering::Acquire).is_ok()
    }

    fn ended(&self, how: u8) {
        self.state.store(how, Ordering::Release);
    }

    /// Rolls it back, unless somebody has ended it or is about to.
    pub(crate) async fn roll_back_if_open(&self) {
        if self.end() {
            self.roll_back().await;
        }
    }

    async fn roll_back(&self) {
        let transaction = Arc::clone(&self.transaction);
        let within = self.lane.timeout().min(ROLL_BACK);
        if let Err(error) = self.call(within, within, async move { transaction.roll_back().await }).await {
            let error = error.to_failure().text();
            tracing::error!(transaction = %self.transaction.id(), error, "could not be rolled back");
            self.ended(ROLLED_BACK);
            self.lane.leaves_unsettled();
        }
        self.ended(ROLLED_BACK);
    }

    /// Calls into the transaction in a task of its own, which of its time `within` has so much `left`. What a drain cuts off
    /// has [`LAST_CALL`] to end, however much that is: otherwise the adapter would not end in time.
    async fn call(
        &self,
        within: Duration,
        left: Duration,
        call: impl Future<Output = Result<(), SendError>> + Send + 'static,
    ) -> Result<(), SendError> {
        let core = self.lane.core();
        let mut task = core.tasks.spawn(call);
        let last_call = async {
            core.reached(Phase::Cut).await;
            tokio::time::sleep(LAST_CALL).await;
        };
        let _ends_with_this_call = AbortOnDrop(task.abort_handle());
        tokio::select! {
            biased;
            joined = &mut task => joined.unwrap_or_else(|error| Err(match error.try_into_panic() {
                Ok(payload) => SendError::temporary(panic_text(payload.as_ref())),
                Err(_aborted) => SendError::temporary("the runtime has stopped"),
            })),
            () = tokio::time::sleep(left) => {
                Err(SendError::temporary(format!("no answer within {within:?}")))
            }
            () = last_call => Err(cut_off()),
        }
    }
}

fn cut_off() -> SendError {
    SendError::temporary("the runtime is shutting down")
}

impl Drop for Joined {
    fn drop(&mut self) {
        self.lane.core().transactions.known().remove(self.transaction.id());
    }
}

/// Ends a transaction together with the deliveries of claimed tickets, every one sent. After an error that says that the
/// messages are still the adapter's, their tickets are open again; otherwise they are settled.
pub(crate) async fn transact(joined: Arc<Joined>, items: Vec<Item>) -> Result<(), TransactError> {
    let core = Arc::clone(joined.lane.core());
    if !joined.end() {
        reopen(&items);
        return Err(TransactError::Ended);
    }
    let transaction = Arc::clone(&joined.transaction);
    let within = joined.lane.timeout();
    let left = items.iter().map(|item| item.ticket.time_left()).min().unwrap_or_default();
    let preparing = joined.call(within, left, async move { transaction.prepare().await });
    let prepared = tokio::select! {
        biased;
        prepared = preparing => prepared,
        () = core.reached(Phase::Cut) => Err(cut_off()),
    };
    if let Err(error) = prepared {
        joined.roll_back().await;
        reopen(&items);
        return Err(TransactError::NotPrepared(error));
    }
    if pillarbox_store::mutant::is("commit-before-decision") {
        let transaction = Arc::clone(&joined.transaction);
        let _early = joined.call(within, left, async move { transaction.commit().await }).await;
    }
    let is_kept = decide(&joined, &items).await?;
    let transaction = Arc::clone(&joined.transaction);
    match joined.call(within, within, async move { transaction.commit().await }).await {
        Ok(()) => {
            joined.ended(COMMITTED);
            if is_kept {
                forget(&core, [joined.transaction.id().number()]).await;
            }
            Ok(())
        }
        Err(error) => {
            joined.ended(UNCONFIRMED);
            let text = error.to_failure().text();
            tracing::error!(transaction = %joined.transaction.id(), error = text, "the commit is not confirmed");
            if is_kept && error.class() == ErrorClass::Temporary {
                joined.lane.leaves_unsettled();
            }
            Err(TransactError::Uncommitted(error))
        }
    }
}

/// The commit point: after `Ok` every item is recorded, and with them, under the transaction's name, that it is to be
/// committed. True where that is kept: where the adapter lists what its destination holds prepared.
async fn decide(joined: &Joined, items: &[Item]) -> Result<bool, TransactError> {
    let core = joined.lane.core();
    let holder = joined.lane.holder();
    let kept = holder.as_ref().filter(|_| !pillarbox_store::mutant::is("decision-not-kept"));
    let decision = kept.map(|holder| Op::Decide {
        transaction: joined.transaction.id().number(),
        destination: holder.destination().to_owned(),
    });
    match commit_all_or_none(core, items, decision).await {
        Ok(settled) if settled.iter().all(Settled::is_applied) => {
            for (item, settled) in items.iter().zip(&settled) {
                conclude(core, item, settled);
            }
            Ok(holder.is_some())
        }
        Ok(settled) => {
            joined.roll_back().await;
            let mut statuses = Vec::with_capacity(items.len());
            for (item, settled) in items.iter().zip(settled) {
                if settled.status == ItemStatus::Refused(Refusal::Voided) {
                    item.ticket.reopen();
                } else {
                    conclude(core, item, &settled);
                }
                statuses.push(settled.status);
            }
            Err(TransactError::Refused(statuses))
        }
        Err(error) if error.kind() == ErrorKind::Full => {
            joined.roll_back().await;
            reopen(items);
            Err(TransactError::Store(error))
        }
        Err(error) => {
            joined.ended(UNCONFIRMED);
            items.iter().for_each(|item| item.ticket.finish());
            Err(TransactError::Store(error))
        }
    }
}

pub(crate) fn reopen(items: &[Item]) {
    items.iter().for_each(|item| item.ticket.reopen());
}

/// The adapter's report. One that contradicts what the engine knows, or is never made, is shown with the route.
#[derive(Debug)]
struct Confirm {
    joined: Arc<Joined>,
    lane: Arc<Lane>,
    reported: bool,
}

impl Confirm {
    fn complain(&self, what: &str) {
        let name = self.joined.transaction.id();
        tracing::error!(lane = %self.lane.name(), transaction = %name, "{what}");
        self.lane.complains(format!("transaction {name}: {what}"));
    }
}

impl CommitConfirm for Confirm {
    fn confirm(mut self: Box<Self>, committed: bool) {
        self.reported = true;
        match (self.joined.state.load(Ordering::Acquire), committed) {
            // Reported from within the call that ends it.
            (ENDING, _) | (COMMITTED, true) | (OPEN | ROLLED_BACK, false) | (UNCONFIRMED, _) => {}
            (OPEN | ROLLED_BACK, _) => self.complain("reported as committed, and the box did not record it"),
            _ => self.complain("reported as rolled back, and the box recorded it"),
        }
    }
}

impl Drop for Confirm {
    fn drop(&mut self) {
        if !self.reported && !self.lane.core().is(Phase::Cut) {
            self.complain("its end was never reported");
        }
    }
}
