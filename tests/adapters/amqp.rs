//! RabbitMQ with a durable queue. What it holds is read and never acknowledged, so it stays there.

use std::sync::Arc;

use async_trait::async_trait;
use lapin::options::{BasicGetOptions, QueueDeclareOptions};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{BasicProperties, Channel, Connection, ConnectionProperties};
use pillarbox_adapter_kit::servers::RabbitMq;
use pillarbox_adapter_kit::{Destination, Held, Subject};
use pillarbox_runtime::adapter::{AdapterKind, Settings};
use tokio::sync::Mutex;

const BODY_BYTES_MAX: usize = 1024 * 1024;

pub(crate) fn subjects() -> Vec<Box<dyn Subject>> {
    vec![Box::new(Queue)]
}

#[derive(Debug)]
struct Queue;

#[async_trait(?Send)]
impl Subject for Queue {
    fn name(&self) -> &'static str {
        "amqp"
    }

    fn kind(&self) -> Arc<dyn AdapterKind> {
        crate::kind("amqp")
    }

    async fn start(&self) -> Box<dyn Destination> {
        let mut server = Server { rabbit: RabbitMq::start(BODY_BYTES_MAX), reader: Mutex::default() };
        let url = server.rabbit.url();
        server.rabbit.peer.ready(async || connect(&url).await.map(drop)).await;
        declare(&url, QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() }).await.unwrap();
        // It knows its queues after a crash only once it has written down that there are any.
        server.rabbit.control(&["eval", "mnesia:sync_log()."]);
        Box::new(server)
    }
}

#[derive(Debug)]
struct Server {
    rabbit: RabbitMq,
    /// Whoever has read everything until now, while the broker lives.
    reader: Mutex<Option<Reader>>,
}

#[derive(Debug)]
struct Reader {
    _connection: Connection,
    channel: Channel,
    held: Vec<Held>,
}

async fn connect(url: &str) -> Result<(Connection, Channel), lapin::Error> {
    let connection = Connection::connect(url, ConnectionProperties::default()).await?;
    let channel = connection.create_channel().await?;
    Ok((connection, channel))
}

async fn declare(url: &str, options: QueueDeclareOptions) -> Result<(), lapin::Error> {
    let (_connection, channel) = connect(url).await?;
    channel.queue_declare(RabbitMq::QUEUE.into(), options, FieldTable::default()).await.map(drop)
}

fn held(properties: &BasicProperties, body: Vec<u8>) -> Held {
    let header = |name: &str| match properties.headers().as_ref()?.inner().get(name)? {
        AMQPValue::LongString(text) => Some(String::from_utf8(text.as_bytes().to_vec()).unwrap()),
        _ => None,
    };
    let key = properties.message_id().as_ref().unwrap().as_str();
    let attempt = header("x-pillarbox-attempt").unwrap().parse().unwrap();
    Held::new(body).key(key).attempt(attempt).in_doubt(header("x-pillarbox-in-doubt").is_some())
}

#[async_trait(?Send)]
impl Destination for Server {
    fn port(&self) -> Option<u16> {
        Some(self.rabbit.port)
    }

    fn settings(&self, port: u16) -> Settings {
        let settings = RabbitMq::settings_at(port).with("body_bytes_max", BODY_BYTES_MAX);
        settings.with("connect_timeout", "1s").with("timeout", "1s")
    }

    async fn held(&self) -> Vec<Held> {
        let mut reader = self.reader.lock().await;
        if reader.is_none() {
            let (connection, channel) = connect(&self.rabbit.url()).await.unwrap();
            *reader = Some(Reader { _connection: connection, channel, held: Vec::new() });
        }
        let reader = reader.as_mut().unwrap();
        let next = || reader.channel.basic_get(RabbitMq::QUEUE.into(), BasicGetOptions { no_ack: false });
        while let Some(message) = next().await.unwrap() {
            reader.held.push(held(&message.delivery.properties, message.delivery.data));
        }
        reader.held.clone()
    }

    fn secrets(&self) -> Vec<String> {
        vec![RabbitMq::PASSWORD.to_owned()]
    }

    fn restarts(&self) -> bool {
        true
    }

    async fn kill(&mut self) {
        self.rabbit.peer.kill();
        // Whoever comes after the crash is given all of it again.
        *self.reader.get_mut() = None;
    }

    async fn start_again(&mut self) {
        self.rabbit.peer.start_again();
        let url = self.rabbit.url();
        // It lets everybody in before it has its queues again.
        let options = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
        self.rabbit.peer.ready(async || declare(&url, options).await).await;
    }
}
