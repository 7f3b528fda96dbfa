//! Mosquitto, which speaks MQTT.

use std::fs;
use std::process::{Command, Stdio};

use pillarbox_runtime::adapter::Settings;
use tempfile::TempDir;
use tokio::net::TcpStream;

use crate::peer::{Peer, certificates, free_port, program};

/// A broker that keeps what its readers have not read: who is to read `orders/#` subscribes first.
#[derive(Debug)]
pub struct Mosquitto {
    /// The process.
    pub peer: Peer,
    /// Where it listens.
    pub port: u16,
    /// Where it listens and speaks TLS.
    pub tls_port: u16,
    /// Its folder, `ca.crt` in it.
    pub folder: TempDir,
}

impl Mosquitto {
    /// Whom the broker knows.
    pub const USER: &str = "outbox";
    /// The user's password.
    pub const PASSWORD: &str = "hunter2hunter2";
    /// Where [`Mosquitto::settings_at`] sends to.
    pub const TOPIC: &str = "orders/new";

    /// Starts a broker that takes packets of so many bytes.
    pub async fn start(packet_bytes_max: usize) -> Self {
        Self::start_with(packet_bytes_max, "").await
    }

    /// With `more` in its configuration.
    pub async fn start_with(packet_bytes_max: usize, more: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (port, tls_port) = (free_port(), free_port());
        certificates(folder.path());
        let path = |name: &str| folder.path().join(name).display().to_string();
        let config = format!(
            "user root\npersistence true\npersistence_location {}/\nautosave_on_changes true\nautosave_interval 1\n\
             allow_anonymous false\npassword_file {}\nacl_file {}\nmax_packet_size {packet_bytes_max}\n\
             {more}\n\
             listener {port} 127.0.0.1\nlistener {tls_port} 127.0.0.1\ncafile {}\ncertfile {}\nkeyfile {}\n",
            folder.path().display(),
            path("passwords"),
            path("rights"),
            path("ca.crt"),
            path("server.crt"),
            path("server.key")
        );
        fs::write(path("mosquitto.conf"), config).unwrap();
        let rights = format!("user {}\ntopic readwrite orders/#\ntopic write nobody/#\n", Self::USER);
        fs::write(path("rights"), rights).unwrap();
        let mut passwords = Command::new(program("mosquitto_passwd"));
        passwords.args(["-b", "-c", &path("passwords"), Self::USER, Self::PASSWORD]).stderr(Stdio::null());
        assert!(passwords.status().unwrap().success(), "mosquitto_passwd writes no password");
        let config = path("mosquitto.conf");
        let peer = Peer::start("mosquitto", folder.path(), move || {
            let mut command = Command::new(program("mosquitto"));
            command.args(["-c", &config]);
            command
        });
        let mut broker = Self { peer, port, tls_port, folder };
        broker.ready().await;
        broker
    }

    /// Waits until it takes connections.
    pub async fn ready(&mut self) {
        let port = self.port;
        self.peer.ready(async || TcpStream::connect(("127.0.0.1", port)).await.map(drop)).await;
    }

    /// Of a route to the topic [`Mosquitto::TOPIC`], by this port of the loopback.
    #[must_use]
    pub fn settings_at(port: u16) -> Settings {
        Settings::default()
            .with("url", format!("mqtt://127.0.0.1:{port}"))
            .with("user", Self::USER)
            .with("password", Self::PASSWORD)
            .with("topic", Self::TOPIC)
    }
}
