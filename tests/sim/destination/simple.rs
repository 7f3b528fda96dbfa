//! Destinations behind the small traits: one at a time, many at once, each by the protocol.

use std::sync::OnceLock;

use async_trait::async_trait;
use pillarbox_runtime::Proxy;
use pillarbox_runtime::adapter::{
    BatchSender, Outgoing, Requester, SendError, Sender, Transmitted, Transmitter, Transport,
    TransportControl, TransportInfo,
};
use pillarbox_sim::history::{What, body_hash};
use pillarbox_store::Answer;
use rand::{Rng, RngCore};

use super::{Destination, Treat, info, to};
use crate::destination::batch::complete;
use crate::plan::pick;

/// A [`Sender`].
#[derive(Debug)]
pub(super) struct One(pub(super) Destination);

impl Transport for One {
    fn describe(&self) -> TransportInfo {
        info(&self.0, "one")
    }
}

#[async_trait]
impl Sender for One {
    async fn send(&self, message: &Outgoing) -> Result<(), SendError> {
        let treat = self.0.draw();
        self.0.carry_out(message, treat).await
    }

    async fn close(&self) {
        self.0.terminate().await;
    }
}

/// A [`Requester`].
#[derive(Debug)]
pub(super) struct Asked(pub(super) Destination);

impl Transport for Asked {
    fn describe(&self) -> TransportInfo {
        info(&self.0, "asked")
    }
}

#[async_trait]
impl Requester for Asked {
    async fn request(&self, message: &Outgoing) -> Result<Option<Answer>, SendError> {
        let treat = self.0.draw();
        self.0.carry_out(message, treat).await?;
        let body = self.0.world.draw(|random| {
            let most = *pick(random, &[0, 10, 2_000, 30_000]);
            let mut body = vec![0; random.random_range(0..=most)];
            random.fill_bytes(&mut body);
            (most > 0).then_some(body)
        });
        let (to, attempt) = (to(message), message.attempt());
        self.0.world.record(What::Replied { to, attempt, answer: body.as_deref().map(body_hash) });
        self.0.world.mark(if body.is_some() { "reply: given" } else { "reply: none" });
        Ok(body.and_then(|body| Answer::new(body).ok()))
    }

    async fn close(&self) {
        self.0.terminate().await;
    }
}

/// A [`BatchSender`].
#[derive(Debug)]
pub(super) struct Many(pub(super) Destination);

impl Transport for Many {
    fn describe(&self) -> TransportInfo {
        info(&self.0, "many")
    }
}

#[async_trait]
impl BatchSender for Many {
    fn messages_max(&self) -> usize {
        7
    }

    async fn send_batch(&self, messages: &[Outgoing]) -> Vec<Result<(), SendError>> {
        let mut outcomes = Vec::new();
        for message in messages {
            let treat = match self.0.draw() {
                // A panic, or a hang, is the whole batch's: only before anything else was told of it.
                Treat::Panic if outcomes.is_empty() => {
                    for message in messages {
                        self.0.fails(message, SendError::temporary("panics"));
                    }
                    std::panic::resume_unwind(Box::new("a simulated panic"))
                }
                Treat::Hang | Treat::Panic | Treat::Late if !outcomes.is_empty() => Treat::Temporary,
                // No outcome for this one and those after it.
                Treat::LetGo => {
                    let rest = messages.get(outcomes.len()..).unwrap_or_default();
                    for message in rest {
                        self.0.fails(message, SendError::temporary("without an outcome"));
                    }
                    return outcomes;
                }
                treat => treat,
            };
            outcomes.push(self.0.carry_out(message, treat).await);
        }
        outcomes
    }

    async fn close(&self) {
        self.0.terminate().await;
    }
}

/// A [`Transmitter`]: some messages with its answer, some through the proxy.
#[derive(Debug)]
pub(super) struct Each {
    destination: Destination,
    proxy: OnceLock<Proxy>,
}

impl Each {
    pub(super) fn new(destination: Destination) -> Self {
        Self { destination, proxy: OnceLock::new() }
    }
}

impl Transport for Each {
    fn describe(&self) -> TransportInfo {
        info(&self.destination, "each")
    }
}

#[async_trait]
impl TransportControl for Each {
    async fn initialize(&self, proxy: Proxy) -> Result<(), SendError> {
        if !self.destination.world.is_calm() && self.destination.world.percent(10) {
            self.destination.world.mark("destination: cannot be opened");
            return Err(SendError::temporary("no connection"));
        }
        let _first_stays = self.proxy.set(proxy);
        Ok(())
    }

    async fn terminate(&self) {
        self.destination.terminate().await;
    }
}

#[async_trait]
impl Transmitter for Each {
    async fn transmit(&self, message: Outgoing) -> Result<Transmitted, SendError> {
        let treat = self.destination.draw();
        let pending = matches!(treat, Treat::LetGo | Treat::Twice | Treat::Ask(_));
        let Some(proxy) = self.proxy.get().filter(|_| pending || self.destination.world.percent(20)) else {
            self.destination.carry_out(&message, treat).await?;
            return Ok(Transmitted::Sent);
        };
        let (destination, proxy) = (self.destination.clone(), proxy.clone());
        let tasks = destination.tasks.clone();
        tasks.spawn(async move { complete(&destination, &proxy, vec![(message, treat)]).await });
        Ok(Transmitted::Pending)
    }
}
