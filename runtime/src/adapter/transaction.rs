//! Sends inside a transaction of the destination, which ends as the box's own record of the deliveries does.

use std::fmt;

use async_trait::async_trait;
use pillarbox_store::{BatchId, BoxId};

use super::SendError;

/// The name of a transaction at its destination: `{box}/{number}`, never given twice. Of what a destination holds
/// prepared a box recognises its own by the first part. Made by [`crate::Proxy::new_transaction`]; 73 bytes of
/// lower-case hexadecimal digits, `-` and `/`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TransactionId(String);

impl TransactionId {
    pub(crate) fn new(of: BoxId, number: BatchId) -> Self {
        Self(format!("{of}/{number}"))
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for TransactionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for TransactionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A transaction at the destination that the engine joins with its own record of the deliveries. Takes the place of the
/// distributed transaction that `IBTTransmitterBatch::BeginBatch` gives or `IBTTransportBatch::Done` takes.
///
/// The engine conducts its end: `prepare`, then the box records in one step that every message of it is delivered, then
/// `commit`, once. Where it does not come to that record, `roll_back`, once. Never both, and neither a second time.
/// The record is the commit point: what was prepared and has no record in the box was never sent.
///
/// Each call is bounded by the route's `timeout`; one that hangs or panics has failed.
#[async_trait]
pub trait Transaction: fmt::Debug + Send + Sync + 'static {
    /// Its name, from [`crate::Proxy::new_transaction`].
    fn id(&self) -> &TransactionId;

    /// Makes durable what was written in it, without anybody seeing it yet. From here on a commit must work, also
    /// after a crash of either side.
    ///
    /// # Errors
    /// It is not prepared: it is rolled back, and its messages are still the adapter's.
    async fn prepare(&self) -> Result<(), SendError>;

    /// Makes it visible. The box has recorded the messages as delivered.
    ///
    /// # Errors
    /// The destination may still hold it prepared. The deliveries are done all the same, and the error is shown with the
    /// route.
    async fn commit(&self) -> Result<(), SendError>;

    /// Undoes it, prepared or not.
    ///
    /// # Errors
    /// The destination may still hold it prepared. It is logged; the messages are not delivered.
    async fn roll_back(&self) -> Result<(), SendError>;
}
