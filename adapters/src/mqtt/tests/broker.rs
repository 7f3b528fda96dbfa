//! A real broker for the tests.

use std::fs;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use pillarbox_runtime::adapter::Settings;
use rumqttc::{
    AsyncClient, BrokerSessionResumePolicy, ConnectionError, Event, MqttOptions, Packet, Publish,
    PublishOptions, QoS,
};
use tempfile::TempDir;

use crate::peer::{Peer, certificates, free_port, program};

/// Whom the broker knows.
pub(super) const USER: &str = "outbox";
pub(super) const PASSWORD: &str = "hunter2hunter2";
/// The topic that the tests' messages go to.
pub(super) const TOPIC: &str = "orders/new";
/// The longest packet that it takes.
pub(super) const PACKET_BYTES_MAX: usize = 1024 * 1024;

/// Where a reader is told that it has read all.
const END: &str = "orders/end/";

/// A broker that keeps what its readers have not read.
pub(super) struct Broker {
    pub(super) peer: Peer,
    pub(super) port: u16,
    pub(super) tls_port: u16,
    pub(super) folder: TempDir,
    reads: AtomicU32,
    reader: AtomicU32,
}

impl Broker {
    /// Starts a broker with a reader of all orders.
    pub(super) async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (port, tls_port) = (free_port(), free_port());
        certificates(folder.path());
        let path = |name: &str| folder.path().join(name).display().to_string();
        let config = format!(
            "user root\npersistence true\npersistence_location {}/\nautosave_on_changes true\nautosave_interval 1\n\
             allow_anonymous false\npassword_file {}\nacl_file {}\nmax_packet_size {PACKET_BYTES_MAX}\n\
             listener {port} 127.0.0.1\nlistener {tls_port} 127.0.0.1\ncafile {}\ncertfile {}\nkeyfile {}\n",
            folder.path().display(),
            path("passwords"),
            path("rights"),
            path("ca.crt"),
            path("server.crt"),
            path("server.key")
        );
        fs::write(path("mosquitto.conf"), config).unwrap();
        fs::write(path("rights"), format!("user {USER}\ntopic readwrite orders/#\ntopic write nobody/#\n"))
            .unwrap();
        let mut passwords = Command::new(program("mosquitto_passwd"));
        passwords.args(["-b", "-c", &path("passwords"), USER, PASSWORD]).stderr(Stdio::null());
        assert!(passwords.status().unwrap().success());
        let config = path("mosquitto.conf");
        let peer = Peer::start("mosquitto", folder.path(), move || {
            let mut command = Command::new(program("mosquitto"));
            command.args(["-c", &config]);
            command
        });
        let (reads, reader) = (AtomicU32::new(0), AtomicU32::new(0));
        let mut broker = Self { peer, port, tls_port, folder, reads, reader };
        broker.ready().await;
        assert!(broker.read("reader-0", true).await.unwrap().is_empty());
        broker
    }

    pub(super) async fn ready(&mut self) {
        let port = self.port;
        self.peer.ready(async || tokio::net::TcpStream::connect(("127.0.0.1", port)).await.map(drop)).await;
    }

    pub(super) async fn crash(&mut self) {
        self.peer.kill();
        self.peer.start_again();
        self.ready().await;
    }

    pub(super) fn settings(&self) -> Settings {
        settings(self.port)
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
        let mut options = MqttOptions::new(name, rumqttc::Broker::tcp("127.0.0.1", self.port));
        options.set_clean_start(false).set_session_expiry_interval(Some(3600));
        options.set_broker_session_resume_policy(BrokerSessionResumePolicy::AllowBrokerOnly);
        options.set_credentials(USER, PASSWORD).set_unlimited_incoming_packet_size();
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
        let mut options = MqttOptions::new("end", rumqttc::Broker::tcp("127.0.0.1", self.port));
        options.set_credentials(USER, PASSWORD);
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

/// Of a route to the topic.
pub(super) fn settings(port: u16) -> Settings {
    Settings::default()
        .with("url", format!("mqtt://127.0.0.1:{port}"))
        .with("user", USER)
        .with("password", PASSWORD)
        .with("topic", TOPIC)
}
