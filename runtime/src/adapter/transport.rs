//! What an adapter says of itself, and how its life begins and ends.

use std::fmt;
use std::time::Duration;

use async_trait::async_trait;

use super::SendError;
use crate::Proxy;

/// How an adapter keeps a repeated attempt from reaching the destination twice.
#[non_exhaustive]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DoubleSafety {
    /// The send key is recorded in the destination's own transaction: never twice.
    Ledger,
    /// Prepared at the destination, decided in the box: never twice. An adapter that says so is opened when the runtime
    /// starts: what a crash left prepared does not wait for the next message.
    TwoPhase,
    /// The destination recognises the send key for this long (`None`: for ever).
    Keyed(Option<Duration>),
    /// It does not: an attempt cut off in the middle may be seen twice.
    AtLeastOnce,
}

/// What an adapter can do. The conformance kit checks each claim.
#[non_exhaustive]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Capabilities {
    /// How doubles are avoided.
    pub double_safety: DoubleSafety,
    /// The longest body it takes, in bytes; `None` for no limit.
    pub body_bytes_max: Option<u64>,
    /// Whether it is created when the runtime starts instead of at its first message.
    pub init_at_start: bool,
    /// Whether it reads long bodies a fragment at a time, in bounded memory.
    pub streams: bool,
    /// Whether it can ask the destination what became of an attempt whose outcome a crash hid.
    pub reconciles: bool,
}

impl Default for Capabilities {
    /// At least once, no limit, created at its first message, no streaming, no reconciling.
    fn default() -> Self {
        Self {
            double_safety: DoubleSafety::AtLeastOnce,
            body_bytes_max: None,
            init_at_start: false,
            streams: false,
            reconciles: false,
        }
    }
}

impl Capabilities {
    /// Sets how doubles are avoided.
    #[must_use]
    pub const fn double_safety(mut self, safety: DoubleSafety) -> Self {
        self.double_safety = safety;
        self
    }

    /// Sets the longest body it takes, in bytes.
    #[must_use]
    pub const fn body_bytes_max(mut self, bytes: u64) -> Self {
        self.body_bytes_max = Some(bytes);
        self
    }

    /// Asks for creation when the runtime starts.
    #[must_use]
    pub const fn init_at_start(mut self) -> Self {
        self.init_at_start = true;
        self
    }

    /// Says that long bodies are read a fragment at a time.
    #[must_use]
    pub const fn streams(mut self) -> Self {
        self.streams = true;
        self
    }

    /// Says that the destination can be asked what became of an attempt ([`Reconciled`](super::Reconciled)).
    #[must_use]
    pub const fn reconciles(mut self) -> Self {
        self.reconciles = true;
        self
    }
}

/// Who an adapter is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TransportInfo {
    /// Its kind in configuration, `http` say.
    pub kind: &'static str,
    /// Its name for people.
    pub name: &'static str,
    /// Its version.
    pub version: &'static str,
    /// What it does, in a sentence.
    pub description: &'static str,
    /// What it can do.
    pub capabilities: Capabilities,
    /// The address prefixes that it serves, `https://` say.
    pub uri_prefixes: &'static [&'static str],
}

/// Re-implements `IBTTransport` and `IBaseComponent`.
pub trait Transport: fmt::Debug + Send + Sync + 'static {
    /// Who it is.
    fn describe(&self) -> TransportInfo;
}

/// Re-implements `IBTTransportControl`: the beginning and the end of an adapter's life.
#[async_trait]
pub trait TransportControl: Transport {
    /// Called once, before anything else. Keep the proxy: it is the only handle on the engine.
    ///
    /// # Errors
    /// The adapter cannot work. Its messages are given back, no attempt is charged, and it is created anew after a
    /// pause.
    async fn initialize(&self, proxy: Proxy) -> Result<(), SendError> {
        let _unused = proxy;
        Ok(())
    }

    /// Called once, at the end: take no more work, finish and complete what is being sent, then return. The
    /// adapter is dropped right after, and also when the drain's deadline passes first.
    async fn terminate(&self) {}
}
