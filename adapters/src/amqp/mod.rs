#![doc = include_str!("docs.md")]

use async_trait::async_trait;
use pillarbox_runtime::adapter::{
    Adapter, AdapterKind, Capabilities, CheckedSettings, DoubleSafety, OpenContext, SendError, Settings,
    SettingsError, TransportInfo,
};

use self::send::AmqpSender;
use self::settings::AmqpSettings;

mod connect;
mod message;
mod send;
mod settings;
#[cfg(test)]
mod tests;
mod wiring;

/// The kind `amqp`.
#[derive(Debug, Clone, Copy, Default)]
pub struct AmqpKind;

/// Checked settings of a route to an exchange.
#[derive(Debug)]
struct Checked(AmqpSettings);

fn info(body_bytes_max: u64) -> TransportInfo {
    TransportInfo {
        kind: "amqp",
        name: "AMQP 0-9-1 exchange",
        version: env!("CARGO_PKG_VERSION"),
        description: "Publishes each message to an exchange and waits until the broker has taken charge of it",
        capabilities: Capabilities::default()
            .double_safety(DoubleSafety::AtLeastOnce)
            .body_bytes_max(body_bytes_max),
        uri_prefixes: &["amqp://", "amqps://"],
    }
}

impl AdapterKind for AmqpKind {
    fn describe(&self) -> TransportInfo {
        info(settings::BODY_BYTES_MAX)
    }

    fn address_key(&self) -> Option<&'static str> {
        Some("url")
    }

    fn check(&self, settings: &Settings) -> Result<Box<dyn CheckedSettings>, SettingsError> {
        Ok(Box::new(Checked(AmqpSettings::check(settings)?)))
    }
}

#[async_trait]
impl CheckedSettings for Checked {
    fn describe(&self, _kind: TransportInfo) -> TransportInfo {
        info(self.0.body_bytes_max)
    }

    async fn open(&self, _context: &OpenContext) -> Result<Adapter, SendError> {
        Ok(Adapter::sender(AmqpSender::open(self.0.clone()).await?))
    }
}
