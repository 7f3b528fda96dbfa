//! [`Requester`]: each message in a task of its own, completed with its answer.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use async_trait::async_trait;
use futures_util::FutureExt;
use tracing::Instrument;

use super::finish::Ended;
use super::{Line, Work};
use crate::adapter::{Outgoing, Reconciled, Requester, SendError, TransportInfo};
use crate::lane::panic_text;

#[derive(Debug)]
pub(super) struct Asking<R>(pub(super) Arc<R>);

#[async_trait]
impl<R: Requester> Work for Asking<R> {
    fn describe(&self) -> TransportInfo {
        self.0.describe()
    }

    fn room(&self, line: &Line) -> Result<usize, SendError> {
        Ok(line.proxy.in_flight_max())
    }

    fn start(&self, line: &Line, messages: Vec<Outgoing>) {
        for message in messages {
            let (requester, finisher, inside) =
                (Arc::clone(&self.0), Arc::clone(&line.finisher), line.busy.enter());
            let ticket = Arc::downgrade(&message.ticket);
            let span = message.span().clone();
            let asking = async move {
                let ended = match AssertUnwindSafe(requester.request(&message)).catch_unwind().await {
                    Ok(Ok(Some(answer))) => Ended::Answered(answer),
                    Ok(Ok(None)) => Ended::Sent,
                    Ok(Err(error)) => Ended::Failed(error),
                    Err(panic) => Ended::Failed(SendError::temporary(panic_text(panic.as_ref()))),
                };
                finisher.finish([(message, ended)]);
                drop(inside);
            };
            let task = line.proxy.tasks().spawn(asking.instrument(span));
            if let Some(ticket) = ticket.upgrade() {
                ticket.set_worker(task.abort_handle());
            }
        }
    }

    async fn reconcile(&self, _line: &Line, message: &Outgoing) -> Result<Reconciled, SendError> {
        self.0.reconcile(message).await
    }

    async fn close(&self, _line: &Line) {
        self.0.close().await;
    }
}
