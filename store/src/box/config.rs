//! How to open a box.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::{Clock, IdSource, SystemClock};

/// Which engine carries the box.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum EngineKind {
    /// Our own segmented journal.
    #[default]
    Journal,
    /// sled 0.34.7, with flushes of our own.
    #[cfg(feature = "sled")]
    Sled,
    /// In memory: nothing survives the process.
    Memory,
}

impl EngineKind {
    /// The engine's name in configuration.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Journal => "journal",
            #[cfg(feature = "sled")]
            Self::Sled => "sled",
            Self::Memory => "memory",
        }
    }

    /// The engine of this name.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        match name {
            "journal" => Some(Self::Journal),
            #[cfg(feature = "sled")]
            "sled" => Some(Self::Sled),
            "memory" => Some(Self::Memory),
            _ => None,
        }
    }
}

/// How long the trace of a finished delivery is kept: until either bound is passed. Traces go a page at a time, so
/// somewhat more may be kept than `count`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retention {
    /// At most about so many: the oldest are forgotten, a page at a time, with the next batch after they are too many.
    /// Default 100,000.
    pub count: u64,
    /// At most about so long: they are forgotten with the next batch after that. Default 7 days.
    pub age: Duration,
    /// How long answers are kept.
    pub answers: AnswerRetention,
}

impl Default for Retention {
    fn default() -> Self {
        let answers = AnswerRetention::default();
        Self { count: 100_000, age: Duration::from_secs(7 * 24 * 3600), answers }
    }
}

/// How long an answer is kept: until one of these bounds is passed or its delivery's trace goes, whichever is first. The
/// oldest answer goes first, at the next commit of any batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AnswerRetention {
    /// At most so many. Default 10,000.
    pub count: u64,
    /// At most so many bytes of bodies. Default 1 GiB.
    pub bytes: u64,
    /// At most so long. Default 1 day.
    pub age: Duration,
}

impl Default for AnswerRetention {
    fn default() -> Self {
        Self { count: 10_000, bytes: 1024 * 1024 * 1024, age: Duration::from_secs(24 * 3600) }
    }
}

/// Where commit groups are applied.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Committing {
    /// On a thread of the box's own, which takes every waiting batch into one group. For all real use.
    #[default]
    Thread,
    /// Inside the call to `commit`, one batch a group, without any thread: for simulations.
    Inline,
}

/// How to open a box.
#[derive(Debug, Clone)]
pub struct BoxConfig {
    /// Its data folder, created where missing. Not used by [`EngineKind::Memory`].
    pub folder: PathBuf,
    /// Its engine. Default [`EngineKind::Journal`]. A folder belongs to the engine that created it.
    pub engine: EngineKind,
    /// The longest body, in bytes. Default 1 GiB.
    pub body_bytes_max: u64,
    /// How long traces of finished deliveries are kept.
    pub retention: Retention,
    /// The size of a journal segment, in bytes. Default 64 MiB; at least 64 KiB.
    pub segment_bytes: u64,
    /// The clock. Default the host's.
    pub clock: Arc<dyn Clock>,
    /// Where ids come from. Default the host's random source.
    pub ids: IdSource,
    /// Where commit groups are applied.
    pub committing: Committing,
}

impl BoxConfig {
    /// The defaults, with the box's files in `folder`.
    #[must_use]
    pub fn new(folder: impl Into<PathBuf>) -> Self {
        Self {
            folder: folder.into(),
            engine: EngineKind::default(),
            body_bytes_max: 1024 * 1024 * 1024,
            retention: Retention::default(),
            segment_bytes: 64 * 1024 * 1024,
            clock: Arc::new(SystemClock),
            ids: IdSource::system(),
            committing: Committing::default(),
        }
    }

    /// A box in memory, for tests and for messages that may die with the process.
    #[must_use]
    pub fn in_memory() -> Self {
        Self { engine: EngineKind::Memory, ..Self::new("") }
    }
}
