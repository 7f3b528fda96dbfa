//! The ladder, decision by decision.

use std::time::Duration;

use pillarbox_store::{Route, Timestamp};
use proptest::prelude::*;

use super::{Fault, Standing, Verdict, decide};
use crate::RetryPolicy;
use crate::adapter::SendError;

const NOW: Timestamp = Timestamp::from_micros(1_000_000);

fn standing(policy: &RetryPolicy, route: Route, has_backup: bool, made: u32, random: u64) -> Standing<'_> {
    Standing { policy, route, has_backup, attempts_on_route: made, now: NOW, random }
}

fn route() -> impl Strategy<Value = Route> {
    prop_oneof![Just(Route::Primary), Just(Route::Backup)]
}

proptest! {
    #[test]
    fn a_permanent_error_always_suspends(route in route(), backup: bool, made in 1_u32..2_000, random: u64) {
        let fault = Fault::from(&SendError::permanent("refused").retry_after(Duration::from_secs(1)));
        let policy = RetryPolicy::default();
        let verdict = decide(&fault, &standing(&policy, route, backup, made, random));
        let parked = matches!(verdict, Verdict::Suspend { .. });
        prop_assert!(parked);
    }

    #[test]
    fn the_budget_is_used_exactly(
        route in route(), backup: bool, attempts in 1_u32..=1_000, made in 1_u32..2_000, random: u64,
        asked in proptest::option::of(0_u64..100_000),
    ) {
        let policy = RetryPolicy { attempts, ..RetryPolicy::default() };
        let mut error = SendError::temporary("busy");
        if let Some(seconds) = asked {
            error = error.retry_after(Duration::from_secs(seconds));
        }
        let verdict = decide(&Fault::from(&error), &standing(&policy, route, backup, made, random));
        match verdict {
            Verdict::ResubmitAt(at) => {
                prop_assert!(made < attempts);
                let asked = Duration::from_secs(asked.unwrap_or(0));
                prop_assert!(at.since(NOW) >= asked);
                prop_assert!(at.since(NOW) <= asked.max(policy.max));
            }
            Verdict::MoveToBackup => prop_assert!(made >= attempts && backup && route == Route::Primary),
            Verdict::Suspend { reason } => {
                prop_assert!(made >= attempts && !(backup && route == Route::Primary));
                prop_assert!(reason.ends_with("busy"));
            }
        }
    }
}

#[test]
fn the_reason_has_the_whole_chain() {
    let error = SendError::temporary("cannot connect").caused_by(std::io::Error::other("no route to host"));
    let policy = RetryPolicy::default();
    let verdict = decide(&Fault::from(&error), &standing(&policy, Route::Backup, true, 3, 0));
    let reason =
        "3 attempts on the backup route failed, the last: cannot connect: no route to host".to_owned();
    assert_eq!(verdict, Verdict::Suspend { reason });
}
