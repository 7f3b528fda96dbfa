//! What the history says of one delivery, and how operations change that.

use std::time::Duration;

use pillarbox_store::{DeliveryId, DeliveryInfo, DeliveryState, Route, Timestamp};

use super::{How, Said, To};

/// Where a delivery stands by what was answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    Ready,
    /// For a time; `first` before its first attempt.
    Waiting {
        due: Timestamp,
        first: bool,
    },
    Suspended,
    Done,
    Terminated,
}

impl State {
    pub(super) const fn is_terminal(self) -> bool {
        matches!(self, Self::Done | Self::Terminated)
    }
}

/// A lease that was given out and not settled or given back.
#[derive(Debug, Clone, Copy)]
pub(super) struct Held {
    pub(super) lease: u64,
    pub(super) at: Timestamp,
    pub(super) ends: Timestamp,
    /// Its holder was told that the outcome could not be recorded: it may be left to its end.
    pub(super) is_abandoned: bool,
}

/// An attempt that an adapter said to have failed.
#[derive(Debug, Clone, Copy)]
pub(super) struct Failed {
    pub(super) attempt: u32,
    pub(super) at: Timestamp,
    pub(super) permanent: bool,
    pub(super) retry_after: Option<Duration>,
}

/// A delivery.
#[derive(Debug, Clone)]
pub(super) struct Row {
    pub(super) to: To,
    pub(super) delivery: DeliveryId,
    pub(super) state: State,
    pub(super) route: Route,
    pub(super) attempts: u32,
    pub(super) on_route: u32,
    pub(super) held: Option<Held>,
    /// The attempt of which the adapter said that the destination has it.
    pub(super) sent: Option<u32>,
    pub(super) failed: Option<Failed>,
    /// The attempt of which the adapter asked for something by itself.
    pub(super) asked: Option<u32>,
    /// A repeated send is to be expected.
    pub(super) in_doubt: bool,
    /// The attempt without an outcome that the destination has seen; 0 for none.
    pub(super) seen: u32,
    /// A crash came after that, and the box has to know it.
    pub(super) is_cut_off: bool,
    /// Crashes in a row while it was held.
    pub(super) crashes: u32,
    /// An attempt was given up without being counted: what is heard of this attempt's number may come from it.
    pub(super) is_shared: bool,
    pub(super) send_keys: [Option<String>; 2],
    /// It was recorded as sent by a transaction of the destination.
    pub(super) is_transacted: bool,
    /// How often the destination committed it.
    pub(super) committed: u32,
    /// What the destination answered to which attempt.
    pub(super) replies: Vec<(u32, Option<u64>)>,
    /// The answer that was recorded with its end.
    pub(super) answer: Option<u64>,
    /// The box need not know it any more.
    pub(super) is_forgotten: bool,
}

impl Row {
    pub(super) fn new(to: To, delivery: DeliveryId, not_before: Option<Timestamp>) -> Self {
        let state = match not_before {
            Some(due) if due > Timestamp::EPOCH => State::Waiting { due, first: true },
            _ => State::Ready,
        };
        Self {
            to,
            delivery,
            state,
            route: Route::Primary,
            attempts: 0,
            on_route: 0,
            held: None,
            sent: None,
            failed: None,
            asked: None,
            in_doubt: false,
            crashes: 0,
            seen: 0,
            is_cut_off: false,
            is_shared: false,
            send_keys: [None, None],
            is_transacted: false,
            committed: 0,
            replies: Vec::new(),
            answer: None,
            is_forgotten: false,
        }
    }

    /// The lease that is held and has not ended by `now`.
    pub(super) fn holder(&self, now: Timestamp) -> Option<Held> {
        self.held.filter(|held| held.ends > now)
    }

    /// Changes the row as the holder of its lease decided.
    pub(super) fn settle(&mut self, how: How, charged: bool, now: Timestamp) {
        self.held = None;
        (self.seen, self.is_cut_off) = (0, false);
        if charged {
            self.attempts += 1;
            self.on_route += 1;
            self.is_shared = false;
            self.crashes = 0;
        }
        match how {
            How::Delete => self.state = State::Done,
            How::Respond(answer) => {
                self.state = State::Done;
                self.answer = Some(answer);
            }
            How::Resubmit(due) if due > now => self.state = State::Waiting { due, first: false },
            How::Resubmit(_) => self.state = State::Ready,
            How::Backup => {
                self.state = State::Ready;
                self.route = Route::Backup;
                self.on_route = 0;
            }
            How::Suspend => self.state = State::Suspended,
        }
    }

    /// Whether nothing but a lease keeps it from being sent.
    pub(super) fn is_due(&self, now: Timestamp) -> bool {
        match self.state {
            State::Ready => true,
            State::Waiting { due, .. } => due <= now,
            _ => false,
        }
    }

    /// Whether a command about a delivery that nobody works on applies to it.
    pub(super) fn allows(&self, command: &Said, now: Timestamp) -> bool {
        let held = self.holder(now).is_some();
        let waits = matches!(self.state, State::Ready | State::Waiting { .. }) && !held;
        match command {
            Said::Hold(_) => waits,
            Said::Resume(_) => self.state == State::Suspended || waits,
            Said::Terminate(_) => !self.state.is_terminal() && !held,
            _ => false,
        }
    }

    /// Changes the row as commanded.
    pub(super) fn command(&mut self, command: &Said) {
        self.held = None;
        match command {
            Said::Hold(_) => self.state = State::Suspended,
            Said::Resume(_) => {
                if self.state == State::Suspended {
                    self.route = Route::Primary;
                    self.on_route = 0;
                }
                self.state = State::Ready;
                self.in_doubt = true;
            }
            Said::Terminate(_) => self.state = State::Terminated,
            _ => {}
        }
    }

    /// The process died: nobody holds it any more, and whether it was sent is in doubt.
    pub(super) fn crash(&mut self, keeps_written: bool) {
        // What was only written says so only where that is kept.
        self.is_cut_off = keeps_written && (self.is_cut_off || self.seen == self.attempts + 1);
        self.seen = 0;
        // That it was forgotten may have been written and not flushed.
        self.is_forgotten &= keeps_written;
        self.crashes += u32::from(self.held.take().is_some());
        self.in_doubt = true;
    }

    /// Whether a crash cut off what comes again as this attempt, and it does not say so.
    pub(super) const fn says_too_little(&self, attempt: u32, in_doubt: bool) -> bool {
        attempt == self.attempts + 1 && self.is_cut_off && !in_doubt
    }

    /// Whether what the box tells can be this row.
    pub(super) fn matches(&self, found: &DeliveryInfo, now: Timestamp) -> bool {
        self.difference(found, now).is_none()
    }

    /// What the box tells differently.
    pub(super) fn difference(&self, found: &DeliveryInfo, now: Timestamp) -> Option<Difference> {
        if found.message != self.to.message || found.port != self.to.port {
            return Some(Difference::Name);
        }
        if !self.may_be_in(found.state, now) {
            return Some(Difference::State);
        }
        if let State::Waiting { due, .. } = self.state
            && found.due.is_some_and(|found| found != due)
        {
            return Some(Difference::Due);
        }
        if found.attempts != self.attempts || found.route != self.route {
            return Some(Difference::Attempts);
        }
        None
    }

    pub(super) fn may_be_in(&self, found: DeliveryState, now: Timestamp) -> bool {
        match (self.held, self.state) {
            (_, State::Done) => found == DeliveryState::Done,
            (_, State::Terminated) => found == DeliveryState::Terminated,
            (_, State::Suspended) => found == DeliveryState::Suspended,
            (Some(held), _) if held.ends > now => found == DeliveryState::Leased,
            // A lease that has ended, or a time that has come, is noticed when somebody leases the next time.
            (Some(_), _) if found == DeliveryState::Leased => true,
            (_, State::Ready) => found == DeliveryState::Ready,
            (_, State::Waiting { due, first }) => {
                let waiting = if first { DeliveryState::Scheduled } else { DeliveryState::RetryWait };
                found == waiting || (due <= now && found == DeliveryState::Ready)
            }
        }
    }
}

/// What a box tells of a delivery that differs from the history.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Difference {
    Name,
    State,
    Due,
    Attempts,
}
