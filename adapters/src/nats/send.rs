//! Publishes messages to a stream.

use std::error::Error as _;
use std::fmt;
use std::sync::Arc;

use async_nats::HeaderMap;
use async_nats::connection::State;
use async_nats::jetstream::context::{PublishError, PublishErrorKind};
use async_nats::jetstream::message::PublishMessage;
use async_nats::jetstream::{Context, Error as Refused, ErrorCode};
use async_trait::async_trait;
use pillarbox_runtime::adapter::{Outgoing, SendError, Sender, Transport, TransportInfo};
use tokio::time::timeout;

use super::connect::{self, Login};
use super::settings::NatsSettings;
use super::{HEADER_BYTES, body_bytes_max, info};
use crate::on_thread::on_thread;
use crate::parcel::{Parcel, body_unreadable};

/// The server's codes for a message that the stream will never take: larger than its largest, headers too long.
const ABOUT_THE_MESSAGE: [ErrorCode; 2] =
    [ErrorCode::STREAM_MESSAGE_EXCEEDS_MAXIMUM, ErrorCode::STREAM_HEADER_EXCEEDS_MAXIMUM];

/// Publishes each message.
pub(super) struct NatsSender {
    settings: NatsSettings,
    context: Context,
    stream: Arc<str>,
}

impl NatsSender {
    /// A sender that is connected, to a server with a stream that will do.
    ///
    /// # Errors
    /// Temporary: a secret cannot be read, the server does not answer or refuses us, or there is no such stream.
    pub(super) async fn open(settings: NatsSettings) -> Result<Self, SendError> {
        let read = settings.clone();
        let login = on_thread(move || Login::read(&read)).await?;
        let (context, stream) = connect::connect(&settings, login).await?;
        Ok(Self { settings, context, stream })
    }

    /// Publishes the message and waits for the stream's answer.
    ///
    /// # Errors
    /// The stream refuses it, or does not answer.
    pub(super) async fn deliver(&self, parcel: &Parcel<'_>) -> Result<(), SendError> {
        let client = self.context.client();
        // The client would keep it for a later connection.
        if client.connection_state() != State::Connected {
            return Err(self.failed("there is no connection at the moment"));
        }
        let (length, payload) = (parcel.body.len(), client.max_payload() as u64);
        let most = body_bytes_max(payload);
        if length > most {
            return Err(SendError::permanent(format!(
                "{}: the message's body has {length} bytes, more than {most}: the server takes {payload} at once (its \
                 max_payload), of which {HEADER_BYTES} are for headers",
                self.settings.address
            )));
        }
        let message = PublishMessage::build()
            .headers(headers(parcel))
            .message_id(parcel.send_key)
            .expected_stream(&self.stream)
            .payload(parcel.body.to_bytes().map_err(body_unreadable)?);
        let publishing =
            async { self.context.send_publish(self.settings.subject.clone(), message).await?.await };
        match timeout(self.settings.timeout, publishing).await {
            // Whether it is new or was there already.
            Ok(Ok(_answer)) => Ok(()),
            Ok(Err(error)) if error.kind() != PublishErrorKind::TimedOut => Err(self.refused(error)),
            _ => Err(self.failed(&format!("no answer within {:?} (setting timeout)", self.settings.timeout))),
        }
    }

    fn refused(&self, error: PublishError) -> SendError {
        let code = error.source().and_then(|source| source.downcast_ref::<Refused>());
        let code = code.map(Refused::error_code);
        let permanent = error.kind() == PublishErrorKind::MaxPayloadExceeded
            || code.is_some_and(|code| ABOUT_THE_MESSAGE.contains(&code));
        let text = match error.kind() {
            PublishErrorKind::StreamNotFound => "no stream takes the subject".to_owned(),
            _ => format!("the stream {:?} refuses the message", self.stream),
        };
        if permanent {
            return SendError::permanent(format!("{}: {text}", self.settings.address)).caused_by(error);
        }
        self.failed(&text).caused_by(error)
    }

    fn failed(&self, what: &str) -> SendError {
        SendError::temporary(format!("{}: {what}", self.settings.address))
    }
}

/// The headers under the names that `http` gives them.
fn headers(parcel: &Parcel<'_>) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert("x-pillarbox-message-id", parcel.message_id.to_string());
    headers.insert("x-pillarbox-attempt", parcel.attempt.to_string());
    if parcel.in_doubt {
        headers.insert("x-pillarbox-in-doubt", "true");
    }
    for (name, value) in parcel.headers.iter() {
        headers.insert(format!("x-pillarbox-h-{name}"), value.to_string());
    }
    headers
}

impl fmt::Debug for NatsSender {
    /// Without the connection, which knows the password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NatsSender").field("settings", &self.settings).finish_non_exhaustive()
    }
}

impl Transport for NatsSender {
    fn describe(&self) -> TransportInfo {
        info(self.settings.window, self.context.client().max_payload() as u64)
    }
}

#[async_trait]
impl Sender for NatsSender {
    async fn send(&self, message: &Outgoing) -> Result<(), SendError> {
        self.deliver(&Parcel::from(message)).await
    }
}
