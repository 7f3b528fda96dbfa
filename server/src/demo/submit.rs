//! Submits the messages, many at once, each for as long as it takes: one whose answer was lost in a kill is
//! submitted again under the same id.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use pillarbox_store::{Headers, PortName};
use tokio::sync::watch;

use super::files::Message;
use super::stage::PORT;
use crate::backend::{Input, Remote};
use crate::failure::Failure;
use crate::problem::Problem;
use crate::service::Submission;

/// Submissions at once.
const AT_ONCE: usize = 32;
/// How long an answer may take.
const ANSWER_MAX: Duration = Duration::from_secs(30);
/// The pause before the same server is asked again.
const AGAIN: Duration = Duration::from_millis(50);

/// Where the submissions stand, for those who watch.
#[derive(Debug)]
pub(super) struct Standing {
    acknowledged: watch::Sender<usize>,
    unanswered: AtomicUsize,
}

/// What it took to submit everything.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Submissions {
    /// Messages that were acknowledged.
    pub(super) acknowledged: usize,
    /// Of these, those that had to be submitted again because an answer was lost.
    pub(super) repeated: usize,
    /// Of these, those that the box had taken the first time, and recognised.
    pub(super) recognised: usize,
}

/// How one message was acknowledged.
struct Acknowledged {
    tries: u32,
    duplicate: bool,
}

impl Standing {
    /// Nothing is submitted yet.
    pub(super) fn new() -> Self {
        Self { acknowledged: watch::Sender::new(0), unanswered: AtomicUsize::new(0) }
    }

    /// Acknowledged messages, and news of them.
    pub(super) fn watch(&self) -> watch::Receiver<usize> {
        self.acknowledged.subscribe()
    }

    /// Acknowledged messages.
    pub(super) fn acknowledged(&self) -> usize {
        *self.acknowledged.borrow()
    }

    /// Submissions that wait for their answer.
    pub(super) fn unanswered(&self) -> usize {
        self.unanswered.load(Ordering::Acquire)
    }
}

/// Submits every message to the server of the moment, which `servers` tells; `None` while there is none.
///
/// # Errors
/// A message is refused.
pub(super) async fn submit_all(
    messages: &[Message],
    servers: &watch::Receiver<Option<Remote>>,
    standing: &Standing,
) -> Result<Submissions, Failure> {
    let port = PortName::new(PORT).map_err(|error| Failure::new(error.to_string()))?;
    let submitting = messages.iter().map(|message| {
        let (port, servers) = (port.clone(), servers.clone());
        async move { Box::pin(submit(message, port, servers, standing)).await }
    });
    stream::iter(submitting)
        .buffer_unordered(AT_ONCE)
        .try_fold(Submissions::default(), |mut all, one| async move {
            all.acknowledged += 1;
            all.repeated += usize::from(one.tries > 1);
            all.recognised += usize::from(one.duplicate);
            Ok(all)
        })
        .await
}

async fn submit(
    message: &Message,
    port: PortName,
    mut servers: watch::Receiver<Option<Remote>>,
    standing: &Standing,
) -> Result<Acknowledged, Failure> {
    let input = Input::File(message.source.copy.clone());
    let mut headers = Headers::default();
    let name: String = message.source.name.chars().map(|c| if c.is_control() { '_' } else { c }).collect();
    headers.set("file-name", name).map_err(|error| Failure::new(error.to_string()))?;
    let submission = Submission { port, message_id: Some(message.id), headers, not_before: None };
    for tries in 1_u32.. {
        let server = servers.wait_for(Option::is_some).await.ok().and_then(|server| server.clone());
        let Some(server) = server else { break };
        standing.unanswered.fetch_add(1, Ordering::AcqRel);
        let asked = tokio::time::timeout(ANSWER_MAX, server.submit(&submission, &input)).await;
        standing.unanswered.fetch_sub(1, Ordering::AcqRel);
        match asked {
            Ok(Ok(taken)) => {
                standing.acknowledged.send_modify(|count| *count += 1);
                return Ok(Acknowledged { tries, duplicate: taken.duplicate });
            }
            Ok(Err(problem)) if !may_pass(&problem) => {
                let name = &message.source.name;
                return Err(Failure::new(format!("{name} (message {}) was refused: {problem}", message.id)));
            }
            // Not known whether it was taken: again, under the same id.
            Ok(Err(_)) | Err(_) => tokio::time::sleep(AGAIN).await,
        }
    }
    Err(Failure::new("there is no server to submit to"))
}

/// Whether another try may end differently: the server was killed, or is overloaded.
fn may_pass(problem: &Problem) -> bool {
    matches!(problem.status, 408 | 429 | 500..)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_may_pass_is_tried_again() {
        let problem = |status| Problem::new(status, "name", "title", "detail");
        assert!([503, 502, 408].into_iter().all(|status| may_pass(&problem(status))));
        assert!(![400, 404, 413, 422].into_iter().any(|status| may_pass(&problem(status))));
    }
}
