//! What can go wrong with a box, sorted by what the caller does next.

use std::fmt;

use crate::DeliveryState;

/// What the caller should do next.
#[non_exhaustive]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// The request itself is wrong; nothing was applied. Correct it.
    Invalid,
    /// There is no room on the disk or in a configured limit; nothing was applied. Make room, then try again.
    Full,
    /// Another process holds the data folder; nothing was opened. Stop that one, or talk to it.
    Locked,
    /// A write or flush failed, so the outcome is unknown and the box has stopped. Reopen it and commit the same
    /// batch again: it is applied once.
    Unavailable,
    /// Stored bytes do not match their checksum. What is named is damaged; everything else is whole.
    Corrupt,
    /// The data folder was written by another version of the format, or by another engine.
    Incompatible,
    /// The box was closed. Open it again.
    Closed,
}

impl ErrorKind {
    /// The kind's name, as shown to people and in JSON.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Invalid => "invalid",
            Self::Full => "full",
            Self::Locked => "locked",
            Self::Unavailable => "unavailable",
            Self::Corrupt => "corrupt",
            Self::Incompatible => "incompatible",
            Self::Closed => "closed",
        }
    }

    /// Whether the same call may succeed later without any change to it.
    #[must_use]
    pub const fn is_retryable(self) -> bool {
        matches!(self, Self::Full | Self::Unavailable)
    }
}

/// A failed call: its kind, what was being done, the values involved, and the cause.
///
/// The text is lower case and ends with the values as `key=value`.
#[derive(Debug, Clone)]
pub struct Error(Box<Inner>);

#[derive(Debug, Clone)]
struct Inner {
    kind: ErrorKind,
    doing: &'static str,
    context: Vec<(&'static str, String)>,
    source: Option<std::sync::Arc<dyn std::error::Error + Send + Sync>>,
}

impl Error {
    /// An error of `kind` met while `doing` something ("flush the journal", say).
    #[must_use]
    pub fn new(kind: ErrorKind, doing: &'static str) -> Self {
        Self(Box::new(Inner { kind, doing, context: Vec::new(), source: None }))
    }

    /// Adds a value that helps to see what happened.
    #[must_use]
    pub fn with(mut self, key: &'static str, value: impl fmt::Display) -> Self {
        self.0.context.push((key, value.to_string()));
        self
    }

    /// Adds the cause.
    #[must_use]
    pub fn caused_by(mut self, source: impl std::error::Error + Send + Sync + 'static) -> Self {
        self.0.source = Some(std::sync::Arc::new(source));
        self
    }

    /// Wraps a failed file operation: a full disk is [`ErrorKind::Full`], anything else [`ErrorKind::Unavailable`].
    #[must_use]
    pub fn io(doing: &'static str, source: std::io::Error) -> Self {
        let kind = match source.kind() {
            std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => ErrorKind::Full,
            _ => ErrorKind::Unavailable,
        };
        Self::new(kind, doing).caused_by(source)
    }

    /// What the caller should do next.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// The same error under another kind, where the caller knows more than the place it came from.
    #[must_use]
    pub fn as_kind(mut self, kind: ErrorKind) -> Self {
        self.0.kind = kind;
        self
    }

    /// The values that were added, in order.
    pub fn context(&self) -> impl Iterator<Item = (&'static str, &str)> {
        self.0.context.iter().map(|(key, value)| (*key, value.as_str()))
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot {}: {}", self.0.doing, self.0.kind.as_str())?;
        for (key, value) in &self.0.context {
            write!(f, " {key}={value}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.0.source.as_ref().map(|source| &**source as _)
    }
}

/// Why one operation of a batch was not applied, while the others may have been.
#[non_exhaustive]
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The lease has ended or was settled: somebody else decides about this delivery. Drop the work.
    #[error("the lease of this delivery has ended or was already settled")]
    NotOwned,
    /// A message with this id is already in the box (or finished so lately that the box still knows it).
    #[error("a message with this id was submitted before, as delivery {first}")]
    Duplicate {
        /// The first delivery of the message that is there.
        first: crate::DeliveryId,
    },
    /// The delivery's port has no backup route. Suspend it, or resubmit it.
    #[error("the port has no backup route")]
    NoBackup,
    /// The delivery is on the backup route already. Suspend it, or resubmit it.
    #[error("the delivery is on the backup route already")]
    OnBackup,
    /// No such port is defined. Define it, or name another.
    #[error("no port of this name is defined")]
    NoSuchPort,
    /// No delivery of this number is known.
    #[error("no delivery of this number is known")]
    NoSuchDelivery,
    /// The delivery's state does not allow this operation.
    #[error("a delivery that is {} does not allow this", .state.as_str())]
    WrongState {
        /// The state it is in.
        state: DeliveryState,
    },
    /// Nothing about the delivery is in doubt: what became of its attempts is known.
    #[error("the delivery is not in doubt")]
    NotInDoubt,
    /// The message names no port, or one port twice.
    #[error("a message needs at least one port, and each only once")]
    BadPorts,
    /// The message's staged body is not in the box (any more). Stage it anew.
    #[error("the message's staged body is not in the box")]
    NoSuchBody,
    /// The operation could be applied, but the batch is all-or-none and another of its operations was refused.
    #[error("another operation of this all-or-none batch was refused")]
    Voided,
}

impl Refusal {
    /// The refusal's name, as shown in JSON.
    #[must_use]
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::NotOwned => "not-owned",
            Self::Duplicate { .. } => "duplicate",
            Self::NoBackup => "no-backup",
            Self::OnBackup => "on-backup",
            Self::NoSuchPort => "no-such-port",
            Self::NoSuchDelivery => "no-such-delivery",
            Self::WrongState { .. } => "wrong-state",
            Self::NotInDoubt => "not-in-doubt",
            Self::BadPorts => "bad-ports",
            Self::NoSuchBody => "no-such-body",
            Self::Voided => "voided",
        }
    }
}
