//! The library's producer: how it is set up, and what it says of errors.

use std::sync::{Arc, Mutex, PoisonError};

use pillarbox_runtime::adapter::SendError;
use rdkafka::client::ClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::error::KafkaError;
use rdkafka::producer::{FutureProducer, Producer as _};
use rdkafka::types::RDKafkaErrorCode;

use super::settings::KafkaSettings;
use crate::said;

/// The shortest span that the library takes for a connection.
const CONNECT_MILLIS_MIN: u128 = 1_000;
/// How much of what is said is shown.
const SHOWN_BYTES_MAX: usize = 512;

/// The producer of one route.
#[derive(Clone)]
pub(super) struct Producer {
    pub(super) inner: FutureProducer<Ears>,
    ears: Ears,
}

/// Hears what goes wrong with connections: a message that timed out says nothing of why.
#[derive(Debug, Clone, Default)]
pub(super) struct Ears(Arc<Mutex<String>>);

impl ClientContext for Ears {
    fn error(&self, error: KafkaError, reason: &str) {
        // It follows what was wrong with the last of them.
        if error.rdkafka_error_code() == Some(RDKafkaErrorCode::AllBrokersDown) {
            return;
        }
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) =
            said::line(reason.as_bytes(), SHOWN_BYTES_MAX, &[]);
    }
}

/// A producer that knows the topic's brokers; blocks.
///
/// # Errors
/// Temporary: no broker answers, or there is no such topic.
pub(super) fn open(settings: &KafkaSettings) -> Result<Producer, SendError> {
    let producer = create(settings)?;
    let (servers, topic) = (&settings.servers, &settings.topic);
    let metadata = producer.inner.client().fetch_metadata(Some(topic), settings.connect_timeout);
    let metadata = metadata.map_err(|error| {
        let (span, heard) = (settings.connect_timeout, producer.heard());
        let text = format!("{servers}: no broker answers within {span:?} (setting connect_timeout){heard}");
        SendError::temporary(text).caused_by(error)
    })?;
    let found = metadata.topics().iter().find(|found| found.name() == topic);
    match found.map(|found| found.error()) {
        Some(None) => Ok(producer),
        Some(Some(error)) => {
            let text = format!("{servers}: the topic {topic:?} cannot be used; make it");
            Err(SendError::temporary(text).caused_by(KafkaError::MetadataFetch(error.into())))
        }
        None => Err(SendError::temporary(format!("{servers}: there is no topic {topic:?}; make it"))),
    }
}

fn create(settings: &KafkaSettings) -> Result<Producer, SendError> {
    let connect =
        settings.connect_timeout.as_millis().clamp(CONNECT_MILLIS_MIN, u128::from(i32::MAX.unsigned_abs()));
    let ears = Ears::default();
    let created = ClientConfig::new()
        .set("bootstrap.servers", settings.servers.list())
        .set("client.id", "pillarbox")
        // Within an attempt nothing is added twice and nothing overtakes, and all replicas that are in sync have it.
        .set("enable.idempotence", "true")
        .set("acks", "all")
        .set("message.timeout.ms", settings.timeout.as_millis().to_string())
        .set("socket.connection.setup.timeout.ms", connect.to_string())
        .set("message.max.bytes", settings.message_bytes_max.to_string())
        .set("compression.codec", settings.compression)
        // That of the Java clients: a key's messages are in one partition, whoever adds them.
        .set("partitioner", "murmur2_random")
        // What is in flight is decided by the route; none waits for others.
        .set("linger.ms", "0")
        .create_with_context(ears.clone());
    let failed = |error| {
        SendError::temporary(format!("{}: cannot set up a producer", settings.servers)).caused_by(error)
    };
    Ok(Producer { inner: created.map_err(failed)?, ears })
}

impl Producer {
    /// Whether it is the same one.
    pub(super) fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.ears.0, &other.ears.0)
    }

    /// What was heard last, in brackets; empty if nothing.
    pub(super) fn heard(&self) -> String {
        let said = self.ears.0.lock().unwrap_or_else(PoisonError::into_inner);
        if said.is_empty() { String::new() } else { format!(" ({said})") }
    }
}

/// Whether it is the message that will never be taken.
pub(super) fn is_about_the_message(error: &KafkaError) -> bool {
    matches!(
        error.rdkafka_error_code(),
        Some(RDKafkaErrorCode::MessageSizeTooLarge | RDKafkaErrorCode::InvalidRecord)
    )
}
