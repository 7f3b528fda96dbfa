//! What a destination holds prepared: settled by the box's decisions, whoever left it there.
//!
//! A transaction that is decided is committed and its decision forgotten; one that is not is rolled back. What another
//! box prepared is not looked at, and what this process is working on is left to those who do.

use std::collections::BTreeSet;
use std::sync::Arc;

use pillarbox_store::{Batch, BatchId, Decision, Decisions, Durability};
use tokio::time::Instant;

use crate::adapter::{ErrorClass, PreparedTransactions, SendError, TransactionId};
use crate::core::{Core, Phase};
use crate::lane::{CallFailed, Lane};

/// A destination that holds prepared transactions, by the name that it gives itself.
#[derive(Debug)]
pub(crate) struct Holder {
    destination: String,
    transactions: Arc<dyn PreparedTransactions>,
}

impl Holder {
    /// Takes its name down.
    pub(crate) fn new(transactions: Arc<dyn PreparedTransactions>) -> Result<Self, SendError> {
        let destination = transactions.destination();
        if destination.len() > Decision::DESTINATION_BYTES_MAX {
            return Err(SendError::temporary(format!(
                "the destination's name is longer than {} bytes",
                Decision::DESTINATION_BYTES_MAX
            )));
        }
        Ok(Self { destination, transactions })
    }

    pub(crate) fn destination(&self) -> &str {
        &self.destination
    }
}

/// Settles what the lane's destination holds prepared. Where that fails the lane backs off, and its trouble says why.
pub(crate) async fn settle(lane: &Arc<Lane>) {
    let holder = lane.holder().filter(|_| !pillarbox_store::mutant::is("left-prepared-stays"));
    let Some(holder) = holder else { return lane.set_unsettled(false) };
    let deadline = Instant::now() + lane.timeout();
    // Before the look, so that what is left behind meanwhile is looked at again.
    lane.set_unsettled(false);
    let why = match lane.call(deadline, settle_all(Arc::clone(lane), holder)).await {
        Ok(Ok(())) => return lane.recovers(),
        Ok(Err(error)) => error.to_failure().text(),
        Err(CallFailed::Panicked(text)) => text,
        Err(CallFailed::TimedOut) => format!("not done within {:?}", lane.timeout()),
        Err(CallFailed::Cut) => return,
    };
    lane.set_unsettled(true);
    lane.backs_off("settle what the destination holds prepared", &why);
}

/// Settles, with pauses, until nothing is left that another attempt may settle: for a lane without a dispatcher.
pub(crate) async fn settle_until_done(lane: Arc<Lane>) {
    while lane.is_unsettled() && lane.adapter().is_some() {
        let until = lane.back_off().unwrap_or_else(Instant::now);
        tokio::select! {
            biased;
            () = lane.core().reached(Phase::Draining) => return,
            () = tokio::time::sleep_until(until) => {}
        }
        let _turn = lane.opening.lock().await;
        if lane.is_unsettled() {
            settle(&lane).await;
        }
    }
}

/// One look at the destination, and what follows from it. Everything is tried, even where something fails.
async fn settle_all(lane: Arc<Lane>, holder: Arc<Holder>) -> Result<(), SendError> {
    let core = lane.core();
    let before = decisions(core).await?;
    let held = holder.transactions.prepared(&TransactionId::prefix(core.box_id)).await?;
    let held: BTreeSet<TransactionId> = held.into_iter().filter(|id| id.is_of(core.box_id)).collect();
    // In this order: what has ended by now had its decision before.
    let ended: Vec<&TransactionId> = held.iter().filter(|id| !core.transactions.is_live(id)).collect();
    let now = decisions(core).await?;
    let mut failed = None;
    for id in ended {
        let is_decided = now.has(id.number());
        if !is_decided && now.may_have_lost(id.number()) {
            let what = "damage may have taken its decision: a person has to commit it or roll it back";
            lane.complains(format!("transaction {id}: {what}"));
            tracing::error!(lane = %lane.name(), transaction = %id, "{what}");
            continue;
        }
        match end(core, &holder, id, is_decided).await {
            Ok(()) => {
                tracing::info!(lane = %lane.name(), transaction = %id, committed = is_decided, "settled what was left prepared");
            }
            Err(error) if error.class() == ErrorClass::Permanent => {
                let text = error.to_failure().text();
                lane.complains(format!("transaction {id}: {text}"));
                tracing::error!(lane = %lane.name(), transaction = %id, error = text, "cannot be settled; a person has to");
            }
            Err(error) => failed = Some(error),
        }
    }
    // The destination held them once, and has committed them since.
    let committed = before.known.iter().filter(|decision| {
        decision.destination == holder.destination
            && !held.iter().any(|id| id.number() == decision.transaction)
    });
    forget(core, committed.map(|decision| decision.transaction)).await;
    failed.map_or(Ok(()), Err)
}

async fn end(core: &Core, holder: &Holder, id: &TransactionId, is_decided: bool) -> Result<(), SendError> {
    if !is_decided && !pillarbox_store::mutant::is("undecided-is-committed") {
        return holder.transactions.roll_back(id).await;
    }
    holder.transactions.commit(id).await?;
    forget(core, [id.number()]).await;
    Ok(())
}

async fn decisions(core: &Core) -> Result<Decisions, SendError> {
    let read = core.store.decisions().await;
    read.map_err(|error| SendError::temporary("the box does not say what it decided").caused_by(error))
}

/// Forgets decisions of which nothing is left to do. Not flushed: one that comes back does no harm, nor does one that
/// cannot be forgotten now, since the next look finds it.
pub(crate) async fn forget(core: &Core, transactions: impl IntoIterator<Item = BatchId>) {
    let mut batch = Batch::new(core.ids.batch()).durability(Durability::Written);
    for transaction in transactions {
        batch = batch.forget(transaction);
    }
    if batch.ops().is_empty() {
        return;
    }
    if let Err(error) = core.store.commit(&batch).await {
        tracing::debug!(%error, "decisions are forgotten later");
    }
}
