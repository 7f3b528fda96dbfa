//! Asynchronous: `transmit` only accepts; the adapter sends in its own time and ends the delivery by itself.

use std::sync::OnceLock;

use async_trait::async_trait;
use pillarbox::prelude::*;
use pillarbox::runtime::Proxy;
use pillarbox::runtime::adapter::{Transmitted, Transmitter, TransportControl};

use super::wire;

#[derive(Debug, Default)]
pub(crate) struct Asynchronous {
    proxy: OnceLock<Proxy>,
}

impl Transport for Asynchronous {
    fn describe(&self) -> TransportInfo {
        wire::info("asynchronous", Shape::Asynchronous)
    }
}

#[async_trait]
impl TransportControl for Asynchronous {
    async fn initialize(&self, proxy: Proxy) -> Result<(), SendError> {
        // It is called again only where it failed.
        let _first_stays = self.proxy.set(proxy);
        Ok(())
    }
}

#[async_trait]
impl Transmitter for Asynchronous {
    async fn transmit(&self, message: Outgoing) -> Result<Transmitted, SendError> {
        let proxy = self.proxy.get().cloned().ok_or_else(|| SendError::temporary("not initialised"))?;
        tokio::spawn(async move {
            let Ok(mut batch) = proxy.batch() else { return };
            match wire::send(&message) {
                Ok(()) => batch.delete(message),
                Err(error) => batch.fail(message, error),
            }
            if let Err(error) = batch.done().await {
                println!("not recorded, so it is sent again: {error}");
            }
        });
        Ok(Transmitted::Pending)
    }
}
