//! Publishes messages to an exchange.

use std::fmt;

use async_trait::async_trait;
use lapin::message::BasicReturnMessage;
use lapin::options::BasicPublishOptions;
use lapin::protocol::{AMQPErrorKind, AMQPSoftError};
use lapin::{Confirmation, Error, ErrorKind};
use pillarbox_runtime::adapter::{Outgoing, SendError, Sender, Transport, TransportInfo};
use tokio::time::timeout;

use super::connect::{Connector, Live};
use super::info;
use super::message::Publication;
use super::settings::AmqpSettings;
use crate::on_thread::on_thread;
use crate::parcel::Parcel;

/// Publishes each message.
pub(super) struct AmqpSender {
    settings: AmqpSettings,
    connector: Connector,
}

impl AmqpSender {
    /// A sender that is connected.
    ///
    /// # Errors
    /// Temporary: a secret cannot be read, the broker does not answer, or it refuses us.
    pub(super) async fn open(settings: AmqpSettings) -> Result<Self, SendError> {
        let read = settings.clone();
        let connector = on_thread(move || Connector::new(read)).await?;
        connector.live().await?;
        Ok(Self { settings, connector })
    }

    /// Publishes the message and waits until the broker has taken charge of it.
    ///
    /// # Errors
    /// The broker refuses it, has no queue for it, or does not answer.
    pub(super) async fn deliver(&self, parcel: &Parcel<'_>) -> Result<(), SendError> {
        let live = self.connector.live().await?;
        // What the library is given now it keeps and sends when the broker takes something again.
        if live.connection.status().blocked() {
            return Err(self.failed(
                "the broker takes nothing at the moment (connection blocked: its memory or disk is full)",
            ));
        }
        let frame_bytes_max = live.connection.configuration().frame_max() as usize;
        let publication = Publication::new(&self.settings, parcel, frame_bytes_max)?;
        match timeout(self.settings.timeout, self.publish(&live, publication)).await {
            Ok(Ok(Confirmation::Ack(None))) => Ok(()),
            Ok(Ok(Confirmation::Ack(Some(returned)))) => Err(self.returned(&returned)),
            Ok(Ok(Confirmation::Nack(_))) => {
                Err(self.failed("the broker does not take the message (nack): a queue is full, say"))
            }
            Ok(Ok(Confirmation::NotRequested)) => Err(self.failed("the broker confirms nothing")),
            Ok(Err(error)) => {
                // A refused message costs its channel, everything else the connection, soon if not yet.
                if !error.is_amqp_soft_error() && !matches!(error.kind(), ErrorKind::ChannelsLimitReached) {
                    self.connector.forget(&live).await;
                }
                Err(self.refused(error))
            }
            Err(_elapsed) => {
                // What hangs may hang for ever; others that wait on it keep it until their own time is up.
                live.give_up();
                self.connector.forget(&live).await;
                Err(self.failed(&format!("no answer within {:?} (setting timeout)", self.settings.timeout)))
            }
        }
    }

    /// Where this is dropped, so is the channel: the confirm that is still to come is no other message's.
    async fn publish(&self, live: &Live, publication: Publication) -> Result<Confirmation, Error> {
        let channel = live.channel().await?;
        let options = BasicPublishOptions { mandatory: self.settings.mandatory, immediate: false };
        let exchange = self.settings.exchange.as_str().into();
        let Publication { routing_key, properties, body } = publication;
        let confirm = channel.basic_publish(exchange, routing_key, options, &body, properties).await?.await?;
        live.put_back(channel);
        Ok(confirm)
    }

    /// Temporary: nothing is wrong with the message, and a queue can still be bound.
    fn returned(&self, returned: &BasicReturnMessage) -> SendError {
        self.failed(&format!(
            "no queue takes the message ({} {}): bind one to the exchange {:?} for the routing key {:?}",
            returned.reply_code,
            returned.reply_text,
            self.settings.exchange,
            returned.delivery.routing_key.as_str()
        ))
    }

    fn refused(&self, error: Error) -> SendError {
        let text = match error.kind() {
            ErrorKind::ProtocolError(said) => match said.kind() {
                // The broker's word for a message that is larger than its `max_message_size`.
                AMQPErrorKind::Soft(AMQPSoftError::PRECONDITIONFAILED) => {
                    let text = "the broker refuses the message for what it is";
                    let text = format!("{}: {text}", self.settings.address);
                    return SendError::permanent(text).caused_by(error);
                }
                _ => "the broker refuses the message",
            },
            ErrorKind::ChannelsLimitReached => "the broker gives no channel for the message",
            _ => "the connection broke before the answer",
        };
        self.failed(text).caused_by(error)
    }

    fn failed(&self, what: &str) -> SendError {
        SendError::temporary(format!("{}: {what}", self.settings.address))
    }
}

impl fmt::Debug for AmqpSender {
    /// Without the connection, which knows the password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AmqpSender").field("settings", &self.settings).finish_non_exhaustive()
    }
}

impl Transport for AmqpSender {
    fn describe(&self) -> TransportInfo {
        info(self.settings.body_bytes_max)
    }
}

#[async_trait]
impl Sender for AmqpSender {
    async fn send(&self, message: &Outgoing) -> Result<(), SendError> {
        self.deliver(&Parcel::from(message)).await
    }

    async fn close(&self) {
        self.connector.close().await;
    }
}
