//! The tasks of a runtime: every one is known, so that a drain finds it and a simulated crash ends it.

use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;
use tokio::task::{AbortHandle, JoinHandle};

/// Starts tasks and knows each until it has ended. The only place of the runtime that does. Cheap to clone; clones
/// share the tasks.
///
/// Must be used inside a tokio runtime.
#[derive(Clone, Default)]
pub struct Tasks {
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    known: Mutex<Known>,
    idle: Notify,
}

#[derive(Default)]
struct Known {
    next: u64,
    closed: bool,
    /// In order of their start. The handle is missing between the decision to start a task and its start.
    running: BTreeMap<u64, Option<AbortHandle>>,
}

/// Forgets a task, however it ended.
struct Entry {
    shared: Arc<Shared>,
    number: u64,
}

impl Drop for Entry {
    fn drop(&mut self) {
        let mut known = self.shared.known();
        known.running.remove(&self.number);
        let idle = known.running.is_empty();
        drop(known);
        if idle {
            self.shared.idle.notify_waiters();
        }
    }
}

impl Shared {
    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Tasks {
    /// No tasks yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Starts a task. After [`Tasks::abort_all`] nothing is started: the future is dropped and the handle tells of
    /// a cancelled task.
    #[expect(clippy::disallowed_methods, reason = "the place that starts tasks")]
    pub fn spawn<F>(&self, future: F) -> JoinHandle<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        let Some(entry) = self.enter() else {
            drop(future);
            let never = tokio::spawn(std::future::pending());
            never.abort();
            return never;
        };
        let number = entry.number;
        let task = tokio::spawn(async move {
            let _entry = entry;
            future.await
        });
        self.started(number, task.abort_handle());
        task
    }

    /// Runs `work` on a thread that may block. Such work cannot be aborted once it has begun; after
    /// [`Tasks::abort_all`] it is not begun.
    #[expect(clippy::disallowed_methods, reason = "the place that starts tasks")]
    pub fn spawn_blocking<F, T>(&self, work: F) -> JoinHandle<Option<T>>
    where
        F: FnOnce() -> T + Send + 'static,
        T: Send + 'static,
    {
        let Some(entry) = self.enter() else {
            drop(work);
            return tokio::task::spawn_blocking(|| None);
        };
        let number = entry.number;
        let task = tokio::task::spawn_blocking(move || {
            let _entry = entry;
            Some(work())
        });
        self.started(number, task.abort_handle());
        task
    }

    /// How many run.
    #[must_use]
    pub fn running(&self) -> usize {
        self.shared.known().running.len()
    }

    /// Returns once none runs.
    ///
    /// # Cancel
    /// A dropped call changes nothing.
    pub async fn idle(&self) {
        loop {
            let mut idle = std::pin::pin!(self.shared.idle.notified());
            idle.as_mut().enable();
            if self.running() == 0 {
                return;
            }
            idle.await;
        }
    }

    /// Ends every task where it stands, as a crash would, and starts no more. Blocking work that has begun runs to
    /// its end.
    pub fn abort_all(&self) {
        let mut known = self.shared.known();
        known.closed = true;
        let handles: Vec<_> = known.running.values().flatten().cloned().collect();
        drop(known);
        for handle in handles {
            handle.abort();
        }
    }

    fn enter(&self) -> Option<Entry> {
        let mut known = self.shared.known();
        if known.closed {
            return None;
        }
        let number = known.next;
        known.next += 1;
        known.running.insert(number, None);
        Some(Entry { shared: Arc::clone(&self.shared), number })
    }

    fn started(&self, number: u64, handle: AbortHandle) {
        let mut known = self.shared.known();
        let closed = known.closed;
        match known.running.get_mut(&number) {
            // It was started while everything was being aborted.
            Some(_) if closed => {}
            Some(place) => {
                *place = Some(handle);
                return;
            }
            // It has ended already.
            None => return,
        }
        drop(known);
        handle.abort();
    }
}

impl fmt::Debug for Tasks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tasks").field("running", &self.running()).finish_non_exhaustive()
    }
}

/// Counts who is inside, and tells when nobody is.
#[derive(Debug, Default)]
pub(crate) struct Gate {
    inside: AtomicUsize,
    empty: Notify,
}

/// Somebody who is inside.
#[derive(Debug)]
pub(crate) struct Inside(Arc<Gate>);

impl Gate {
    pub(crate) fn enter(self: &Arc<Self>) -> Inside {
        self.inside.fetch_add(1, Ordering::AcqRel);
        Inside(Arc::clone(self))
    }

    pub(crate) fn inside(&self) -> usize {
        self.inside.load(Ordering::Acquire)
    }

    /// Returns once nobody is inside.
    pub(crate) async fn empty(&self) {
        loop {
            let mut empty = std::pin::pin!(self.empty.notified());
            empty.as_mut().enable();
            if self.inside() == 0 {
                return;
            }
            empty.await;
        }
    }
}

impl Drop for Inside {
    fn drop(&mut self) {
        if self.0.inside.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.0.empty.notify_waiters();
        }
    }
}
