//! A real broker for the tests.

use lapin::options::{BasicGetOptions, QueueDeclareOptions};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{BasicProperties, Channel, Connection, ConnectionProperties};
use pillarbox_runtime::adapter::Settings;

use crate::servers::RabbitMq;

/// The queue that the tests' messages go to.
pub(super) const QUEUE: &str = RabbitMq::QUEUE;
/// The longest message that it takes.
pub(super) const BODY_BYTES_MAX: usize = 1024 * 1024;

/// A node of its own.
pub(super) struct Broker {
    pub(super) rabbit: RabbitMq,
}

impl Broker {
    /// Starts a broker with a durable queue.
    pub(super) async fn start() -> Self {
        let mut broker = Self { rabbit: RabbitMq::start(BODY_BYTES_MAX) };
        broker.ready().await;
        broker.queue(QUEUE, FieldTable::default()).await;
        broker
    }

    async fn ready(&mut self) {
        let url = self.rabbit.url();
        self.rabbit.peer.ready(async || connect(&url).await.map(drop)).await;
    }

    pub(super) async fn crash(&mut self) {
        self.rabbit.peer.kill();
        self.start_again().await;
    }

    /// It lets everybody in before it has its queues again.
    pub(super) async fn start_again(&mut self) {
        self.rabbit.peer.start_again();
        let url = self.rabbit.url();
        let probe = async || {
            let connection = connect(&url).await?;
            let options = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
            let channel = connection.create_channel().await?;
            channel.queue_declare(QUEUE.into(), options, FieldTable::default()).await.map(drop)
        };
        self.rabbit.peer.ready(probe).await;
    }

    pub(super) fn settings(&self) -> Settings {
        RabbitMq::settings_at(self.rabbit.port)
    }

    pub(super) async fn channel(&self) -> (Connection, Channel) {
        let connection = connect(&self.rabbit.url()).await.unwrap();
        let channel = connection.create_channel().await.unwrap();
        (connection, channel)
    }

    /// Makes a durable queue.
    pub(super) async fn queue(&self, name: &str, arguments: FieldTable) {
        let (_connection, channel) = self.channel().await;
        let options = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
        channel.queue_declare(name.into(), options, arguments).await.unwrap();
    }

    /// What the queue holds, in order; it is empty then.
    pub(super) async fn take(&self, queue: &str) -> Vec<Held> {
        let (_connection, channel) = self.channel().await;
        let mut held = Vec::new();
        while let Some(message) =
            channel.basic_get(queue.into(), BasicGetOptions { no_ack: true }).await.unwrap()
        {
            let properties = message.delivery.properties.clone();
            let key = properties.message_id().as_ref().map(|key| key.as_str().to_owned());
            held.push(Held { key: key.unwrap(), body: message.delivery.data.clone(), properties });
        }
        held
    }
}

/// A message that the broker holds.
pub(super) struct Held {
    pub(super) key: String,
    pub(super) body: Vec<u8>,
    pub(super) properties: BasicProperties,
}

impl Held {
    /// The text of a header.
    pub(super) fn header(&self, name: &str) -> Option<String> {
        match self.properties.headers().as_ref()?.inner().get(name)? {
            AMQPValue::LongString(text) => Some(String::from_utf8(text.as_bytes().to_vec()).unwrap()),
            other => panic!("{other:?}"),
        }
    }
}

async fn connect(url: &str) -> Result<Connection, lapin::Error> {
    Connection::connect(url, ConnectionProperties::default()).await
}
