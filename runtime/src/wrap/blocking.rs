//! [`BlockingSender`]: each message on a thread that may block.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use async_trait::async_trait;

use super::{Line, Work};
use crate::adapter::{BlockingSender, Outgoing, Reconciled, SendError, TransportInfo};
use crate::lane::panic_text;

#[derive(Debug)]
pub(super) struct Threads<S>(pub(super) Arc<S>);

#[async_trait]
impl<S: BlockingSender> Work for Threads<S> {
    fn describe(&self) -> TransportInfo {
        self.0.describe()
    }

    /// A thread that hangs cannot be ended. It is not replaced by another one beyond `in_flight`, else a dead
    /// destination would use up the threads of every other port.
    fn room(&self, line: &Line) -> Result<usize, SendError> {
        let (most, hanging) = (line.proxy.in_flight_max(), line.busy.inside());
        match most.saturating_sub(hanging) {
            0 => {
                Err(SendError::temporary(format!("{hanging} calls still hang, as many as in_flight allows")))
            }
            room => Ok(room),
        }
    }

    fn start(&self, line: &Line, messages: Vec<Outgoing>) {
        for message in messages {
            let (sender, finisher, inside) =
                (Arc::clone(&self.0), Arc::clone(&line.finisher), line.busy.enter());
            let sending = move || {
                let span = message.span().clone();
                let sent = span.in_scope(|| catch_unwind(AssertUnwindSafe(|| sender.send(&message))));
                let outcome =
                    sent.unwrap_or_else(|panic| Err(SendError::temporary(panic_text(panic.as_ref()))));
                finisher.finish([(message, outcome)]);
                drop(inside);
            };
            line.proxy.tasks().spawn_blocking(sending);
        }
    }

    async fn reconcile(&self, line: &Line, message: &Outgoing) -> Result<Reconciled, SendError> {
        let (sender, message) = (Arc::clone(&self.0), message.clone());
        let asked = line.proxy.tasks().spawn_blocking(move || sender.reconcile(&message)).await;
        asked
            .ok()
            .flatten()
            .unwrap_or_else(|| Err(SendError::temporary("the adapter panicked, or the runtime has ended")))
    }

    async fn close(&self, line: &Line) {
        let sender = Arc::clone(&self.0);
        let _panics_are_logged_by_drain = line.proxy.tasks().spawn_blocking(move || sender.close()).await;
    }
}
