//! Asynchronous: `transmit` only accepts; the adapter sends in tasks of its own, and deletes one or many at a time.

use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use pillarbox_store::{Headers, Timestamp};

use super::super::kit::{body, info};
use super::world::{World, crashes, done, undisturbed};
use crate::Proxy;
use crate::adapter::{
    Adapter, Outgoing, SendError, Transmitted, Transmitter, Transport, TransportControl, TransportInfo,
};

/// Acknowledges what was sent two at a time; the last one alone, after a second.
#[derive(Debug, Clone)]
struct Asynchronous {
    world: World,
    sent: Arc<Mutex<Vec<Outgoing>>>,
}

impl Transport for Asynchronous {
    fn describe(&self) -> TransportInfo {
        info("asynchronous")
    }
}

#[async_trait]
impl TransportControl for Asynchronous {
    async fn initialize(&self, proxy: Proxy) -> Result<(), SendError> {
        self.world.keep(proxy);
        Ok(())
    }
}

impl Asynchronous {
    fn sent(&self) -> std::sync::MutexGuard<'_, Vec<Outgoing>> {
        self.sent.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn send(self, message: Outgoing) {
        self.world.send(&body(&message)).await;
        self.sent().push(message);
        if self.sent().len() < 2 {
            tokio::time::sleep(std::time::Duration::from_secs(1)).await;
        }
        let ready = std::mem::take(&mut *self.sent());
        if ready.is_empty() {
            return;
        }
        let mut batch = self.world.proxy().batch().unwrap();
        ready.into_iter().for_each(|message| batch.delete(message));
        let _ends_with_the_world = batch.done().await;
    }
}

#[async_trait]
impl Transmitter for Asynchronous {
    async fn transmit(&self, message: Outgoing) -> Result<Transmitted, SendError> {
        self.world.step(format!("transmit {}", body(&message))).await;
        self.world.proxy().tasks().spawn(self.clone().send(message));
        Ok(Transmitted::Pending)
    }
}

fn make(world: &World) -> Adapter {
    Adapter::transmitter(Asynchronous { world: world.clone(), sent: Arc::default() })
}

#[tokio::test(start_paused = true)]
async fn an_asynchronous_adapter_accepts_and_deletes_by_itself() {
    let (steps, wire) = undisturbed(make, &["a", "b", "c"]).await;
    let accepted = ["transmit a", "transmit b", "transmit c"];
    let sent = ["send a", "send b", "send c", "box: delete 2", "box: delete 1"];
    assert_eq!(steps, [accepted.as_slice(), &sent].concat());
    assert_eq!(wire, ["a", "b", "c"]);
}

#[tokio::test(start_paused = true)]
async fn a_crash_repeats_what_an_asynchronous_adapter_had_sent_and_not_deleted() {
    let crashes = crashes(make, &["a", "b", "c"]).await;
    let unrecorded: Vec<_> = crashes.iter().map(|crash| crash.wire.len() - done(&crash.stand)).collect();
    assert_eq!(unrecorded, [0, 0, 0, 0, 1, 2, 3, 1], "{crashes:?}");
}

/// Notes at its first attempt how far it came, and goes on from there.
#[derive(Debug, Clone)]
struct Resuming(World);

impl Transport for Resuming {
    fn describe(&self) -> TransportInfo {
        info("resuming")
    }
}

#[async_trait]
impl TransportControl for Resuming {
    async fn initialize(&self, proxy: Proxy) -> Result<(), SendError> {
        self.0.keep(proxy);
        Ok(())
    }
}

#[async_trait]
impl Transmitter for Resuming {
    async fn transmit(&self, message: Outgoing) -> Result<Transmitted, SendError> {
        let carried = message.carried().get("offset").map_or_else(|| "0".to_owned(), ToString::to_string);
        self.0.step(format!("transmit from {carried}")).await;
        if carried == "7" {
            self.0.send(&body(&message)).await;
            return Ok(Transmitted::Sent);
        }
        let mut offset = Headers::default();
        offset.set("offset", 7).unwrap();
        let mut batch = self.0.proxy().batch().unwrap();
        batch.resubmit_carrying(message, Timestamp::EPOCH, SendError::temporary("cut off at 7"), offset);
        let _ends_with_the_world = batch.done().await;
        Ok(Transmitted::Pending)
    }
}

fn resuming(world: &World) -> Adapter {
    Adapter::transmitter(Resuming(world.clone()))
}

#[tokio::test(start_paused = true)]
async fn headers_survive_a_resubmit_and_a_crash() {
    let (steps, _) = undisturbed(resuming, &["a"]).await;
    let second = ["transmit from 7", "send a", "box: delete 1"];
    assert_eq!(steps, [["transmit from 0", "box: resubmit 1"].as_slice(), &second].concat());
    for crash in crashes(resuming, &["a"]).await {
        let was_resubmitted = !["transmit from 0", "box: resubmit 1"].contains(&crash.before.as_str());
        assert_eq!(crash.steps_at_end.len(), if was_resubmitted { 3 } else { 5 }, "{crash:?}");
        assert!(crash.steps_at_end.ends_with(&second.map(str::to_owned)), "{crash:?}");
    }
}
