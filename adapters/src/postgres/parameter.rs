//! What a statement's parameters are made of.

use std::error::Error as StdError;

use bytes::{Bytes, BytesMut};
use pillarbox_runtime::adapter::SendError;
use pillarbox_store::Headers;
use tokio_postgres::types::{Format, IsNull, ToSql, Type, to_sql_checked};

use crate::parcel::{Parcel, body_unreadable};

/// Where a parameter's value comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Parameter {
    Body,
    MessageId,
    SendKey,
    Delivery,
    Port,
    Attempt,
    InDoubt,
    Submitted,
    /// A header, and whether a message without it has NULL there.
    Header(String, bool),
}

impl Parameter {
    /// Reads `body`, `header:NAME` and the like.
    ///
    /// # Errors
    /// What there is.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let known = "body, message_id, send_key, delivery, port, attempt, in_doubt, submitted, header:NAME and \
                     header:NAME?";
        if let Some(name) = text.strip_prefix("header:") {
            let (name, optional) = name.strip_suffix('?').map_or((name, false), |name| (name, true));
            return match Headers::default().set(name, "") {
                Ok(()) => Ok(Self::Header(name.to_ascii_lowercase(), optional)),
                Err(_) => Err(format!("{text:?} names no possible header; write \"header:NAME\"")),
            };
        }
        Ok(match text {
            "body" => Self::Body,
            "message_id" => Self::MessageId,
            "send_key" => Self::SendKey,
            "delivery" => Self::Delivery,
            "port" => Self::Port,
            "attempt" => Self::Attempt,
            "in_doubt" => Self::InDoubt,
            "submitted" => Self::Submitted,
            _ => return Err(format!("there is no parameter {text:?}; there are {known}")),
        })
    }

    /// The value for this message, `wanted` as this type.
    ///
    /// # Errors
    /// Permanent: the header is missing, or the body is no text where text is wanted.
    pub(super) fn of(&self, parcel: &Parcel<'_>, wanted: &Type) -> Result<Value, SendError> {
        Ok(match self {
            Self::Body => return body(parcel, wanted),
            Self::MessageId => Value::Text(parcel.message_id.to_string()),
            Self::SendKey => Value::Text(parcel.send_key.to_owned()),
            Self::Delivery => Value::Text(parcel.delivery.to_string()),
            Self::Port => Value::Text(parcel.port.to_string()),
            Self::Attempt => Value::Text(parcel.attempt.to_string()),
            Self::InDoubt => Value::Text(parcel.in_doubt.to_string()),
            Self::Submitted => Value::Text(submitted(parcel)?),
            Self::Header(name, optional) => match parcel.headers.get(name) {
                Some(value) => Value::Text(value.to_string()),
                None if *optional => Value::Null,
                None => {
                    return Err(SendError::permanent(format!(
                        "the message has no header {name:?}, which is a parameter of the statement"
                    )));
                }
            },
        })
    }
}

fn body(parcel: &Parcel<'_>, wanted: &Type) -> Result<Value, SendError> {
    let bytes = parcel.body.to_bytes().map_err(body_unreadable)?;
    if *wanted == Type::BYTEA {
        return Ok(Value::Bytes(bytes));
    }
    let text = String::from_utf8(bytes.into()).map_err(|error| {
        let text = format!("the body is no text in UTF-8, and the statement wants {wanted}, not bytea");
        SendError::permanent(text).caused_by(error.utf8_error())
    })?;
    Ok(Value::Text(text))
}

fn submitted(parcel: &Parcel<'_>) -> Result<String, SendError> {
    let moment = jiff::Timestamp::from_microsecond(parcel.submitted.as_micros());
    moment.map(|moment| moment.to_string()).map_err(|error| {
        SendError::permanent("the time of submission is too far from now to be written").caused_by(error)
    })
}

/// A parameter's value. Text is sent as text, which the server reads as whatever type the statement wants.
#[derive(Debug)]
pub(super) enum Value {
    Null,
    Text(String),
    Bytes(Bytes),
}

impl ToSql for Value {
    fn to_sql(&self, _ty: &Type, out: &mut BytesMut) -> Result<IsNull, Box<dyn StdError + Sync + Send>> {
        match self {
            Self::Null => return Ok(IsNull::Yes),
            Self::Text(text) => out.extend_from_slice(text.as_bytes()),
            Self::Bytes(bytes) => out.extend_from_slice(bytes),
        }
        Ok(IsNull::No)
    }

    fn accepts(_ty: &Type) -> bool {
        true
    }

    fn encode_format(&self, _ty: &Type) -> Format {
        if matches!(self, Self::Text(_)) { Format::Text } else { Format::Binary }
    }

    to_sql_checked!();
}
