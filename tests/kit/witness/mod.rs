//! What can be seen of a real server from outside of its process: submissions and their answers, what arrives at the
//! destinations, what was done to the process, and what it tells once it is calm. [`check`] holds that against the
//! same [`Invariant`](pillarbox_sim::history::Invariant)s as a [`history`](pillarbox_sim::history), which knows more: nobody outside
//! sees a lease or a settlement.
//!
//! Whoever writes facts down does so as they happen, in their order, for one box from its first start to its last.

mod check;
mod doubt;
#[cfg(test)]
mod tests;

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use pillarbox_store::{DeliveryState, Timestamp};

use crate::bodies::Hash;

pub use check::{Findings, check};
pub use doubt::{Cause, SETTLED_WITHIN};

/// A message, by the number that its id is made of.
pub type Number = u64;

/// The message id that stands for a number.
#[must_use]
pub fn id_of(number: Number) -> String {
    format!("00000000-0000-7000-8000-{number:012x}")
}

/// The number that a message id stands for; nothing for an id that is not one of [`id_of`].
#[must_use]
pub fn number_of(id: &str) -> Option<Number> {
    let number = Number::from_str_radix(id.rsplit('-').next()?, 16).ok()?;
    (id_of(number) == id).then_some(number)
}

/// What a server answered to the submission of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// It was taken, as this delivery.
    Taken(u64),
    /// It had been taken before, as this delivery.
    Repeated(u64),
    /// Nothing was taken.
    Refused,
    /// None came, or one that leaves it open.
    Lost,
}

/// How a life of the server ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// By SIGKILL, or by a second signal in the middle of its drain.
    Killed,
    /// By a drain that came to its deadline.
    Cut,
    /// By a drain that finished what was being sent.
    Drained,
}

/// What the server told of a delivery when it was calm.
#[derive(Debug, Clone)]
pub struct Last {
    /// The delivery's number.
    pub delivery: u64,
    /// Its state.
    pub state: DeliveryState,
    /// Its attempts.
    pub attempts: u32,
    /// The attempts that failed because their time was up, with how long each took; only where somebody asked.
    pub late: Vec<(u32, Duration)>,
    /// The hash of the body, of a suspended one.
    pub body: Option<Hash>,
}

/// Something that was seen.
#[derive(Debug, Clone)]
pub enum Fact {
    /// A port exists, of whose messages so many may be sent at once.
    Port(&'static str, u64),
    /// A client sends a submission for the first time.
    Offered {
        /// The message.
        message: Number,
        /// Where to.
        port: &'static str,
        /// Its body's hash.
        body: Hash,
        /// The destination will refuse it for good.
        is_bad: bool,
        /// Not to be sent before this, by the server's clock.
        not_before: Option<Timestamp>,
        /// All or none of the messages with this number are to be taken.
        batch: Option<u64>,
    },
    /// How a submission ended.
    Answered(Number, Answer),
    /// A destination has read a message in full.
    Arrived {
        /// This arrival's number.
        arrival: u64,
        /// The message.
        message: Number,
        /// The port.
        port: &'static str,
        /// The life of the server that sent it.
        life: u32,
        /// The attempt that its headers tell.
        attempt: u32,
        /// Its send key.
        key: String,
        /// Its body's hash.
        body: Hash,
        /// Whether the destination keeps it; else it turns it away.
        is_kept: bool,
    },
    /// A destination has written its whole answer to an arrival.
    Said(u64),
    /// A message lies in the folder of a port.
    File(Number, &'static str, Hash),
    /// A life of the server begins.
    Began(u32),
    /// A life of the server is over.
    Ended(u32, End),
    /// The server stands still.
    Stopped,
    /// It goes on.
    Continued,
    /// The box's disk is full.
    Full,
    /// It has room again.
    Roomy,
    /// The server's clock is ahead of the host's by so many seconds from now on.
    Clock(i64),
    /// The server told that a delivery has come to this state, from which it does not move by itself.
    Told(u64, DeliveryState),
    /// The server did not open the box, or told of damage, or panicked.
    Trouble(String),
    /// Faults are over: from here on everything has to end within this span.
    Calm(Duration),
    /// What it tells of a message at last; nothing where it knows none.
    Last(Number, Option<Last>),
    /// What it counts of a port at last: done, suspended, in any other state.
    Counts(&'static str, [u64; 3]),
    /// The box's files take so many bytes, and may take so many.
    Size(u64, u64),
    /// Everything reached its outcome.
    Finished,
}

/// Facts with their times, written from any thread. Clones write the same.
#[derive(Debug, Clone)]
pub struct Witness {
    started: Instant,
    wall: Timestamp,
    facts: Arc<Mutex<Vec<(Timestamp, Fact)>>>,
}

impl Default for Witness {
    #[expect(clippy::disallowed_methods, reason = "a real process lives in real time")]
    fn default() -> Self {
        let wall = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        Self { started: Instant::now(), wall: Timestamp::EPOCH.plus(wall), facts: Arc::default() }
    }
}

impl Witness {
    /// The host's time, as it was at the start and has passed since.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.wall.plus(self.started.elapsed())
    }

    /// Writes down what was just seen.
    pub fn saw(&self, fact: Fact) {
        let mut facts = self.lock();
        let now = self.now();
        facts.push((now, fact));
    }

    /// Writes down an arrival, which is numbered here.
    pub fn arrived(&self, fact: impl FnOnce(u64) -> Fact) -> u64 {
        let mut facts = self.lock();
        let (now, number) = (self.now(), facts.len() as u64);
        facts.push((now, fact(number)));
        number
    }

    /// Everything seen so far.
    #[must_use]
    pub fn facts(&self) -> Vec<(Timestamp, Fact)> {
        self.lock().clone()
    }

    fn lock(&self) -> MutexGuard<'_, Vec<(Timestamp, Fact)>> {
        self.facts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One fact a line, for a person.
#[must_use]
pub fn shown(facts: &[(Timestamp, Fact)]) -> String {
    struct Line<'a>(Duration, &'a Fact);
    impl fmt::Display for Line<'_> {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            writeln!(f, "{:>10.4} {:?}", self.0.as_secs_f64(), self.1)
        }
    }
    let first = facts.first().map_or(Timestamp::EPOCH, |(at, _)| *at);
    facts.iter().map(|(at, fact)| Line(at.since(first), fact).to_string()).collect()
}
