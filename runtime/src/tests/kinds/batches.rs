//! Synchronous and asynchronous batches: collected by `transmit`, sent by or after `done`.

use async_trait::async_trait;

use super::super::kit::{body, info};
use super::world::{World, crashes, done, undisturbed};
use crate::Proxy;
use crate::adapter::{
    Adapter, BatchTransmitter, Begun, CommitConfirm, Done, Outgoing, SendError, TransmitBatch, Transmitted,
    Transport, TransportControl, TransportInfo,
};

/// Sends inside `done`, or in a task of its own after it.
#[derive(Debug, Clone)]
struct InBatches {
    world: World,
    is_synchronous: bool,
    /// How many deletions go into one completion batch.
    grouped: usize,
}

impl Transport for InBatches {
    fn describe(&self) -> TransportInfo {
        info("batches")
    }
}

#[async_trait]
impl TransportControl for InBatches {
    async fn initialize(&self, proxy: Proxy) -> Result<(), SendError> {
        self.world.keep(proxy);
        Ok(())
    }
}

#[async_trait]
impl BatchTransmitter for InBatches {
    async fn get_batch(&self) -> Result<Box<dyn TransmitBatch>, SendError> {
        self.world.step("get_batch").await;
        Ok(Box::new(Collected { of: self.clone(), messages: Vec::new() }))
    }
}

#[derive(Debug)]
struct Collected {
    of: InBatches,
    messages: Vec<Outgoing>,
}

#[async_trait]
impl TransmitBatch for Collected {
    async fn begin(&mut self) -> Result<Begun, SendError> {
        self.of.world.step("begin").await;
        Ok(Begun::at_most(3))
    }

    fn transmit(&mut self, message: Outgoing) -> Result<Transmitted, SendError> {
        self.of.world.note(format!("transmit {}", body(&message)));
        self.messages.push(message);
        Ok(if self.of.is_synchronous { Transmitted::Sent } else { Transmitted::Pending })
    }

    async fn done(self: Box<Self>, confirm: Option<Box<dyn CommitConfirm>>) -> Result<Done, SendError> {
        assert!(confirm.is_none(), "no transaction was announced");
        self.of.world.step("done").await;
        let Self { of, messages } = *self;
        if of.is_synchronous {
            for message in messages {
                of.world.send(&body(&message)).await;
            }
        } else {
            of.world.proxy().tasks().spawn(of.clone().send(messages));
        }
        Ok(Done::default())
    }

    fn clear(&mut self) {
        self.messages.clear();
    }
}

impl InBatches {
    async fn send(self, messages: Vec<Outgoing>) {
        for message in &messages {
            self.world.send(&body(message)).await;
        }
        for group in messages.chunks(self.grouped) {
            self.world.step("proxy batch").await;
            let mut batch = self.world.proxy().batch().unwrap();
            group.iter().for_each(|message| batch.delete(message.clone()));
            let _ends_with_the_world = batch.done().await;
            self.world.step("completed").await;
        }
    }
}

fn synchronous(world: &World) -> Adapter {
    Adapter::batch_transmitter(InBatches { world: world.clone(), is_synchronous: true, grouped: 0 })
}

fn asynchronous(world: &World) -> Adapter {
    Adapter::batch_transmitter(InBatches { world: world.clone(), is_synchronous: false, grouped: 3 })
}

/// One outbound batch over several completion batches.
fn split(world: &World) -> Adapter {
    Adapter::batch_transmitter(InBatches { world: world.clone(), is_synchronous: false, grouped: 2 })
}

#[tokio::test(start_paused = true)]
async fn a_synchronous_batch_is_sent_by_done_and_deleted_by_the_engine_in_one_step() {
    let (steps, wire) = undisturbed(synchronous, &["a", "b"]).await;
    let collected = ["get_batch", "begin", "transmit a", "transmit b", "done"];
    assert_eq!(steps, [collected.as_slice(), &["send a", "send b", "box: delete 2"]].concat());
    assert_eq!(wire, ["a", "b"]);
}

#[tokio::test(start_paused = true)]
async fn a_crash_repeats_at_most_a_synchronous_batch() {
    let crashes = crashes(synchronous, &["a", "b"]).await;
    let (wires, recorded): (Vec<_>, Vec<_>) =
        crashes.iter().map(|crash| (crash.wire.len(), done(&crash.stand))).unzip();
    assert_eq!(wires, [0, 0, 0, 0, 0, 0, 1, 2], "{crashes:?}");
    assert_eq!(recorded, [0; 8], "{crashes:?}");
}

/// Step by step the sequence of the original's page on asynchronous batches.
#[tokio::test(start_paused = true)]
async fn an_asynchronous_batch_takes_the_originals_steps() {
    let (steps, wire) = undisturbed(asynchronous, &["a", "b", "c"]).await;
    let collected = ["get_batch", "begin", "transmit a", "transmit b", "transmit c", "done"];
    let sent = ["send a", "send b", "send c"];
    let completed = ["proxy batch", "box: delete 3", "completed"];
    assert_eq!(steps, [collected.as_slice(), &sent, &completed].concat());
    assert_eq!(wire, ["a", "b", "c"]);
}

#[tokio::test(start_paused = true)]
async fn a_crash_repeats_what_an_asynchronous_batch_had_sent_and_not_deleted() {
    let crashes = crashes(asynchronous, &["a", "b", "c"]).await;
    let unrecorded: Vec<_> = crashes.iter().map(|crash| crash.wire.len() - done(&crash.stand)).collect();
    assert_eq!(unrecorded, [0, 0, 0, 0, 0, 0, 0, 1, 2, 3, 3, 0], "{crashes:?}");
    // All of a completion batch or none of it.
    assert!(crashes.iter().all(|crash| [0, 3].contains(&done(&crash.stand))), "{crashes:?}");
}

#[tokio::test(start_paused = true)]
async fn one_batch_may_be_completed_by_several() {
    let (steps, _) = undisturbed(split, &["a", "b", "c"]).await;
    let completed =
        ["proxy batch", "box: delete 2", "completed", "proxy batch", "box: delete 1", "completed"];
    assert_eq!(steps[9..], completed);
    let crashes = crashes(split, &["a", "b", "c"]).await;
    let recorded: Vec<_> = crashes.iter().skip(9).map(|crash| done(&crash.stand)).collect();
    assert_eq!(recorded, [0, 0, 2, 2, 2, 3], "{crashes:?}");
}

/// Keeps what it is given until it is the third, over as many batches as that takes.
#[derive(Debug, Clone)]
struct Hoarding(InBatches, std::sync::Arc<std::sync::Mutex<Vec<Outgoing>>>);

impl Transport for Hoarding {
    fn describe(&self) -> TransportInfo {
        info("hoarding")
    }
}

#[async_trait]
impl TransportControl for Hoarding {
    async fn initialize(&self, proxy: Proxy) -> Result<(), SendError> {
        self.0.initialize(proxy).await
    }
}

#[async_trait]
impl BatchTransmitter for Hoarding {
    async fn get_batch(&self) -> Result<Box<dyn TransmitBatch>, SendError> {
        Ok(Box::new(Hoard(self.clone(), Vec::new())))
    }
}

#[derive(Debug)]
struct Hoard(Hoarding, Vec<Outgoing>);

#[async_trait]
impl TransmitBatch for Hoard {
    async fn begin(&mut self) -> Result<Begun, SendError> {
        Ok(Begun::at_most(1))
    }

    fn transmit(&mut self, message: Outgoing) -> Result<Transmitted, SendError> {
        self.1.push(message);
        Ok(Transmitted::Pending)
    }

    async fn done(self: Box<Self>, _confirm: Option<Box<dyn CommitConfirm>>) -> Result<Done, SendError> {
        let Self(of, messages) = *self;
        of.0.world.step("done").await;
        let ready = {
            let mut kept = of.1.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            kept.extend(messages);
            if kept.len() < 3 { Vec::new() } else { std::mem::take(&mut *kept) }
        };
        if !ready.is_empty() {
            of.0.world.proxy().tasks().spawn(of.0.clone().send(ready));
        }
        Ok(Done::default())
    }

    fn clear(&mut self) {
        self.1.clear();
    }
}

fn hoarding(world: &World) -> Adapter {
    let batches = InBatches { world: world.clone(), is_synchronous: false, grouped: 3 };
    Adapter::batch_transmitter(Hoarding(batches, std::sync::Arc::default()))
}

#[tokio::test(start_paused = true)]
async fn several_batches_may_be_completed_by_one() {
    let (steps, wire) = undisturbed(hoarding, &["a", "b", "c"]).await;
    let sent = ["send a", "send b", "send c", "proxy batch", "box: delete 3", "completed"];
    assert_eq!(steps, [["done"; 3].as_slice(), &sent].concat());
    assert_eq!(wire, ["a", "b", "c"]);
    let crashes = crashes(hoarding, &["a", "b", "c"]).await;
    assert!(crashes.iter().all(|crash| [0, 3].contains(&done(&crash.stand))), "{crashes:?}");
}
