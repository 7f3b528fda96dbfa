//! Synchronous batch: collected by `transmit`, sent inside `done`; the engine ends every delivery of it in one step.

use async_trait::async_trait;
use pillarbox::prelude::*;
use pillarbox::runtime::adapter::{
    BatchTransmitter, Begun, CommitConfirm, Done, TransmitBatch, Transmitted, TransportControl,
};

use super::wire;

#[derive(Debug)]
pub(crate) struct SynchronousBatch;

impl Transport for SynchronousBatch {
    fn describe(&self) -> TransportInfo {
        wire::info("synchronous-batch", Shape::SynchronousBatch)
    }
}

#[async_trait]
impl TransportControl for SynchronousBatch {}

#[async_trait]
impl BatchTransmitter for SynchronousBatch {
    async fn get_batch(&self) -> Result<Box<dyn TransmitBatch>, SendError> {
        Ok(Box::new(Collected::default()))
    }
}

#[derive(Debug, Default)]
struct Collected(Vec<Outgoing>);

#[async_trait]
impl TransmitBatch for Collected {
    async fn begin(&mut self) -> Result<Begun, SendError> {
        Ok(Begun::at_most(20))
    }

    fn transmit(&mut self, message: Outgoing) -> Result<Transmitted, SendError> {
        self.0.push(message);
        Ok(Transmitted::Sent)
    }

    async fn done(self: Box<Self>, _confirm: Option<Box<dyn CommitConfirm>>) -> Result<Done, SendError> {
        // Only those that are named as failed pay; the others are done.
        let mut done = Done::default();
        for message in self.0 {
            if let Err(error) = wire::send(&message) {
                done.failed.push((message, error));
            }
        }
        Ok(done)
    }

    fn clear(&mut self) {
        self.0.clear();
    }
}
