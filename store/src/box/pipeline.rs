//! Group commit in two stages: while one group is written and flushed, the next one is decided about.
//!
//! The writer takes whatever waits, decides about it, writes it as one group and flushes once; then it goes on with the
//! next. While it waits for the disk, callers who come decide ahead about what has gathered, so that little is left to
//! decide when the flush returns. A helper does it where that is long work, or may have to wait; and it publishes and
//! answers a group that has few callers, so that the disk need not wait for that either.
//!
//! Locks are taken in this order: `open`, `publishing`, `line` or `done`, and within `Shared` the state last.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use super::Shared;
use super::group::{Group, Request};
use crate::{Error, ErrorKind};

/// It is decided ahead once so many operations wait: fewer are not worth it.
const AHEAD_OPS: usize = 4;

/// The helper is woken for so many, where whoever has the open group may have taken what waited already.
const HELPER_OPS: usize = 16;

/// A caller decides about so many operations: a millisecond or two, on a thread that has other work to do.
const CALLER_OPS_MAX: usize = 1_024;

/// The helper answers so many callers: more take longer than waking it saves.
const CALLERS_MAX: usize = 8;

/// Where batches wait, and what becomes of them.
#[derive(Debug, Default)]
pub(super) struct Pipeline {
    line: Mutex<Line>,
    /// Wakes the writer.
    to_write: Condvar,
    /// Wakes the helper.
    to_help: Condvar,
    /// The group that is being put together.
    open: Mutex<Group>,
    /// Groups on the disk that are not published yet, oldest first.
    done: Mutex<VecDeque<Group>>,
    /// Held by whoever publishes them: one at a time, in order.
    publishing: Mutex<()>,
}

#[derive(Debug, Default)]
struct Line {
    requests: Vec<Request>,
    /// Operations of these.
    ops: usize,
    /// About what those of them that need room add to the disk, in bytes.
    adding: u64,
    /// Groups to be used again, for their memory.
    spare: Vec<Group>,
    /// The open group has batches.
    is_open: bool,
    /// The writer is at work, and will see for itself what comes in.
    is_writing: bool,
    /// A group is on the disk that the writer leaves to the helper.
    is_done: bool,
    /// The helper is to decide about what waits.
    is_asked: bool,
    /// Nothing can be decided ahead before the writer has gone on.
    is_stalled: bool,
    writer_sleeps: bool,
    helper_sleeps: bool,
    is_closed: bool,
    /// The writer has ended.
    is_over: bool,
}

/// Who decides ahead about what waits.
#[derive(Debug, PartialEq, Eq)]
enum Ahead {
    Nobody,
    Caller,
    Helper,
}

/// Ends the helper and leaves nobody waiting, also where the writer panics.
struct Over<'a>(&'a Pipeline, &'a Shared);

/// Stops the box where its thread panics: what that had begun is only half in the ledger.
struct Whole<'a>(&'a Shared);

impl Drop for Whole<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let error = Error::new(ErrorKind::Unavailable, "commit");
            self.0.fail(&error.with(
                "reason",
                "a thread of the box panicked; this is a defect of the box's or its engine's",
            ));
        }
    }
}

impl Line {
    fn put(&mut self, request: Request) {
        self.ops += request.batch.ops.len();
        self.adding += request.adds();
        self.requests.push(request);
    }

    /// Counts what is left after some were taken, or given back.
    fn count(&mut self) {
        self.ops = self.requests.iter().map(|request| request.batch.ops.len()).sum();
        self.adding = self.requests.iter().map(Request::adds).sum();
    }

    /// Who decides now. The writer sees for itself what waits, unless it has its hands full.
    fn ahead(&self, shared: &Shared) -> Ahead {
        if !self.is_writing || self.is_stalled || self.ops < AHEAD_OPS {
            Ahead::Nobody
        } else if self.ops <= CALLER_OPS_MAX && shared.has_room(self.adding) {
            Ahead::Caller
        } else {
            Ahead::Helper
        }
    }
}

impl Pipeline {
    fn line(&self) -> MutexGuard<'_, Line> {
        self.line.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn open(&self) -> MutexGuard<'_, Group> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets a batch wait for its turn, and decides ahead about what waits. False where the box is closed.
    pub(super) fn push(&self, shared: &Shared, request: Request) -> bool {
        let mut line = self.line();
        if line.is_closed {
            return false;
        }
        line.put(request);
        // Only who sleeps is woken: a call to the system for each batch would cost more than the batch.
        if !line.is_writing {
            if std::mem::take(&mut line.writer_sleeps) {
                drop(line);
                self.to_write.notify_one();
            }
            return true;
        }
        let ops = line.ops;
        match line.ahead(shared) {
            Ahead::Nobody => {}
            Ahead::Helper => self.ask_helper(line),
            Ahead::Caller => {
                drop(line);
                if let Ok(mut open) = self.open.try_lock() {
                    let _whole = Whole(shared);
                    self.decide_ahead(shared, &mut open);
                } else if ops >= HELPER_OPS {
                    self.ask_helper(self.line());
                }
            }
        }
        true
    }

    fn ask_helper(&self, mut line: MutexGuard<'_, Line>) {
        line.is_asked = true;
        if std::mem::take(&mut line.helper_sleeps) {
            drop(line);
            self.to_help.notify_one();
        }
    }

    /// Takes no more batches; the threads end when everything that waits is done.
    pub(super) fn close(&self) {
        self.line().is_closed = true;
        self.to_write.notify_all();
    }

    /// The writer's life.
    pub(super) fn write(&self, shared: &Shared) {
        let _over = Over(self, shared);
        while self.wait_for_work() {
            let mut group = self.next_group(shared);
            // Dropped before the group is: who waits for it is told why.
            let _whole = Whole(shared);
            match shared.write(&mut group) {
                Ok(()) => self.done(shared, group),
                Err(error) => self.give_up(shared, &mut group, &error),
            }
        }
    }

    /// A group is on the disk. Where something waits, that goes on first, unless the group has many callers: these are to
    /// be back for the next one, or groups become small.
    fn done(&self, shared: &Shared, group: Group) {
        let has_many = group.callers() > CALLERS_MAX;
        self.done.lock().unwrap_or_else(PoisonError::into_inner).push_back(group);
        let mut line = self.line();
        if has_many || (line.requests.is_empty() && !line.is_open) {
            drop(line);
            self.publish_done(shared);
            return;
        }
        line.is_done = true;
        if std::mem::take(&mut line.helper_sleeps) {
            drop(line);
            self.to_help.notify_one();
        }
    }

    /// Publishes every group that is on the disk and answers its callers.
    fn publish_done(&self, shared: &Shared) {
        let _turn = self.publishing.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            let oldest = self.done.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
            let Some(mut group) = oldest else { return };
            shared.publish(&mut group);
            self.line().spare.push(group);
        }
    }

    /// True once something waits; false once nothing will any more.
    fn wait_for_work(&self) -> bool {
        let mut line = self.line();
        while line.requests.is_empty() && !line.is_open {
            line.is_writing = false;
            if line.is_closed {
                return false;
            }
            line.writer_sleeps = true;
            line = self.to_write.wait(line).unwrap_or_else(PoisonError::into_inner);
        }
        line.is_writing = true;
        true
    }

    /// What waits, decided about and ready to be written.
    fn next_group(&self, shared: &Shared) -> Group {
        let _whole = Whole(shared);
        let mut open = self.open();
        if open.is_empty() && !shared.view.try_begin() {
            // Who reads waits until nothing is unsettled.
            self.publish_done(shared);
            shared.view.begin();
        }
        self.take(shared, &mut open);
        let next = {
            let mut line = self.line();
            (line.is_open, line.is_stalled) = (false, false);
            line.spare.pop().unwrap_or_default()
        };
        let mut group = std::mem::replace(&mut *open, next);
        let _whole = Whole(shared);
        shared.seal(&mut group);
        group
    }

    /// Lets what waits join the open group, as far as there is room. Tells how much.
    fn take(&self, shared: &Shared, open: &mut Group) -> usize {
        let taken = {
            let mut line = self.line();
            let taken = open.take(&mut line.requests);
            line.count();
            taken
        };
        shared.decide(open);
        taken
    }

    /// The group could not be written. What was decided about after it is decided about anew.
    fn give_up(&self, shared: &Shared, group: &mut Group, error: &Error) {
        let mut open = self.open();
        self.publish_done(shared);
        shared.undo(error);
        if !open.is_empty() {
            let requests = open.take_back();
            let mut line = self.line();
            line.is_open = false;
            line.requests.splice(..0, requests);
            line.count();
            shared.view.end();
        }
        shared.view.end();
        group.refuse(error);
    }

    /// The helper's life.
    pub(super) fn help(&self, shared: &Shared) {
        let _whole = Whole(shared);
        loop {
            let mut line = self.line();
            while !line.is_done && !line.is_asked {
                if line.is_over {
                    return;
                }
                line.helper_sleeps = true;
                line = self.to_help.wait(line).unwrap_or_else(PoisonError::into_inner);
            }
            if std::mem::take(&mut line.is_done) {
                drop(line);
                self.publish_done(shared);
                continue;
            }
            line.is_asked = false;
            drop(line);
            self.decide_ahead(shared, &mut self.open());
        }
    }

    /// Decides about what waits while the writer is busy, as far as there is room and nobody reads.
    fn decide_ahead(&self, shared: &Shared, open: &mut Group) {
        {
            let mut line = self.line();
            if line.requests.is_empty() {
                return;
            }
            if open.is_empty() && !shared.view.try_begin() {
                line.is_stalled = true;
                return;
            }
            line.is_open = true;
        }
        if self.take(shared, open) == 0 {
            self.line().is_stalled = true;
        }
    }
}

impl Drop for Over<'_> {
    fn drop(&mut self) {
        let mut line = self.0.line();
        line.is_closed = true;
        line.is_over = true;
        // Whoever waits for these is told that nobody answers.
        line.requests.clear();
        drop(line);
        self.0.to_help.notify_all();
        if std::thread::panicking() {
            drop(self.0.open().take_back());
            self.1.view.abandon();
        }
    }
}

#[cfg(test)]
mod tests;
