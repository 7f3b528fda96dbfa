//! [`BatchSender`]: a batch with one call, completed with one commit.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use async_trait::async_trait;
use futures_util::FutureExt;

use super::{Line, Work};
use crate::adapter::{BatchSender, Outgoing, Reconciled, SendError, TransportInfo};
use crate::lane::panic_text;

#[derive(Debug)]
pub(super) struct Together<S>(pub(super) Arc<S>);

#[async_trait]
impl<S: BatchSender> Work for Together<S> {
    fn describe(&self) -> TransportInfo {
        self.0.describe()
    }

    fn room(&self, _line: &Line) -> Result<usize, SendError> {
        Ok(self.0.messages_max())
    }

    fn start(&self, line: &Line, messages: Vec<Outgoing>) {
        let (sender, finisher, inside) = (Arc::clone(&self.0), Arc::clone(&line.finisher), line.busy.enter());
        let tickets: Vec<_> = messages.iter().map(|message| Arc::downgrade(&message.ticket)).collect();
        let task = line.proxy.tasks().spawn(async move {
            let outcomes = AssertUnwindSafe(sender.send_batch(&messages)).catch_unwind().await;
            finisher.finish(paired(messages, outcomes.map_err(|panic| panic_text(panic.as_ref()))));
            drop(inside);
        });
        for ticket in tickets.iter().filter_map(std::sync::Weak::upgrade) {
            ticket.set_worker(task.abort_handle());
        }
    }

    async fn reconcile(&self, _line: &Line, message: &Outgoing) -> Result<Reconciled, SendError> {
        self.0.reconcile(message).await
    }

    async fn close(&self, _line: &Line) {
        self.0.close().await;
    }
}

type Outcomes = Vec<Result<(), SendError>>;

/// Each message with its outcome.
fn paired(
    messages: Vec<Outgoing>,
    outcomes: Result<Outcomes, String>,
) -> Vec<(Outgoing, Result<(), SendError>)> {
    let (outcomes, missing) = match outcomes {
        Ok(outcomes) => (outcomes, "the adapter gave no outcome for this message".to_owned()),
        Err(panicked) => (Vec::new(), panicked),
    };
    if outcomes.len() > messages.len() {
        let (got, asked) = (outcomes.len(), messages.len());
        tracing::warn!(
            got,
            asked,
            "the adapter gave more outcomes than it had messages; the surplus is ignored"
        );
    }
    let mut outcomes = outcomes.into_iter();
    let outcome = |message| {
        let outcome = outcomes.next().unwrap_or_else(|| Err(SendError::temporary(missing.clone())));
        (message, outcome)
    };
    messages.into_iter().map(outcome).collect()
}
