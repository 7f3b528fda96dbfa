//! Transactional batch: written in a transaction of the destination. The engine has it prepared, records the deliveries,
//! and then has it committed. Here the destination is a list in memory.

use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use async_trait::async_trait;
use pillarbox::prelude::*;
use pillarbox::runtime::adapter::{
    BatchTransmitter, Begun, CommitConfirm, Done, Transaction, TransactionId, TransmitBatch, Transmitted,
    TransportControl,
};
use pillarbox::runtime::{Proxy, TransactError};

use super::wire;

#[derive(Debug, Default)]
pub(crate) struct TransactionalBatch {
    proxy: OnceLock<Proxy>,
}

impl Transport for TransactionalBatch {
    fn describe(&self) -> TransportInfo {
        wire::info("transactional-batch", Shape::TransactionalBatch)
    }
}

#[async_trait]
impl TransportControl for TransactionalBatch {
    async fn initialize(&self, proxy: Proxy) -> Result<(), SendError> {
        let _first_stays = self.proxy.set(proxy);
        Ok(())
    }
}

#[async_trait]
impl BatchTransmitter for TransactionalBatch {
    async fn get_batch(&self) -> Result<Box<dyn TransmitBatch>, SendError> {
        let proxy = self.proxy.get().cloned().ok_or_else(|| SendError::temporary("not initialised"))?;
        let id = proxy.new_transaction();
        let transaction = Arc::new(Writing { id, written: Mutex::default(), confirm: Mutex::default() });
        Ok(Box::new(Collected { proxy, transaction, messages: Vec::new() }))
    }
}

/// A transaction at the destination.
#[derive(Debug)]
struct Writing {
    id: TransactionId,
    written: Mutex<Vec<Outgoing>>,
    confirm: Mutex<Option<Box<dyn CommitConfirm>>>,
}

impl Writing {
    fn report(&self, committed: bool) {
        let confirm = self.confirm.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(confirm) = confirm {
            confirm.confirm(committed);
        }
    }

    fn take(&self) -> Vec<Outgoing> {
        std::mem::take(&mut *self.written.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[async_trait]
impl Transaction for Writing {
    fn id(&self) -> &TransactionId {
        &self.id
    }

    async fn prepare(&self) -> Result<(), SendError> {
        println!("  {}: prepared", self.id);
        Ok(())
    }

    async fn commit(&self) -> Result<(), SendError> {
        let sent = self.take().iter().try_for_each(wire::send);
        self.report(sent.is_ok());
        sent
    }

    async fn roll_back(&self) -> Result<(), SendError> {
        self.take();
        self.report(false);
        Ok(())
    }
}

#[derive(Debug)]
struct Collected {
    proxy: Proxy,
    transaction: Arc<Writing>,
    messages: Vec<Outgoing>,
}

#[async_trait]
impl TransmitBatch for Collected {
    async fn begin(&mut self) -> Result<Begun, SendError> {
        Ok(Begun::at_most(20).in_transaction(self.transaction.clone()))
    }

    fn transmit(&mut self, message: Outgoing) -> Result<Transmitted, SendError> {
        self.messages.push(message);
        Ok(Transmitted::Pending)
    }

    async fn done(self: Box<Self>, confirm: Option<Box<dyn CommitConfirm>>) -> Result<Done, SendError> {
        let Self { proxy, transaction, messages } = *self;
        *transaction.confirm.lock().unwrap_or_else(PoisonError::into_inner) = confirm;
        tokio::spawn(async move {
            *transaction.written.lock().unwrap_or_else(PoisonError::into_inner) = messages.clone();
            let Ok(mut batch) = proxy.batch() else { return };
            messages.iter().for_each(|message| batch.delete(message.clone()));
            let Err(error) = batch.done_in(transaction).await else { return };
            println!("not sent in the transaction: {error}");
            // Rolled back, and the messages are still ours: what failed is completed outside of it.
            if let TransactError::NotPrepared(error) = error
                && let Ok(mut batch) = proxy.batch()
            {
                let text = error.to_string();
                messages
                    .into_iter()
                    .for_each(|message| batch.fail(message, SendError::temporary(text.as_str())));
                if let Err(error) = batch.done().await {
                    println!("not recorded, so they are sent again: {error}");
                }
            }
        });
        Ok(Done::default())
    }

    fn clear(&mut self) {
        self.messages.clear();
    }
}
