//! What a test saw from outside of the system: submissions and their answers, leases, sends at the destinations,
//! commands, crashes, and what the box told when it was asked. [`check`] holds a finished history against the
//! [`Invariant`]s.
//!
//! Whoever writes a history writes down what happened in the order in which it happened; nothing in here asks the
//! system anything. A history need not be complete: a rule speaks only of the events that are there.

mod audit;
mod check;
mod invariant;
mod rows;
mod settle;
#[cfg(test)]
mod tests;
mod transacted;

use std::collections::BTreeMap;
use std::fmt::{self, Write};
use std::hash::{DefaultHasher, Hasher};
use std::time::Duration;

use pillarbox_store::{
    BatchId, Counts, DeliveryId, DeliveryInfo, MessageId, PortName, Refusal, Route, Timestamp,
};

pub use check::{Violation, check};
pub use invariant::Invariant;

/// Everything that was seen, in order.
#[derive(Debug, Clone)]
pub struct History {
    events: Vec<Event>,
    hash: TraceHash,
}

impl Default for History {
    fn default() -> Self {
        Self { events: Vec::new(), hash: TraceHash(DefaultHasher::new()) }
    }
}

/// Something that was seen.
#[derive(Debug, Clone)]
pub struct Event {
    /// When.
    pub at: Timestamp,
    /// What.
    pub what: What,
}

impl History {
    /// Adds what was just seen.
    pub fn record(&mut self, at: Timestamp, what: What) {
        let event = Event { at, what };
        let _never_fails = write!(self.hash, "{event:?}");
        self.events.push(event);
    }

    /// Adds to the trace's hash alone what is worth comparing and not worth keeping.
    pub fn stir(&mut self, number: u64) {
        self.hash.0.write_u64(number);
    }

    /// Everything that was seen.
    #[must_use]
    pub fn events(&self) -> &[Event] {
        &self.events
    }

    /// A hash of every event and of what was stirred in: two runs with the same hash went the same way.
    #[must_use]
    pub fn hash(&self) -> u64 {
        self.hash.0.finish()
    }
}

#[derive(Debug, Clone)]
struct TraceHash(DefaultHasher);

impl Write for TraceHash {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.0.write(text.as_bytes());
        Ok(())
    }
}

/// A hash of a message's body, the same on every machine and in every run.
#[must_use]
pub fn body_hash(bytes: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    hasher.write(bytes);
    hasher.finish()
}

/// What is promised of one route.
#[derive(Debug, Clone, Copy)]
pub struct RouteLimits {
    /// Attempts that its policy allows.
    pub attempts: u32,
    /// How long one attempt may take.
    pub timeout: Duration,
    /// Messages that may be with its adapter at once.
    pub in_flight: usize,
}

/// What is promised of one port.
#[derive(Debug, Clone, Copy)]
pub struct PortLimits {
    /// The primary route.
    pub primary: RouteLimits,
    /// The backup route, where there is one.
    pub backup: Option<RouteLimits>,
}

impl PortLimits {
    /// The promises of one of its routes.
    #[must_use]
    pub fn of(&self, route: Route) -> RouteLimits {
        match route {
            Route::Primary => self.primary,
            Route::Backup => self.backup.unwrap_or(self.primary),
        }
    }
}

/// One message on its way to one port, as everybody outside names it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct To {
    /// The message.
    pub message: MessageId,
    /// The port.
    pub port: PortName,
}

/// A message in a destination's transaction.
#[derive(Debug, Clone)]
pub struct Part {
    /// Which, and where.
    pub to: To,
    /// The attempt's number.
    pub attempt: u32,
    /// The hash of the body that arrived.
    pub body: u64,
    /// What the message says of that.
    pub in_doubt: bool,
}

/// What somebody asked the box for.
#[derive(Debug, Clone)]
pub enum Said {
    /// Take a message.
    Submit {
        /// Its name.
        message: MessageId,
        /// Where to.
        ports: Vec<PortName>,
        /// The hash of its body.
        body: u64,
        /// Not to be sent before this.
        not_before: Option<Timestamp>,
    },
    /// The holder of a lease decides.
    Settle {
        /// The lease, as numbered by the history.
        lease: u64,
        /// What is decided.
        how: How,
        /// Whether an attempt is charged.
        charged: bool,
    },
    /// Park one that nobody works on.
    Hold(DeliveryId),
    /// Make a parked or waiting one ready.
    Resume(DeliveryId),
    /// End one that nobody works on.
    Terminate(DeliveryId),
    /// Hold a port back, or let it go on.
    Pause(PortName, bool),
    /// Something that no rule speaks of.
    Other,
}

/// What the holder of a lease decides.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum How {
    /// It was sent.
    Delete,
    /// It was sent and answered; the hash of the answer's body.
    Respond(u64),
    /// Again on this route, not before a time.
    Resubmit(Timestamp),
    /// By the backup route.
    Backup,
    /// Park it.
    Suspend,
}

impl How {
    /// Whether it says that the destination has it.
    #[must_use]
    pub const fn is_sent(self) -> bool {
        matches!(self, Self::Delete | Self::Respond(_))
    }
}

/// What a box answered to a batch.
#[derive(Debug, Clone)]
pub enum Answer {
    /// It was applied: one result for each operation.
    Applied {
        /// They.
        results: Vec<Result<Option<DeliveryId>, Refusal>>,
        /// It had been applied before, and these are the results of then.
        repeated: bool,
    },
    /// Nothing of it was applied, and nothing of it ever will be.
    Nothing,
    /// Nobody knows; all of it is there or nothing.
    Unknown,
}

/// What an adapter told the engine of an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Told {
    /// The destination has it.
    Sent,
    /// It failed (an error, a panic, a message let go of).
    Failed {
        /// No further attempt can help.
        permanent: bool,
        /// The destination asked for this much patience.
        retry_after: Option<Duration>,
    },
    /// The adapter itself asked to resubmit, to move, to park or to take it back.
    Asked,
}

/// What happened.
#[derive(Debug, Clone)]
pub enum What {
    /// A port exists, with these promises.
    Port(PortName, PortLimits),
    /// Somebody commits a batch.
    Commit {
        /// Its name.
        batch: BatchId,
        /// All or none.
        strict: bool,
        /// Its operations.
        ops: Vec<Said>,
    },
    /// The box answered.
    Answered(BatchId, Answer),
    /// The box gave out a lease.
    Lease {
        /// The lease, numbered by the history.
        lease: u64,
        /// For which delivery.
        delivery: DeliveryId,
        /// Which is what.
        to: To,
        /// By which route.
        route: Route,
        /// Attempts made before, in its life and on this route.
        attempts: (u32, u32),
        /// When the lease ends.
        ends: Timestamp,
    },
    /// A lease was given back.
    Release(u64),
    /// The holder of a lease lets it lie.
    Abandon(u64),
    /// A destination has a message now.
    Seen {
        /// Which, and where.
        to: To,
        /// By which route.
        route: Route,
        /// The attempt's number.
        attempt: u32,
        /// The name by which a repeat can be recognised.
        send_key: String,
        /// The hash of the body that arrived.
        body: u64,
        /// Whether it says that it may have come before.
        in_doubt: bool,
    },
    /// An adapter told how an attempt ended.
    Told {
        /// Of which.
        to: To,
        /// The attempt's number.
        attempt: u32,
        /// What.
        told: Told,
    },
    /// A destination holds a transaction prepared: durable, and seen by nobody yet.
    Prepared {
        /// Its name.
        transaction: String,
        /// What is in it.
        parts: Vec<Part>,
    },
    /// A destination has committed what it held prepared under this name.
    Committed(String),
    /// A destination has rolled back what it held prepared under this name.
    RolledBack(String),
    /// What a destination answered to a message, where it answers; the hash of the answer's body.
    Replied {
        /// To which.
        to: To,
        /// The attempt's number.
        attempt: u32,
        /// What.
        answer: Option<u64>,
    },
    /// The box was asked and told of every delivery that it knows.
    Audit {
        /// What it told.
        found: Vec<DeliveryInfo>,
        /// The hashes of the answers that it keeps.
        answers: BTreeMap<DeliveryId, u64>,
        /// How many of each port's are in each state.
        counts: BTreeMap<PortName, Counts>,
        /// No trace of an ended delivery can have been forgotten yet.
        traces_kept: bool,
    },
    /// The process died, or the machine.
    Crash {
        /// How.
        why: &'static str,
        /// Whether what was written is there, flushed or not.
        keeps_written: bool,
    },
    /// The box was opened; an error where it did not open although the disk did as it was told.
    Opened(Result<(), String>),
    /// The runtime begins to shut down.
    Drain,
    /// Faults are over: from here on everything has to end within this span.
    Calm(Duration),
    /// Nothing more is under way.
    Finished,
    /// The files take so many bytes, and may take so many.
    Size(u64, u64),
    /// Something that no rule speaks of, for the reader of a trace.
    Note(&'static str),
}
