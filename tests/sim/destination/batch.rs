//! A destination behind the whole protocol: batches, answers at once, completions later and mixed.

use std::sync::OnceLock;

use async_trait::async_trait;
use pillarbox_runtime::ItemStatus;
use pillarbox_runtime::Proxy;
use pillarbox_runtime::adapter::{
    BatchTransmitter, Begun, CommitConfirm, Done, Outgoing, SendError, TransmitBatch, Transmitted, Transport,
    TransportControl, TransportInfo,
};
use pillarbox_sim::history::Told;
use rand::Rng;

use super::{Ask, Destination, Treat, info};

#[derive(Debug)]
pub(super) struct Protocol {
    destination: Destination,
    proxy: OnceLock<Proxy>,
}

impl Protocol {
    pub(super) fn new(destination: Destination) -> Self {
        Self { destination, proxy: OnceLock::new() }
    }
}

impl Transport for Protocol {
    fn describe(&self) -> TransportInfo {
        info(&self.destination, "protocol")
    }
}

#[async_trait]
impl TransportControl for Protocol {
    async fn initialize(&self, proxy: Proxy) -> Result<(), SendError> {
        let _first_stays = self.proxy.set(proxy);
        Ok(())
    }

    async fn terminate(&self) {
        if !self.destination.world.is_calm() && self.destination.world.percent(20) {
            self.destination.world.mark("destination: does not end");
            std::future::pending::<()>().await;
        }
        self.destination.pause().await;
        self.destination.terminate().await;
    }
}

#[async_trait]
impl BatchTransmitter for Protocol {
    async fn get_batch(&self) -> Result<Box<dyn TransmitBatch>, SendError> {
        let world = &self.destination.world;
        let Some(proxy) = self.proxy.get() else { return Err(SendError::temporary("not initialised")) };
        if !world.is_calm() {
            match world.draw(|random| random.random_range(0..60)) {
                0 => return Err(SendError::temporary("no batch now")),
                1 => std::panic::resume_unwind(Box::new("a simulated panic")),
                2 => std::future::pending::<()>().await,
                _ => {}
            }
        }
        let messages_max = world.draw(|random| random.random_range(0..=12));
        let batch = Batch {
            destination: self.destination.clone(),
            proxy: proxy.clone(),
            messages_max,
            now: Vec::new(),
            later: Vec::new(),
        };
        Ok(Box::new(batch))
    }
}

#[derive(Debug)]
struct Batch {
    destination: Destination,
    proxy: Proxy,
    messages_max: usize,
    now: Vec<(Outgoing, Treat)>,
    later: Vec<(Outgoing, Treat)>,
}

#[async_trait]
impl TransmitBatch for Batch {
    async fn begin(&mut self) -> Result<Begun, SendError> {
        let world = &self.destination.world;
        if !world.is_calm() && world.percent(3) {
            return Err(SendError::temporary("cannot begin"));
        }
        Ok(Begun::at_most(self.messages_max))
    }

    fn transmit(&mut self, message: Outgoing) -> Result<Transmitted, SendError> {
        let destination = &self.destination;
        let treat = destination.draw();
        if treat == Treat::Panic {
            destination.fails(&message, SendError::temporary("panics"));
            std::panic::resume_unwind(Box::new("a simulated panic"));
        }
        if matches!(treat, Treat::Permanent | Treat::Temporary) && destination.world.percent(30) {
            let error = SendError::temporary("not into this batch");
            return Err(destination.fails(&message, error));
        }
        let pending =
            matches!(treat, Treat::LetGo | Treat::Twice | Treat::Ask(_) | Treat::Hang | Treat::Late);
        if pending || destination.world.percent(50) {
            self.later.push((message, treat));
            return Ok(Transmitted::Pending);
        }
        self.now.push((message, treat));
        Ok(Transmitted::Sent)
    }

    async fn done(self: Box<Self>, _confirm: Option<Box<dyn CommitConfirm>>) -> Result<Done, SendError> {
        let Self { destination, proxy, now, mut later, .. } = *self;
        if !destination.world.is_calm() && destination.world.percent(5) {
            destination.world.mark("destination: fails a whole batch");
            let panics = destination.world.percent(40);
            for (message, _) in now.iter().chain(&later) {
                destination.fails(message, SendError::temporary("the whole batch"));
            }
            if panics {
                std::panic::resume_unwind(Box::new("a simulated panic"));
            }
            return Err(SendError::temporary("the whole batch"));
        }
        while !later.is_empty() {
            let together = destination.world.draw(|random| random.random_range(1..=later.len()));
            let rest = later.split_off(together);
            let group = std::mem::replace(&mut later, rest);
            let (mine, proxy) = (destination.clone(), proxy.clone());
            destination.tasks.spawn(async move { complete(&mine, &proxy, group).await });
        }
        let mut done = Done::default();
        for (message, treat) in now {
            if let Err(error) = destination.carry_out(&message, treat).await {
                done.failed.push((message, error));
            }
        }
        Ok(done)
    }

    fn clear(&mut self) {
        self.now.clear();
        self.later.clear();
    }
}

/// Sends and completes messages that were accepted only, together.
pub(super) async fn complete(destination: &Destination, proxy: &Proxy, group: Vec<(Outgoing, Treat)>) {
    destination.pause().await;
    let mut twice = Vec::new();
    let mut outcomes = Vec::new();
    for (message, treat) in group {
        match treat {
            Treat::Hang => destination.keep(message),
            Treat::LetGo | Treat::Panic => {
                destination.fails(&message, SendError::temporary("let go of"));
            }
            Treat::Ask(ask) => outcomes.push((message, Outcome::Ask(ask))),
            treat => {
                if treat == Treat::Twice {
                    twice.push(message.clone());
                }
                let outcome = destination.carry_out(&message, treat).await;
                outcomes.push((message, outcome.map_or_else(Outcome::Failed, |()| Outcome::Sent)));
            }
        }
    }
    record(destination, proxy, outcomes).await;
    for message in twice {
        let Ok(mut batch) = proxy.batch() else { return };
        batch.delete(message);
        if let Ok(statuses) = batch.done().await
            && statuses.iter().any(|status| !status.is_applied())
        {
            destination.world.mark("second completion: refused");
        }
    }
}

enum Outcome {
    Sent,
    Failed(SendError),
    Ask(Ask),
}

async fn record(destination: &Destination, proxy: &Proxy, outcomes: Vec<(Outgoing, Outcome)>) {
    let Ok(mut batch) = proxy.batch() else { return };
    let error = || SendError::temporary("asked for by the adapter");
    let mut asked = Vec::new();
    for (message, outcome) in outcomes {
        match outcome {
            Outcome::Sent => batch.delete(message),
            Outcome::Failed(error) => batch.fail(message, error),
            Outcome::Ask(ask) => {
                destination.tell(&message, Told::Asked);
                match ask {
                    Ask::Suspend => batch.suspend(message, error()),
                    Ask::Backup => {
                        asked.push((batch.len(), message.clone()));
                        batch.move_to_backup(message, error());
                    }
                    // Within the policy: beyond it the adapter would decide alone.
                    Ask::Resubmit if message.retries_left() > 0 => {
                        let at = destination.world.clock.now().plus(destination.manners.pause);
                        batch.resubmit(message, at, error());
                    }
                    Ask::Resubmit | Ask::GiveBack => batch.give_back(message),
                }
            }
        }
    }
    let Ok(statuses) = batch.done().await else { return };
    // Where there is no backup route, the message is the adapter's still.
    let open = asked.into_iter().filter(|(place, _)| {
        statuses.get(*place).is_some_and(|status| matches!(status, ItemStatus::Refused(_)))
    });
    for (_, message) in open {
        destination.world.mark("refused move: suspended instead");
        let Ok(mut batch) = proxy.batch() else { return };
        batch.suspend(message, error());
        let _told = batch.done().await;
    }
}
