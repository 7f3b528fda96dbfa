//! Problem details (RFC 9457): how every refusal is told, over the API and within the program.

use std::fmt;

use pillarbox_store::{Error, ErrorKind};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// The prefix of every problem's type.
pub const TYPE_PREFIX: &str = "urn:pillarbox:problem:";

/// Why something was refused, and what to do.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Problem {
    /// [`TYPE_PREFIX`] and the problem's name.
    #[serde(rename = "type")]
    pub kind: String,
    /// The problem's kind in a few words.
    pub title: String,
    /// The HTTP status.
    pub status: u16,
    /// What is wrong this time, and what to do.
    pub detail: String,
    /// Values that programs may read.
    #[serde(flatten)]
    pub fields: Map<String, Value>,
}

impl Problem {
    /// A problem of this status, name, title and detail.
    #[must_use]
    pub fn new(status: u16, name: &str, title: &str, detail: impl Into<String>) -> Self {
        Self {
            kind: format!("{TYPE_PREFIX}{name}"),
            title: title.to_owned(),
            status,
            detail: detail.into(),
            fields: Map::new(),
        }
    }

    /// Adds a value.
    #[must_use]
    pub fn with(mut self, key: &str, value: impl Into<Value>) -> Self {
        self.fields.insert(key.to_owned(), value.into());
        self
    }

    /// The problem's name: its type without the prefix.
    #[must_use]
    pub fn name(&self) -> &str {
        self.kind.strip_prefix(TYPE_PREFIX).unwrap_or(&self.kind)
    }

    /// A request that cannot be understood.
    #[must_use]
    pub fn bad_request(detail: impl Into<String>) -> Self {
        Self::new(400, "bad-request", "The request is not right", detail)
    }

    /// A body over the limit.
    #[must_use]
    pub fn too_large(limit: u64) -> Self {
        let detail = format!(
            "the body is longer than the {limit} bytes that are taken here; send less, or raise \
             server.body_bytes_max and box.body_bytes_max"
        );
        Self::new(413, "too-large", "The body is too long", detail).with("bytes_max", limit)
    }

    /// A server that stops.
    #[must_use]
    pub fn draining() -> Self {
        let detail = "the server is stopping and takes no more messages; submit again when it is back";
        Self::new(503, "draining", "The server is stopping", detail).with("retry_after", 5)
    }

    /// A refusal of the box.
    #[must_use]
    pub fn of_store(error: &Error) -> Self {
        let text = chain(error);
        match error.kind() {
            ErrorKind::Invalid => Self::new(422, "invalid", "The box does not take this", text),
            ErrorKind::Full => {
                let detail = format!("{text}; nothing was taken. Make room on the disk, then submit again");
                Self::new(503, "full", "The box is full", detail).with("retry_after", 5)
            }
            ErrorKind::Unavailable => {
                let detail = format!(
                    "{text}; whether it was taken is not known. The box has stopped: restart the server, \
                     then submit again with the same message id, it is taken once"
                );
                Self::new(503, "unavailable", "The box has stopped", detail)
            }
            ErrorKind::Closed => Self::new(503, "closed", "The box is closed", text),
            ErrorKind::Corrupt => Self::new(500, "corrupt", "Stored bytes are damaged", text),
            ErrorKind::Locked => Self::new(409, "locked", "Another process holds the data folder", text),
            _ => Self::new(500, "failed", "The box cannot do this", text),
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.title, self.detail)
    }
}

impl std::error::Error for Problem {}

impl From<Error> for Problem {
    fn from(error: Error) -> Self {
        Self::of_store(&error)
    }
}

/// An error and its causes on one line.
#[must_use]
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}
