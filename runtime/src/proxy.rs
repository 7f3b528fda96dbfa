//! An adapter's only handle on the engine, and the batches by which it says how its messages ended.

use std::sync::{Arc, Weak};

use pillarbox_store::{Answer, Error, Headers, Refusal, Timestamp};

use crate::adapter::{Outgoing, SendError, Transaction, TransactionId};
use crate::complete::{Act, Item, complete};
use crate::core::{Core, Phase};
use crate::lane::Lane;
use crate::port::LaneName;
use crate::settle::Fault;
use crate::tasks::Tasks;
use crate::transact::{Joined, TransactError, reopen, transact};

/// Why the engine gives no completion batch.
#[non_exhaustive]
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ProxyError {
    /// The runtime has ended. What was not completed is given back by the engine; drop it.
    #[error("the runtime has shut down")]
    ShuttingDown,
}

/// Why a completion batch was not recorded.
#[non_exhaustive]
#[derive(Debug, thiserror::Error)]
pub enum CompletionError {
    /// The box did not take it. Of kind `Full`: nothing was applied, and there was no room until the first of the
    /// leases ended or the drain's deadline came. Of any other kind: the outcome is unknown. Either way drop the
    /// messages: the engine sees to it that those whose outcome is not recorded are sent again.
    #[error("the box did not record the outcomes")]
    Store(#[source] Error),
    /// The answers of the batch are larger together than [`CompletionBatch::ANSWER_BYTES_MAX`]. Nothing was recorded;
    /// messages of which the adapter kept a clone are still its own. Answer them in several batches.
    #[error("the answers have {bytes} bytes together, more than one batch takes")]
    AnswersTooLarge {
        /// How many bytes they have.
        bytes: u64,
    },
    /// The runtime ended while the outcomes were on their way: unknown whether they were recorded.
    #[error("the runtime has stopped")]
    Stopped,
}

/// What became of one item of a completion batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ItemStatus {
    /// It is recorded.
    Applied,
    /// It is not, for this reason; the other items are not touched by that.
    ///
    /// - `NotOwned`: the message has an outcome already, or its time was up.
    /// - `Duplicate`: it stands in this batch twice; the first counts.
    /// - `NoBackup`, `OnBackup`: there is no route to move to. The message is still the adapter's, which suspends or
    ///   resubmits it in a new batch. So it is only for these.
    Refused(Refusal),
}

impl ItemStatus {
    /// Whether it is recorded.
    #[must_use]
    pub const fn is_applied(&self) -> bool {
        matches!(self, Self::Applied)
    }
}

/// An adapter's only handle on the engine. Re-implements `IBTTransportProxy`. Cheap to clone; may be kept for as long
/// as the adapter lives.
#[derive(Debug, Clone)]
pub struct Proxy {
    core: Arc<Core>,
    // Weak: the lane holds the adapter, which holds this.
    lane: Weak<Lane>,
    name: LaneName,
    in_flight_max: usize,
}

impl Proxy {
    pub(crate) fn new(lane: &Arc<Lane>) -> Self {
        Self {
            core: Arc::clone(lane.core()),
            lane: Arc::downgrade(lane),
            name: lane.name().clone(),
            in_flight_max: lane.in_flight_max(),
        }
    }

    /// An empty completion batch. It may complete messages of several transmit batches, and several may complete one.
    ///
    /// # Errors
    /// [`ProxyError::ShuttingDown`] once the runtime has ended. While it drains, completions are taken.
    pub fn batch(&self) -> Result<CompletionBatch, ProxyError> {
        if self.core.is(Phase::Closed) {
            return Err(ProxyError::ShuttingDown);
        }
        Ok(CompletionBatch { core: Arc::clone(&self.core), items: Vec::new() })
    }

    /// Reports trouble that is no single message's: it is logged and shown with the route until a message is
    /// delivered.
    #[expect(
        clippy::needless_pass_by_value,
        reason = "an error is handed over, as to every other method here"
    )]
    pub fn set_error(&self, error: SendError) {
        let text = error.to_failure().text();
        tracing::error!(lane = %self.name, error = text, "the adapter reports trouble");
        if let Some(lane) = self.lane.upgrade() {
            lane.complains(text);
        }
    }

    /// A new name for a transaction at the destination.
    #[must_use]
    pub fn new_transaction(&self) -> TransactionId {
        TransactionId::new(self.core.box_id, self.core.ids.batch())
    }

    /// Whether what is still being sent is cut off: messages that are dropped are given back, and no attempt is charged.
    pub(crate) fn is_cut_off(&self) -> bool {
        self.core.is(Phase::Cut)
    }

    pub(crate) fn tasks(&self) -> &Tasks {
        &self.core.tasks
    }

    pub(crate) fn in_flight_max(&self) -> usize {
        self.in_flight_max
    }
}

/// How messages ended, recorded in one atomic step. Re-implements `IBTTransportBatch`; the future that
/// [`CompletionBatch::done`] gives takes the place of `IBTBatchCallBack`.
///
/// Nothing counts before `done`: a batch that is dropped or cleared leaves its messages to whoever else holds them.
#[must_use = "nothing counts before `done`"]
#[derive(Debug)]
pub struct CompletionBatch {
    core: Arc<Core>,
    items: Vec<(Outgoing, Act)>,
}

impl CompletionBatch {
    /// The most bytes that the answers of one batch may have together.
    pub const ANSWER_BYTES_MAX: u64 = 128 * 1024 * 1024;

    /// The destination has it.
    pub fn delete(&mut self, message: Outgoing) {
        self.items.push((message, Act::Delete));
    }

    /// The destination has it, and answered this. The delivery's end and the answer are recorded in one step, so neither
    /// is there without the other. An answer that comes when the attempt's time was up is refused with `NotOwned` and
    /// not kept: another attempt may be under way, and its answer counts. A destination that has nothing to say is
    /// completed with [`CompletionBatch::delete`].
    pub fn respond(&mut self, message: Outgoing, answer: Answer) {
        self.items.push((message, Act::Respond(answer)));
    }

    /// It failed; another attempt on this route not before `at`, whatever the policy says. What earlier attempts
    /// carried over stays.
    #[expect(clippy::needless_pass_by_value, reason = "an error is handed over")]
    pub fn resubmit(&mut self, message: Outgoing, at: Timestamp, error: SendError) {
        let carried = message.carried().clone();
        self.items.push((message, Act::Resubmit { at, fault: Fault::from(&error), carried }));
    }

    /// As [`CompletionBatch::resubmit`], and the next attempt finds these headers in [`Outgoing::carried`]. They
    /// replace what earlier attempts carried over.
    #[expect(clippy::needless_pass_by_value, reason = "an error is handed over")]
    pub fn resubmit_carrying(
        &mut self,
        message: Outgoing,
        at: Timestamp,
        error: SendError,
        carried: Headers,
    ) {
        self.items.push((message, Act::Resubmit { at, fault: Fault::from(&error), carried }));
    }

    /// It failed; the backup route takes over. Refused with `NoBackup` or `OnBackup` where there is none to move to:
    /// then the message is still the adapter's.
    #[expect(clippy::needless_pass_by_value, reason = "an error is handed over")]
    pub fn move_to_backup(&mut self, message: Outgoing, error: SendError) {
        self.items.push((message, Act::MoveToBackup(Fault::from(&error))));
    }

    /// It failed; park it until somebody acts.
    #[expect(clippy::needless_pass_by_value, reason = "an error is handed over")]
    pub fn suspend(&mut self, message: Outgoing, error: SendError) {
        self.items.push((message, Act::Suspend(Fault::from(&error))));
    }

    /// It failed; the failure ladder decides what follows: the usual choice.
    #[expect(clippy::needless_pass_by_value, reason = "an error is handed over")]
    pub fn fail(&mut self, message: Outgoing, error: SendError) {
        self.items.push((message, Act::Fail(Fault::from(&error))));
    }

    /// It was not tried, because the adapter is terminating, say: it is due again at once and no attempt is charged.
    pub fn give_back(&mut self, message: Outgoing) {
        self.items.push((message, Act::GiveBack(Timestamp::EPOCH)));
    }

    /// Forgets every item; nothing has become of their messages.
    pub fn clear(&mut self) {
        self.items.clear();
    }

    /// How many items it has.
    #[must_use]
    pub fn len(&self) -> usize {
        self.items.len()
    }

    /// Whether it has none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// Records every item in one atomic, durable step and gives the status of each, in their order. A box that is
    /// full is waited for. An empty batch does nothing.
    ///
    /// # Errors
    /// [`CompletionError`] says whether the messages are still the adapter's.
    ///
    /// # Cancel
    /// A call that was polled once is carried out even if it is dropped; one that was never polled does nothing.
    pub async fn done(self) -> Result<Vec<ItemStatus>, CompletionError> {
        let Self { core, items } = self;
        check_answers(&items)?;
        let Claimed { claims, places, mut statuses } = Claimed::of(items);
        if claims.is_empty() {
            return Ok(statuses);
        }
        // In a task of its own: the outcome of what was sent is recorded even if nobody waits for it.
        let tasks = core.tasks.clone();
        let recorded = tasks.spawn(record(core, claims)).await;
        let settled = recorded.map_err(|_ended| CompletionError::Stopped)?.map_err(CompletionError::Store)?;
        for (place, status) in places.into_iter().zip(settled) {
            if let Some(answer) = statuses.get_mut(place) {
                *answer = status;
            }
        }
        Ok(statuses)
    }

    /// Ends a transaction at the destination together with the deliveries of this batch, which may hold only deletions
    /// and answers: the transaction is prepared, then the box records every item in one step, then the transaction is
    /// committed. Where one cannot be recorded none is, and the transaction is rolled back. What failed is completed in
    /// an ordinary batch.
    ///
    /// # Errors
    /// [`TransactError`] says how it ended instead, and whose the messages are.
    ///
    /// # Cancel
    /// As [`CompletionBatch::done`].
    pub async fn done_in(self, transaction: Arc<dyn Transaction>) -> Result<(), TransactError> {
        let Self { core, items } = self;
        let is_sent = |(_, act): &(Outgoing, Act)| matches!(act, Act::Delete | Act::Respond(_));
        if !items.iter().all(is_sent) || check_answers(&items).is_err() {
            return Err(TransactError::NotSent);
        }
        let Some((first, _)) = items.first() else { return Err(TransactError::NotSent) };
        let joined = Joined::new(first.ticket.lane(), transaction);
        let Claimed { claims, mut statuses, .. } = Claimed::of(items);
        if statuses.iter().any(|status| !status.is_applied()) {
            reopen(&claims);
            joined.roll_back_if_open().await;
            for status in statuses.iter_mut().filter(|status| status.is_applied()) {
                *status = ItemStatus::Refused(Refusal::Voided);
            }
            return Err(TransactError::Refused(statuses));
        }
        let tasks = core.tasks.clone();
        tasks.spawn(transact(joined, claims)).await.unwrap_or(Err(TransactError::Stopped))
    }
}

/// The items of a batch, each claimed or refused.
struct Claimed {
    claims: Vec<Item>,
    /// Where each claim stands in the batch.
    places: Vec<usize>,
    statuses: Vec<ItemStatus>,
}

impl Claimed {
    fn of(items: Vec<(Outgoing, Act)>) -> Self {
        let room = items.len();
        let (mut claims, mut places, mut statuses) =
            (Vec::<Item>::with_capacity(room), Vec::with_capacity(room), Vec::with_capacity(room));
        for (place, (message, act)) in items.into_iter().enumerate() {
            if message.ticket.claim() {
                places.push(place);
                claims.push(Item::new(message.ticket, act));
                statuses.push(ItemStatus::Applied);
            } else {
                let twice = claims.iter().any(|claim| Arc::ptr_eq(&claim.ticket, &message.ticket));
                let first = message.delivery();
                let refusal = if twice { Refusal::Duplicate { first } } else { Refusal::NotOwned };
                statuses.push(ItemStatus::Refused(refusal));
            }
        }
        Self { claims, places, statuses }
    }
}

fn check_answers(items: &[(Outgoing, Act)]) -> Result<(), CompletionError> {
    let answer = |(_, act): &(Outgoing, Act)| match act {
        Act::Respond(answer) => answer.bytes(),
        _ => 0,
    };
    let bytes = items.iter().map(answer).sum();
    if bytes > CompletionBatch::ANSWER_BYTES_MAX {
        return Err(CompletionError::AnswersTooLarge { bytes });
    }
    Ok(())
}

async fn record(core: Arc<Core>, claims: Vec<Item>) -> Result<Vec<ItemStatus>, Error> {
    let failed = match complete(&core, &claims).await {
        Ok(statuses) => return Ok(statuses),
        Err(error) => error,
    };
    for claim in &claims {
        if failed.kind() == pillarbox_store::ErrorKind::Full {
            claim.ticket.reopen();
        } else {
            claim.ticket.finish();
        }
    }
    Err(failed)
}
