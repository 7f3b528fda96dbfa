#![doc = include_str!("docs.md")]

use std::sync::Arc;

use async_trait::async_trait;
use pillarbox_runtime::adapter::{
    Adapter, AdapterKind, Capabilities, CheckedSettings, DoubleSafety, OpenContext, SendError, Settings,
    SettingsError, TransportInfo,
};

use self::send::HttpSender;
use self::settings::HttpSettings;
use crate::on_thread::on_thread;

mod answer;
mod request;
mod send;
mod settings;
mod signature;
#[cfg(test)]
mod tests;

/// The kind `http`.
#[derive(Debug, Clone, Copy, Default)]
pub struct HttpKind;

/// Checked settings of an HTTP route.
#[derive(Debug)]
struct Checked(HttpSettings);

fn info(destination_deduplicates: bool) -> TransportInfo {
    let safety = if destination_deduplicates { DoubleSafety::Keyed(None) } else { DoubleSafety::AtLeastOnce };
    TransportInfo {
        kind: "http",
        name: "HTTP",
        version: env!("CARGO_PKG_VERSION"),
        description: "Sends each message as one HTTP request and takes a 2xx answer for delivered",
        capabilities: Capabilities::default().double_safety(safety).streams(),
        uri_prefixes: &["http://", "https://"],
    }
}

impl AdapterKind for HttpKind {
    fn describe(&self) -> TransportInfo {
        info(false)
    }

    fn address_key(&self) -> Option<&'static str> {
        Some("url")
    }

    fn check(&self, settings: &Settings) -> Result<Box<dyn CheckedSettings>, SettingsError> {
        Ok(Box::new(Checked(HttpSettings::check(settings)?)))
    }
}

#[async_trait]
impl CheckedSettings for Checked {
    fn describe(&self, _kind: TransportInfo) -> TransportInfo {
        info(self.0.destination_deduplicates)
    }

    async fn open(&self, context: &OpenContext) -> Result<Adapter, SendError> {
        let (settings, clock) = (self.0.clone(), Arc::clone(&context.clock));
        Ok(Adapter::sender(on_thread(move || HttpSender::open(&settings, clock)).await?))
    }
}
