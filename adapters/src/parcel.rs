//! What an adapter's sending needs of a message, borrowed.

use std::fmt;

use pillarbox_runtime::adapter::{Outgoing, SendError};
use pillarbox_store::{Body, DeliveryId, Error, ErrorKind, Headers, MessageId, PortName, Timestamp};

/// A message to send. Made from an [`Outgoing`]; tests make their own.
#[derive(Clone, Copy)]
pub(crate) struct Parcel<'a> {
    /// The message's id.
    pub(crate) message_id: MessageId,
    /// The delivery's number.
    pub(crate) delivery: DeliveryId,
    /// The port it goes to.
    pub(crate) port: &'a PortName,
    /// The message's headers.
    pub(crate) headers: &'a Headers,
    /// The message's body.
    pub(crate) body: &'a Body,
    /// The name by which a destination can recognise a repeat.
    pub(crate) send_key: &'a str,
    /// This attempt's number, from 1.
    pub(crate) attempt: u32,
    /// Whether the destination may have it already, though the attempt's number does not say so.
    pub(crate) in_doubt: bool,
    /// When the message was submitted.
    pub(crate) submitted: Timestamp,
}

impl<'a> From<&'a Outgoing> for Parcel<'a> {
    fn from(message: &'a Outgoing) -> Self {
        Self {
            message_id: message.message_id(),
            delivery: message.delivery(),
            port: message.port(),
            headers: message.headers(),
            body: message.body(),
            send_key: message.send_key(),
            attempt: message.attempt(),
            in_doubt: message.in_doubt(),
            submitted: message.submitted(),
        }
    }
}

/// Which message it is, without what is in it: that is nobody's business but the destination's.
impl fmt::Debug for Parcel<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Parcel")
            .field("message_id", &self.message_id)
            .field("delivery", &self.delivery)
            .field("port", &self.port)
            .field("attempt", &self.attempt)
            .field("in_doubt", &self.in_doubt)
            .field("submitted", &self.submitted)
            .finish_non_exhaustive()
    }
}

/// The failed send that a body becomes whose fragments the box does not give.
pub(crate) fn body_unreadable(error: Error) -> SendError {
    let text = "the message's body could not be read from the box";
    match error.kind() {
        ErrorKind::Corrupt => SendError::permanent(text),
        _ => SendError::temporary(text),
    }
    .caused_by(error)
}

/// Messages that tests send.
#[cfg(test)]
pub(crate) mod sample {
    use std::sync::Arc;

    use bytes::Bytes;
    use pillarbox_store::{FRAGMENT_BYTES, Fragments, HeaderValue};

    use super::*;

    /// 2026-01-02T03:04:05.678901Z.
    pub(crate) const SUBMITTED: Timestamp = Timestamp::from_micros(1_767_323_045_678_901);
    /// The id of the sample message.
    pub(crate) const ID: &str = "01020304-0506-0708-090a-0b0c0d0e0f10";
    /// Its send key.
    pub(crate) const KEY: &str = "box-1/orders/01020304-0506-0708-090a-0b0c0d0e0f10";

    /// A message and where it goes.
    #[derive(Debug, Clone)]
    pub(crate) struct Sample {
        pub(crate) message_id: MessageId,
        pub(crate) port: PortName,
        pub(crate) headers: Headers,
        pub(crate) body: Body,
        pub(crate) send_key: String,
        pub(crate) attempt: u32,
        pub(crate) in_doubt: bool,
    }

    impl Sample {
        pub(crate) fn new(body: impl Into<Body>) -> Self {
            Self {
                message_id: ID.parse().unwrap(),
                port: PortName::new("orders").unwrap(),
                headers: Headers::default(),
                body: body.into(),
                send_key: KEY.to_owned(),
                attempt: 1,
                in_doubt: false,
            }
        }

        pub(crate) fn header(mut self, name: &str, value: impl Into<HeaderValue>) -> Self {
            self.headers.set(name, value).unwrap();
            self
        }

        #[cfg(any(
            feature = "amqp",
            feature = "file",
            feature = "kafka",
            feature = "mqtt",
            feature = "nats",
            feature = "postgres",
            feature = "redis",
            feature = "s3",
            feature = "sftp"
        ))]
        pub(crate) fn key(mut self, key: &str) -> Self {
            key.clone_into(&mut self.send_key);
            self
        }

        pub(crate) fn attempt(mut self, attempt: u32) -> Self {
            self.attempt = attempt;
            self
        }

        #[cfg(any(
            feature = "amqp",
            feature = "exec",
            feature = "http",
            feature = "kafka",
            feature = "mqtt",
            feature = "nats",
            feature = "postgres",
            feature = "redis",
            feature = "smtp"
        ))]
        pub(crate) fn in_doubt(mut self) -> Self {
            self.in_doubt = true;
            self
        }

        pub(crate) fn parcel(&self) -> Parcel<'_> {
            Parcel {
                message_id: self.message_id,
                delivery: DeliveryId::new(7),
                port: &self.port,
                headers: &self.headers,
                body: &self.body,
                send_key: &self.send_key,
                attempt: self.attempt,
                in_doubt: self.in_doubt,
                submitted: SUBMITTED,
            }
        }
    }

    /// What an adapter is opened with.
    #[cfg(any(feature = "address", feature = "exec", all(feature = "file", feature = "http")))]
    pub(crate) fn context() -> pillarbox_runtime::adapter::OpenContext {
        use pillarbox_store::{IdSource, Route, SystemClock};

        pillarbox_runtime::adapter::OpenContext {
            box_id: IdSource::system().mailbox(),
            port: PortName::new("orders").unwrap(),
            route: Route::Primary,
            clock: Arc::new(SystemClock),
            ids: IdSource::system(),
        }
    }

    /// Bytes of which no two fragments are alike.
    pub(crate) fn bytes(len: usize) -> Bytes {
        (0..len)
            .map(|at| u8::try_from((at ^ (at >> 8) ^ (at >> 16)) & 0xff).unwrap())
            .collect::<Vec<_>>()
            .into()
    }

    /// A body in the box, of which the fragments from `broken` on cannot be read.
    pub(crate) fn stored(bytes: Bytes, broken: Option<(u32, ErrorKind)>) -> Body {
        let len = bytes.len() as u64;
        Body::stored(Arc::new(InBox { bytes, broken }), len)
    }

    #[derive(Debug)]
    struct InBox {
        bytes: Bytes,
        broken: Option<(u32, ErrorKind)>,
    }

    impl Fragments for InBox {
        fn fragment(&self, index: u32) -> Result<Bytes, Error> {
            match self.broken {
                Some((from, kind)) if index >= from => {
                    Err(Error::new(kind, "read a fragment").with("index", index))
                }
                _ => {
                    let start = index as usize * FRAGMENT_BYTES;
                    Ok(self.bytes.slice(start..self.bytes.len().min(start + FRAGMENT_BYTES)))
                }
            }
        }
    }
}
