#![doc = include_str!("docs.md")]

use async_trait::async_trait;
use pillarbox_runtime::adapter::{
    Adapter, AdapterKind, Capabilities, CheckedSettings, DoubleSafety, OpenContext, SendError, Settings,
    SettingsError, TransportInfo,
};

use self::send::S3Sender;
use self::settings::S3Settings;

mod client;
mod metadata;
mod send;
mod settings;
#[cfg(test)]
mod tests;

/// The kind `s3`.
#[derive(Debug, Clone, Copy, Default)]
pub struct S3Kind;

/// Checked settings of a route to a bucket.
#[derive(Debug)]
struct Checked(S3Settings);

fn info() -> TransportInfo {
    TransportInfo {
        kind: "s3",
        name: "S3",
        version: env!("CARGO_PKG_VERSION"),
        description: "Puts each message into a bucket as an object that replaces none",
        capabilities: Capabilities::default().double_safety(DoubleSafety::Keyed(None)).streams().reconciles(),
        uri_prefixes: &["s3://"],
    }
}

impl AdapterKind for S3Kind {
    fn describe(&self) -> TransportInfo {
        info()
    }

    fn address_key(&self) -> Option<&'static str> {
        Some("url")
    }

    fn check(&self, settings: &Settings) -> Result<Box<dyn CheckedSettings>, SettingsError> {
        Ok(Box::new(Checked(S3Settings::check(settings)?)))
    }
}

#[async_trait]
impl CheckedSettings for Checked {
    async fn open(&self, _context: &OpenContext) -> Result<Adapter, SendError> {
        Ok(Adapter::sender(S3Sender::open(self.0.clone()).await?))
    }
}
