//! Mutants: what is wrong on purpose, and whether the simulation notices.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use pillarbox_store::mutant;

use crate::run::{Outcome, run};

/// Each mutant and what it does.
pub(crate) const MUTANTS: [(&str, &str); 43] = [
    ("early-acknowledge", "a batch is answered before it is flushed"),
    ("skipped-flush", "the journal says that it flushed and did not"),
    ("failed-flush-passes", "a flush that failed counts as one that did not"),
    ("folder-not-flushed", "a new segment's name is not flushed"),
    ("wrong-recycle-check", "a segment is written over while something lives in it"),
    ("lost-tombstone", "deletes are passed over at opening"),
    ("torn-group-replayed", "half a group counts"),
    ("record-checksum-ignored", "a torn record counts"),
    ("half-mark-is-damage", "half a closing mark is taken for damage"),
    ("no-wake-up", "nobody hears of what became ready"),
    ("double-outcome", "a second completion is taken"),
    ("stale-lease-settles", "a lease that ended still settles"),
    ("pause-ignored", "a paused port goes on"),
    ("retry-before-due", "deliveries are due too early"),
    ("due-time-forgotten", "a reopening forgets when a retry is due"),
    ("given-back-is-charged", "a lease given back counts as an attempt"),
    ("counts-drift", "a lease given back stays in the counts"),
    ("full-disk-ends-leases", "a full disk ends the leases of retried deliveries"),
    ("forgotten-comes-back", "an ended delivery is back after its trace went"),
    ("body-stays", "a message's record stays after its last delivery"),
    ("orphan-fragments-stay", "fragments of bodies never submitted stay"),
    ("duplicates-after-reopening", "after a reopening a message is taken a second time"),
    ("number-used-again", "after a reopening a number is given a second time"),
    ("all-or-none-ignored", "an all-or-none batch is applied in part"),
    ("batch-applied-twice", "a batch committed again is applied again"),
    ("refused-and-applied", "an operation is refused and applied"),
    ("crash-leaves-no-doubt", "what a crash cut off comes again as if it had never been sent"),
    (
        "plain-counts-as-prepared",
        "what was sent plainly counts as prepared where the route has two phases now",
    ),
    ("backup-budget-not-fresh", "the backup route starts with the primary's attempts"),
    ("let-go-is-forgotten", "a message let go of by its adapter is never settled"),
    ("timeout-not-settled", "an attempt whose time is up is never settled"),
    ("shutdown-burns-budget", "a shutdown counts as an attempt"),
    ("failures-lost", "what a batch could not send counts as sent"),
    ("permanent-is-retried", "a permanent error is tried again"),
    ("one-attempt-more", "a route gets one attempt more than its policy says"),
    ("retry-after-ignored", "`Retry-After` is not obeyed"),
    ("in-flight-doubled", "a route takes twice what it may have in flight"),
    ("commit-before-decision", "a destination commits before the box has recorded what was sent"),
    ("decision-not-kept", "that a transaction is to be committed is not recorded"),
    ("undecided-is-committed", "what was left prepared is committed, whatever the box says"),
    ("left-prepared-stays", "what a destination holds prepared is never looked at"),
    ("answer-left-out", "a delivery is done and its answer is not kept"),
    ("send-key-changes", "the send key differs from attempt to attempt"),
];

/// How a mutant fared.
#[derive(Debug)]
pub(crate) struct Fate {
    pub(crate) name: &'static str,
    pub(crate) about: &'static str,
    /// Seeds run, the one that caught it included.
    pub(crate) seeds: u64,
    pub(crate) caught: Option<Outcome>,
}

/// Sets every mutant loose on up to `budget` seeds from `first` on, and shows each as it ends.
pub(crate) fn run_mutants(
    first: u64,
    budget: u64,
    threads: usize,
    only: Option<&str>,
    show: impl Fn(&Fate) + Sync,
) -> Vec<Fate> {
    let next = AtomicUsize::new(0);
    let fates = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while let Some((name, about)) = MUTANTS.get(next.fetch_add(1, Ordering::Relaxed)) {
                    if only.is_some_and(|only| only != *name) {
                        continue;
                    }
                    let fate = try_mutant(name, about, first, budget);
                    show(&fate);
                    if let Ok(mut fates) = fates.lock() {
                        fates.push(fate);
                    }
                }
            });
        }
    });
    let mut fates = fates.into_inner().unwrap_or_default();
    fates.sort_by_key(|fate| MUTANTS.iter().position(|(name, _)| *name == fate.name));
    fates
}

fn try_mutant(name: &'static str, about: &'static str, first: u64, budget: u64) -> Fate {
    mutant::select(Some(name));
    let mut fate = Fate { name, about, seeds: 0, caught: None };
    while fate.caught.is_none() && fate.seeds < budget {
        let outcome = run(first + fate.seeds, false);
        fate.seeds += 1;
        fate.caught = Some(outcome).filter(|outcome| !outcome.is_fine());
    }
    mutant::select(None);
    fate
}
