//! Completes messages as they end, those that are ready at the same time in one commit.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use pillarbox_store::Answer;

use crate::Proxy;
use crate::adapter::{Outgoing, SendError};
use crate::tasks::Gate;

/// A commit takes no further answer once it has so many bytes of them.
const ANSWER_BYTES: u64 = 16 * 1024 * 1024;

/// How a message ended.
#[derive(Debug)]
pub(super) enum Ended {
    Sent,
    Answered(Answer),
    Failed(SendError),
}

impl From<Result<(), SendError>> for Ended {
    fn from(outcome: Result<(), SendError>) -> Self {
        outcome.map_or_else(Self::Failed, |()| Self::Sent)
    }
}

impl Ended {
    fn answer_bytes(&self) -> u64 {
        match self {
            Self::Answered(answer) => answer.bytes(),
            Self::Sent | Self::Failed(_) => 0,
        }
    }
}

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
    ended: Vec<(Outgoing, Ended)>,
    recording: bool,
}

impl Finisher {
    pub(super) fn new(proxy: Proxy, busy: Arc<Gate>) -> Self {
        Self { proxy, busy, queue: Mutex::default() }
    }

    /// Takes outcomes; they are recorded by a task of their own.
    pub(super) fn finish(self: &Arc<Self>, ended: impl IntoIterator<Item = (Outgoing, impl Into<Ended>)>) {
        let mut queue = self.queue();
        queue.ended.extend(ended.into_iter().map(|(message, ended)| (message, ended.into())));
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
                let count = fitting(&queue.ended);
                let rest = queue.ended.split_off(count);
                std::mem::replace(&mut queue.ended, rest)
            };
            let Ok(mut batch) = self.proxy.batch() else { continue };
            for (message, ended) in ended {
                match ended {
                    Ended::Sent => batch.delete(message),
                    Ended::Answered(answer) => batch.respond(message, answer),
                    Ended::Failed(error) => batch.fail(message, error),
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

/// How many of them go into one commit; at least 1.
fn fitting(ended: &[(Outgoing, Ended)]) -> usize {
    let mut bytes = 0;
    let fits = |(_, ended): &&(Outgoing, Ended)| {
        let before = bytes;
        bytes += ended.answer_bytes();
        before < ANSWER_BYTES
    };
    ended.iter().take_while(fits).count()
}
