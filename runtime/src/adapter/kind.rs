//! From settings to a running adapter: checked first, opened when needed.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use pillarbox_store::{BoxId, Clock, IdSource, PortName, Route};

use super::{
    BatchSender, BatchTransmitter, BlockingSender, Requester, SendError, Sender, Settings, SettingsError,
    TransactionalSender, Transmitter, TransportInfo,
};
use crate::wrap;

/// A kind of adapter: what a registry holds and configuration names.
pub trait AdapterKind: fmt::Debug + Send + Sync + 'static {
    /// Who it is.
    fn describe(&self) -> TransportInfo;

    /// The setting that takes an address of a dynamic port ([`crate::Directory`]), with its URI prefix: `url` say.
    /// Default none: the kind serves no addresses.
    fn address_key(&self) -> Option<&'static str> {
        None
    }

    /// Checks a route's settings (handler settings beneath them are merged in already). Pure: touches no file, no
    /// clock, no network, no environment.
    ///
    /// # Errors
    /// Every problem at once, each with its key.
    fn check(&self, settings: &Settings) -> Result<Box<dyn CheckedSettings>, SettingsError>;
}

/// What an adapter is opened with.
#[derive(Debug, Clone)]
pub struct OpenContext {
    /// The box whose messages it sends: what a send key begins with.
    pub box_id: BoxId,
    /// The port it sends for.
    pub port: PortName,
    /// The route it is.
    pub route: Route,
    /// The clock to use.
    pub clock: Arc<dyn Clock>,
    /// Where ids and randomness come from.
    pub ids: IdSource,
}

/// Settings that were checked. An adapter can be opened with these only.
#[async_trait]
pub trait CheckedSettings: fmt::Debug + Send + Sync + 'static {
    /// What an adapter with these settings says of itself, where they change what its `kind` does: whether the destination
    /// may hold prepared transactions decides whether it is opened when the runtime starts. Default the same.
    fn describe(&self, kind: TransportInfo) -> TransportInfo {
        kind
    }

    /// Does what touches the world: reads secrets, opens connections and folders. May be called again after it
    /// failed.
    ///
    /// # Errors
    /// The adapter cannot work now. Nothing is sent, no attempt is charged, and it is tried again after a pause.
    async fn open(&self, context: &OpenContext) -> Result<Adapter, SendError>;
}

/// An adapter, by the shape of its protocol. The one place where the dispatcher tells the shapes apart.
#[derive(Debug, Clone)]
pub enum Adapter {
    /// One message at a time.
    Each(Arc<dyn Transmitter>),
    /// In batches.
    Batch(Arc<dyn BatchTransmitter>),
}

impl Adapter {
    /// An adapter that sends one message at a time without blocking; many at once.
    #[must_use]
    pub fn sender(sender: impl Sender) -> Self {
        Self::Batch(wrap::sender(sender))
    }

    /// An adapter that sends one message at a time on a thread that may block; many at once. The threads are of
    /// tokio's blocking pool, whose size bounds all such adapters together.
    #[must_use]
    pub fn blocking(sender: impl BlockingSender) -> Self {
        Self::Batch(wrap::blocking(sender))
    }

    /// An adapter that sends a batch with one call.
    #[must_use]
    pub fn batch_sender(sender: impl BatchSender) -> Self {
        Self::Batch(wrap::batch(sender))
    }

    /// An adapter that sends one message at a time and waits for its answer; many at once.
    #[must_use]
    pub fn requester(requester: impl Requester) -> Self {
        Self::Batch(wrap::requester(requester))
    }

    /// An adapter that sends a batch in a transaction of the destination.
    #[must_use]
    pub fn transactional(sender: impl TransactionalSender) -> Self {
        Self::Batch(wrap::transactional(sender))
    }

    /// An adapter that speaks the protocol, one message at a time.
    #[must_use]
    pub fn transmitter(transmitter: impl Transmitter) -> Self {
        Self::Each(Arc::new(transmitter))
    }

    /// An adapter that speaks the protocol, in batches.
    #[must_use]
    pub fn batch_transmitter(transmitter: impl BatchTransmitter) -> Self {
        Self::Batch(Arc::new(transmitter))
    }

    /// Who it is.
    #[must_use]
    pub fn describe(&self) -> TransportInfo {
        match self {
            Self::Each(transmitter) => transmitter.describe(),
            Self::Batch(transmitter) => transmitter.describe(),
        }
    }
}
