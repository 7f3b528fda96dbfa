#![doc = include_str!("docs.md")]

use std::time::Duration;

use async_trait::async_trait;
use pillarbox_runtime::adapter::{
    Adapter, AdapterKind, Capabilities, CheckedSettings, DoubleSafety, OpenContext, SendError, Settings,
    SettingsError, TransportInfo,
};

use self::send::NatsSender;
use self::settings::NatsSettings;

mod connect;
mod send;
mod settings;
#[cfg(test)]
mod tests;

/// The kind `nats`.
#[derive(Debug, Clone, Copy, Default)]
pub struct NatsKind;

/// Checked settings of a route to a stream.
#[derive(Debug)]
struct Checked(NatsSettings);

fn info(window: Duration) -> TransportInfo {
    TransportInfo {
        kind: "nats",
        name: "NATS JetStream",
        version: env!("CARGO_PKG_VERSION"),
        description: "Publishes each message to a stream, which recognises a repeat within its window",
        capabilities: Capabilities::default().double_safety(DoubleSafety::Keyed(Some(window))),
        uri_prefixes: &["nats://", "tls://"],
    }
}

impl AdapterKind for NatsKind {
    fn describe(&self) -> TransportInfo {
        info(settings::WINDOW)
    }

    fn address_key(&self) -> Option<&'static str> {
        Some("url")
    }

    fn check(&self, settings: &Settings) -> Result<Box<dyn CheckedSettings>, SettingsError> {
        Ok(Box::new(Checked(NatsSettings::check(settings)?)))
    }
}

#[async_trait]
impl CheckedSettings for Checked {
    async fn open(&self, _context: &OpenContext) -> Result<Adapter, SendError> {
        Ok(Adapter::sender(NatsSender::open(self.0.clone()).await?))
    }
}
