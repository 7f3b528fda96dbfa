//! Redis streams: an append-only file that is flushed before every answer (`appendfsync always`), one stream, one group
//! of consumers. A batch is a transaction.

use std::path::Path;
use std::process::Command;

use async_trait::async_trait;
use bytes::Bytes;
use pillarbox_benches::Bodies;
use redis::aio::MultiplexedConnection;
use redis::streams::StreamReadReply;

use super::server::{Server, free_port};
use super::{check, install};
use crate::client::{Client, Counts, Fault, Target};

const STREAM: &str = "outbox";
const GROUP: &str = "workers";

/// A server of one's own.
pub(super) struct Redis {
    client: redis::Client,
    bodies: Bodies,
}

pub(super) async fn start(folder: &Path, bodies: Bodies) -> Result<(Redis, Server), Fault> {
    let data = folder.join("redis");
    std::fs::create_dir_all(&data)?;
    let port = free_port()?;
    let mut command = Command::new(install::find("redis-server")?);
    command.args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--dir"]).arg(&data);
    command.args(["--appendonly", "yes", "--appendfsync", "always", "--save", ""]);
    let mut server = Server::start("redis", command, folder)?;
    let client = redis::Client::open(format!("redis://127.0.0.1:{port}/"))?;
    let mut connection = server.wait(folder, || connect(&client)).await?;
    let mut create = redis::cmd("XGROUP");
    create.arg("CREATE").arg(STREAM).arg(GROUP).arg("0").arg("MKSTREAM");
    create.query_async::<()>(&mut connection).await?;
    Ok((Redis { client, bodies }, server))
}

async fn connect(client: &redis::Client) -> Result<MultiplexedConnection, Fault> {
    Ok(client.get_multiplexed_async_connection().await?)
}

#[async_trait]
impl Target for Redis {
    async fn client(&self) -> Result<Box<dyn Client>, Fault> {
        let connection = connect(&self.client).await?;
        Ok(Box::new(Consumer { connection, bodies: self.bodies.clone(), taken: Vec::new() }))
    }

    fn counts(&self) -> Counts {
        Counts::default()
    }

    async fn close(&self) -> Result<(), Fault> {
        Ok(())
    }
}

/// One client.
struct Consumer {
    connection: MultiplexedConnection,
    bodies: Bodies,
    taken: Vec<String>,
}

#[async_trait]
impl Client for Consumer {
    async fn submit(&mut self, bodies: &[Bytes]) -> Result<(), Fault> {
        let mut pipe = redis::pipe();
        if bodies.len() > 1 {
            pipe.atomic();
        }
        for body in bodies {
            pipe.cmd("XADD").arg(STREAM).arg("*").arg("body").arg(body.as_ref()).ignore();
        }
        Ok(pipe.query_async::<()>(&mut self.connection).await?)
    }

    async fn take(&mut self, count: usize) -> Result<usize, Fault> {
        let mut read = redis::cmd("XREADGROUP");
        read.arg("GROUP")
            .arg(GROUP)
            .arg("worker")
            .arg("COUNT")
            .arg(count)
            .arg("STREAMS")
            .arg(STREAM)
            .arg(">");
        let reply: Option<StreamReadReply> = read.query_async(&mut self.connection).await?;
        self.taken.clear();
        for entry in reply.into_iter().flat_map(|reply| reply.keys).flat_map(|key| key.ids) {
            let body: Bytes = entry.get("body").ok_or("an entry has no body")?;
            check(&self.bodies, &body)?;
            self.taken.push(entry.id);
        }
        Ok(self.taken.len())
    }

    async fn complete(&mut self) -> Result<(), Fault> {
        let mut pipe = redis::pipe();
        pipe.atomic();
        pipe.cmd("XACK").arg(STREAM).arg(GROUP).arg(&self.taken).ignore();
        pipe.cmd("XDEL").arg(STREAM).arg(&self.taken).ignore();
        Ok(pipe.query_async::<()>(&mut self.connection).await?)
    }
}
