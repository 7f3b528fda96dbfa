#![doc = include_str!("docs.md")]

use async_trait::async_trait;
use pillarbox_runtime::adapter::{
    Adapter, AdapterKind, Capabilities, CheckedSettings, DoubleSafety, OpenContext, SendError, Settings,
    SettingsError, TransportInfo,
};

use self::send::KafkaSender;
use self::settings::KafkaSettings;
use self::transact::TransactionalSender;

mod producer;
mod record;
mod send;
mod settings;
#[cfg(test)]
mod tests;
mod transact;
#[cfg(test)]
mod transact_tests;

/// The kind `kafka`.
#[derive(Debug, Clone, Copy, Default)]
pub struct KafkaKind;

/// Checked settings of a route to a topic.
#[derive(Debug)]
struct Checked(KafkaSettings);

/// What is kept free of the largest message for its key and headers.
const HEADER_BYTES: u32 = 16 * 1024;

/// The longest body of a message that has so many bytes in all.
fn body_bytes_max(message_bytes_max: u32) -> u64 {
    message_bytes_max.saturating_sub(HEADER_BYTES).into()
}

/// What a route claims that has `transactional` set.
fn transactional_info(mut info: TransportInfo) -> TransportInfo {
    info.description = "Adds messages to a topic in transactions, each batch as a whole or not at all";
    info.capabilities = info.capabilities.all_or_none();
    info
}

fn info(message_bytes_max: u32) -> TransportInfo {
    TransportInfo {
        kind: "kafka",
        name: "Apache Kafka",
        version: env!("CARGO_PKG_VERSION"),
        description: "Adds each message to a topic and waits until all of its replicas have it",
        capabilities: Capabilities::default()
            .double_safety(DoubleSafety::AtLeastOnce)
            .body_bytes_max(body_bytes_max(message_bytes_max)),
        uri_prefixes: &["kafka://"],
    }
}

impl AdapterKind for KafkaKind {
    fn describe(&self) -> TransportInfo {
        info(settings::MESSAGE_BYTES_MAX)
    }

    fn address_key(&self) -> Option<&'static str> {
        Some("url")
    }

    fn check(&self, settings: &Settings) -> Result<Box<dyn CheckedSettings>, SettingsError> {
        Ok(Box::new(Checked(KafkaSettings::check(settings)?)))
    }
}

#[async_trait]
impl CheckedSettings for Checked {
    fn describe(&self, _kind: TransportInfo) -> TransportInfo {
        let info = info(self.0.message_bytes_max);
        if self.0.transactional { transactional_info(info) } else { info }
    }

    async fn open(&self, context: &OpenContext) -> Result<Adapter, SendError> {
        if self.0.transactional {
            let name = transact::name(context, &self.0.topic);
            return Ok(Adapter::batch_sender(TransactionalSender::open(self.0.clone(), name).await?));
        }
        Ok(Adapter::sender(KafkaSender::open(self.0.clone()).await?))
    }
}
