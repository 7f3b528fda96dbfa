//! Publishes messages to a topic.

use std::fmt;

use async_trait::async_trait;
use pillarbox_runtime::adapter::{Outgoing, SendError, Sender, Transport, TransportInfo};
use rumqttc::{PubAck, PubAckReason, PublishResult};
use tokio::time::timeout;

use super::connect::{Connector, Live};
use super::info;
use super::message::Publication;
use super::settings::MqttSettings;
use crate::on_thread::on_thread;
use crate::parcel::Parcel;
use crate::said;

/// How much of what the broker says is shown.
const SHOWN_BYTES_MAX: usize = 1024;

/// Publishes each message.
pub(super) struct MqttSender {
    settings: MqttSettings,
    connector: Connector,
}

impl MqttSender {
    /// A sender that is connected.
    ///
    /// # Errors
    /// Temporary: a secret cannot be read, the broker does not answer, or it refuses us.
    pub(super) async fn open(settings: MqttSettings) -> Result<Self, SendError> {
        let read = settings.clone();
        let connector = on_thread(move || Connector::new(read)).await?;
        connector.live().await?;
        Ok(Self { settings, connector })
    }

    /// Publishes the message and waits for the broker's answer to it.
    ///
    /// # Errors
    /// The broker refuses it, has nobody for it, or does not answer.
    pub(super) async fn deliver(&self, parcel: &Parcel<'_>) -> Result<(), SendError> {
        let live = self.connector.live().await?;
        let publication = Publication::new(&self.settings, parcel, live.packet_bytes_max.into())?;
        match timeout(self.settings.timeout, publish(&live, publication)).await {
            Ok(Some(answer)) => self.judge(&answer),
            Ok(None) => {
                self.connector.forget(&live).await;
                let why = said::line(live.ended().as_bytes(), SHOWN_BYTES_MAX, &[]);
                Err(self.failed(&format!("the connection broke before the answer: {why}")))
            }
            Err(_elapsed) => {
                // What hangs may hang for ever; others that wait on it keep it until their own time is up.
                self.connector.forget(&live).await;
                Err(self.failed(&format!("no answer within {:?} (setting timeout)", self.settings.timeout)))
            }
        }
    }

    /// The outcome that this answer is.
    ///
    /// # Errors
    /// Permanent where it is about the message, else temporary.
    pub(super) fn judge(&self, answer: &PubAck) -> Result<(), SendError> {
        let code = answer.reason as u8;
        let words = answer.properties.as_ref().and_then(|properties| properties.reason_string.as_deref());
        let words = words.map(|words| said::line(words.as_bytes(), SHOWN_BYTES_MAX, &[]));
        let words = words.map_or_else(String::new, |words| format!(", saying: {words}"));
        match answer.reason {
            PubAckReason::Success => Ok(()),
            PubAckReason::NoMatchingSubscribers if !self.settings.subscriber_required => Ok(()),
            PubAckReason::NoMatchingSubscribers => {
                Err(self.failed("nobody has subscribed to the topic, so nobody gets the message (code 0x10)"))
            }
            // These are about the message; all others are about us or the broker, and may change.
            PubAckReason::TopicNameInvalid | PubAckReason::PayloadFormatInvalid => {
                Err(SendError::permanent(format!(
                    "{}: the broker refuses the message for what it is (code {code:#04x}{words})",
                    self.settings.address
                )))
            }
            PubAckReason::NotAuthorized => Err(self.failed(&format!(
                "the broker does not let us publish to the topic (code {code:#04x}{words})"
            ))),
            _ => Err(self.failed(&format!("the broker refuses the message (code {code:#04x}{words})"))),
        }
    }

    fn failed(&self, what: &str) -> SendError {
        SendError::temporary(format!("{}: {what}", self.settings.address))
    }
}

/// The broker's answer; `None` where the connection broke before it.
async fn publish(live: &Live, publication: Publication) -> Option<PubAck> {
    let Publication { topic, options, body } = publication;
    let notice = live.client.publish_tracked(topic, body, options).await.ok()?;
    match notice.wait_async().await {
        Ok(PublishResult::Qos1(answer)) => Some(answer),
        _ => None,
    }
}

impl fmt::Debug for MqttSender {
    /// Without the connection, which knows the password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MqttSender").field("settings", &self.settings).finish_non_exhaustive()
    }
}

impl Transport for MqttSender {
    fn describe(&self) -> TransportInfo {
        info(self.settings.body_bytes_max)
    }
}

#[async_trait]
impl Sender for MqttSender {
    async fn send(&self, message: &Outgoing) -> Result<(), SendError> {
        self.deliver(&Parcel::from(message)).await
    }

    async fn close(&self) {
        self.connector.close().await;
    }
}
