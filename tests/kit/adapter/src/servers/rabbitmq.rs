//! RabbitMQ, which speaks AMQP 0-9-1.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;

use pillarbox_runtime::adapter::Settings;
use tempfile::TempDir;

use crate::peer::{Peer, certificates, free_port, program};

/// A node of its own, with what it needs to find its name, and without a queue. Its log tells when it is ready; its user
/// asks it.
#[derive(Debug)]
pub struct RabbitMq {
    /// The process.
    pub peer: Peer,
    /// Where it listens.
    pub port: u16,
    /// Where it listens and speaks TLS.
    pub tls_port: u16,
    /// Its folder, `ca.crt` in it.
    pub folder: TempDir,
    _names: Peer,
    node: Node,
}

/// What says which node it is.
#[derive(Debug, Clone)]
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

impl RabbitMq {
    /// Whom the broker knows. Its usual guest is nobody to it.
    pub const USER: &str = "outbox";
    /// The user's password.
    pub const PASSWORD: &str = "hunter2hunter2";
    /// Where [`RabbitMq::settings_at`] sends to.
    pub const QUEUE: &str = "orders";

    /// Starts a node that takes messages of so many bytes.
    #[must_use]
    pub fn start(body_bytes_max: usize) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (port, tls_port) = (free_port(), free_port());
        certificates(folder.path());
        let path = |name: &str| folder.path().join(name).display().to_string();
        let config = format!(
            "listeners.tcp.1 = 127.0.0.1:{port}\nlisteners.ssl.1 = 127.0.0.1:{tls_port}\n\
             ssl_options.cacertfile = {}\nssl_options.certfile = {}\nssl_options.keyfile = {}\n\
             ssl_options.verify = verify_none\nssl_options.fail_if_no_peer_cert = false\n\
             default_user = {}\ndefault_pass = {}\nmax_message_size = {body_bytes_max}\n\
             disk_free_limit.absolute = 1MB\n",
            path("ca.crt"),
            path("server.crt"),
            path("server.key"),
            Self::USER,
            Self::PASSWORD,
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
        Self { peer, port, tls_port, folder, _names: names, node }
    }

    /// Tells the broker to do something, by its own command line.
    pub fn control(&self, words: &[&str]) {
        let ended = self.node.command("rabbitmqctl").args(words).output().unwrap();
        assert!(ended.status.success(), "{words:?}: {ended:?}");
    }

    /// Where a client connects.
    #[must_use]
    pub fn url(&self) -> String {
        format!("amqp://{}:{}@127.0.0.1:{}/%2f", Self::USER, Self::PASSWORD, self.port)
    }

    /// Of a route to the queue [`RabbitMq::QUEUE`], by this port of the loopback.
    #[must_use]
    pub fn settings_at(port: u16) -> Settings {
        Settings::default()
            .with("url", format!("amqp://127.0.0.1:{port}"))
            .with("user", Self::USER)
            .with("password", Self::PASSWORD)
            .with("routing_key", Self::QUEUE)
    }
}
