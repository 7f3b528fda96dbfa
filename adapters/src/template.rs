//! Texts made from a template with macros: names, addresses, subjects.

use std::fmt::Write as _;

use pillarbox_runtime::adapter::SendError;
use pillarbox_store::{Headers, Timestamp};
use sha2::{Digest, Sha256};

use crate::parcel::Parcel;

/// A template that was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Template(Vec<Piece>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Piece {
    Literal(String),
    Value(Macro),
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Macro {
    MessageId,
    DeliveryId,
    Port,
    Header(String),
    Time,
    Date,
    Key,
}

impl Template {
    /// Reads a template, and finds what is wrong with its macros.
    pub(crate) fn read(text: &str) -> (Self, Vec<String>) {
        let mut problems = Vec::new();
        let mut pieces = Vec::new();
        let mut literal = String::new();
        let mut rest = text;
        while let Some(c) = rest.chars().next() {
            let after = &rest[c.len_utf8()..];
            rest = match c {
                '{' | '}' if after.starts_with(c) => {
                    literal.push(c);
                    &after[1..]
                }
                '{' => match after.find(['{', '}']) {
                    Some(end) if after[end..].starts_with('}') => {
                        match Macro::parse(&after[..end]) {
                            Ok(value) => {
                                pieces.extend(take_literal(&mut literal));
                                pieces.push(Piece::Value(value));
                            }
                            Err(problem) => problems.push(problem),
                        }
                        &after[end + 1..]
                    }
                    _ => {
                        problems.push("a '{' is not closed; write {{ for the brace itself".to_owned());
                        after
                    }
                },
                '}' => {
                    problems.push("a '}' closes nothing; write }} for the brace itself".to_owned());
                    after
                }
                c => {
                    literal.push(c);
                    after
                }
            };
        }
        pieces.extend(take_literal(&mut literal));
        (Self(pieces), problems)
    }

    /// Its pieces in order: the text of one, or `None` where a value goes.
    pub(crate) fn pieces(&self) -> impl Iterator<Item = Option<&str>> {
        self.0.iter().map(|piece| match piece {
            Piece::Literal(text) => Some(text.as_str()),
            Piece::Value(_) => None,
        })
    }

    /// Whether it is a value and nothing else.
    #[cfg(feature = "smtp")]
    pub(crate) fn is_one_value(&self) -> bool {
        matches!(self.0.as_slice(), [Piece::Value(_)])
    }

    /// Whether every message gets a text of its own.
    #[cfg(any(feature = "file", feature = "s3", feature = "sftp"))]
    pub(crate) fn is_unique(&self) -> bool {
        self.0.iter().any(|piece| matches!(piece, Piece::Value(Macro::MessageId | Macro::Key)))
    }

    /// The text for this message, with each value as `escape` gives it; `what` names it for people.
    ///
    /// # Errors
    /// Permanent: a header is missing.
    pub(crate) fn render(
        &self,
        parcel: &Parcel<'_>,
        what: &str,
        escape: impl Fn(&str) -> String,
    ) -> Result<String, SendError> {
        let mut made = String::new();
        for piece in &self.0 {
            match piece {
                Piece::Literal(text) => made.push_str(text),
                Piece::Value(value) => made.push_str(&escape(&value.of(parcel, what)?)),
            }
        }
        Ok(made)
    }
}

fn take_literal(literal: &mut String) -> Option<Piece> {
    (!literal.is_empty()).then(|| Piece::Literal(std::mem::take(literal)))
}

impl Macro {
    fn parse(text: &str) -> Result<Self, String> {
        let known = "{message_id}, {delivery_id}, {port}, {header:NAME}, {time}, {date} and {key}";
        if let Some(name) = text.strip_prefix("header:") {
            return match Headers::default().set(name, "") {
                Ok(()) => Ok(Self::Header(name.to_ascii_lowercase())),
                Err(_) => Err(format!("{{{text}}} names no possible header; write {{header:NAME}}")),
            };
        }
        match text {
            "message_id" => Ok(Self::MessageId),
            "delivery_id" => Ok(Self::DeliveryId),
            "port" => Ok(Self::Port),
            "time" => Ok(Self::Time),
            "date" => Ok(Self::Date),
            "key" => Ok(Self::Key),
            "attempt" => Err("{attempt} changes with every attempt, so that a repeat would not be the same \
                              as the first; remove it"
                .to_owned()),
            _ => Err(format!("there is no macro {{{text}}}; there are {known}")),
        }
    }

    fn of(&self, parcel: &Parcel<'_>, what: &str) -> Result<String, SendError> {
        Ok(match self {
            Self::MessageId => parcel.message_id.to_string(),
            Self::DeliveryId => parcel.delivery.to_string(),
            Self::Port => parcel.port.to_string(),
            Self::Time => utc(parcel.submitted, "%Y%m%dT%H%M%S.%6fZ")?,
            Self::Date => utc(parcel.submitted, "%Y%m%d")?,
            Self::Key => key_hash(parcel.send_key),
            Self::Header(name) => match parcel.headers.get(name) {
                Some(value) => value.to_string(),
                None => {
                    return Err(SendError::permanent(format!(
                        "the message has no header {name:?}, which {what} is made of"
                    )));
                }
            },
        })
    }
}

fn utc(moment: Timestamp, format: &str) -> Result<String, SendError> {
    let moment = jiff::Timestamp::from_microsecond(moment.as_micros()).map_err(|error| {
        SendError::permanent("the time of submission is too far from now to be written").caused_by(error)
    })?;
    Ok(moment.strftime(format).to_string())
}

/// The first 128 bits of the send key's SHA-256, in hexadecimal.
pub(crate) fn key_hash(send_key: &str) -> String {
    let digest = Sha256::digest(send_key.as_bytes());
    digest.iter().take(16).fold(String::with_capacity(32), |mut text, byte| {
        let _infallible = write!(text, "{byte:02x}");
        text
    })
}
