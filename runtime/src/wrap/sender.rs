//! [`Sender`]: each message in a task of its own.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use async_trait::async_trait;
use futures_util::FutureExt;
use tracing::Instrument;

use super::{Line, Work};
use crate::adapter::{Outgoing, Reconciled, SendError, Sender, TransportInfo};
use crate::lane::panic_text;

#[derive(Debug)]
pub(super) struct Concurrent<S>(pub(super) Arc<S>);

#[async_trait]
impl<S: Sender> Work for Concurrent<S> {
    fn describe(&self) -> TransportInfo {
        self.0.describe()
    }

    fn room(&self, line: &Line) -> Result<usize, SendError> {
        Ok(line.proxy.in_flight_max())
    }

    fn start(&self, line: &Line, messages: Vec<Outgoing>) {
        for message in messages {
            let (sender, finisher, inside) =
                (Arc::clone(&self.0), Arc::clone(&line.finisher), line.busy.enter());
            let ticket = Arc::downgrade(&message.ticket);
            let span = message.span().clone();
            let sending = async move {
                let outcome = AssertUnwindSafe(sender.send(&message)).catch_unwind().await;
                let outcome =
                    outcome.unwrap_or_else(|panic| Err(SendError::temporary(panic_text(panic.as_ref()))));
                finisher.finish([(message, outcome)]);
                drop(inside);
            };
            let task = line.proxy.tasks().spawn(sending.instrument(span));
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
