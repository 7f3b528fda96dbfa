//! What a measured system offers to a client: the same few calls for the box, the floors and the peers.

use std::error::Error;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;

/// What ends a measurement.
pub(crate) type Fault = Box<dyn Error + Send + Sync>;

/// A system under measurement.
#[async_trait]
pub(crate) trait Target: Send + Sync {
    /// One client's way to it.
    async fn client(&self) -> Result<Box<dyn Client>, Fault>;

    /// How often it has committed and flushed so far.
    fn counts(&self) -> Counts;

    /// Figures of its own, asked for at the end.
    fn more(&self) -> Vec<(&'static str, f64)> {
        Vec::new()
    }

    /// Ends it in order.
    async fn close(&self) -> Result<(), Fault>;
}

/// Client batches that were made durable, and flushes that took.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Counts {
    /// Batches.
    pub(crate) commits: u64,
    /// Flushes; `None` where only the disk knows.
    pub(crate) flushes: Option<u64>,
}

/// One client of a system. Every call returns once its effect is durable.
#[async_trait]
pub(crate) trait Client: Send {
    /// Puts a batch of messages in.
    async fn submit(&mut self, bodies: &[Bytes]) -> Result<(), Fault>;

    /// Takes up to `count` messages to work on, bodies read; tells how many.
    async fn take(&mut self, count: usize) -> Result<usize, Fault>;

    /// Completes all that was taken.
    async fn complete(&mut self) -> Result<(), Fault>;
}

/// A system that clients share.
pub(crate) type Shared = Arc<dyn Target>;
