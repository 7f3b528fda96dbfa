//! Sends inside a transaction of the destination, which ends as the box's own record of the deliveries does.

use std::fmt;

use async_trait::async_trait;
use pillarbox_store::{BatchId, BoxId};

use super::SendError;

/// The name of a transaction at its destination: `{box}/{number}`, never given twice. Of what a destination holds
/// prepared a box recognises its own by the first part. Made by [`crate::Proxy::new_transaction`]; 73 bytes of
/// lower-case hexadecimal digits, `-` and `/`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TransactionId {
    of: BoxId,
    number: BatchId,
    name: String,
}

impl TransactionId {
    pub(crate) fn new(of: BoxId, number: BatchId) -> Self {
        Self { of, number, name: format!("{of}/{number}") }
    }

    /// The one with this name; `None` where it is no name of a transaction of any box.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        let (of, number) = name.split_once('/')?;
        let id = Self::new(of.parse().ok()?, number.parse().ok()?);
        // An id can be written in several ways, and only one of them was given.
        (id.name == name).then_some(id)
    }

    /// How the names of a box begin.
    pub(crate) fn prefix(of: BoxId) -> String {
        format!("{of}/")
    }

    pub(crate) fn is_of(&self, of: BoxId) -> bool {
        self.of == of
    }

    pub(crate) const fn number(&self) -> BatchId {
        self.number
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.name
    }
}

impl fmt::Display for TransactionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

impl fmt::Debug for TransactionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

/// A transaction at the destination that the engine joins with its own record of the deliveries. Takes the place of the
/// distributed transaction that `IBTTransmitterBatch::BeginBatch` gives or `IBTTransportBatch::Done` takes.
///
/// The engine conducts its end: `prepare`, then the box records in one step that every message of it is delivered, then
/// `commit`, once. Where it does not come to that record, `roll_back`, once. Never both, and neither a second time.
/// The record is the commit point: what was prepared and has no record in the box was never sent. What neither a commit
/// nor a rollback came through for, because of a crash or because the destination was away, is settled later by
/// [`PreparedTransactions`].
///
/// Each call is bounded by the route's `timeout`, `prepare` by what is left of the attempt's, `roll_back` by 15 seconds at
/// most; one that hangs or panics has failed. Once the deadline of
/// [`crate::Runtime::shutdown`] has passed, `prepare` is cut off, and `commit` and `roll_back` have half a second.
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
    /// The destination may still hold it prepared. The deliveries are done all the same, the error is shown with the
    /// route, and it is settled by [`PreparedTransactions`] where the adapter has them.
    async fn commit(&self) -> Result<(), SendError>;

    /// Undoes it, prepared or not.
    ///
    /// # Errors
    /// The destination may still hold it prepared. It is logged and settled as after a commit that failed; the messages
    /// are not delivered.
    async fn roll_back(&self) -> Result<(), SendError>;
}

/// The prepared transactions that a destination holds, for settling what was left there: by a crash of either side, or
/// by a commit or a rollback that failed.
///
/// The engine asks when the adapter is opened and after such a failure. Of what this box prepared and nobody works on any
/// more, it commits what the box has decided and rolls back the rest; then the decisions are forgotten. Nothing is handed
/// over meanwhile. Where the destination is down it is asked again after a pause: nothing is lost by that. An error of
/// class permanent leaves the transaction to a person, and the route shows it.
///
/// All calls together are bounded by the route's `timeout`; what was settled by then stays settled.
///
/// # Cancel
/// Dropped when that has passed or the runtime ends: the next look tells what became of it.
#[async_trait]
pub trait PreparedTransactions: fmt::Debug + Send + Sync + 'static {
    /// The name of what holds them, at most [`pillarbox_store::Decision::DESTINATION_BYTES_MAX`] bytes: the same after a
    /// restart, and another one for another destination. The box keeps a decision until a destination of this name no
    /// longer holds the transaction. No secrets: it is kept and shown.
    fn destination(&self) -> String;

    /// Every transaction that was prepared before the call, has not ended, and has a name that begins with `prefix`. Others
    /// may be among them. [`TransactionId::parse`] makes one of a name.
    ///
    /// # Errors
    /// It is asked again after a pause.
    async fn prepared(&self, prefix: &str) -> Result<Vec<TransactionId>, SendError>;

    /// Commits one of them. Where somebody else did so meanwhile, it may say so by an error.
    ///
    /// # Errors
    /// Temporary: it is tried again after a pause. Permanent: it is not tried again before the adapter is opened anew.
    async fn commit(&self, transaction: &TransactionId) -> Result<(), SendError>;

    /// Rolls one of them back.
    ///
    /// # Errors
    /// As `commit`.
    async fn roll_back(&self, transaction: &TransactionId) -> Result<(), SendError>;
}
