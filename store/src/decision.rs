//! Decisions: that a transaction of a destination is to be committed.

use crate::{BatchId, Timestamp};

/// That a transaction which a destination holds prepared is to be committed: written in the batch that ends its
/// deliveries, kept until the destination has said that it committed. A prepared transaction without one is rolled back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    /// The transaction's number.
    pub transaction: BatchId,
    /// The destination that holds it, by the name that it gives itself.
    pub destination: String,
    /// When it was decided.
    pub decided: Timestamp,
}

impl Decision {
    /// The longest name of a destination, in bytes.
    pub const DESTINATION_BYTES_MAX: usize = 1_024;
}

/// The decisions that a box keeps.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Decisions {
    /// Each of them, in order of the transactions' numbers.
    pub known: Vec<Decision>,
    /// Damage may have taken others, about transactions that were begun up to then.
    pub lost_until: Option<Timestamp>,
}

impl Decisions {
    /// Whether this transaction is decided.
    #[must_use]
    pub fn has(&self, transaction: BatchId) -> bool {
        self.known.iter().any(|decision| decision.transaction == transaction)
    }

    /// Whether damage may have taken a decision about this transaction: that it has none does not say that it was never
    /// decided.
    #[must_use]
    pub fn may_have_lost(&self, transaction: BatchId) -> bool {
        self.lost_until.is_some_and(|until| transaction.made() <= until)
    }
}
