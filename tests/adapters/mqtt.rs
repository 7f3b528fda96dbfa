//! Mosquitto with a subscriber. It reads and never acknowledges, so the broker gives it everything once more each time it
//! comes. It answers before it has written what it was given: a crash loses some of that, so it is not killed.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use async_trait::async_trait;
use pillarbox_adapter_kit::servers::Mosquitto;
use pillarbox_adapter_kit::{Destination, Held, Subject};
use pillarbox_runtime::adapter::{AdapterKind, Settings};
use rumqttc::{
    AckMode, AsyncClient, Broker, BrokerSessionResumePolicy, ConnectionError, Event, EventLoop, MqttOptions,
    Packet, Publish, PublishOptions, QoS,
};

const BODY_BYTES_MAX: usize = 1024 * 1024;
/// However much of it is not acknowledged, all of it is given to the subscriber.
const KEEPS_ALL: &str = "max_queued_messages 0\nmax_inflight_messages 0";
const READER: &str = "reader";
/// Where the subscriber is told that it has read all.
const END: &str = "orders/end/";

pub(crate) fn subjects() -> Vec<Box<dyn Subject>> {
    vec![Box::new(Topic)]
}

#[derive(Debug)]
struct Topic;

#[async_trait(?Send)]
impl Subject for Topic {
    fn name(&self) -> &'static str {
        "mqtt"
    }

    fn kind(&self) -> Arc<dyn AdapterKind> {
        crate::kind("mqtt")
    }

    async fn start(&self) -> Box<dyn Destination> {
        // Beside its body, a message has its properties.
        let server = Server {
            mosquitto: Mosquitto::start_with(BODY_BYTES_MAX + 64 * 1024, KEEPS_ALL).await,
            reads: AtomicU32::new(0),
        };
        server.subscribe().await.unwrap();
        Box::new(server)
    }
}

#[derive(Debug)]
struct Server {
    mosquitto: Mosquitto,
    reads: AtomicU32,
}

impl Server {
    fn client(&self, name: &str) -> (AsyncClient, EventLoop) {
        let mut options = MqttOptions::new(name, Broker::tcp("127.0.0.1", self.mosquitto.port));
        // In a session that goes on, the library publishes nothing.
        if name == READER {
            options.set_clean_start(false).set_session_expiry_interval(Some(3600));
            options.set_broker_session_resume_policy(BrokerSessionResumePolicy::AllowBrokerOnly);
        }
        options.set_credentials(Mosquitto::USER, Mosquitto::PASSWORD).set_unlimited_incoming_packet_size();
        options.set_ack_mode(AckMode::Manual);
        AsyncClient::builder(options).capacity(10).build()
    }

    async fn subscribe(&self) -> Result<(), ConnectionError> {
        let (client, mut events) = self.client(READER);
        client.subscribe("orders/#", QoS::AtLeastOnce).await.unwrap();
        until(&client, &mut events, |packet| matches!(packet, Packet::SubAck(_))).await
    }

    /// Says that all before this is to be read.
    async fn end(&self, topic: &str) -> Result<(), ConnectionError> {
        let (client, mut events) = self.client("end");
        client.publish(topic, "", PublishOptions::new(QoS::AtLeastOnce)).await.unwrap();
        until(&client, &mut events, |packet| matches!(packet, Packet::PubAck(_))).await
    }

    async fn read(&self) -> Result<Vec<Held>, ConnectionError> {
        let end = format!("{END}{}", self.reads.fetch_add(1, Ordering::Relaxed));
        self.end(&end).await?;
        let (client, mut events) = self.client(READER);
        let mut all = Vec::new();
        let is_last = |packet: &Packet| {
            let Packet::Publish(message) = packet else { return false };
            if !message.topic.starts_with(END.as_bytes()) {
                all.push(held(message));
            }
            message.topic[..] == *end.as_bytes()
        };
        until(&client, &mut events, is_last).await?;
        Ok(all)
    }
}

/// Goes on until a packet is the last one that is waited for, and takes leave.
async fn until(
    client: &AsyncClient,
    events: &mut EventLoop,
    mut is_last: impl FnMut(&Packet) -> bool,
) -> Result<(), ConnectionError> {
    loop {
        match events.poll().await {
            Ok(Event::Incoming(packet)) if is_last(&packet) => client.disconnect().await.unwrap(),
            Ok(_) => {}
            Err(ConnectionError::RequestsDone) => return Ok(()),
            Err(error) => return Err(error),
        }
    }
}

fn held(message: &Publish) -> Held {
    let all = &message.properties.as_ref().unwrap().user_properties;
    let property = |name: &str| all.iter().find(|(have, _)| have == name).map(|(_, value)| value.clone());
    let attempt = property("x-pillarbox-attempt").unwrap().parse().unwrap();
    Held::new(message.payload.clone())
        .key(property("x-pillarbox-send-key").unwrap())
        .attempt(attempt)
        .in_doubt(property("x-pillarbox-in-doubt").is_some())
}

#[async_trait(?Send)]
impl Destination for Server {
    fn port(&self) -> Option<u16> {
        Some(self.mosquitto.port)
    }

    fn settings(&self, port: u16) -> Settings {
        let settings = Mosquitto::settings_at(port).with("body_bytes_max", BODY_BYTES_MAX);
        settings.with("connect_timeout", "1s").with("timeout", "1s")
    }

    async fn held(&self) -> Vec<Held> {
        self.read().await.unwrap()
    }

    fn secrets(&self) -> Vec<String> {
        vec![Mosquitto::PASSWORD.to_owned()]
    }
}
