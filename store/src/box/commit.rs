//! Where groups are made: on two threads of the box's own, or inside the call to `commit`.

use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use tokio::sync::oneshot;

use super::group::{Answer, Group, Request};
use super::pipeline::Pipeline;
use super::{Committing, Handle, Shared};
use crate::ledger::Prepared;
use crate::{Error, ErrorKind};

/// Takes batches in and has them committed.
#[derive(Debug)]
pub(super) enum Committer {
    Threads { pipeline: Arc<Pipeline>, threads: Mutex<Vec<JoinHandle<()>>> },
    Inline { closed: Mutex<bool> },
}

impl Committer {
    #[expect(
        clippy::disallowed_methods,
        reason = "the box's own threads; a simulation commits inline instead"
    )]
    pub(super) fn start(shared: &Arc<Shared>, committing: Committing) -> Result<Self, Error> {
        if committing == Committing::Inline {
            return Ok(Self::Inline { closed: Mutex::new(false) });
        }
        let pipeline = Arc::new(Pipeline::default());
        let start = |name: &str, run: fn(&Pipeline, &Shared)| {
            let (work, of) = (pipeline.clone(), shared.clone());
            let thread = std::thread::Builder::new().name(name.to_owned());
            thread.spawn(move || run(&work, &of)).map_err(|cause| {
                Error::new(ErrorKind::Unavailable, "start the threads that commit").caused_by(cause)
            })
        };
        let writer = start("pillarbox-write", Pipeline::write)?;
        match start("pillarbox-decide", Pipeline::help) {
            Ok(helper) => Ok(Self::Threads { pipeline, threads: Mutex::new(vec![writer, helper]) }),
            Err(error) => {
                pipeline.close();
                let _ended = writer.join();
                Err(error)
            }
        }
    }

    pub(super) async fn commit(&self, shared: &Shared, batch: Prepared) -> Answer {
        let (answer, mut answered) = oneshot::channel();
        let request = Request { batch, answer };
        match self {
            Self::Inline { closed: is_closed } => {
                shared.view.begin_when_free().await;
                commit_alone(shared, is_closed, request);
                answered.try_recv().map_or_else(|_unanswered| Err(closed()), |(answer, _batch)| answer)
            }
            Self::Threads { pipeline, .. } => {
                if !pipeline.push(shared, request) {
                    return Err(closed());
                }
                // Every batch that was taken is answered; who answers is gone only if it failed.
                match answered.await {
                    Ok((answer, _batch)) => answer,
                    Err(_gone) => Err(shared.failed().unwrap_or_else(closed)),
                }
            }
        }
    }

    /// Queues a batch whose answer nobody waits for.
    pub(super) fn commit_unattended(&self, shared: &Shared, batch: Prepared) {
        let (answer, _nobody) = oneshot::channel();
        let request = Request { batch, answer };
        match self {
            Self::Inline { closed } => {
                // Whoever reads at this very moment: what is not given back now is at the next opening.
                if shared.view.try_begin() {
                    commit_alone(shared, closed, request);
                }
            }
            Self::Threads { pipeline, .. } => {
                let _taken = pipeline.push(shared, request);
            }
        }
    }

    pub(super) async fn close(&self, shared: &Shared) -> Result<(), Error> {
        self.stop();
        shared.state().notify_all();
        if let Err(_again) = shared.failed.set(closed()) {
            return match shared.failed() {
                Some(error) if error.kind() != ErrorKind::Closed => Err(error),
                _ => Ok(()),
            };
        }
        shared.engine.close()
    }

    /// Finishes what waits and ends the threads.
    fn stop(&self) {
        match self {
            Self::Inline { closed } => *closed.lock().unwrap_or_else(PoisonError::into_inner) = true,
            Self::Threads { pipeline, threads } => {
                pipeline.close();
                let threads = std::mem::take(&mut *threads.lock().unwrap_or_else(PoisonError::into_inner));
                for thread in threads {
                    if thread.join().is_err() {
                        tracing::error!("a thread that commits panicked");
                    }
                }
            }
        }
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.committer.stop();
        if self.shared.failed().is_none()
            && let Err(error) = self.shared.engine.close()
        {
            tracing::error!(%error, "the box did not close cleanly; opening it again settles it");
        }
    }
}

fn closed() -> Error {
    Error::new(ErrorKind::Closed, "use the box")
}

/// Commits one batch as a group of its own, unless the box is closed: one at a time. The caller has begun it in the view.
fn commit_alone(shared: &Shared, is_closed: &Mutex<bool>, request: Request) {
    let is_closed = is_closed.lock().unwrap_or_else(PoisonError::into_inner);
    let mut group = Group::default();
    group.take(&mut vec![request]);
    if *is_closed {
        shared.view.end();
        group.refuse(&closed());
        return;
    }
    shared.decide(&mut group);
    shared.seal(&mut group);
    match shared.write(&mut group) {
        Ok(()) => shared.publish(&mut group),
        Err(error) => {
            shared.undo(&error);
            shared.view.end();
            group.refuse(&error);
        }
    }
}
