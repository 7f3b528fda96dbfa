//! The failure ladder: what follows a failed attempt. Pure.
//!
//! Resubmit while the route has attempts left, then the backup route with a budget of its own, then park it. An
//! error that no attempt can cure parks it at once.

use std::time::Duration;

use pillarbox_store::{Failure, Route, Timestamp, mutant};

use crate::RetryPolicy;
use crate::adapter::{ErrorClass, SendError};

#[cfg(test)]
mod tests;

/// A failed attempt, as the ladder and the history need it.
#[derive(Debug, Clone)]
pub(crate) struct Fault {
    pub(crate) class: ErrorClass,
    pub(crate) retry_after: Option<Duration>,
    pub(crate) failure: Failure,
}

impl From<&SendError> for Fault {
    fn from(error: &SendError) -> Self {
        Self { class: error.class(), retry_after: error.wait(), failure: error.to_failure() }
    }
}

/// Where a delivery stands when its attempt has failed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Standing<'a> {
    /// The route's policy.
    pub(crate) policy: &'a RetryPolicy,
    /// The route.
    pub(crate) route: Route,
    /// Whether the port has a backup route.
    pub(crate) has_backup: bool,
    /// Attempts on this route, the failed one included.
    pub(crate) attempts_on_route: u32,
    /// The present moment.
    pub(crate) now: Timestamp,
    /// A uniformly distributed number.
    pub(crate) random: u64,
}

/// What follows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Another attempt on the same route.
    ResubmitAt(Timestamp),
    /// The backup route, with a fresh budget.
    MoveToBackup,
    /// Parked.
    Suspend { reason: String },
}

/// Decides what follows a failed attempt.
pub(crate) fn decide(fault: &Fault, standing: &Standing<'_>) -> Verdict {
    let text = fault.failure.text();
    let class = if mutant::is("permanent-is-retried") { ErrorClass::Temporary } else { fault.class };
    let allowed = standing.policy.attempts + u32::from(mutant::is("one-attempt-more"));
    match class {
        ErrorClass::Permanent => Verdict::Suspend { reason: format!("no further attempt can help: {text}") },
        ErrorClass::Temporary if standing.attempts_on_route < allowed => {
            let planned = standing.policy.wait(standing.attempts_on_route, standing.random);
            let asked = fault.retry_after.filter(|_| !mutant::is("retry-after-ignored"));
            let wait = planned.max(asked.unwrap_or_default());
            Verdict::ResubmitAt(standing.now.plus(wait))
        }
        ErrorClass::Temporary if standing.route == Route::Primary && standing.has_backup => {
            Verdict::MoveToBackup
        }
        ErrorClass::Temporary => {
            let (made, route) = (standing.attempts_on_route, standing.route.as_str());
            let attempts = if made == 1 { "attempt" } else { "attempts" };
            Verdict::Suspend {
                reason: format!("{made} {attempts} on the {route} route failed, the last: {text}"),
            }
        }
    }
}
