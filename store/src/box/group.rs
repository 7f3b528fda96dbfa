//! A commit group: batches that are decided about in the ledger one after another, written by the engine as one, and
//! answered after one flush.
//!
//! A group goes through `decide` (as often as batches join it), `seal`, `write`, and then `publish` or `undo`. The next
//! group is decided about while this one is written.

use tokio::sync::oneshot;

use super::{Shared, recent};
use crate::engine::WriteSet;
use crate::ledger::{Prepared, Recovery};
use crate::{Committed, Durability, Error, ErrorKind};

/// A group takes no further batch once it has so many bytes.
const BYTES_MAX: u64 = 8 * 1024 * 1024;
/// A group takes at most so many batches.
const BATCHES_MAX: usize = 4_096;
/// What a group adds beside its batches.
const OVERHEAD_BYTES: u64 = 4_096;

/// What so many batches look up is fetched together.
const TOUCHED_AHEAD: usize = 16;

pub(super) type Answer = Result<Committed, Error>;

/// A batch that waits, and where its answer goes.
#[derive(Debug)]
pub(super) struct Request {
    pub(super) batch: Prepared,
    /// The batch goes back as well: its memory is given back on the thread that it came from.
    pub(super) answer: oneshot::Sender<(Answer, Prepared)>,
}

impl Request {
    /// About what it adds to the disk; nothing where it is taken on a full one too.
    pub(super) const fn adds(&self) -> u64 {
        if self.batch.adds { self.batch.bytes } else { 0 }
    }
}

/// Batches on their way to the disk. Kept, for its memory, from group to group.
#[derive(Debug, Default)]
pub(super) struct Group {
    requests: Vec<Request>,
    /// One for each request that was decided about, in order.
    answers: Vec<Answer>,
    writes: WriteSet,
    /// About what its batches add to the disk.
    bytes: u64,
    /// What of that the engine has promised room for.
    promised: u64,
    /// Whether a batch wants to be flushed.
    flush: bool,
    /// Its messages, to be kept in memory for a while.
    recent: Option<recent::Group>,
}

impl Group {
    pub(super) fn is_empty(&self) -> bool {
        self.requests.is_empty()
    }

    /// How many wait for an answer.
    pub(super) fn callers(&self) -> usize {
        self.requests.len()
    }

    /// Takes as many of the waiting batches as there is room for, from the front. Tells how many. One batch is taken
    /// however large it is.
    pub(super) fn take(&mut self, waiting: &mut Vec<Request>) -> usize {
        let mut count = 0;
        for request in waiting.iter().take(BATCHES_MAX.saturating_sub(self.requests.len())) {
            let bytes = self.bytes.saturating_add(request.batch.bytes);
            if bytes > BYTES_MAX && self.requests.len() + count > 0 {
                break;
            }
            self.bytes = bytes;
            count += 1;
        }
        self.requests.extend(waiting.drain(..count));
        count
    }

    /// Gives every batch back, to be decided about anew.
    pub(super) fn take_back(&mut self) -> Vec<Request> {
        let requests = std::mem::take(&mut self.requests);
        self.clear();
        requests
    }

    /// Answers everybody with `error`.
    pub(super) fn refuse(&mut self, error: &Error) {
        for request in self.requests.drain(..) {
            let _given_up = request.answer.send((Err(error.clone()), request.batch));
        }
        self.clear();
    }

    fn clear(&mut self) {
        self.requests.clear();
        self.answers.clear();
        self.writes.clear();
        (self.bytes, self.promised, self.flush) = (0, 0, false);
        self.recent = None;
    }
}

impl Shared {
    /// Applies the batches of `group` to the ledger that were not yet.
    pub(super) fn decide(&self, group: &mut Group) {
        let Group { requests, answers, writes, promised, flush, .. } = group;
        let undecided = requests.get_mut(answers.len()..).unwrap_or_default();
        if let Err(error) = self.check_alive() {
            answers.extend(undecided.iter().map(|_| Err(error.clone())));
            return;
        }
        let adding: u64 = undecided.iter().map(Request::adds).sum();
        let full =
            if adding > 0 { self.engine.reserve(adding + OVERHEAD_BYTES, *promised).err() } else { None };
        if let Some(error) = full.as_ref().filter(|error| error.kind() != ErrorKind::Full) {
            self.fail(error);
            answers.extend(undecided.iter().map(|_| Err(error.clone())));
            return;
        }
        if adding > 0 && full.is_none() {
            *promised += adding + OVERHEAD_BYTES;
        }
        let mut state = self.state();
        let now = self.config.clock.now();
        state.ledger.forget_finished(now, writes);
        for some in undecided.chunks_mut(TOUCHED_AHEAD) {
            state.ledger.look_ahead(some.iter().map(|request| &request.batch));
            for Request { batch, .. } in some {
                *flush |= batch.durability == Durability::Flushed;
                // On a full disk only what adds nothing goes on: completions make room.
                answers.push(match &full {
                    Some(error) if batch.adds => Err(error.clone()),
                    _ => Ok(state.ledger.apply(batch, now, writes)),
                });
            }
        }
    }

    /// Whether batches that add so much can be decided about without waiting for the disk.
    pub(super) fn has_room(&self, adding: u64) -> bool {
        adding == 0 || self.engine.has_room(adding + OVERHEAD_BYTES)
    }

    /// Nothing joins the group any more.
    pub(super) fn seal(&self, group: &mut Group) {
        let mut state = self.state();
        state.ledger.end_group(self.config.clock.now(), &mut group.writes);
        state.ledger.seal();
    }

    /// Puts the group on the disk.
    pub(super) fn write(&self, group: &mut Group) -> Result<(), Error> {
        self.check_alive()?;
        let flush = group.flush && !crate::mutant::is("early-acknowledge");
        let durability = if flush { Durability::Flushed } else { Durability::Written };
        if group.writes.is_empty() {
            return Ok(());
        }
        let Group { writes, recent, .. } = group;
        let kept = self.engine.apply_kept(writes, durability)?;
        *recent = recent::Group::of(writes, kept);
        Ok(())
    }

    /// The group is on the disk, and so is every one before it: what it made ready can be leased, and its callers
    /// are answered.
    pub(super) fn publish(&self, group: &mut Group) {
        {
            let mut recent = self.recent();
            recent.forget(&group.writes);
            if let Some(group) = group.recent.take() {
                recent.keep(group);
            }
        }
        {
            let mut state = self.state();
            state.groups += 1;
            state.batches += group.requests.len() as u64;
            let changed = state.ledger.publish();
            if !crate::mutant::is("no-wake-up") {
                state.notify(&changed);
            }
        }
        self.view.end();
        // Or the last hold on each body would be given up here.
        group.writes.clear();
        for (request, answer) in group.requests.drain(..).zip(group.answers.drain(..)) {
            // The caller may have given up waiting.
            let _given_up = request.answer.send((answer, request.batch));
        }
        group.clear();
    }

    /// The group could not be written. Where nothing of it exists the ledger goes back to what the engine has, else the
    /// box stops. Every group before it is published; what was decided about after it is undone with it.
    pub(super) fn undo(&self, error: &Error) {
        if !matches!(error.kind(), ErrorKind::Full | ErrorKind::Invalid) {
            self.fail(error);
        } else if let Err(error) = self.rebuild() {
            self.fail(&error);
        }
    }

    fn rebuild(&self) -> Result<(), Error> {
        let mut recovery = Recovery::new(self.config.retention);
        self.engine.recover(&mut |key, head| recovery.visit(key, head))?;
        recovery.check_ports()?;
        let mut ledger = recovery.finish(&self.engine.damage()).ledger;
        let mut state = self.state();
        ledger.restore_leases(state.ledger.held_leases());
        ledger.keep_staging(&state.ledger);
        ledger.cut_off(0);
        state.ledger = ledger;
        state.notify_all();
        Ok(())
    }
}
