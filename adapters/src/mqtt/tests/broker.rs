//! A real broker for the tests.

use std::sync::atomic::{AtomicU32, Ordering};

use pillarbox_runtime::adapter::Settings;
use rumqttc::{
    AsyncClient, BrokerSessionResumePolicy, ConnectionError, Event, MqttOptions, Packet, Publish,
    PublishOptions, QoS,
};

use crate::servers::Mosquitto;

/// The longest packet that it takes.
pub(super) const PACKET_BYTES_MAX: usize = 1024 * 1024;

/// Where a reader is told that it has read all.
const END: &str = "orders/end/";

/// A broker that keeps what its readers have not read.
pub(super) struct Broker {
    pub(super) mosquitto: Mosquitto,
    reads: AtomicU32,
    reader: AtomicU32,
}

impl Broker {
    /// Starts a broker with a reader of all orders.
    pub(super) async fn start() -> Self {
        let (reads, reader) = (AtomicU32::new(0), AtomicU32::new(0));
        let broker = Self { mosquitto: Mosquitto::start(PACKET_BYTES_MAX).await, reads, reader };
        assert!(broker.read("reader-0", true).await.unwrap().is_empty());
        broker
    }

    pub(super) async fn crash(&mut self) {
        self.mosquitto.peer.kill();
        self.mosquitto.peer.start_again();
        self.mosquitto.ready().await;
    }

    pub(super) fn settings(&self) -> Settings {
        Mosquitto::settings_at(self.mosquitto.port)
    }

    /// What the broker holds for its reader, in order; then another reads what comes.
    pub(super) async fn take(&self) -> Vec<Held> {
        let number = self.reader.fetch_add(1, Ordering::Relaxed);
        let held = self.read(&format!("reader-{number}"), false).await.unwrap();
        assert!(self.read(&format!("reader-{}", number + 1), true).await.unwrap().is_empty());
        held
    }

    /// What it holds for somebody who comes now.
    pub(super) async fn retained(&self) -> Vec<Held> {
        self.read("late", true).await.unwrap()
    }

    async fn read(&self, name: &str, subscribe: bool) -> Result<Vec<Held>, ConnectionError> {
        let end = format!("{END}{}", self.reads.fetch_add(1, Ordering::Relaxed));
        if !subscribe {
            // In a session that goes on, the library publishes nothing.
            self.publish(&end).await?;
        }
        let mut options = MqttOptions::new(name, rumqttc::Broker::tcp("127.0.0.1", self.mosquitto.port));
        options.set_clean_start(false).set_session_expiry_interval(Some(3600));
        options.set_broker_session_resume_policy(BrokerSessionResumePolicy::AllowBrokerOnly);
        options.set_credentials(Mosquitto::USER, Mosquitto::PASSWORD).set_unlimited_incoming_packet_size();
        let (client, mut events) = AsyncClient::builder(options).capacity(10).build();
        if subscribe {
            client.subscribe("orders/#", QoS::AtLeastOnce).await.unwrap();
        }
        let mut held = Vec::new();
        loop {
            match events.poll().await {
                Ok(Event::Incoming(Packet::SubAck(_))) => {
                    client.publish(&end, "", PublishOptions::new(QoS::AtLeastOnce)).await.unwrap();
                }
                Ok(Event::Incoming(Packet::Publish(message))) if message.topic[..] == *end.as_bytes() => {
                    client.disconnect().await.unwrap();
                }
                Ok(Event::Incoming(Packet::Publish(message)))
                    if message.topic.starts_with(END.as_bytes()) => {}
                Ok(Event::Incoming(Packet::Publish(message))) => held.push(Held(message)),
                Ok(_) => {}
                Err(ConnectionError::RequestsDone) => return Ok(held),
                Err(error) => return Err(error),
            }
        }
    }

    async fn publish(&self, topic: &str) -> Result<(), ConnectionError> {
        let mut options = MqttOptions::new("end", rumqttc::Broker::tcp("127.0.0.1", self.mosquitto.port));
        options.set_credentials(Mosquitto::USER, Mosquitto::PASSWORD);
        let (client, mut events) = AsyncClient::builder(options).capacity(10).build();
        client.publish(topic, "", PublishOptions::new(QoS::AtLeastOnce)).await.unwrap();
        loop {
            match events.poll().await {
                Ok(Event::Incoming(Packet::PubAck(_))) => client.disconnect().await.unwrap(),
                Ok(_) => {}
                Err(ConnectionError::RequestsDone) => return Ok(()),
                Err(error) => return Err(error),
            }
        }
    }
}

/// A message that the broker holds.
pub(super) struct Held(pub(super) Publish);

impl Held {
    pub(super) fn key(&self) -> String {
        self.property("x-pillarbox-send-key").unwrap()
    }

    pub(super) fn body(&self) -> &[u8] {
        &self.0.payload
    }

    pub(super) fn topic(&self) -> &str {
        std::str::from_utf8(&self.0.topic).unwrap()
    }

    pub(super) fn property(&self, name: &str) -> Option<String> {
        let all = &self.0.properties.as_ref()?.user_properties;
        all.iter().find(|(have, _)| have == name).map(|(_, value)| value.clone())
    }
}
