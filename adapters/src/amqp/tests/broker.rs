//! A real broker for the tests.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;

use lapin::options::{BasicGetOptions, QueueDeclareOptions};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{BasicProperties, Channel, Connection, ConnectionProperties};
use pillarbox_runtime::adapter::Settings;
use tempfile::TempDir;

use crate::peer::{Peer, certificates, free_port, program};

/// Whom the broker knows. Its usual guest is nobody to it.
pub(super) const USER: &str = "outbox";
pub(super) const PASSWORD: &str = "hunter2hunter2";
/// The queue that the tests' messages go to.
pub(super) const QUEUE: &str = "orders";
/// The longest message that it takes.
pub(super) const BODY_BYTES_MAX: usize = 1024 * 1024;

/// A node of its own, with what it needs to find its name.
pub(super) struct Broker {
    pub(super) peer: Peer,
    pub(super) port: u16,
    pub(super) tls_port: u16,
    pub(super) folder: TempDir,
    _names: Peer,
    node: Node,
}

/// What says which node it is.
#[derive(Clone)]
struct Node(Vec<(&'static str, String)>);

impl Node {
    fn new(port: u16, folder: &Path) -> Self {
        let path = |name: &str| folder.join(name).display().to_string();
        Self(vec![
            ("HOME", path("")),
            ("ERL_CRASH_DUMP", path("erl_crash.dump")),
            ("ERL_EPMD_PORT", free_port().to_string()),
            ("ERL_EPMD_ADDRESS", "127.0.0.1".to_owned()),
            ("RABBITMQ_NODENAME", format!("test{port}@localhost")),
            ("RABBITMQ_DIST_PORT", free_port().to_string()),
            ("RABBITMQ_MNESIA_BASE", path("mnesia")),
            ("RABBITMQ_LOG_BASE", path("log")),
            ("RABBITMQ_CONFIG_FILE", path("rabbitmq.conf")),
            ("RABBITMQ_CONF_ENV_FILE", path("none")),
            ("RABBITMQ_ENABLED_PLUGINS_FILE", path("plugins")),
        ])
    }

    fn command(&self, name: &str) -> Command {
        let mut command = Command::new(program(name));
        command.envs(self.0.iter().map(|(name, value)| (name, value)));
        command
    }
}

impl Broker {
    /// Starts a broker with a durable queue.
    pub(super) async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (port, tls_port) = (free_port(), free_port());
        certificates(folder.path());
        let path = |name: &str| folder.path().join(name).display().to_string();
        let config = format!(
            "listeners.tcp.1 = 127.0.0.1:{port}\nlisteners.ssl.1 = 127.0.0.1:{tls_port}\n\
             ssl_options.cacertfile = {}\nssl_options.certfile = {}\nssl_options.keyfile = {}\n\
             ssl_options.verify = verify_none\nssl_options.fail_if_no_peer_cert = false\n\
             default_user = {USER}\ndefault_pass = {PASSWORD}\nmax_message_size = {BODY_BYTES_MAX}\n\
             disk_free_limit.absolute = 1MB\n",
            path("ca.crt"),
            path("server.crt"),
            path("server.key")
        );
        fs::write(folder.path().join("rabbitmq.conf"), config).unwrap();
        fs::write(folder.path().join("plugins"), "[].\n").unwrap();
        // Made by whoever comes first otherwise, and refused by who comes second and sees it half made.
        let cookie = folder.path().join(".erlang.cookie");
        fs::write(&cookie, "PILLARBOXTESTCOOKIE").unwrap();
        fs::set_permissions(&cookie, fs::Permissions::from_mode(0o400)).unwrap();
        let node = Node::new(port, folder.path());
        let mapper = node.clone();
        let names = Peer::start("epmd", folder.path(), move || mapper.command("epmd"));
        let own = node.clone();
        let peer = Peer::start("rabbitmq", folder.path(), move || own.command("rabbitmq-server"));
        let mut broker = Self { peer, port, tls_port, folder, _names: names, node };
        broker.ready().await;
        broker.queue(QUEUE, FieldTable::default()).await;
        broker
    }

    async fn ready(&mut self) {
        let port = self.port;
        self.peer.ready(async || connect(port).await.map(drop)).await;
    }

    pub(super) async fn crash(&mut self) {
        self.peer.kill();
        self.start_again().await;
    }

    /// It lets everybody in before it has its queues again.
    pub(super) async fn start_again(&mut self) {
        self.peer.start_again();
        let port = self.port;
        let probe = async || {
            let connection = connect(port).await?;
            let options = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
            let channel = connection.create_channel().await?;
            channel.queue_declare(QUEUE.into(), options, FieldTable::default()).await.map(drop)
        };
        self.peer.ready(probe).await;
    }

    /// Tells the broker to do something, by its own command line.
    pub(super) fn control(&self, words: &[&str]) {
        let ended = self.node.command("rabbitmqctl").args(words).output().unwrap();
        assert!(ended.status.success(), "{words:?}: {ended:?}");
    }

    pub(super) fn settings(&self) -> Settings {
        settings(self.port)
    }

    pub(super) async fn channel(&self) -> (Connection, Channel) {
        let connection = connect(self.port).await.unwrap();
        let channel = connection.create_channel().await.unwrap();
        (connection, channel)
    }

    /// Makes a durable queue.
    pub(super) async fn queue(&self, name: &str, arguments: FieldTable) {
        let (_connection, channel) = self.channel().await;
        let options = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
        channel.queue_declare(name.into(), options, arguments).await.unwrap();
    }

    /// What the queue holds, in order; it is empty then.
    pub(super) async fn take(&self, queue: &str) -> Vec<Held> {
        let (_connection, channel) = self.channel().await;
        let mut held = Vec::new();
        while let Some(message) =
            channel.basic_get(queue.into(), BasicGetOptions { no_ack: true }).await.unwrap()
        {
            let properties = message.delivery.properties.clone();
            let key = properties.message_id().as_ref().map(|key| key.as_str().to_owned());
            held.push(Held { key: key.unwrap(), body: message.delivery.data.clone(), properties });
        }
        held
    }
}

/// A message that the broker holds.
pub(super) struct Held {
    pub(super) key: String,
    pub(super) body: Vec<u8>,
    pub(super) properties: BasicProperties,
}

impl Held {
    /// The text of a header.
    pub(super) fn header(&self, name: &str) -> Option<String> {
        match self.properties.headers().as_ref()?.inner().get(name)? {
            AMQPValue::LongString(text) => Some(String::from_utf8(text.as_bytes().to_vec()).unwrap()),
            other => panic!("{other:?}"),
        }
    }
}

async fn connect(port: u16) -> Result<Connection, lapin::Error> {
    let url = format!("amqp://{USER}:{PASSWORD}@127.0.0.1:{port}/%2f");
    Connection::connect(&url, ConnectionProperties::default()).await
}

/// Of a route to the queue.
pub(super) fn settings(port: u16) -> Settings {
    Settings::default()
        .with("url", format!("amqp://127.0.0.1:{port}"))
        .with("user", USER)
        .with("password", PASSWORD)
        .with("routing_key", QUEUE)
}
