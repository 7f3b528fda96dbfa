#![doc = include_str!("docs.md")]

use async_trait::async_trait;
use pillarbox_runtime::adapter::{
    Adapter, AdapterKind, Capabilities, CheckedSettings, DoubleSafety, OpenContext, SendError, Settings,
    SettingsError, TransportInfo,
};

use self::send::RedisSender;
use self::settings::RedisSettings;

mod connect;
mod script;
mod send;
mod settings;
#[cfg(test)]
mod tests;

/// The kind `redis`.
#[derive(Debug, Clone, Copy, Default)]
pub struct RedisKind;

/// Checked settings of a route to a stream.
#[derive(Debug)]
struct Checked(RedisSettings);

fn info(settings: Option<&RedisSettings>) -> TransportInfo {
    let window = settings.map_or(settings::WINDOW, |settings| settings.window);
    let body_bytes_max = settings.map_or(settings::BODY_BYTES_MAX, |settings| settings.body_bytes_max);
    TransportInfo {
        kind: "redis",
        name: "Redis stream",
        version: env!("CARGO_PKG_VERSION"),
        description: "Adds each message to a stream, once within the window in which its key is known",
        capabilities: Capabilities::default()
            .double_safety(DoubleSafety::Keyed(Some(window)))
            .body_bytes_max(body_bytes_max)
            .reconciles(),
        uri_prefixes: &["redis://", "rediss://"],
    }
}

impl AdapterKind for RedisKind {
    fn describe(&self) -> TransportInfo {
        info(None)
    }

    fn address_key(&self) -> Option<&'static str> {
        Some("url")
    }

    fn check(&self, settings: &Settings) -> Result<Box<dyn CheckedSettings>, SettingsError> {
        Ok(Box::new(Checked(RedisSettings::check(settings)?)))
    }
}

#[async_trait]
impl CheckedSettings for Checked {
    fn describe(&self, _kind: TransportInfo) -> TransportInfo {
        info(Some(&self.0))
    }

    async fn open(&self, _context: &OpenContext) -> Result<Adapter, SendError> {
        Ok(Adapter::sender(RedisSender::open(self.0.clone()).await?))
    }
}
