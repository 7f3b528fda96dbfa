//! What is shown while it runs.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

/// Counters that anybody adds to.
#[derive(Debug, Default)]
pub(crate) struct Shown {
    pub(crate) lives: AtomicU64,
    pub(crate) kills: AtomicU64,
    pub(crate) kills_at_start: AtomicU64,
    pub(crate) stops: AtomicU64,
    pub(crate) drains: AtomicU64,
    pub(crate) downs: AtomicU64,
    pub(crate) fulls: AtomicU64,
    pub(crate) jumps: AtomicU64,
    pub(crate) accepted: AtomicU64,
    pub(crate) kept: AtomicU64,
    pub(crate) in_doubt: AtomicU64,
}

/// Adds one.
pub(crate) fn more(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

/// What it has come to.
pub(crate) fn count(counter: &AtomicU64) -> u64 {
    counter.load(Ordering::Relaxed)
}

impl fmt::Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { lives, kills, stops, fulls, jumps, accepted, kept, in_doubt, .. } = self;
        let [lives, kills, stops, fulls, jumps, accepted, kept, in_doubt] =
            [lives, kills, stops, fulls, jumps, accepted, kept, in_doubt].map(count);
        write!(
            f,
            "{lives} lives, {kills} kills, {stops} stops, {fulls} full disks, {jumps} clock jumps; {accepted} \
             accepted, {kept} arrived over HTTP, {in_doubt} submissions in doubt"
        )
    }
}
