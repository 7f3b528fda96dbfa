//! What becomes known of an attempt whose outcome a crash hid.

/// What a destination says of a message that an attempt may have brought to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reconciled {
    /// It has it: the delivery is done.
    Landed,
    /// It has not, and the attempt cannot bring it any more: the message is sent as if for the first time.
    NotLanded,
    /// It cannot tell. What follows is the port's policy.
    Unknown,
}
