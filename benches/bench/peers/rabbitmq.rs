//! RabbitMQ: one quorum queue (its log is flushed before a confirm), publisher confirms, consumers with manual
//! acknowledgements. The protocol does not confirm an acknowledgement: what this system calls completed may come back
//! after a power cut.

use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::StreamExt as _;
use lapin::message::Delivery;
use lapin::options::{
    BasicAckOptions, BasicConsumeOptions, BasicPublishOptions, BasicQosOptions, ConfirmSelectOptions,
    QueueDeclareOptions,
};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{BasicProperties, Channel, Connection, ConnectionProperties};
use pillarbox_benches::Bodies;

use super::server::{Server, free_port};
use super::{check, install};
use crate::client::{Client, Counts, Fault, Target};

const QUEUE: &str = "outbox";
const CONNECTIONS: usize = 4;

/// How long a client waits for a message before it looks whether the measurement is over.
const PATIENCE: Duration = Duration::from_millis(20);

/// A node of one's own.
pub(super) struct Rabbit {
    connections: Vec<Connection>,
    next: AtomicUsize,
    /// Messages that a consumer is given ahead of its acknowledgements: more would keep them from the others.
    prefetch: u16,
    bodies: Bodies,
}

pub(super) async fn start(folder: &Path, bodies: Bodies, batch: usize) -> Result<(Rabbit, Server), Fault> {
    let data = folder.join("rabbitmq");
    std::fs::create_dir_all(&data)?;
    let (port, distribution, names) = (free_port()?, free_port()?, free_port()?);
    let mut mapper = Command::new(install::find("epmd")?);
    mapper.args(["-address", "127.0.0.1", "-port", &names.to_string()]);
    let mapper = Server::start("epmd", mapper, folder)?;
    let mut command = Command::new(install::find("rabbitmq-server")?);
    std::fs::write(data.join("plugins"), "[].\n")?;
    std::fs::write(data.join("rabbitmq.conf"), "")?;
    command
        .env("HOME", &data)
        .env("ERL_EPMD_PORT", names.to_string())
        .env("ERL_EPMD_ADDRESS", "127.0.0.1")
        .env("RABBITMQ_NODENAME", format!("bench{port}@localhost"))
        .env("RABBITMQ_NODE_IP_ADDRESS", "127.0.0.1")
        .env("RABBITMQ_NODE_PORT", port.to_string())
        .env("RABBITMQ_DIST_PORT", distribution.to_string())
        .env("RABBITMQ_MNESIA_BASE", data.join("mnesia"))
        .env("RABBITMQ_LOG_BASE", data.join("log"))
        .env("RABBITMQ_CONFIG_FILE", data.join("rabbitmq.conf"))
        .env("RABBITMQ_CONF_ENV_FILE", data.join("none"))
        .env("RABBITMQ_ENABLED_PLUGINS_FILE", data.join("plugins"));
    let mut server = Server::start("rabbitmq", command, folder)?.beside(mapper);
    let url = format!("amqp://guest:guest@127.0.0.1:{port}/%2f");
    let first = server.wait(folder, || connect(&url)).await?;
    let channel = first.create_channel().await?;
    let mut arguments = FieldTable::default();
    arguments.insert("x-queue-type".into(), AMQPValue::LongString("quorum".into()));
    let options = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
    channel.queue_declare(QUEUE.into(), options, arguments).await?;
    let mut connections = vec![first];
    while connections.len() < CONNECTIONS {
        connections.push(connect(&url).await?);
    }
    Ok((Rabbit { connections, next: AtomicUsize::new(0), prefetch: u16::try_from(batch)?, bodies }, server))
}

async fn connect(url: &str) -> Result<Connection, Fault> {
    Ok(Connection::connect(url, ConnectionProperties::default()).await?)
}

#[async_trait]
impl Target for Rabbit {
    async fn client(&self) -> Result<Box<dyn Client>, Fault> {
        let place = self.next.fetch_add(1, Ordering::Relaxed) % self.connections.len();
        let connection = self.connections.get(place).ok_or("no connection")?;
        let channel = connection.create_channel().await?;
        channel.confirm_select(ConfirmSelectOptions::default()).await?;
        channel.basic_qos(self.prefetch, BasicQosOptions::default()).await?;
        Ok(Box::new(Session { channel, consumer: None, bodies: self.bodies.clone(), taken: Vec::new() }))
    }

    fn counts(&self) -> Counts {
        Counts::default()
    }

    async fn close(&self) -> Result<(), Fault> {
        for connection in &self.connections {
            connection.close(200, "done".into()).await?;
        }
        Ok(())
    }
}

/// One client.
struct Session {
    channel: Channel,
    consumer: Option<lapin::Consumer>,
    bodies: Bodies,
    taken: Vec<Delivery>,
}

#[async_trait]
impl Client for Session {
    async fn submit(&mut self, bodies: &[Bytes]) -> Result<(), Fault> {
        let mut confirms = Vec::with_capacity(bodies.len());
        for body in bodies {
            let persistent = BasicProperties::default().with_delivery_mode(2);
            let options = BasicPublishOptions::default();
            confirms
                .push(self.channel.basic_publish("".into(), QUEUE.into(), options, body, persistent).await?);
        }
        for confirm in confirms {
            if !confirm.await?.is_ack() {
                return Err("a message was not confirmed".into());
            }
        }
        Ok(())
    }

    async fn take(&mut self, count: usize) -> Result<usize, Fault> {
        let consumer = match &mut self.consumer {
            Some(consumer) => consumer,
            none => {
                let options = BasicConsumeOptions::default();
                let begun =
                    self.channel.basic_consume(QUEUE.into(), "".into(), options, FieldTable::default());
                none.insert(begun.await?)
            }
        };
        self.taken.clear();
        while self.taken.len() < count {
            match tokio::time::timeout(PATIENCE, consumer.next()).await {
                Ok(Some(delivery)) => {
                    let delivery = delivery?;
                    check(&self.bodies, &delivery.data)?;
                    self.taken.push(delivery);
                }
                Ok(None) => return Err("the consumer ended".into()),
                Err(_elapsed) => break,
            }
        }
        Ok(self.taken.len())
    }

    async fn complete(&mut self) -> Result<(), Fault> {
        // All of them and what is below them: everything older of this channel was acknowledged before.
        let last =
            self.taken.iter().max_by_key(|delivery| delivery.delivery_tag).ok_or("nothing was taken")?;
        self.channel.basic_ack(last.delivery_tag, BasicAckOptions { multiple: true }).await?;
        self.taken.clear();
        Ok(())
    }
}
