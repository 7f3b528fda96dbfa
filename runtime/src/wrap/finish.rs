//! Completes messages as they end, those that are ready at the same time in one commit.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::Proxy;
use crate::adapter::{Outgoing, SendError};
use crate::tasks::Gate;

/// Takes outcomes and records them. There is no threshold to wait for: a commit takes what is there, and while it is
/// under way the next ones gather.
#[derive(Debug)]
pub(super) struct Finisher {
    proxy: Proxy,
    busy: Arc<Gate>,
    queue: Mutex<Queue>,
}

#[derive(Debug, Default)]
struct Queue {
    ended: Vec<(Outgoing, Result<(), SendError>)>,
    recording: bool,
}

impl Finisher {
    pub(super) fn new(proxy: Proxy, busy: Arc<Gate>) -> Self {
        Self { proxy, busy, queue: Mutex::default() }
    }

    /// Takes outcomes; they are recorded by a task of their own.
    pub(super) fn finish(
        self: &Arc<Self>,
        ended: impl IntoIterator<Item = (Outgoing, Result<(), SendError>)>,
    ) {
        let mut queue = self.queue();
        queue.ended.extend(ended);
        if queue.recording || queue.ended.is_empty() {
            return;
        }
        queue.recording = true;
        drop(queue);
        let (finisher, inside) = (Arc::clone(self), self.busy.enter());
        self.proxy.tasks().spawn(async move {
            finisher.record().await;
            drop(inside);
        });
    }

    async fn record(&self) {
        loop {
            // Lets the sends that have ended too report so.
            tokio::task::yield_now().await;
            let ended = {
                let mut queue = self.queue();
                if queue.ended.is_empty() {
                    queue.recording = false;
                    return;
                }
                std::mem::take(&mut queue.ended)
            };
            let Ok(mut batch) = self.proxy.batch() else { continue };
            for (message, outcome) in ended {
                match outcome {
                    Ok(()) => batch.delete(message),
                    Err(error) => batch.fail(message, error),
                }
            }
            if let Err(error) = batch.done().await {
                tracing::error!(error = &error as &dyn std::error::Error, "outcomes could not be recorded");
            }
        }
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
