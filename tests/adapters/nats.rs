//! A NATS server that flushes before it answers, with a stream.

use std::fs;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use async_nats::ConnectOptions;
use async_nats::jetstream::stream::{Config, StorageType};
use async_nats::jetstream::{self, Context};
use async_trait::async_trait;
use pillarbox_adapter_kit::peer::{Peer, free_port, program};
use pillarbox_adapter_kit::{Destination, Held, Subject};
use pillarbox_runtime::adapter::{AdapterKind, Settings};
use tempfile::TempDir;

const TOKEN: &str = "hunter2hunter2";

pub(crate) fn subjects() -> Vec<Box<dyn Subject>> {
    vec![Box::new(Stream)]
}

#[derive(Debug)]
struct Stream;

#[async_trait(?Send)]
impl Subject for Stream {
    fn name(&self) -> &'static str {
        "nats"
    }

    fn kind(&self) -> Arc<dyn AdapterKind> {
        crate::kind("nats")
    }

    async fn start(&self) -> Box<dyn Destination> {
        let folder = tempfile::tempdir().unwrap();
        let (port, config) = (free_port(), folder.path().join("nats.conf"));
        let data = folder.path().join("data").display().to_string();
        let text = format!(
            "listen: \"127.0.0.1:{port}\"\nauthorization {{ token: {TOKEN:?} }}\n\
             jetstream {{ store_dir: {data:?}, sync_interval: always }}\n"
        );
        fs::write(&config, text).unwrap();
        let peer = Peer::start("nats", folder.path(), move || {
            let mut command = Command::new(program("nats-server"));
            command.arg("-c").arg(&config);
            command
        });
        let mut server = Server { peer, port, _folder: folder };
        server.ready().await;
        let stream = Config {
            name: "ORDERS".to_owned(),
            subjects: vec!["orders.*".to_owned()],
            storage: StorageType::File,
            duplicate_window: Duration::from_secs(3600),
            max_message_size: -1,
            ..Config::default()
        };
        connect(port).await.unwrap().create_stream(stream).await.unwrap();
        Box::new(server)
    }
}

#[derive(Debug)]
struct Server {
    peer: Peer,
    port: u16,
    _folder: TempDir,
}

impl Server {
    async fn ready(&mut self) {
        let port = self.port;
        self.peer.ready(async || connect(port).await.map(drop)).await;
    }
}

async fn connect(port: u16) -> Result<Context, String> {
    let options = ConnectOptions::new().token(TOKEN.to_owned());
    let client = options.connect(format!("nats://127.0.0.1:{port}")).await.map_err(|e| e.to_string())?;
    let context = jetstream::new(client);
    context.query_account().await.map_err(|e| e.to_string())?;
    Ok(context)
}

#[async_trait(?Send)]
impl Destination for Server {
    fn port(&self) -> Option<u16> {
        Some(self.port)
    }

    fn settings(&self, port: u16) -> Settings {
        Settings::default()
            .with("url", format!("nats://127.0.0.1:{port}"))
            .with("token", TOKEN)
            .with("subject", "orders.new")
            .with("window", "1h")
            .with("connect_timeout", "1s")
            .with("timeout", "1s")
    }

    async fn held(&self) -> Vec<Held> {
        let stream = connect(self.port).await.unwrap().get_stream("ORDERS").await.unwrap();
        let mut held = Vec::new();
        for sequence in 1..=stream.cached_info().state.last_sequence {
            let seen = stream.get_raw_message(sequence).await.unwrap();
            let header = |name: &str| seen.headers.get(name).unwrap().as_str().to_owned();
            let (key, attempt) = (header("Nats-Msg-Id"), header("x-pillarbox-attempt"));
            let in_doubt = seen.headers.get("x-pillarbox-in-doubt").is_some();
            let one = Held::new(seen.payload.clone()).key(key).attempt(attempt.parse().unwrap());
            held.push(one.in_doubt(in_doubt));
        }
        held
    }

    fn secrets(&self) -> Vec<String> {
        vec![TOKEN.to_owned()]
    }

    fn restarts(&self) -> bool {
        true
    }

    async fn kill(&mut self) {
        self.peer.kill();
    }

    async fn start_again(&mut self) {
        self.peer.start_again();
        self.ready().await;
    }
}
