//! The library's producer: how it is set up, and what it says of errors.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

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

/// How long the brokers keep a transaction of somebody who is not heard of any more: not longer than they allow unless
/// told otherwise.
const TRANSACTION_MAX: Duration = Duration::from_secs(15 * 60);
/// What a transaction takes beyond its messages.
const TRANSACTION_MORE: Duration = Duration::from_secs(5);

/// A producer of one route.
#[derive(Clone)]
pub(super) struct Producer {
    pub(super) inner: FutureProducer<Ears>,
    ears: Ears,
}

/// What a producer is for.
#[derive(Debug, Clone)]
pub(super) enum Purpose {
    /// Records that are there at the same time go out together.
    Together,
    /// Each goes out by itself: what is said of it is said of no other one.
    Alone,
    /// Transactions, of whoever has this name.
    Transactions(String),
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

/// A producer that knows the topic's brokers; blocks. One for transactions has taken back what its name's last owner left
/// open, and that one can commit nothing any more.
///
/// # Errors
/// Temporary: no broker answers, or there is no such topic.
pub(super) fn open(settings: &KafkaSettings, purpose: &Purpose) -> Result<Producer, SendError> {
    let producer = create(settings, purpose)?;
    let (servers, topic) = (&settings.servers, &settings.topic);
    let metadata = producer.inner.client().fetch_metadata(Some(topic), settings.connect_timeout);
    let metadata = metadata.map_err(|error| {
        let (span, heard) = (settings.connect_timeout, producer.heard());
        let text = format!("{servers}: no broker answers within {span:?} (setting connect_timeout){heard}");
        SendError::temporary(text).caused_by(error)
    })?;
    let found = metadata.topics().iter().find(|found| found.name() == topic);
    match found.map(|found| found.error()) {
        Some(None) => {}
        Some(Some(error)) => {
            let text = format!("{servers}: the topic {topic:?} cannot be used; make it");
            return Err(SendError::temporary(text).caused_by(KafkaError::MetadataFetch(error.into())));
        }
        None => return Err(SendError::temporary(format!("{servers}: there is no topic {topic:?}; make it"))),
    }
    if let Purpose::Transactions(name) = purpose {
        let begun = producer.inner.init_transactions(settings.connect_timeout);
        begun.map_err(|error| {
            let (span, heard) = (settings.connect_timeout, producer.heard());
            let text = format!(
                "{servers}: no transactions under the name {name:?} within {span:?} (setting connect_timeout){heard}"
            );
            SendError::temporary(text).caused_by(error)
        })?;
    }
    Ok(producer)
}

fn create(settings: &KafkaSettings, purpose: &Purpose) -> Result<Producer, SendError> {
    let connect =
        settings.connect_timeout.as_millis().clamp(CONNECT_MILLIS_MIN, u128::from(i32::MAX.unsigned_abs()));
    let ears = Ears::default();
    let mut config = ClientConfig::new();
    config
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
        .set("linger.ms", "0");
    match purpose {
        Purpose::Together => {}
        Purpose::Alone => {
            config.set("batch.num.messages", "1");
        }
        Purpose::Transactions(name) => {
            config.set("transactional.id", name);
            config
                .set("transaction.timeout.ms", transaction_timeout(settings.timeout).as_millis().to_string());
        }
    }
    let failed = |error| {
        SendError::temporary(format!("{}: cannot set up a producer", settings.servers)).caused_by(error)
    };
    Ok(Producer { inner: config.create_with_context(ears.clone()).map_err(failed)?, ears })
}

/// Time for the messages and for the transaction's end.
fn transaction_timeout(timeout: Duration) -> Duration {
    (timeout * 2 + TRANSACTION_MORE).min(TRANSACTION_MAX)
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

    /// Whether it can go on only as another one.
    pub(super) fn is_over(&self, error: &KafkaError) -> bool {
        let fenced = matches!(
            error.rdkafka_error_code(),
            Some(RDKafkaErrorCode::ProducerFenced | RDKafkaErrorCode::Fenced)
        );
        fenced || self.inner.client().fatal_error().is_some()
    }

    /// What an error of the library's means for a message.
    pub(super) fn refused(&self, settings: &KafkaSettings, error: KafkaError) -> SendError {
        let (servers, topic) = (&settings.servers, &settings.topic);
        let failed = |what: String| format!("{servers}: the topic {topic:?} {what}");
        if let Some((_code, why)) = self.inner.client().fatal_error() {
            return SendError::temporary(failed(format!("has not taken the message: {why}")))
                .caused_by(error);
        }
        if error.rdkafka_error_code() == Some(RDKafkaErrorCode::MessageTimedOut) {
            let (span, heard) = (settings.timeout, self.heard());
            let text =
                failed(format!("has not confirmed the message within {span:?} (setting timeout){heard}"));
            return SendError::temporary(text).caused_by(error);
        }
        if is_about_the_message(&error) {
            let text = failed("does not take the message (see the setting message_bytes_max)".to_owned());
            return SendError::permanent(text).caused_by(error);
        }
        SendError::temporary(failed("has not taken the message".to_owned())).caused_by(error)
    }
}

/// Whether it is the message that will never be taken. Of records that went out together it is said of all.
pub(super) fn is_about_the_message(error: &KafkaError) -> bool {
    matches!(
        error.rdkafka_error_code(),
        Some(RDKafkaErrorCode::MessageSizeTooLarge | RDKafkaErrorCode::InvalidRecord)
    )
}
