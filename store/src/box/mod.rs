//! The message box over any engine.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};

use crate::engine::Engine;
use crate::{Body, BoxId, Clock, Error, IdSource};

/// Which engine carries the box.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum EngineKind {
    /// Our own segmented journal.
    #[default]
    Journal,
    /// sled 0.34.7, with our own flushes.
    #[cfg(feature = "sled")]
    Sled,
    /// In memory: nothing survives the process.
    Memory,
}

/// How long the trace of a finished delivery is kept: until either bound is passed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retention {
    /// At most so many. Default 100,000.
    pub count: u64,
    /// At most so long. Default 7 days.
    pub age: Duration,
}

impl Default for Retention {
    fn default() -> Self {
        Self { count: 100_000, age: Duration::from_secs(7 * 24 * 3600) }
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
            clock: Arc::new(crate::SystemClock),
            ids: IdSource::system(),
            committing: Committing::default(),
        }
    }
}

/// A durable box of messages over one engine: the one implementation of [`crate::Store`] for a single process.
#[derive(Debug, Clone)]
pub struct MessageBox {
    engine: Arc<dyn Engine>,
    id: BoxId,
}

/// Puts a body into the box fragment by fragment, ahead of its message, in bounded memory.
#[derive(Debug)]
pub struct BodyWriter {
    pending: BytesMut,
}

impl BodyWriter {
    /// Appends to the body. Returns once what fills a fragment is handed to the box (written, not flushed: the
    /// commit of its message flushes it).
    ///
    /// # Errors
    /// As [`crate::Store::commit`]; the body is lost and its room given back.
    pub async fn write(&mut self, bytes: Bytes) -> Result<(), Error> {
        self.pending.extend_from_slice(&bytes);
        Ok(())
    }

    /// The body, to be submitted in a [`crate::Message`]. Dropping it instead gives its room back.
    ///
    /// # Errors
    /// As [`BodyWriter::write`].
    pub async fn finish(self) -> Result<Body, Error> {
        Ok(Body::from(self.pending.freeze()))
    }
}
