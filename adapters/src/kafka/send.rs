//! Adds messages to a topic.

use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use pillarbox_runtime::adapter::{Outgoing, SendError, Sender, Transport, TransportInfo};
use pillarbox_store::HeaderValue;
use rdkafka::error::KafkaError;
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{FutureRecord, Producer as _};
use rdkafka::types::RDKafkaErrorCode;

use super::producer::{self, Producer};
use super::settings::KafkaSettings;
use super::{HEADER_BYTES, body_bytes_max, info};
use crate::on_thread::on_thread;
use crate::parcel::{Parcel, body_unreadable};

/// Adds each message as one record.
pub(super) struct KafkaSender {
    settings: KafkaSettings,
    producer: Mutex<Option<Producer>>,
    /// Held by whoever makes another producer.
    opening: tokio::sync::Mutex<()>,
}

impl KafkaSender {
    /// A sender that knows the topic's brokers.
    ///
    /// # Errors
    /// Temporary: no broker answers, or there is no such topic.
    pub(super) async fn open(settings: KafkaSettings) -> Result<Self, SendError> {
        let sender = Self { settings, producer: Mutex::default(), opening: tokio::sync::Mutex::default() };
        sender.producer().await?;
        Ok(sender)
    }

    /// Adds the message and waits until every replica in sync has it.
    ///
    /// # Errors
    /// The brokers refuse it, or do not answer: it may be there all the same.
    pub(super) async fn deliver(&self, parcel: &Parcel<'_>) -> Result<(), SendError> {
        let key = self.key(parcel)?;
        let (length, most) = (parcel.body.len(), body_bytes_max(self.settings.message_bytes_max));
        if length > most {
            return Err(SendError::permanent(format!(
                "the message's body has {length} bytes, more than {most}: that is the setting message_bytes_max, of which \
                 {HEADER_BYTES} are for headers"
            )));
        }
        let body = parcel.body.to_bytes().map_err(body_unreadable)?;
        let producer = self.producer().await?;
        let record =
            FutureRecord::to(&self.settings.topic).headers(headers(parcel)).key(&key[..]).payload(&body[..]);
        let sent = match producer.inner.send_result(record) {
            Ok(delivery) => delivery.await,
            Err((error, _record)) => return Err(self.refused(&producer, error)),
        };
        match sent {
            Ok(Ok(_place)) => Ok(()),
            Ok(Err((error, _message))) => Err(self.refused(&producer, error)),
            Err(_cancelled) => Err(self.refused(&producer, KafkaError::Canceled)),
        }
    }

    /// The record's key.
    fn key(&self, parcel: &Parcel<'_>) -> Result<Vec<u8>, SendError> {
        let Some(name) = &self.settings.key_header else {
            return Ok(parcel.send_key.as_bytes().to_vec());
        };
        let value = parcel.headers.get(name);
        let missing =
            || format!("the message has no header {name:?}, which is to be its key (setting key_header)");
        value.map(bytes).ok_or_else(|| SendError::permanent(missing()))
    }

    /// The producer, made anew where there is none.
    async fn producer(&self) -> Result<Producer, SendError> {
        let _turn = self.opening.lock().await;
        if let Some(producer) = self.slot().as_ref() {
            return Ok(producer.clone());
        }
        let settings = self.settings.clone();
        let producer = on_thread(move || producer::open(&settings)).await?;
        *self.slot() = Some(producer.clone());
        Ok(producer)
    }

    fn slot(&self) -> MutexGuard<'_, Option<Producer>> {
        self.producer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn refused(&self, producer: &Producer, error: KafkaError) -> SendError {
        let (servers, topic) = (&self.settings.servers, &self.settings.topic);
        let failed = |what: String| format!("{servers}: the topic {topic:?} {what}");
        let fenced = error.rdkafka_error_code() == Some(RDKafkaErrorCode::ProducerFenced);
        let fatal = producer.inner.client().fatal_error();
        if fenced || fatal.is_some() {
            // Only another one can go on.
            self.slot().take_if(|current| current.is(producer));
        }
        if let Some((_code, why)) = fatal {
            return SendError::temporary(failed(format!("has not taken the message: {why}")))
                .caused_by(error);
        }
        if error.rdkafka_error_code() == Some(RDKafkaErrorCode::MessageTimedOut) {
            let (span, heard) = (self.settings.timeout, producer.heard());
            let text =
                failed(format!("has not confirmed the message within {span:?} (setting timeout){heard}"));
            return SendError::temporary(text).caused_by(error);
        }
        if producer::is_about_the_message(&error) {
            let text = failed("does not take the message (see the setting message_bytes_max)".to_owned());
            return SendError::permanent(text).caused_by(error);
        }
        SendError::temporary(failed("has not taken the message".to_owned())).caused_by(error)
    }
}

/// The headers under the names that `http` gives them.
fn headers(parcel: &Parcel<'_>) -> OwnedHeaders {
    let mut headers = OwnedHeaders::new();
    let mut add = |name: &str, value: &[u8]| {
        headers = std::mem::take(&mut headers).insert(Header { key: name, value: Some(value) });
    };
    add("x-pillarbox-key", parcel.send_key.as_bytes());
    add("x-pillarbox-message-id", parcel.message_id.to_string().as_bytes());
    add("x-pillarbox-attempt", parcel.attempt.to_string().as_bytes());
    if parcel.in_doubt {
        add("x-pillarbox-in-doubt", b"true");
    }
    for (name, value) in parcel.headers.iter() {
        add(&format!("x-pillarbox-h-{name}"), &bytes(value));
    }
    headers
}

/// A header's value, bytes as they are.
fn bytes(value: &HeaderValue) -> Vec<u8> {
    match value {
        HeaderValue::Bytes(bytes) => bytes.clone(),
        value => value.to_string().into_bytes(),
    }
}

impl fmt::Debug for KafkaSender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KafkaSender").field("settings", &self.settings).finish_non_exhaustive()
    }
}

impl Transport for KafkaSender {
    fn describe(&self) -> TransportInfo {
        info(self.settings.message_bytes_max)
    }
}

#[async_trait]
impl Sender for KafkaSender {
    async fn send(&self, message: &Outgoing) -> Result<(), SendError> {
        self.deliver(&Parcel::from(message)).await
    }

    async fn close(&self) {
        let producer = self.slot().take();
        // Its end waits for its threads.
        let _ended = on_thread(move || {
            drop(producer);
            Ok(())
        })
        .await;
    }
}
