//! What a message becomes.

use bytes::Bytes;
use pillarbox_runtime::adapter::SendError;
use pillarbox_store::HeaderValue;
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::FutureRecord;

use super::settings::KafkaSettings;
use super::{HEADER_BYTES, body_bytes_max};
use crate::parcel::{Parcel, body_unreadable};

/// A message as the topic gets it.
pub(super) struct Record {
    key: Vec<u8>,
    headers: OwnedHeaders,
    body: Bytes,
}

impl Record {
    /// Reads the message's body.
    ///
    /// # Errors
    /// The message has no such key, is too long, or cannot be read.
    pub(super) fn new(settings: &KafkaSettings, parcel: &Parcel<'_>) -> Result<Self, SendError> {
        let key = key(settings, parcel)?;
        let (length, most) = (parcel.body.len(), body_bytes_max(settings.message_bytes_max));
        if length > most {
            return Err(SendError::permanent(format!(
                "the message's body has {length} bytes, more than {most}: that is the setting message_bytes_max, of which \
                 {HEADER_BYTES} are for headers"
            )));
        }
        let body = parcel.body.to_bytes().map_err(body_unreadable)?;
        Ok(Self { key, headers: headers(parcel), body })
    }

    /// As the library takes it.
    pub(super) fn to<'a>(&'a self, topic: &'a str) -> FutureRecord<'a, [u8], [u8]> {
        FutureRecord::to(topic).headers(self.headers.clone()).key(&self.key[..]).payload(&self.body[..])
    }
}

fn key(settings: &KafkaSettings, parcel: &Parcel<'_>) -> Result<Vec<u8>, SendError> {
    let Some(name) = &settings.key_header else {
        return Ok(parcel.send_key.as_bytes().to_vec());
    };
    let value = parcel.headers.get(name);
    let missing =
        || format!("the message has no header {name:?}, which is to be its key (setting key_header)");
    value.map(bytes).ok_or_else(|| SendError::permanent(missing()))
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
