//! What the author of an adapter gives to the kit: the adapter, and a real destination to look into.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use pillarbox_runtime::adapter::{AdapterKind, Settings};
use pillarbox_store::Body;

/// An adapter, and how its destination is started.
#[async_trait(?Send)]
pub trait Subject: fmt::Debug + Send + Sync {
    /// Its name in the report: the kind, and what is special about its settings.
    fn name(&self) -> &str;

    /// The adapter.
    fn kind(&self) -> Arc<dyn AdapterKind>;

    /// Starts a new, empty destination. One that cannot be started is a panic that says why.
    async fn start(&self) -> Box<dyn Destination>;
}

/// A real destination.
#[async_trait(?Send)]
pub trait Destination: fmt::Debug + Send + Sync {
    /// The port of the loopback at which it listens; `None` where it is not reached by TCP, a folder say. Then what goes
    /// wrong on a connection is not tried.
    fn port(&self) -> Option<u16>;

    /// Settings for sending to this port of the loopback, which is its own or that of a proxy in front of it. With a
    /// `timeout` of about a second, where there is such a setting: the kit waits for it to pass.
    fn settings(&self, port: u16) -> Settings;

    /// Called once, before anything is sent, with the port by which it is reached: a destination that tells its clients
    /// where to come tells them this one. Default nothing.
    async fn reached_by(&mut self, port: u16) {
        let _unused = port;
    }

    /// Everything that it holds, in the order in which it came.
    async fn held(&self) -> Vec<Held>;

    /// What it holds of transactions that are prepared, and neither done nor taken back: nothing, once everything has come
    /// to its end. Default nothing.
    async fn left_over(&self) -> Vec<String> {
        Vec::new()
    }

    /// A body that it refuses for good, while it takes others. Default: none. Where the record has a largest body, one that
    /// is longer will do as well.
    fn refused(&self) -> Option<Body> {
        None
    }

    /// What is secret of its settings: none of it may be shown.
    fn secrets(&self) -> Vec<String> {
        Vec::new()
    }

    /// Whether it can be killed and started again, with all that it has acknowledged. Default no.
    fn restarts(&self) -> bool {
        false
    }

    /// Ends it as a crash would.
    async fn kill(&mut self) {}

    /// Starts it again after [`Destination::kill`], and returns when it answers.
    async fn start_again(&mut self) {}
}

/// A message, as the destination holds it.
#[derive(Clone, PartialEq, Eq)]
pub struct Held {
    /// The send key that came with it, where the destination knows it.
    pub key: Option<String>,
    /// The number of the attempt that brought it, where the destination knows it.
    pub attempt: Option<u32>,
    /// Whether that attempt said that the one before it is in doubt.
    pub in_doubt: bool,
    /// What came as its body.
    pub body: Bytes,
}

impl Held {
    /// A message of which nothing is known but the body.
    pub fn new(body: impl Into<Bytes>) -> Self {
        Self { key: None, attempt: None, in_doubt: false, body: body.into() }
    }

    /// Adds the send key.
    #[must_use]
    pub fn key(mut self, key: impl Into<String>) -> Self {
        self.key = Some(key.into());
        self
    }

    /// Adds the number of the attempt.
    #[must_use]
    pub const fn attempt(mut self, attempt: u32) -> Self {
        self.attempt = Some(attempt);
        self
    }

    /// Says whether the attempt before it was told to be in doubt.
    #[must_use]
    pub const fn in_doubt(mut self, in_doubt: bool) -> Self {
        self.in_doubt = in_doubt;
        self
    }

    /// Whether whoever gets it knows that it may have come before: `None` where the destination keeps nothing of that.
    pub(crate) fn is_labelled(&self) -> Option<bool> {
        let attempt = self.attempt?;
        Some(attempt > 1 || self.in_doubt)
    }
}

impl fmt::Debug for Held {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let begin = self.body.get(..self.body.len().min(24)).unwrap_or_default();
        f.debug_struct("Held")
            .field("key", &self.key)
            .field("attempt", &self.attempt)
            .field("in_doubt", &self.in_doubt)
            .field("bytes", &self.body.len())
            .field("begins", &begin.escape_ascii().to_string())
            .finish()
    }
}
