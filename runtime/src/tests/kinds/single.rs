//! Synchronous: sent inside `transmit`, ended by the engine.

use std::sync::Arc;

use async_trait::async_trait;

use super::super::kit::{body, info};
use super::world::{World, crashes, done, undisturbed};
use crate::adapter::{
    Adapter, Outgoing, SendError, Transmitted, Transmitter, Transport, TransportControl, TransportInfo,
};

#[derive(Debug)]
struct Synchronous(World);

impl Transport for Synchronous {
    fn describe(&self) -> TransportInfo {
        info("synchronous")
    }
}

#[async_trait]
impl TransportControl for Synchronous {}

#[async_trait]
impl Transmitter for Synchronous {
    async fn transmit(&self, message: Outgoing) -> Result<Transmitted, SendError> {
        self.0.step(format!("transmit {}", body(&message))).await;
        self.0.send(&body(&message)).await;
        Ok(Transmitted::Sent)
    }
}

fn make(world: &World) -> Adapter {
    Adapter::Each(Arc::new(Synchronous(world.clone())))
}

#[tokio::test(start_paused = true)]
async fn a_synchronous_adapter_sends_and_the_engine_deletes() {
    let (steps, wire) = undisturbed(make, &["a"]).await;
    assert_eq!(steps, ["transmit a", "send a", "box: delete 1"]);
    assert_eq!(wire, ["a"]);
}

#[tokio::test(start_paused = true)]
async fn a_crash_repeats_at_most_what_a_synchronous_adapter_had_sent() {
    let crashes = crashes(make, &["a", "b"]).await;
    assert_eq!(crashes.len(), 5, "{crashes:?}");
    let sent_and_unrecorded: Vec<_> =
        crashes.iter().map(|crash| crash.wire.len() - done(&crash.stand)).collect();
    assert_eq!(sent_and_unrecorded, [0, 0, 1, 1, 2], "{crashes:?}");
}
