//! From a message to what is published.

use bytes::Bytes;
use pillarbox_runtime::adapter::SendError;
use rumqttc::{PublishOptions, PublishProperties, QoS};

use super::settings::{MqttSettings, TEXT_BYTES_MAX, check_topic};
use crate::parcel::{Parcel, body_unreadable};

/// A message as it is published.
#[derive(Debug)]
pub(super) struct Publication {
    pub(super) topic: String,
    pub(super) options: PublishOptions,
    pub(super) body: Bytes,
}

impl Publication {
    /// Reads the whole body. The broker takes packets of at most `packet_bytes_max`.
    ///
    /// # Errors
    /// The body is too long or cannot be read; permanent: something does not fit.
    pub(super) fn new(
        settings: &MqttSettings,
        parcel: &Parcel<'_>,
        packet_bytes_max: u64,
    ) -> Result<Self, SendError> {
        let (length, most) = (parcel.body.len(), settings.body_bytes_max);
        if length > most {
            return Err(SendError::permanent(format!(
                "the message's body has {length} bytes, more than {most} (setting body_bytes_max)"
            )));
        }
        let topic = settings.topic.render(parcel, "the topic", str::to_owned)?;
        check_topic(&topic).map_err(|problem| {
            SendError::permanent(format!("the topic of this message is none: {problem}"))
        })?;
        let own = parcel.headers.get("content-type").map(ToString::to_string);
        let properties = PublishProperties {
            content_type: own.or_else(|| settings.content_type.clone()),
            user_properties: user_properties(parcel),
            ..PublishProperties::default()
        };
        let head = head_bytes(&topic, &properties)?;
        let whole = length.saturating_add(head);
        if whole > packet_bytes_max {
            return Err(SendError::permanent(format!(
                "the message takes {whole} bytes with its headers, and the broker takes {packet_bytes_max} (its \
                 maximum packet size)"
            )));
        }
        let body = parcel.body.to_bytes().map_err(body_unreadable)?;
        let options = PublishOptions::new(QoS::AtLeastOnce).retain(settings.retain).properties(properties);
        Ok(Self { topic, options, body })
    }
}

/// The headers under the names that `http` gives them.
fn user_properties(parcel: &Parcel<'_>) -> Vec<(String, String)> {
    let mut properties = vec![
        ("x-pillarbox-send-key".to_owned(), parcel.send_key.to_owned()),
        ("x-pillarbox-message-id".to_owned(), parcel.message_id.to_string()),
        ("x-pillarbox-attempt".to_owned(), parcel.attempt.to_string()),
    ];
    if parcel.in_doubt {
        properties.push(("x-pillarbox-in-doubt".to_owned(), "true".to_owned()));
    }
    let own = parcel.headers.iter();
    properties.extend(own.map(|(name, value)| (format!("x-pillarbox-h-{name}"), value.to_string())));
    properties
}

/// What everything but the body takes at most: a larger packet would end the connection, and with it what others send.
fn head_bytes(topic: &str, properties: &PublishProperties) -> Result<u64, SendError> {
    /// Kind, lengths and packet's number.
    const FIXED_BYTES: usize = 16;
    let own = properties.user_properties.iter().flat_map(|(name, value)| [name, value]);
    let texts = own.chain(&properties.content_type);
    let mut bytes = FIXED_BYTES + topic.len();
    for text in texts {
        if text.len() > TEXT_BYTES_MAX {
            return Err(SendError::permanent(format!(
                "a header of the message has {} bytes, and the protocol takes {TEXT_BYTES_MAX}",
                text.len()
            )));
        }
        bytes += text.len() + 3;
    }
    Ok(bytes as u64)
}
