//! Asynchronous batch: collected by `transmit`, sent after `done`; the adapter ends the deliveries, all in one
//! completion batch here. It may as well complete a batch in parts, or several batches at once.

use std::sync::OnceLock;

use async_trait::async_trait;
use pillarbox::prelude::*;
use pillarbox::runtime::Proxy;
use pillarbox::runtime::adapter::{
    BatchTransmitter, Begun, CommitConfirm, Done, TransmitBatch, Transmitted, TransportControl,
};

use super::wire;

#[derive(Debug, Default)]
pub(crate) struct AsynchronousBatch {
    proxy: OnceLock<Proxy>,
}

impl Transport for AsynchronousBatch {
    fn describe(&self) -> TransportInfo {
        wire::info("asynchronous-batch", Shape::AsynchronousBatch)
    }
}

#[async_trait]
impl TransportControl for AsynchronousBatch {
    async fn initialize(&self, proxy: Proxy) -> Result<(), SendError> {
        let _first_stays = self.proxy.set(proxy);
        Ok(())
    }
}

#[async_trait]
impl BatchTransmitter for AsynchronousBatch {
    async fn get_batch(&self) -> Result<Box<dyn TransmitBatch>, SendError> {
        let proxy = self.proxy.get().cloned().ok_or_else(|| SendError::temporary("not initialised"))?;
        Ok(Box::new(Collected { proxy, messages: Vec::new() }))
    }
}

#[derive(Debug)]
struct Collected {
    proxy: Proxy,
    messages: Vec<Outgoing>,
}

#[async_trait]
impl TransmitBatch for Collected {
    async fn begin(&mut self) -> Result<Begun, SendError> {
        Ok(Begun::at_most(20))
    }

    fn transmit(&mut self, message: Outgoing) -> Result<Transmitted, SendError> {
        self.messages.push(message);
        Ok(Transmitted::Pending)
    }

    async fn done(self: Box<Self>, _confirm: Option<Box<dyn CommitConfirm>>) -> Result<Done, SendError> {
        tokio::spawn(async move {
            let Ok(mut batch) = self.proxy.batch() else { return };
            for message in self.messages {
                match wire::send(&message) {
                    Ok(()) => batch.delete(message),
                    Err(error) => batch.fail(message, error),
                }
            }
            if let Err(error) = batch.done().await {
                println!("not recorded, so they are sent again: {error}");
            }
        });
        Ok(Done::default())
    }

    fn clear(&mut self) {
        self.messages.clear();
    }
}
