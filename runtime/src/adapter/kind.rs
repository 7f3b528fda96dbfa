//! From settings to a running adapter: checked first, opened when needed.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use pillarbox_store::{Clock, IdSource, PortName, Route};

use super::{BatchTransmitter, SendError, Settings, SettingsError, Transmitter, TransportInfo};

/// A kind of adapter: what a registry holds and configuration names.
pub trait AdapterKind: fmt::Debug + Send + Sync + 'static {
    /// Who it is.
    fn describe(&self) -> TransportInfo;

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
