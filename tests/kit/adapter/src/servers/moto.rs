//! Moto's server, which speaks S3.

use std::process::Command;

use pillarbox_runtime::adapter::Settings;
use tempfile::TempDir;
use tokio::net::TcpStream;

use crate::peer::{Peer, free_port, tools};

/// A server without a bucket, which keeps everything in memory.
#[derive(Debug)]
pub struct Moto {
    /// The process.
    pub peer: Peer,
    /// Where it listens.
    pub port: u16,
    /// `http`, or `https` where it was given arguments for that.
    pub scheme: &'static str,
    _folder: TempDir,
}

impl Moto {
    /// Starts one with these arguments, a certificate say, and this environment.
    pub async fn start(arguments: &[String], environment: &[(&'static str, &'static str)]) -> Self {
        let (folder, port) = (tempfile::tempdir().unwrap(), free_port());
        let (arguments, environment) = (arguments.to_vec(), environment.to_vec());
        let scheme = if arguments.is_empty() { "http" } else { "https" };
        let peer = Peer::start("moto", folder.path(), move || {
            let mut command = Command::new("python3");
            command.args(["-m", "moto.server", "-H", "127.0.0.1", "-p", &port.to_string()]).args(&arguments);
            command.env("PYTHONPATH", tools().join("moto")).envs(environment.iter().copied());
            command
        });
        let mut server = Self { peer, port, scheme, _folder: folder };
        server.ready().await;
        server
    }

    /// Waits until it takes connections, without a request: those it may count.
    pub async fn ready(&mut self) {
        let port = self.port;
        self.peer.ready(async || TcpStream::connect(("127.0.0.1", port)).await.map(drop)).await;
    }

    /// Of a route to the bucket `orders`.
    #[must_use]
    pub fn settings(&self) -> Settings {
        self.settings_at(self.port)
    }

    /// The same, by another port of the loopback.
    #[must_use]
    pub fn settings_at(&self, port: u16) -> Settings {
        Settings::default()
            .with("url", "s3://orders")
            .with("endpoint", format!("{}://127.0.0.1:{port}", self.scheme))
            .with("access_key", "outbox")
            .with("secret_key", "hunter2hunter2")
    }
}
