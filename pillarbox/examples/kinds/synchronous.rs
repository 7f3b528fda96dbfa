//! Synchronous: `transmit` returns when the message is sent, and the engine ends the delivery.

use async_trait::async_trait;
use pillarbox::prelude::*;
use pillarbox::runtime::adapter::{Transmitted, Transmitter, TransportControl};

use super::wire;

#[derive(Debug)]
pub(crate) struct Synchronous;

impl Transport for Synchronous {
    fn describe(&self) -> TransportInfo {
        wire::info("synchronous", Shape::Synchronous)
    }
}

#[async_trait]
impl TransportControl for Synchronous {}

#[async_trait]
impl Transmitter for Synchronous {
    async fn transmit(&self, message: Outgoing) -> Result<Transmitted, SendError> {
        wire::send(&message)?;
        Ok(Transmitted::Sent)
    }
}
