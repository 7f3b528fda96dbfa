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

/// Which of the six kinds of [this module](super#the-six-kinds) an adapter is, as the engine sees it.
///
/// The small traits are wrapped: [`Sender`](super::Sender), [`BlockingSender`](super::BlockingSender) and
/// [`BatchSender`](super::BatchSender) become asynchronous batches, [`TransactionalSender`](super::TransactionalSender) a
/// transactional one, [`Requester`](super::Requester) solicit-response.
#[non_exhaustive]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// One message at a time; the engine ends its delivery.
    Synchronous,
    /// One message at a time; the adapter ends its delivery.
    Asynchronous,
    /// Batches; the engine ends all of one after `done`.
    SynchronousBatch,
    /// Batches; the adapter ends each delivery.
    AsynchronousBatch,
    /// Batches, in a transaction of the destination.
    TransactionalBatch,
    /// The destination's answer is kept with the delivery's end.
    SolicitResponse,
}

impl Shape {
    /// Its name, as shown to people.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Synchronous => "synchronous",
            Self::Asynchronous => "asynchronous",
            Self::SynchronousBatch => "synchronous batch",
            Self::AsynchronousBatch => "asynchronous batch",
            Self::TransactionalBatch => "transactional batch",
            Self::SolicitResponse => "solicit-response",
        }
    }
}

/// In which order the messages arrive that are handed over together.
#[non_exhaustive]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// In any: several are on their way at once.
    Any,
    /// Those of one batch in the batch's order. Several batches may overtake each other.
    InBatch,
}

/// What an adapter can do: its record. The conformance kit, `pillarbox-adapter-kit`, checks each claim.
#[non_exhaustive]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Capabilities {
    /// Which of the six kinds it is.
    pub shape: Shape,
    /// How doubles are avoided.
    pub double_safety: DoubleSafety,
    /// The longest body it takes, in bytes; `None` for no limit.
    pub body_bytes_max: Option<u64>,
    /// Whether a batch arrives as a whole or not at all, whatever fails in between. Where one of its messages is refused,
    /// the others may be sent as a batch of their own.
    pub all_or_none: bool,
    /// Whether each message of a batch has an outcome of its own, so that a refused one costs the others nothing.
    pub outcome_per_message: bool,
    /// In which order messages arrive.
    pub order: Order,
    /// Whether it is created when the runtime starts instead of at its first message.
    pub init_at_start: bool,
    /// Whether it reads long bodies a fragment at a time, in bounded memory.
    pub streams: bool,
    /// Whether it can ask the destination what became of an attempt whose outcome a crash hid.
    pub reconciles: bool,
}

impl Default for Capabilities {
    /// What a wrapped [`Sender`](super::Sender) is that knows nothing more: at least once, no limit, each message by itself,
    /// in any order, created at its first message, no streaming, no reconciling.
    fn default() -> Self {
        Self {
            shape: Shape::AsynchronousBatch,
            double_safety: DoubleSafety::AtLeastOnce,
            body_bytes_max: None,
            all_or_none: false,
            outcome_per_message: true,
            order: Order::Any,
            init_at_start: false,
            streams: false,
            reconciles: false,
        }
    }
}

impl Capabilities {
    /// Sets which of the six kinds it is.
    #[must_use]
    pub const fn shape(mut self, shape: Shape) -> Self {
        self.shape = shape;
        self
    }

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

    /// Says that a batch arrives as a whole or not at all.
    #[must_use]
    pub const fn all_or_none(mut self) -> Self {
        self.all_or_none = true;
        self
    }

    /// Says that the messages of a batch share one outcome: what one of them costs, all pay.
    #[must_use]
    pub const fn one_outcome(mut self) -> Self {
        self.outcome_per_message = false;
        self
    }

    /// Sets in which order messages arrive.
    #[must_use]
    pub const fn order(mut self, order: Order) -> Self {
        self.order = order;
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
