//! [`TransactionalSender`]: a batch in a transaction of its own.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use async_trait::async_trait;
use futures_util::FutureExt;
use pillarbox_store::Refusal;

use super::{Line, Work};
use crate::adapter::{
    Outgoing, PreparedTransactions, SendError, Transaction, TransactionId, TransactionalSender, TransportInfo,
};
use crate::proxy::ItemStatus;
use crate::{CompletionBatch, Proxy, TransactError};

#[derive(Debug)]
pub(super) struct InTransaction<S>(pub(super) Arc<S>);

#[async_trait]
impl<S: TransactionalSender> Work for InTransaction<S> {
    fn describe(&self) -> TransportInfo {
        self.0.describe()
    }

    fn room(&self, _line: &Line) -> Result<usize, SendError> {
        Ok(self.0.messages_max())
    }

    fn start(&self, line: &Line, messages: Vec<Outgoing>) {
        let (sender, proxy, inside) = (Arc::clone(&self.0), line.proxy.clone(), line.busy.enter());
        line.proxy.tasks().spawn(async move {
            let sending = send(&sender, &proxy, messages);
            if AssertUnwindSafe(sending).catch_unwind().await.is_err() {
                tracing::error!("a transacted send panicked; its messages have failed");
            }
            drop(inside);
        });
    }

    fn prepared_transactions(&self) -> Option<Arc<dyn PreparedTransactions>> {
        Some(Arc::new(Left(Arc::clone(&self.0))))
    }

    async fn close(&self, _line: &Line) {
        self.0.close().await;
    }
}

/// What a sender's destination was left with.
#[derive(Debug)]
struct Left<S>(Arc<S>);

#[async_trait]
impl<S: TransactionalSender> PreparedTransactions for Left<S> {
    fn destination(&self) -> String {
        self.0.destination()
    }

    async fn prepared(&self, prefix: &str) -> Result<Vec<TransactionId>, SendError> {
        self.0.prepared(prefix).await
    }

    async fn commit(&self, transaction: &TransactionId) -> Result<(), SendError> {
        self.0.commit(transaction).await
    }

    async fn roll_back(&self, transaction: &TransactionId) -> Result<(), SendError> {
        self.0.roll_back(transaction).await
    }
}

/// One batch of a sender, as a transaction.
#[derive(Debug)]
struct OneBatch<S> {
    sender: Arc<S>,
    id: TransactionId,
    messages: Vec<Outgoing>,
}

#[async_trait]
impl<S: TransactionalSender> Transaction for OneBatch<S> {
    fn id(&self) -> &TransactionId {
        &self.id
    }

    async fn prepare(&self) -> Result<(), SendError> {
        self.sender.prepare(&self.id, &self.messages).await
    }

    async fn commit(&self) -> Result<(), SendError> {
        self.sender.commit(&self.id).await
    }

    async fn roll_back(&self) -> Result<(), SendError> {
        self.sender.roll_back(&self.id).await
    }
}

/// Sends the messages in one transaction. Where that cannot be prepared, each in one of its own: a message that the
/// destination refuses costs the others nothing. What the runtime's end cut off is dropped, and so given back.
async fn send<S: TransactionalSender>(sender: &Arc<S>, proxy: &Proxy, messages: Vec<Outgoing>) {
    let Some(error) = send_together(sender, proxy, &messages).await else { return };
    if proxy.is_cut_off() {
        return;
    }
    if let [only] = messages.as_slice() {
        return fail(proxy, only.clone(), error).await;
    }
    let why = error.to_failure().text();
    for message in messages {
        if message.ticket.time_left().is_zero() {
            fail(proxy, message, SendError::temporary(why.clone())).await;
            continue;
        }
        let error = send_together(sender, proxy, std::slice::from_ref(&message)).await;
        if proxy.is_cut_off() {
            return;
        }
        if let Some(error) = error {
            fail(proxy, message, error).await;
        }
    }
}

/// Sends the messages in one transaction. Gives the error with which that was not prepared; then they are still ours.
async fn send_together<S: TransactionalSender>(
    sender: &Arc<S>,
    proxy: &Proxy,
    messages: &[Outgoing],
) -> Option<SendError> {
    let Ok(mut batch) = proxy.batch() else { return None };
    messages.iter().cloned().for_each(|message| batch.delete(message));
    let (sender, id) = (Arc::clone(sender), proxy.new_transaction());
    let transaction = OneBatch { sender, id, messages: messages.to_vec() };
    match batch.done_in(Arc::new(transaction)).await {
        Ok(()) => {}
        Err(TransactError::NotPrepared(error)) => return Some(error),
        Err(TransactError::Uncommitted(error)) => proxy.set_error(error),
        Err(TransactError::Refused(statuses)) => give_back_voided(proxy, messages, &statuses).await,
        // The messages are dropped, and what is still ours among them has failed.
        Err(error) => tracing::error!(error = &error as &dyn std::error::Error, "a transacted send failed"),
    }
    None
}

/// Those that were refused for the sake of others are sent again, uncharged.
async fn give_back_voided(proxy: &Proxy, messages: &[Outgoing], statuses: &[ItemStatus]) {
    let Ok(mut batch) = proxy.batch() else { return };
    for (message, status) in messages.iter().zip(statuses) {
        if *status == ItemStatus::Refused(Refusal::Voided) {
            batch.give_back(message.clone());
        }
    }
    record(batch).await;
}

async fn fail(proxy: &Proxy, message: Outgoing, error: SendError) {
    let Ok(mut batch) = proxy.batch() else { return };
    batch.fail(message, error);
    record(batch).await;
}

async fn record(batch: CompletionBatch) {
    if let Err(error) = batch.done().await {
        tracing::error!(error = &error as &dyn std::error::Error, "outcomes could not be recorded");
    }
}
