//! Who may look at the ledger, and when: queries tell only what is on the disk, so they wait until every change that
//! was made in memory is, and changes wait for them.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

/// Keeps queries and changes apart. Neither can starve the other: queries that wait let no further group begin, and
/// once it is their turn they go together, after which groups go on.
#[derive(Debug, Default)]
pub(super) struct View {
    counts: Mutex<Counts>,
    /// Wakes who wants to begin a group.
    unread: Condvar,
    /// Wakes who wants to read.
    settled: Notify,
    /// Wakes who wants to begin a group without blocking its thread.
    freed: Notify,
}

#[derive(Debug, Default)]
struct Counts {
    /// Groups with changes in memory that are not on the disk yet.
    unsettled: usize,
    reading: usize,
    waiting: usize,
    /// How often those who wait were let in.
    turns: u64,
    /// Somebody waits to begin a group.
    is_wanted: bool,
}

/// Lets changes go on when dropped.
#[derive(Debug)]
pub(super) struct Reading<'a>(&'a View);

/// Somebody who waits to read, and may give that up.
struct Waiter<'a> {
    view: &'a View,
    /// The turn that lets it in comes after this one.
    turns: u64,
}

impl View {
    fn lock(&self) -> MutexGuard<'_, Counts> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until everything in memory is on the disk, and keeps it so for as long as the guard is held: no longer
    /// than it takes to read from memory.
    pub(super) async fn read(&self) -> Reading<'_> {
        let waiter = {
            let mut counts = self.lock();
            if counts.unsettled == 0 && !counts.is_wanted {
                counts.reading += 1;
                return Reading(self);
            }
            counts.waiting += 1;
            Waiter { view: self, turns: counts.turns }
        };
        loop {
            let mut settled = std::pin::pin!(self.settled.notified());
            settled.as_mut().enable();
            if self.lock().turns > waiter.turns {
                // Its turn has counted it among the readers already.
                std::mem::forget(waiter);
                return Reading(self);
            }
            settled.await;
        }
    }

    /// Begins a group, where that need not wait.
    pub(super) fn try_begin(&self) -> bool {
        let mut counts = self.lock();
        let is_free = counts.reading == 0 && counts.waiting == 0;
        counts.unsettled += usize::from(is_free);
        is_free
    }

    /// Begins a group, once nobody reads. Never blocks the thread: who reads may be waiting for it.
    pub(super) async fn begin_when_free(&self) {
        loop {
            let mut freed = std::pin::pin!(self.freed.notified());
            freed.as_mut().enable();
            if self.try_begin() {
                return;
            }
            freed.await;
        }
    }

    /// Begins a group, once nobody reads. No other group may be unsettled.
    pub(super) fn begin(&self) {
        let mut counts = self.lock();
        while counts.reading > 0 {
            counts.is_wanted = true;
            counts = self.unread.wait(counts).unwrap_or_else(PoisonError::into_inner);
        }
        counts.is_wanted = false;
        counts.unsettled += 1;
    }

    /// Whoever made groups has gone: nothing will settle any more.
    pub(super) fn abandon(&self) {
        let mut counts = self.lock();
        counts.unsettled = 0;
        counts.let_in(&self.settled);
    }

    /// A group is on the disk, or nothing of it is left.
    pub(super) fn end(&self) {
        let mut counts = self.lock();
        counts.unsettled -= 1;
        if counts.unsettled == 0 {
            counts.let_in(&self.settled);
        }
    }
}

impl Counts {
    /// Those who wait read now, all of them.
    fn let_in(&mut self, settled: &Notify) {
        if self.waiting > 0 {
            self.reading += std::mem::take(&mut self.waiting);
            self.turns += 1;
            settled.notify_waiters();
        }
    }
}

impl Drop for Reading<'_> {
    fn drop(&mut self) {
        let mut counts = self.0.lock();
        counts.reading -= 1;
        if counts.reading > 0 {
            return;
        }
        if counts.is_wanted {
            self.0.unread.notify_all();
        } else if counts.unsettled == 0 {
            counts.let_in(&self.0.settled);
        }
        self.0.freed.notify_waiters();
    }
}

impl Drop for Waiter<'_> {
    fn drop(&mut self) {
        let mut counts = self.view.lock();
        if counts.turns > self.turns {
            drop(counts);
            drop(Reading(self.view));
        } else {
            counts.waiting -= 1;
            self.view.freed.notify_waiters();
        }
    }
}

#[cfg(test)]
mod tests;
