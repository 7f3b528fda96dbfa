//! Deliveries: one message on its way to one port. A delivery is what has a state.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::{DeliveryId, Doubt, Headers, MessageId, PortName, Timestamp};

/// Where a delivery stands. The numbers are persisted: never change or reuse one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[repr(u8)]
pub enum DeliveryState {
    /// May be leased now.
    Ready = 1,
    /// Not due for the first time yet.
    Scheduled = 2,
    /// Failed, and due again later.
    RetryWait = 3,
    /// Somebody works on it. Never on disk: after a crash it is ready again.
    Leased = 4,
    /// Parked with its reason until somebody resumes or terminates it.
    Suspended = 5,
    /// Delivered.
    Done = 6,
    /// Ended by an operator without being delivered.
    Terminated = 7,
    /// Nobody knows whether it was sent: parked until somebody settles that.
    InDoubt = 8,
}

impl DeliveryState {
    /// Every state.
    pub const ALL: [Self; 8] = [
        Self::Ready,
        Self::Scheduled,
        Self::RetryWait,
        Self::Leased,
        Self::Suspended,
        Self::Done,
        Self::Terminated,
        Self::InDoubt,
    ];

    /// The state's name, as shown to people and in JSON.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ready => "ready",
            Self::Scheduled => "scheduled",
            Self::RetryWait => "retry-wait",
            Self::Leased => "leased",
            Self::Suspended => "suspended",
            Self::Done => "done",
            Self::Terminated => "terminated",
            Self::InDoubt => "in-doubt",
        }
    }

    /// The state of this name.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.as_str() == name)
    }

    /// Whether nothing more happens by itself: an outcome, or parked.
    #[must_use]
    pub const fn is_settled(self) -> bool {
        self.is_terminal() || matches!(self, Self::Suspended | Self::InDoubt)
    }

    /// Whether it is an outcome: no transition leads out of it.
    #[must_use]
    pub const fn is_terminal(self) -> bool {
        matches!(self, Self::Done | Self::Terminated)
    }
}

/// Which of a port's two routes. The numbers are persisted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[repr(u8)]
pub enum Route {
    /// The one every delivery starts on.
    #[default]
    Primary = 0,
    /// The one it moves to when the primary's retries are spent.
    Backup = 1,
}

impl Route {
    /// The route's name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Primary => "primary",
            Self::Backup => "backup",
        }
    }
}

/// Why an attempt failed, as kept in the history: what the adapter said, and each cause below it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// Whether another attempt cannot help.
    pub permanent: bool,
    /// The error and its causes, outermost first. Cut at [`Failure::BYTES_MAX`] bytes in all.
    pub chain: Vec<String>,
}

impl Failure {
    /// The most bytes that an error chain keeps.
    pub const BYTES_MAX: usize = 4 * 1024;

    /// A failure with this chain, cut to [`Failure::BYTES_MAX`].
    #[must_use]
    pub fn new(permanent: bool, chain: Vec<String>) -> Self {
        let mut room = Self::BYTES_MAX;
        let mut kept = Vec::with_capacity(chain.len().min(16));
        for mut link in chain {
            if room == 0 {
                break;
            }
            let cut = link.floor_char_boundary(room);
            link.truncate(cut);
            room -= link.len();
            if link.is_empty() {
                break;
            }
            kept.push(link);
        }
        Self { permanent, chain: kept }
    }

    /// The chain on one line.
    #[must_use]
    pub fn text(&self) -> String {
        self.chain.join(": ")
    }
}

/// What was decided after an attempt. The order is persisted: only append.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AttemptOutcome {
    /// The destination has the message.
    Delivered,
    /// It failed; another attempt on the same route follows.
    Resubmitted,
    /// It failed; the delivery moved to the backup route.
    MovedToBackup,
    /// It failed; the delivery was parked.
    Suspended,
}

impl AttemptOutcome {
    /// The outcome's name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Delivered => "delivered",
            Self::Resubmitted => "resubmitted",
            Self::MovedToBackup => "moved-to-backup",
            Self::Suspended => "suspended",
        }
    }
}

/// What the one who settles a lease tells of the attempt it made. An operation with such a note charges one
/// attempt; one without charges none.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AttemptNote {
    /// When the message was handed to the adapter.
    pub started: Timestamp,
    /// How long it took to know how that ended.
    pub took: Duration,
    /// Why it failed; `None` where it did not.
    pub failure: Option<Failure>,
}

/// One attempt of a delivery's history.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attempt {
    /// Counted from 1 over the delivery's whole life.
    pub number: u32,
    /// The route it was made on.
    pub route: Route,
    /// When the message was handed to the adapter.
    pub started: Timestamp,
    /// How long it took to know how that ended.
    pub took: Duration,
    /// What was decided.
    pub outcome: AttemptOutcome,
    /// Why it failed; `None` where it did not.
    pub failure: Option<Failure>,
}

/// How many attempts of one delivery are kept; of more, the latest.
pub const ATTEMPTS_KEPT: u32 = 32;

/// A delivery, as queries tell of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeliveryInfo {
    /// Its number.
    pub id: DeliveryId,
    /// Its message.
    pub message: MessageId,
    /// Its destination.
    pub port: PortName,
    /// Where it stands.
    pub state: DeliveryState,
    /// The route it is on, or was when it ended.
    pub route: Route,
    /// Attempts made in its whole life.
    pub attempts: u32,
    /// When its message was submitted.
    pub submitted: Timestamp,
    /// When it may be sent, where it waits for a time.
    pub due: Option<Timestamp>,
    /// When it ended.
    pub finished: Option<Timestamp>,
    /// Why it was suspended or terminated.
    pub reason: Option<String>,
    /// The body's length in bytes.
    pub body_len: u64,
    /// The length in bytes of the answer that is kept with it; `None` where none is.
    pub answer_len: Option<u64>,
    /// That it may have been sent without the box knowing it.
    pub doubt: Option<Doubt>,
}

/// A delivery with its history.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeliveryDetail {
    /// The delivery.
    pub info: DeliveryInfo,
    /// Its attempts, oldest first; the latest [`ATTEMPTS_KEPT`].
    pub attempts: Vec<Attempt>,
}

/// A message, as queries tell of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MessageInfo {
    /// Its name.
    pub id: MessageId,
    /// When it was submitted.
    pub submitted: Timestamp,
    /// Its properties; `None` once every delivery has ended and only the trace is left.
    pub headers: Option<Headers>,
    /// The body's length in bytes.
    pub body_len: u64,
    /// Its deliveries, in order of number.
    pub deliveries: Vec<DeliveryDetail>,
}
