//! The small traits on top of the protocol, for adapters that need no more.

use async_trait::async_trait;

use super::{Outgoing, SendError, Transport};

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

    /// Called once at the end, when nothing is being sent any more.
    async fn close(&self) {}
}
