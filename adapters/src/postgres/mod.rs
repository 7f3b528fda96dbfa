#![doc = include_str!("docs.md")]

use async_trait::async_trait;
use pillarbox_runtime::adapter::{
    Adapter, AdapterKind, Capabilities, CheckedSettings, DoubleSafety, OpenContext, Order, SendError,
    Settings, SettingsError, TransportInfo,
};

use self::send::PostgresSender;
use self::settings::PostgresSettings;

mod parameter;
mod pool;
mod refusal;
mod send;
mod session;
mod settings;
#[cfg(test)]
mod tests;

/// The kind `postgres`.
#[derive(Debug, Clone, Copy, Default)]
pub struct PostgresKind;

/// Checked settings of a route to a database.
#[derive(Debug)]
struct Checked(PostgresSettings);

fn info(body_bytes_max: u64) -> TransportInfo {
    TransportInfo {
        kind: "postgres",
        name: "PostgreSQL",
        version: env!("CARGO_PKG_VERSION"),
        description: "Executes a statement for each message, once, in one transaction with its send key",
        capabilities: Capabilities::default()
            .double_safety(DoubleSafety::Ledger)
            .order(Order::InBatch)
            .body_bytes_max(body_bytes_max),
        uri_prefixes: &["postgres://", "postgresql://"],
    }
}

impl AdapterKind for PostgresKind {
    fn describe(&self) -> TransportInfo {
        info(settings::BODY_BYTES_MAX)
    }

    fn address_key(&self) -> Option<&'static str> {
        Some("url")
    }

    fn check(&self, settings: &Settings) -> Result<Box<dyn CheckedSettings>, SettingsError> {
        Ok(Box::new(Checked(PostgresSettings::check(settings)?)))
    }
}

#[async_trait]
impl CheckedSettings for Checked {
    fn describe(&self, _kind: TransportInfo) -> TransportInfo {
        info(self.0.body_bytes_max)
    }

    async fn open(&self, _context: &OpenContext) -> Result<Adapter, SendError> {
        Ok(Adapter::batch_sender(PostgresSender::open(self.0.clone()).await?))
    }
}
