#![doc = include_str!("docs.md")]

use async_trait::async_trait;
use pillarbox_runtime::adapter::{
    Adapter, AdapterKind, Capabilities, CheckedSettings, DoubleSafety, OpenContext, Order, SendError,
    Settings, SettingsError, Shape, TransportInfo,
};

use self::send::PostgresSender;
use self::settings::PostgresSettings;
use self::two_phase::TwoPhase;

mod parameter;
mod pool;
mod prepared;
mod refusal;
mod send;
mod session;
mod settings;
#[cfg(test)]
mod tests;
mod two_phase;
#[cfg(test)]
mod two_phase_tests;

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
            .reconciles()
            .order(Order::InBatch)
            .body_bytes_max(body_bytes_max),
        uri_prefixes: &["postgres://", "postgresql://"],
    }
}

/// What a route claims that has `two_phase` set.
fn two_phase_info(mut info: TransportInfo) -> TransportInfo {
    info.description =
        "Executes a statement for each message, in transactions that end as the box's record does";
    // What is prepared there is settled by the box's decision.
    info.capabilities.reconciles = false;
    info.capabilities = info
        .capabilities
        .shape(Shape::TransactionalBatch)
        .double_safety(DoubleSafety::TwoPhase)
        .all_or_none();
    info
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
        let info = info(self.0.body_bytes_max);
        if self.0.is_two_phase() { two_phase_info(info) } else { info }
    }

    async fn open(&self, _context: &OpenContext) -> Result<Adapter, SendError> {
        if self.0.is_two_phase() {
            return Ok(Adapter::transactional(TwoPhase::open(self.0.clone()).await?));
        }
        Ok(Adapter::batch_sender(PostgresSender::open(self.0.clone()).await?))
    }
}
