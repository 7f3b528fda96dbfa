//! What destinations answer to messages.

use bytes::Bytes;

use crate::{DeliveryId, Error, ErrorKind, HeaderValue, Headers, MessageId, Timestamp};

/// What a destination answered to one message: headers and a body, in memory.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Answer {
    headers: Headers,
    body: Bytes,
}

impl Answer {
    /// The longest body of an answer, in bytes.
    pub const BODY_BYTES_MAX: usize = 16 * 1024 * 1024;

    /// An answer without headers.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`]: the body is longer than [`Answer::BODY_BYTES_MAX`].
    pub fn new(body: impl Into<Bytes>) -> Result<Self, Error> {
        let body = body.into();
        if body.len() > Self::BODY_BYTES_MAX {
            return Err(Error::new(ErrorKind::Invalid, "take the answer")
                .with("reason", "its body is too long")
                .with("bytes", body.len())
                .with("bytes_max", Self::BODY_BYTES_MAX));
        }
        Ok(Self { headers: Headers::default(), body })
    }

    /// Adds a header, replacing one of the same name.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] as for [`Headers::set`]; the answer is gone.
    pub fn header(mut self, name: &str, value: impl Into<HeaderValue>) -> Result<Self, Error> {
        self.headers.set(name, value)?;
        Ok(self)
    }

    /// Its properties.
    #[must_use]
    pub const fn headers(&self) -> &Headers {
        &self.headers
    }

    /// Its content.
    #[must_use]
    pub const fn body(&self) -> &Bytes {
        &self.body
    }

    /// About how many bytes it takes.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        (self.headers.bytes() + self.body.len()) as u64
    }

    /// An answer as it was kept.
    pub(crate) const fn kept(headers: Headers, body: Bytes) -> Self {
        Self { headers, body }
    }
}

/// An answer that the box keeps, with what it answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answered {
    /// The delivery that brought it.
    pub delivery: DeliveryId,
    /// The message that it answers.
    pub message: MessageId,
    /// When it was recorded.
    pub received: Timestamp,
    /// The answer.
    pub answer: Answer,
}
