//! From a message to what is published.

use bytes::Bytes;
use lapin::BasicProperties;
use lapin::types::{AMQPValue, FieldTable, LongString, ShortString};
use pillarbox_runtime::adapter::SendError;

use super::settings::{AmqpSettings, NAME_BYTES_MAX};
use crate::parcel::{Parcel, body_unreadable};

/// Delivery mode of a message that a durable queue keeps on disk.
const PERSISTENT: u8 = 2;
/// Delivery mode of one that a crash of the broker takes.
const TRANSIENT: u8 = 1;

/// A message as it is published.
pub(super) struct Publication {
    pub(super) routing_key: ShortString,
    pub(super) properties: BasicProperties,
    pub(super) body: Bytes,
}

impl Publication {
    /// Reads the whole body. Properties and headers go in one frame, which has room for `frame_bytes_max`.
    ///
    /// # Errors
    /// The body is too long or cannot be read; permanent: something does not fit.
    pub(super) fn new(
        settings: &AmqpSettings,
        parcel: &Parcel<'_>,
        frame_bytes_max: usize,
    ) -> Result<Self, SendError> {
        let (length, most) = (parcel.body.len(), settings.body_bytes_max);
        if length > most {
            return Err(SendError::permanent(format!(
                "the message's body has {length} bytes, more than {most} (setting body_bytes_max)"
            )));
        }
        let routing_key = settings.routing_key.render(parcel, "the routing key", str::to_owned)?;
        let content_type = match parcel.headers.get("content-type") {
            Some(own) => own.to_string(),
            None => settings.content_type.clone(),
        };
        let headers = headers(parcel);
        let head_bytes = head_bytes(&headers, &content_type, parcel.send_key);
        if head_bytes > frame_bytes_max {
            return Err(SendError::permanent(format!(
                "the message's headers take {head_bytes} bytes, and the broker takes {frame_bytes_max} (its \
                 frame_max)"
            )));
        }
        let mut table = FieldTable::default();
        for (name, value) in headers {
            table.insert(short("a header's name", name)?, AMQPValue::LongString(value));
        }
        let properties = BasicProperties::default()
            .with_message_id(short("the send key", parcel.send_key.to_owned())?)
            .with_delivery_mode(if settings.persistent { PERSISTENT } else { TRANSIENT })
            .with_content_type(short("the header \"content-type\"", content_type)?)
            .with_timestamp(u64::try_from(parcel.submitted.as_micros() / 1_000_000).unwrap_or(0))
            .with_app_id("pillarbox".into())
            .with_headers(table);
        Ok(Self {
            routing_key: short("the routing key", routing_key)?,
            properties,
            body: parcel.body.to_bytes().map_err(body_unreadable)?,
        })
    }
}

/// The headers under the names that `http` gives them.
fn headers(parcel: &Parcel<'_>) -> Vec<(String, LongString)> {
    let mut headers = vec![
        ("x-pillarbox-message-id".to_owned(), parcel.message_id.to_string().into()),
        ("x-pillarbox-attempt".to_owned(), parcel.attempt.to_string().into()),
    ];
    if parcel.in_doubt {
        headers.push(("x-pillarbox-in-doubt".to_owned(), "true".into()));
    }
    let own = parcel.headers.iter();
    headers.extend(own.map(|(name, value)| (format!("x-pillarbox-h-{name}"), value.to_string().into())));
    headers
}

/// What the properties take at most: a larger frame would end the connection, and with it what others send.
fn head_bytes(headers: &[(String, LongString)], content_type: &str, send_key: &str) -> usize {
    /// Frame, class, length, flags, and the properties of a fixed size.
    const FIXED_BYTES: usize = 128;
    let table: usize = headers.iter().map(|(name, value)| name.len() + value.len() + 6).sum();
    FIXED_BYTES + table + content_type.len() + send_key.len()
}

fn short(what: &str, text: String) -> Result<ShortString, SendError> {
    let length = text.len();
    ShortString::try_new(text).map_err(|_too_long| {
        SendError::permanent(format!("{what} has {length} bytes, and the protocol takes {NAME_BYTES_MAX}"))
    })
}
