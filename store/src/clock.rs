//! Time, as a value that is handed in.
//!
//! Nothing in the store reads the system's clock by itself: a [`Clock`] is a parameter of the box, so that a
//! simulation can own time. [`SystemClock`] is the one place that touches the real one.

use std::fmt;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

/// A moment: microseconds since 1970-01-01T00:00:00Z.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Timestamp(i64);

impl Timestamp {
    /// The earliest moment there is; always due.
    pub const EPOCH: Self = Self(0);

    /// The moment `micros` microseconds after 1970-01-01T00:00:00Z.
    #[must_use]
    pub const fn from_micros(micros: i64) -> Self {
        Self(micros)
    }

    /// Microseconds since 1970-01-01T00:00:00Z.
    #[must_use]
    pub const fn as_micros(self) -> i64 {
        self.0
    }

    /// This moment plus `span`; the latest moment there is where that would overflow.
    #[must_use]
    pub fn plus(self, span: Duration) -> Self {
        Self(self.0.saturating_add(i64::try_from(span.as_micros()).unwrap_or(i64::MAX)))
    }

    /// How long after `earlier` this is; zero where it is not after it (clocks jump).
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_micros(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }
}

impl fmt::Debug for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}us", self.0)
    }
}

/// Tells the time.
pub trait Clock: fmt::Debug + Send + Sync + 'static {
    /// The present moment in UTC. It may jump in either direction, as a host's clock does.
    fn now(&self) -> Timestamp;

    /// The present moment on a scale of its own that never jumps: only the span between two of them means anything,
    /// and only within one process. Leases are measured by it. The same as [`Clock::now`] unless a clock says
    /// otherwise, which one that may jump must.
    fn steady(&self) -> Timestamp {
        self.now()
    }
}

/// A moment on both scales of a clock.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Moment {
    /// By [`Clock::now`].
    pub(crate) wall: Timestamp,
    /// By [`Clock::steady`].
    pub(crate) steady: Timestamp,
}

impl Moment {
    pub(crate) fn of(clock: &dyn Clock) -> Self {
        Self { wall: clock.now(), steady: clock.steady() }
    }
}

/// The host's own clock.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "the one place that reads the host's clock")]
    fn now(&self) -> Timestamp {
        match std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH) {
            Ok(span) => Timestamp::EPOCH.plus(span),
            Err(_before_1970) => Timestamp::EPOCH,
        }
    }

    /// By the time since this process first asked; every such clock of a process has the same scale.
    #[expect(clippy::disallowed_methods, reason = "the one place that reads the host's clock")]
    fn steady(&self) -> Timestamp {
        static FIRST: OnceLock<Instant> = OnceLock::new();
        Timestamp::EPOCH.plus(FIRST.get_or_init(Instant::now).elapsed())
    }
}
