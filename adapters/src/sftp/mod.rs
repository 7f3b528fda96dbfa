#![doc = include_str!("docs.md")]

use async_trait::async_trait;
use pillarbox_runtime::adapter::{
    Adapter, AdapterKind, Capabilities, CheckedSettings, DoubleSafety, OpenContext, SendError, Settings,
    SettingsError, TransportInfo,
};

use self::send::SftpSender;
use self::settings::SftpSettings;

mod known;
mod send;
mod session;
mod settings;
#[cfg(test)]
mod tests;

/// The kind `sftp`.
#[derive(Debug, Clone, Copy, Default)]
pub struct SftpKind;

/// Checked settings of a route to a folder of a server.
#[derive(Debug)]
struct Checked(SftpSettings);

fn info() -> TransportInfo {
    TransportInfo {
        kind: "sftp",
        name: "SFTP",
        version: env!("CARGO_PKG_VERSION"),
        description: "Writes each message as a file of a server's folder, to be seen when it is whole",
        capabilities: Capabilities::default().double_safety(DoubleSafety::Keyed(None)).streams().reconciles(),
        uri_prefixes: &["sftp://"],
    }
}

impl AdapterKind for SftpKind {
    fn describe(&self) -> TransportInfo {
        info()
    }

    fn address_key(&self) -> Option<&'static str> {
        Some("url")
    }

    fn check(&self, settings: &Settings) -> Result<Box<dyn CheckedSettings>, SettingsError> {
        Ok(Box::new(Checked(SftpSettings::check(settings)?)))
    }
}

#[async_trait]
impl CheckedSettings for Checked {
    async fn open(&self, context: &OpenContext) -> Result<Adapter, SendError> {
        Ok(Adapter::sender(SftpSender::open(self.0.clone(), context.ids.clone()).await?))
    }
}
