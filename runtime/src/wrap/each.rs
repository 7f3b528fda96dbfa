//! [`Transmitter`]: each message with a call of its own, in a task of its own.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use async_trait::async_trait;
use futures_util::FutureExt;
use tracing::Instrument;

use super::{Line, Work};
use crate::Proxy;
use crate::adapter::{Outgoing, Reconciled, SendError, Transmitted, Transmitter, TransportInfo};
use crate::lane::panic_text;

#[derive(Debug)]
pub(super) struct OneByOne(pub(super) Arc<dyn Transmitter>);

#[async_trait]
impl Work for OneByOne {
    fn describe(&self) -> TransportInfo {
        self.0.describe()
    }

    async fn initialize(&self, proxy: Proxy) -> Result<(), SendError> {
        self.0.initialize(proxy).await
    }

    fn room(&self, line: &Line) -> Result<usize, SendError> {
        Ok(line.proxy.in_flight_max())
    }

    fn start(&self, line: &Line, messages: Vec<Outgoing>) {
        for message in messages {
            let (transmitter, finisher, inside) =
                (Arc::clone(&self.0), Arc::clone(&line.finisher), line.busy.enter());
            let ticket = Arc::downgrade(&message.ticket);
            let span = message.span().clone();
            let sending = async move {
                let sent = AssertUnwindSafe(transmitter.transmit(message.clone())).catch_unwind().await;
                match sent {
                    Ok(Ok(Transmitted::Sent)) => finisher.finish([(message, Ok(()))]),
                    Ok(Ok(Transmitted::Pending)) => drop(message),
                    Ok(Err(error)) => finisher.finish([(message, Err(error))]),
                    Err(panic) => {
                        let error = SendError::temporary(panic_text(panic.as_ref()));
                        finisher.finish([(message, Err(error))]);
                    }
                }
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

    /// The adapter drains by itself.
    async fn close(&self, _line: &Line) {
        self.0.terminate().await;
    }
}
