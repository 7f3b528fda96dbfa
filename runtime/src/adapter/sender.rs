//! The small traits on top of the protocol, for adapters that need no more.

use async_trait::async_trait;
use pillarbox_store::Answer;

use super::{Outgoing, Reconciled, SendError, TransactionId, Transport};

/// Sends one message without blocking the thread. The engine calls it for many messages at once, up to the route's
/// `in_flight`.
#[async_trait]
pub trait Sender: Transport {
    /// Sends the message. `Ok` means that the destination has it: the delivery is done.
    ///
    /// # Errors
    /// It was not sent; it goes down the failure ladder.
    ///
    /// # Cancel
    /// Dropped when the route's `timeout` has passed or the drain's deadline has come: what then becomes of the
    /// message at the destination is the adapter's class of [`super::DoubleSafety`].
    async fn send(&self, message: &Outgoing) -> Result<(), SendError>;

    /// Asks the destination whether it has the message, before it is sent again: a crash hid how the attempt before this
    /// one ended. Called only where [`super::Capabilities::reconciles`] was claimed, and bounded by the route's `timeout`.
    ///
    /// # Errors
    /// The destination could not be asked: it is asked again after a pause.
    async fn reconcile(&self, message: &Outgoing) -> Result<Reconciled, SendError> {
        let _unused = message;
        Ok(Reconciled::Unknown)
    }

    /// Called once at the end, when nothing is being sent any more.
    async fn close(&self) {}
}

/// The same on a thread that may block.
pub trait BlockingSender: Transport {
    /// Sends the message. `Ok` means that the destination has it: the delivery is done.
    ///
    /// # Errors
    /// It was not sent; it goes down the failure ladder.
    fn send(&self, message: &Outgoing) -> Result<(), SendError>;

    /// Asks the destination whether it has the message, before it is sent again: a crash hid how the attempt before this
    /// one ended. Called only where [`super::Capabilities::reconciles`] was claimed, and bounded by the route's `timeout`.
    ///
    /// # Errors
    /// The destination could not be asked: it is asked again after a pause.
    fn reconcile(&self, message: &Outgoing) -> Result<Reconciled, SendError> {
        let _unused = message;
        Ok(Reconciled::Unknown)
    }

    /// Called once at the end, when nothing is being sent any more.
    fn close(&self) {}
}

/// Sends many messages at once.
#[async_trait]
pub trait BatchSender: Transport {
    /// The most messages it takes at once. Default 100.
    fn messages_max(&self) -> usize {
        100
    }

    /// Sends the messages and gives exactly one outcome for each, in their order. A message without an outcome
    /// counts as failed, a surplus outcome is ignored.
    async fn send_batch(&self, messages: &[Outgoing]) -> Vec<Result<(), SendError>>;

    /// Asks the destination whether it has the message, before it is sent again: a crash hid how the attempt before this
    /// one ended. Called only where [`super::Capabilities::reconciles`] was claimed, and bounded by the route's `timeout`.
    ///
    /// # Errors
    /// The destination could not be asked: it is asked again after a pause.
    async fn reconcile(&self, message: &Outgoing) -> Result<Reconciled, SendError> {
        let _unused = message;
        Ok(Reconciled::Unknown)
    }

    /// Called once at the end, when nothing is being sent any more.
    async fn close(&self) {}
}

/// Sends one message and waits for the answer (solicit-response). The engine calls it for many messages at once, up to
/// the route's `in_flight`.
///
/// The answer window is the route's `timeout`. What is not answered by then has failed and goes down the failure ladder;
/// an answer that comes later is lost, and the next attempt's counts. So a destination may see a request twice: it
/// recognises the repeat by the send key.
#[async_trait]
pub trait Requester: Transport {
    /// Sends the message. `Ok` means that the destination has it: the delivery is done, and the answer, where there is
    /// one, is kept with it ([`pillarbox_store::Store::answer`]). Both are recorded in one step.
    ///
    /// # Errors
    /// It was not sent, or not answered as it should be; it goes down the failure ladder.
    ///
    /// # Cancel
    /// As [`Sender::send`].
    async fn request(&self, message: &Outgoing) -> Result<Option<Answer>, SendError>;

    /// Asks the destination whether it has the message, before it is sent again: a crash hid how the attempt before this
    /// one ended. Called only where [`super::Capabilities::reconciles`] was claimed, and bounded by the route's `timeout`.
    ///
    /// # Errors
    /// The destination could not be asked: it is asked again after a pause.
    async fn reconcile(&self, message: &Outgoing) -> Result<Reconciled, SendError> {
        let _unused = message;
        Ok(Reconciled::Unknown)
    }

    /// Called once at the end, when nothing is being sent any more.
    async fn close(&self) {}
}

/// Sends many messages in one transaction of the destination, which ends as the box's record of their deliveries does:
/// all of it or nothing. What a crash leaves prepared is settled when the adapter is opened again
/// ([`super::PreparedTransactions`] says how), so declare [`super::DoubleSafety::TwoPhase`]: such an adapter is opened when
/// the runtime starts.
///
/// Where a batch cannot be prepared, each of its messages is tried in a transaction of its own, so that one that the
/// destination refuses costs the others nothing.
#[async_trait]
pub trait TransactionalSender: Transport {
    /// The most messages of one transaction. Default 100.
    fn messages_max(&self) -> usize {
        100
    }

    /// Writes the messages in a transaction of this name and prepares it: durable, and seen by nobody yet.
    ///
    /// # Errors
    /// It is not prepared. `roll_back` is called next; a message that was alone in it goes down the failure ladder.
    ///
    /// # Cancel
    /// Dropped when the route's `timeout` has passed or the drain's deadline has come; `roll_back` is called next.
    async fn prepare(&self, transaction: &TransactionId, messages: &[Outgoing]) -> Result<(), SendError>;

    /// Commits what was prepared. The box has recorded the messages as delivered. Called again only for what the
    /// destination lists as prepared.
    ///
    /// # Errors
    /// The destination may still hold it prepared; the error is shown with the route, and where it is temporary
    /// [`TransactionalSender::prepared`] is asked after a pause.
    async fn commit(&self, transaction: &TransactionId) -> Result<(), SendError>;

    /// Undoes the transaction, prepared or not, as far as it is known. Called again only for what the destination lists
    /// as prepared. Has the route's `timeout`, 15 seconds at most, and half a second once a drain has cut it off.
    ///
    /// # Errors
    /// The destination may still hold it prepared; the error is logged, and `prepared` is asked as after `commit`.
    async fn roll_back(&self, transaction: &TransactionId) -> Result<(), SendError>;

    /// The name of what holds the transactions, as [`super::PreparedTransactions::destination`].
    fn destination(&self) -> String;

    /// What it holds prepared, as [`super::PreparedTransactions::prepared`].
    ///
    /// # Errors
    /// It is asked again after a pause.
    async fn prepared(&self, prefix: &str) -> Result<Vec<TransactionId>, SendError>;

    /// Called once at the end, when nothing is being sent any more.
    async fn close(&self) {}
}
