//! NATS JetStream: one stream in a file that is flushed at every message (`sync_interval: always`), one pull consumer,
//! acknowledgements that the server answers.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use async_nats::jetstream::consumer::{PullConsumer, pull};
use std::future::IntoFuture as _;

use async_nats::jetstream::stream::{self, RetentionPolicy, StorageType};
use async_nats::jetstream::{self, Context};
use async_trait::async_trait;
use bytes::Bytes;
use futures_util::StreamExt as _;
use futures_util::future::try_join_all;
use pillarbox_benches::Bodies;

use super::server::{Server, free_port};
use super::{check, install};
use crate::client::{Client, Counts, Fault, Target};

const STREAM: &str = "outbox";
const CONSUMER: &str = "workers";
const PATIENCE: Duration = Duration::from_millis(50);

/// A server of one's own.
pub(super) struct Nats {
    url: String,
    bodies: Bodies,
}

pub(super) async fn start(folder: &Path, tools: &Path, bodies: Bodies) -> Result<(Nats, Server), Fault> {
    let port = free_port()?;
    let settings = folder.join("nats.conf");
    let data = folder.join("nats");
    let text = format!(
        "listen: \"127.0.0.1:{port}\"\njetstream {{ store_dir: {:?}, sync_interval: always }}\n",
        data.display().to_string()
    );
    std::fs::write(&settings, text)?;
    let mut command = Command::new(install::nats(tools)?);
    command.arg("-c").arg(&settings);
    let mut server = Server::start("nats", command, folder)?;
    let url = format!("nats://127.0.0.1:{port}");
    let context = server.wait(folder, || connect(&url)).await?;
    let stream = stream::Config {
        name: STREAM.to_owned(),
        subjects: vec![STREAM.to_owned()],
        retention: RetentionPolicy::WorkQueue,
        storage: StorageType::File,
        ..stream::Config::default()
    };
    let consumer = pull::Config {
        durable_name: Some(CONSUMER.to_owned()),
        max_ack_pending: 1_000_000,
        ..pull::Config::default()
    };
    context.create_stream(stream).await?.create_consumer(consumer).await?;
    Ok((Nats { url, bodies }, server))
}

async fn connect(url: &str) -> Result<Context, Fault> {
    Ok(jetstream::new(async_nats::connect(url).await?))
}

#[async_trait]
impl Target for Nats {
    async fn client(&self) -> Result<Box<dyn Client>, Fault> {
        let context = connect(&self.url).await?;
        let stream = context.get_stream_no_info(STREAM).await?;
        let consumer: PullConsumer = stream.get_consumer(CONSUMER).await?;
        Ok(Box::new(Session { context, consumer, bodies: self.bodies.clone(), taken: Vec::new() }))
    }

    fn counts(&self) -> Counts {
        Counts::default()
    }

    async fn close(&self) -> Result<(), Fault> {
        Ok(())
    }
}

/// One client.
struct Session {
    context: Context,
    consumer: PullConsumer,
    bodies: Bodies,
    taken: Vec<jetstream::Message>,
}

#[async_trait]
impl Client for Session {
    async fn submit(&mut self, bodies: &[Bytes]) -> Result<(), Fault> {
        let mut answers = Vec::with_capacity(bodies.len());
        for body in bodies {
            answers.push(self.context.publish(STREAM, body.clone()).await?.into_future());
        }
        try_join_all(answers).await?;
        Ok(())
    }

    async fn take(&mut self, count: usize) -> Result<usize, Fault> {
        self.taken.clear();
        let mut batch = self.consumer.batch().max_messages(count).expires(PATIENCE).messages().await?;
        while let Some(message) = batch.next().await {
            let message = message?;
            check(&self.bodies, &message.payload)?;
            self.taken.push(message);
        }
        Ok(self.taken.len())
    }

    async fn complete(&mut self) -> Result<(), Fault> {
        try_join_all(self.taken.iter().map(jetstream::Message::double_ack)).await?;
        Ok(())
    }
}
