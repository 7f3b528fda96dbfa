//! A Redis server that flushes before it answers.

use std::process::Command;
use std::sync::Arc;

use async_trait::async_trait;
use pillarbox_adapter_kit::peer::{Peer, free_port, program};
use pillarbox_adapter_kit::{Destination, Held, Subject};
use pillarbox_runtime::adapter::{AdapterKind, Settings};
use redis::RedisError;
use redis::aio::MultiplexedConnection;
use redis::streams::StreamRangeReply;
use tempfile::TempDir;

const PASSWORD: &str = "hunter2hunter2";

pub(crate) fn subjects() -> Vec<Box<dyn Subject>> {
    vec![Box::new(Stream)]
}

#[derive(Debug)]
struct Stream;

#[async_trait(?Send)]
impl Subject for Stream {
    fn name(&self) -> &'static str {
        "redis"
    }

    fn kind(&self) -> Arc<dyn AdapterKind> {
        crate::kind("redis")
    }

    async fn start(&self) -> Box<dyn Destination> {
        let folder = tempfile::tempdir().unwrap();
        let (port, data) = (free_port(), folder.path().to_owned());
        let peer = Peer::start("redis", folder.path(), move || {
            let mut command = Command::new(program("redis-server"));
            command.args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", "", "--dir"]);
            command.arg(&data).args(["--appendonly", "yes", "--appendfsync", "always"]);
            command.args(["--requirepass", PASSWORD]);
            command
        });
        let mut server = Server { peer, port, _folder: folder };
        server.ready().await;
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

async fn connect(port: u16) -> Result<MultiplexedConnection, RedisError> {
    let client = redis::Client::open(format!("redis://:{PASSWORD}@127.0.0.1:{port}/"))?;
    let mut connection = client.get_multiplexed_async_connection().await?;
    redis::cmd("PING").query_async::<String>(&mut connection).await?;
    Ok(connection)
}

#[async_trait(?Send)]
impl Destination for Server {
    fn port(&self) -> Option<u16> {
        Some(self.port)
    }

    fn settings(&self, port: u16) -> Settings {
        Settings::default()
            .with("url", format!("redis://127.0.0.1:{port}"))
            .with("password", PASSWORD)
            .with("stream", "orders")
            .with("body_bytes_max", 4 * 1024 * 1024)
            .with("connect_timeout", "1s")
            .with("timeout", "1s")
    }

    async fn held(&self) -> Vec<Held> {
        let mut range = redis::cmd("XRANGE");
        range.arg("orders").arg("-").arg("+");
        let found: StreamRangeReply =
            range.query_async(&mut connect(self.port).await.unwrap()).await.unwrap();
        let held = |entry: &redis::streams::StreamId| {
            let body: Vec<u8> = entry.get("body").unwrap();
            let (key, attempt): (String, u32) =
                (entry.get("send-key").unwrap(), entry.get("attempt").unwrap());
            let in_doubt = entry.get::<String>("in_doubt").as_deref() == Some("1");
            Held::new(body).key(key).attempt(attempt).in_doubt(in_doubt)
        };
        found.ids.iter().map(held).collect()
    }

    fn secrets(&self) -> Vec<String> {
        vec![PASSWORD.to_owned()]
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
