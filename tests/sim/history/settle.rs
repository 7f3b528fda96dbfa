//! The rules for what the holder of a lease decides.

use pillarbox_runtime::DoubtPolicy;
use pillarbox_store::{Route, Timestamp};

use super::check::Checker;
use super::rows::Row;
use super::{How, Invariant, RouteLimits};

impl Checker {
    /// The box recorded what the holder of a lease decided.
    pub(super) fn settle(&mut self, lease: u64, how: How, charged: bool) {
        let now = self.now;
        let draining = self.is_draining();
        let Some(row) = self.leases.get(&lease).and_then(|delivery| self.rows.get(delivery)) else {
            return self
                .broken(Invariant::I13, format!("lease {lease} was never given out and settled {how:?}"));
        };
        if row.state.is_terminal() {
            let text = format!("{:?} has ended and got another outcome: {how:?}", row.to);
            return self.broken(Invariant::I3, text);
        }
        if row.held.is_none_or(|held| held.lease != lease) {
            let text = format!("lease {lease} of {:?} was over and settled {how:?}: {row:?}", row.to);
            return self.broken(Invariant::I13, text);
        }
        let is_prepared = self.is_prepared(row);
        let has_backup = self.ports.get(&row.to.port).is_some_and(|limits| limits.backup.is_some());
        if let Some(limits) = self.limits(&row.to.port, row.route) {
            let decision = Decision { row, how, charged, limits, has_backup, is_prepared, now, draining };
            let (wrong, text) = (decision.wrong(), format!("{how:?} of {row:?}"));
            for (invariant, why) in wrong {
                self.broken(invariant, format!("{why}: {text}"));
            }
        }
        if let Some(row) = self.holder_of(lease) {
            // Another process of another route may have left the same attempt prepared: that is rolled back.
            row.is_transacted |= how.is_sent() && is_prepared && row.sent != Some(row.attempts + 1);
            // What the engine gave up on may have been sent all the same.
            row.in_doubt |= !how.is_sent();
            row.settle(how, charged, now);
        }
    }
}

struct Decision<'a> {
    row: &'a Row,
    how: How,
    charged: bool,
    limits: RouteLimits,
    has_backup: bool,
    /// The destination holds it prepared.
    is_prepared: bool,
    now: Timestamp,
    draining: bool,
}

impl Decision<'_> {
    fn wrong(&self) -> Vec<(Invariant, &'static str)> {
        let Self { row, how, charged, .. } = *self;
        let attempt = row.attempts + 1;
        let asked = row.asked == Some(attempt);
        let mut wrong = Vec::new();
        if how.is_sent() {
            if row.sent != Some(attempt) && !self.is_prepared {
                wrong.push((Invariant::I1, "it was ended as sent and no adapter had said so"));
            }
            if !charged {
                wrong.push((Invariant::I4, "the attempt that sent it was not counted"));
            }
            let mut replies = row.replies.iter().filter(|(of, _)| *of == attempt).map(|(_, answer)| *answer);
            let recorded = if let How::Respond(answer) = how { Some(answer) } else { None };
            if replies.clone().next().map_or(recorded.is_some(), |_| replies.all(|answer| answer != recorded))
            {
                wrong.push((Invariant::I11, "it was ended with another answer than the destination's"));
            }
            return wrong;
        }
        if !charged {
            // What ends the process again and again is parked without another attempt.
            let is_poison = how == How::Suspend && row.crashes >= DoubtPolicy::default().park_after;
            if !asked && !is_poison {
                wrong.push((Invariant::I4, "an attempt was not counted"));
            }
            return wrong;
        }
        self.check_cause(attempt, asked, &mut wrong);
        if !asked {
            self.check_ladder(&mut wrong);
            self.check_wait(attempt, &mut wrong);
        }
        if how == How::Backup && (row.route == Route::Backup || !self.has_backup) {
            wrong.push((Invariant::I4, "there is no backup route to move to"));
        }
        wrong
    }

    /// An attempt is counted as failed only if it failed, or if its time was up.
    fn check_cause(&self, attempt: u32, asked: bool, wrong: &mut Vec<(Invariant, &'static str)>) {
        let row = self.row;
        let failed = row.failed.is_some_and(|failed| failed.attempt == attempt);
        if failed || asked || self.is_late() {
            return;
        }
        let why = if self.draining {
            "the shutdown was counted as an attempt"
        } else {
            "an attempt was counted as failed, and nothing failed"
        };
        wrong.push((Invariant::I4, why));
    }

    fn is_late(&self) -> bool {
        self.row.held.is_some_and(|held| self.now.since(held.at) >= self.limits.timeout)
    }

    fn check_ladder(&self, wrong: &mut Vec<(Invariant, &'static str)>) {
        let Self { row, how, limits, .. } = self;
        let attempt = row.attempts + 1;
        let spent = row.on_route + 1 >= limits.attempts;
        let told = row.failed.filter(|failed| failed.attempt == attempt);
        let permanent = told.is_some_and(|failed| failed.permanent);
        // Where the time is up as well, either may have come first.
        let is_clear = !self.is_late() && !row.is_shared;
        let fault = |says: bool, why| (says && is_clear).then_some((Invariant::I4, why));
        match how {
            How::Resubmit(_) => {
                if spent {
                    wrong.push((Invariant::I4, "the route's attempts are spent and it goes on"));
                }
                wrong.extend(fault(permanent, "a permanent failure is tried again"));
            }
            How::Backup => {
                if !spent {
                    wrong.push((Invariant::I4, "it leaves a route with attempts left"));
                }
                wrong.extend(fault(permanent, "a permanent failure is tried again"));
            }
            How::Suspend => {
                let further = !spent || (row.route == Route::Primary && self.has_backup);
                wrong.extend(fault(further && !permanent, "it is parked with attempts left"));
            }
            How::Delete | How::Respond(_) => {}
        }
    }

    fn check_wait(&self, attempt: u32, wrong: &mut Vec<(Invariant, &'static str)>) {
        let How::Resubmit(at) = self.how else { return };
        let told = self.row.failed.filter(|failed| failed.attempt == attempt);
        let Some(wait) = told.and_then(|failed| Some(failed.at.plus(failed.retry_after?))) else { return };
        if at < wait && !self.is_late() && !self.row.is_shared {
            wrong.push((Invariant::I8, "the destination's `Retry-After` is not obeyed"));
        }
    }
}
