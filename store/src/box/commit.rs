//! Group commit: one committer takes every waiting batch, applies them to the ledger, hands the engine one group,
//! and answers all of them after one flush.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use tokio::sync::oneshot;

use super::{Committing, Handle, Shared};
use crate::engine::WriteSet;
use crate::ledger::{Prepared, Recovery};
use crate::{Committed, Durability, Error, ErrorKind};

/// A group takes no further batch once it has so many bytes.
const GROUP_BYTES: u64 = 8 * 1024 * 1024;
/// A group takes at most so many batches.
const GROUP_BATCHES: usize = 4_096;
/// What a group adds beside its batches.
const OVERHEAD_BYTES: u64 = 4_096;

type Answer = Result<Committed, Error>;

/// A batch that waits, and where its answer goes.
#[derive(Debug)]
pub(super) struct Request {
    batch: Prepared,
    /// The batch goes back as well: its memory is given back on the thread that it came from.
    answer: oneshot::Sender<(Answer, Prepared)>,
}

/// Where groups are made.
#[derive(Debug)]
pub(super) enum Committer {
    Thread { queue: Arc<Queue>, thread: Mutex<Option<JoinHandle<()>>> },
    Inline { closed: Mutex<bool> },
}

#[derive(Debug, Default)]
pub(super) struct Queue {
    waiting: Mutex<Waiting>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Waiting {
    requests: Vec<Request>,
    closed: bool,
    /// The committer waits to be woken.
    sleeps: bool,
}

impl Queue {
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn push(&self, request: Request) -> Result<(), Error> {
        let mut waiting = self.lock();
        if waiting.closed {
            return Err(closed());
        }
        waiting.requests.push(request);
        // Only who sleeps is woken: a call to the system for each batch would cost more than the batch.
        let sleeps = std::mem::take(&mut waiting.sleeps);
        drop(waiting);
        if sleeps {
            self.changed.notify_one();
        }
        Ok(())
    }

    /// Every batch that waits, up to a group's bounds; empty once the box is closed and nothing waits.
    fn take(&self, group: &mut Vec<Request>) {
        let mut waiting = self.lock();
        while waiting.requests.is_empty() && !waiting.closed {
            waiting.sleeps = true;
            waiting = self.changed.wait(waiting).unwrap_or_else(PoisonError::into_inner);
        }
        let mut bytes = 0;
        let fits = |request: &Request| {
            bytes += request.batch.bytes;
            bytes <= GROUP_BYTES
        };
        let fitting = waiting.requests.iter().take(GROUP_BATCHES).take_while({
            let mut fits = fits;
            move |request| fits(request)
        });
        // One batch is taken however large it is.
        let count = fitting.count().max(1).min(waiting.requests.len());
        group.extend(waiting.requests.drain(..count));
    }
}

impl Committer {
    #[expect(
        clippy::disallowed_methods,
        reason = "the box's one thread; a simulation commits inline instead"
    )]
    pub(super) fn start(shared: &Arc<Shared>, committing: Committing) -> Result<Self, Error> {
        if committing == Committing::Inline {
            return Ok(Self::Inline { closed: Mutex::new(false) });
        }
        let queue = Arc::new(Queue::default());
        let (work, of) = (queue.clone(), shared.clone());
        let thread = std::thread::Builder::new()
            .name("pillarbox-commit".to_owned())
            .spawn(move || run(&work, &of))
            .map_err(|cause| {
                Error::new(ErrorKind::Unavailable, "start the commit thread").caused_by(cause)
            })?;
        Ok(Self::Thread { queue, thread: Mutex::new(Some(thread)) })
    }

    pub(super) async fn commit(&self, shared: &Shared, mut batch: Prepared) -> Answer {
        match self {
            Self::Inline { closed: is_closed } => {
                if *is_closed.lock().unwrap_or_else(PoisonError::into_inner) {
                    return Err(closed());
                }
                let mut writes = WriteSet::default();
                let _group = shared.view.write().await;
                let mut answers = commit_group(shared, &mut [&mut batch], &mut writes);
                answers.pop().unwrap_or_else(|| Err(closed()))
            }
            Self::Thread { queue, .. } => {
                let (answer, answered) = oneshot::channel();
                queue.push(Request { batch, answer })?;
                // The committer answers every batch it took; it is gone only if it failed.
                match answered.await {
                    Ok((answer, _batch)) => answer,
                    Err(_gone) => Err(shared.failed().unwrap_or_else(closed)),
                }
            }
        }
    }

    /// Queues a batch whose answer nobody waits for.
    pub(super) fn commit_unattended(&self, shared: &Shared, mut batch: Prepared) {
        match self {
            Self::Inline { .. } => {
                let mut writes = WriteSet::default();
                // Whoever reads at this very moment: what is not given back now is at the next opening.
                let Ok(_group) = shared.view.try_write() else { return };
                let _answers = commit_group(shared, &mut [&mut batch], &mut writes);
            }
            Self::Thread { queue, .. } => {
                let (answer, _nobody) = oneshot::channel();
                let _closed = queue.push(Request { batch, answer });
            }
        }
    }

    pub(super) async fn close(&self, shared: &Shared) -> Result<(), Error> {
        self.stop();
        shared.state().notify_all();
        {
            let mut failed = shared.failed.lock().unwrap_or_else(PoisonError::into_inner);
            match failed.as_ref() {
                Some(error) if error.kind() != ErrorKind::Closed => return Err(error.clone()),
                Some(_closed) => return Ok(()),
                None => *failed = Some(closed()),
            }
        }
        shared.engine.close()
    }

    /// Finishes what waits and ends the thread.
    fn stop(&self) {
        match self {
            Self::Inline { closed } => *closed.lock().unwrap_or_else(PoisonError::into_inner) = true,
            Self::Thread { queue, thread } => {
                queue.lock().closed = true;
                queue.changed.notify_all();
                let thread = thread.lock().unwrap_or_else(PoisonError::into_inner).take();
                if let Some(thread) = thread
                    && thread.join().is_err()
                {
                    tracing::error!("the commit thread panicked");
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

fn run(queue: &Queue, shared: &Shared) {
    let mut group = Vec::new();
    let mut writes = WriteSet::default();
    loop {
        queue.take(&mut group);
        if group.is_empty() {
            return;
        }
        let mut batches: Vec<&mut Prepared> = group.iter_mut().map(|request| &mut request.batch).collect();
        let answers = {
            let _group = shared.view.blocking_write();
            commit_group(shared, &mut batches, &mut writes)
        };
        // Or the last hold on each body would be given up here.
        writes.clear();
        for (request, answer) in group.drain(..).zip(answers) {
            // The caller may have given up waiting.
            let _given_up = request.answer.send((answer, request.batch));
        }
    }
}

/// Applies batches as one group. One answer each, in order. The caller holds the view.
fn commit_group(shared: &Shared, batches: &mut [&mut Prepared], writes: &mut WriteSet) -> Vec<Answer> {
    if let Err(error) = shared.check_alive() {
        return batches.iter().map(|_| Err(error.clone())).collect();
    }
    let adding: u64 = batches.iter().filter(|batch| batch.adds).map(|batch| batch.bytes).sum();
    let full = if adding > 0 { shared.engine.reserve(adding + OVERHEAD_BYTES).err() } else { None };
    if let Some(error) = full.as_ref().filter(|error| error.kind() != ErrorKind::Full) {
        shared.fail(error);
        return batches.iter().map(|_| Err(error.clone())).collect();
    }
    writes.clear();
    // On a full disk only what adds nothing goes on: completions make room.
    let answers: Vec<Answer> = {
        let mut state = shared.state();
        let now = shared.config.clock.now();
        let answers = batches
            .iter_mut()
            .map(|batch| match &full {
                Some(error) if batch.adds => Err(error.clone()),
                _ => Ok(state.ledger.apply(batch, now, writes)),
            })
            .collect();
        state.ledger.end_group(now, writes);
        answers
    };
    let flush = batches.iter().any(|batch| batch.durability == Durability::Flushed)
        && !crate::mutant::is("early-acknowledge");
    let durability = if flush { Durability::Flushed } else { Durability::Written };
    let written = if writes.is_empty() { Ok(()) } else { shared.engine.apply(writes, durability) };
    match written {
        Ok(()) => {
            shared.recent().keep(writes);
            let mut state = shared.state();
            state.groups += 1;
            state.batches += batches.len() as u64;
            let changed = state.ledger.publish();
            if !crate::mutant::is("no-wake-up") {
                state.notify(&changed);
            }
            answers
        }
        Err(error) => give_up(shared, &error, batches.len()),
    }
}

/// A group could not be written: where nothing of it exists the ledger goes back to what the engine has, else the box
/// stops.
fn give_up(shared: &Shared, error: &Error, batches: usize) -> Vec<Answer> {
    if matches!(error.kind(), ErrorKind::Full | ErrorKind::Invalid) {
        if let Err(error) = rebuild(shared) {
            shared.fail(&error);
        }
    } else {
        shared.fail(error);
    }
    (0..batches).map(|_| Err(error.clone())).collect()
}

fn rebuild(shared: &Shared) -> Result<(), Error> {
    let mut recovery = Recovery::new(shared.config.retention);
    shared.engine.recover(&mut |key, head| recovery.visit(key, head))?;
    recovery.check_ports()?;
    let mut ledger = recovery.finish(&shared.engine.damage()).ledger;
    let mut state = shared.state();
    ledger.restore_leases(state.ledger.held_leases());
    ledger.keep_staging(&state.ledger);
    state.ledger = ledger;
    state.notify_all();
    Ok(())
}
