//! The protocol by which the engine hands messages to an adapter.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;

use super::{Outgoing, PreparedTransactions, Reconciled, SendError, Transaction, TransportControl};

/// What the adapter says to one message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transmitted {
    /// It is sent when [`TransmitBatch::done`] (or [`Transmitter::transmit`]) has returned: the engine deletes it.
    Sent,
    /// It is accepted only. The adapter now owns its outcome and completes it through the proxy.
    Pending,
}

/// What [`TransmitBatch::begin`] announces.
///
#[non_exhaustive]
#[derive(Debug, Clone)]
pub struct Begun {
    /// The most messages this batch takes. 0 is taken as 1.
    pub messages_max: usize,
    /// The transaction at the destination in which the batch is sent. Where there is one, the engine puts its own
    /// deletion of what was answered with [`Transmitted::Sent`] into it, after `done` has returned; what was answered
    /// with [`Transmitted::Pending`] the adapter completes in it, with [`crate::CompletionBatch::done_in`]. All of a batch
    /// is answered in the same way. The engine rolls back what was not ended when every message has an outcome.
    pub transaction: Option<Arc<dyn Transaction>>,
}

impl Begun {
    /// A batch of at most so many messages.
    #[must_use]
    pub const fn at_most(messages_max: usize) -> Self {
        Self { messages_max, transaction: None }
    }

    /// Announces the transaction in which the batch is sent.
    #[must_use]
    pub fn in_transaction(mut self, transaction: Arc<dyn Transaction>) -> Self {
        self.transaction = Some(transaction);
        self
    }
}

/// How a transmit batch ended, where the adapter knows more than "all of it was accepted".
#[derive(Debug, Default)]
pub struct Done {
    /// Messages that were answered with [`Transmitted::Sent`] and could not be sent after all, each with its
    /// error. Only these pay; every other one of the batch is deleted.
    pub failed: Vec<(Outgoing, SendError)>,
}

/// Tells the engine how a transacted send ended. Re-implements `IBTDTCCommitConfirm`.
///
/// Given to [`TransmitBatch::done`] only for a batch that announced a transaction.
pub trait CommitConfirm: fmt::Debug + Send {
    /// The transaction has ended; must be called either way, in [`Transaction::commit`] and [`Transaction::roll_back`]
    /// say. A report that is never made, or that contradicts what the engine did, is shown with the route.
    fn confirm(self: Box<Self>, committed: bool);
}

/// Re-implements `IBTBatchTransmitter`: an adapter that takes messages in batches.
#[async_trait]
pub trait BatchTransmitter: TransportControl {
    /// A new, empty batch for the engine to fill.
    ///
    /// # Errors
    /// The messages go back to be ready, no attempt is charged, and the engine waits a while before it asks again.
    async fn get_batch(&self) -> Result<Box<dyn TransmitBatch>, SendError>;

    /// The prepared transactions of the destination, asked for once the adapter is initialised. An adapter that sends in
    /// transactions and gives none leaves it to others to settle what a crash leaves prepared: the box keeps no decision
    /// for it. Default none.
    fn prepared_transactions(&self) -> Option<Arc<dyn PreparedTransactions>> {
        None
    }

    /// Asks the destination whether it has a message that is in doubt. Called only where
    /// [`super::Capabilities::reconciles`] was claimed.
    ///
    /// # Errors
    /// It could not be asked: it is asked again after a pause.
    async fn reconcile(&self, message: &Outgoing) -> Result<Reconciled, SendError> {
        let _unused = message;
        Ok(Reconciled::Unknown)
    }
}

/// Re-implements `IBTTransmitterBatch`: the adapter's container that the engine fills.
///
/// `begin`, then `transmit` for 1 to the announced number of messages, then `done`. Nothing is sent before `done`.
#[async_trait]
pub trait TransmitBatch: fmt::Debug + Send {
    /// Announces how many messages the batch takes.
    ///
    /// # Errors
    /// As [`BatchTransmitter::get_batch`].
    async fn begin(&mut self) -> Result<Begun, SendError>;

    /// Takes one message, and only collects it: sending starts at [`TransmitBatch::done`].
    ///
    /// # Errors
    /// This message is not in the batch and pays one attempt; the others go on.
    fn transmit(&mut self, message: Outgoing) -> Result<Transmitted, SendError>;

    /// Starts the sending. A synchronous adapter returns when its messages are sent; an asynchronous one passes
    /// them to its own tasks and returns at once.
    ///
    /// # Errors
    /// Every message of the batch that was not completed yet failed with this error and goes down the failure
    /// ladder.
    async fn done(self: Box<Self>, confirm: Option<Box<dyn CommitConfirm>>) -> Result<Done, SendError>;

    /// Forgets everything collected: the engine gives the batch up, `done` is not called.
    fn clear(&mut self);
}

/// Re-implements `IBTTransmitter`: an adapter that takes one message at a time.
#[async_trait]
pub trait Transmitter: TransportControl {
    /// Sends one message, or accepts it.
    ///
    /// # Errors
    /// It was not sent; it goes down the failure ladder.
    async fn transmit(&self, message: Outgoing) -> Result<Transmitted, SendError>;

    /// Asks the destination whether it has a message that is in doubt. Called only where
    /// [`super::Capabilities::reconciles`] was claimed.
    ///
    /// # Errors
    /// It could not be asked: it is asked again after a pause.
    async fn reconcile(&self, message: &Outgoing) -> Result<Reconciled, SendError> {
        let _unused = message;
        Ok(Reconciled::Unknown)
    }
}
