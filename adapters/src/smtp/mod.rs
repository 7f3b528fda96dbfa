#![doc = include_str!("docs.md")]

use async_trait::async_trait;
use pillarbox_runtime::adapter::{
    Adapter, AdapterKind, Capabilities, CheckedSettings, DoubleSafety, OpenContext, SendError, Settings,
    SettingsError, TransportInfo,
};

use self::send::SmtpSender;
use self::settings::SmtpSettings;

mod connect;
mod mail;
mod mailbox;
mod refusal;
mod send;
mod settings;
#[cfg(test)]
mod tests;
mod upgrade;

/// The kind `smtp`.
#[derive(Debug, Clone, Copy, Default)]
pub struct SmtpKind;

/// Checked settings of a route to a mail server.
#[derive(Debug)]
struct Checked(SmtpSettings);

fn info(body_bytes_max: u64) -> TransportInfo {
    TransportInfo {
        kind: "smtp",
        name: "SMTP",
        version: env!("CARGO_PKG_VERSION"),
        description: "Hands each message as a mail to a mail server, with a Message-ID made of its send key",
        capabilities: Capabilities::default()
            .double_safety(DoubleSafety::AtLeastOnce)
            .body_bytes_max(body_bytes_max),
        uri_prefixes: &["smtp://", "smtps://"],
    }
}

impl AdapterKind for SmtpKind {
    fn describe(&self) -> TransportInfo {
        info(settings::BODY_BYTES_MAX)
    }

    fn address_key(&self) -> Option<&'static str> {
        Some("url")
    }

    fn check(&self, settings: &Settings) -> Result<Box<dyn CheckedSettings>, SettingsError> {
        Ok(Box::new(Checked(SmtpSettings::check(settings)?)))
    }
}

#[async_trait]
impl CheckedSettings for Checked {
    fn describe(&self, _kind: TransportInfo) -> TransportInfo {
        info(self.0.body_bytes_max)
    }

    async fn open(&self, _context: &OpenContext) -> Result<Adapter, SendError> {
        Ok(Adapter::sender(SmtpSender::open(self.0.clone()).await?))
    }
}
