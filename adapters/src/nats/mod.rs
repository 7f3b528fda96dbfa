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

/// What a server takes at once unless it says otherwise.
const PAYLOAD_BYTES_MAX: u64 = 1024 * 1024;
/// What is kept free of that for headers.
const HEADER_BYTES: u64 = 16 * 1024;

/// The longest body that fits into what a server takes at once, with headers beside it.
const fn body_bytes_max(payload_bytes_max: u64) -> u64 {
    payload_bytes_max.saturating_sub(HEADER_BYTES)
}

fn info(window: Duration, payload_bytes_max: u64) -> TransportInfo {
    TransportInfo {
        kind: "nats",
        name: "NATS JetStream",
        version: env!("CARGO_PKG_VERSION"),
        description: "Publishes each message to a stream, which recognises a repeat within its window",
        capabilities: Capabilities::default()
            .double_safety(DoubleSafety::Keyed(Some(window)))
            .body_bytes_max(body_bytes_max(payload_bytes_max)),
        uri_prefixes: &["nats://", "tls://"],
    }
}

impl AdapterKind for NatsKind {
    fn describe(&self) -> TransportInfo {
        info(settings::WINDOW, PAYLOAD_BYTES_MAX)
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
    fn describe(&self, _kind: TransportInfo) -> TransportInfo {
        info(self.0.window, PAYLOAD_BYTES_MAX)
    }

    async fn open(&self, _context: &OpenContext) -> Result<Adapter, SendError> {
        Ok(Adapter::sender(NatsSender::open(self.0.clone()).await?))
    }
}
