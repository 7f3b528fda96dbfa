//! Runs seeds: one on this thread, or many, one a thread at a time.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use pillarbox_sim::history::{Violation, check};

use crate::life::Life;
use crate::world::Marks;

/// What came of one seed.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) seed: u64,
    /// Equal for two runs that went the same way.
    pub(crate) hash: u64,
    pub(crate) marks: Marks,
    /// Time that passed in the simulation.
    pub(crate) simulated: Duration,
    pub(crate) events: usize,
    pub(crate) violations: Vec<Violation>,
    /// The life ended in a panic of the system under test.
    pub(crate) panic: Option<String>,
}

impl Outcome {
    pub(crate) fn is_fine(&self) -> bool {
        self.violations.is_empty() && self.panic.is_none()
    }
}

/// Runs one seed.
pub(crate) fn run(seed: u64, trace: bool) -> Outcome {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    let runtime = builder.enable_time().start_paused(true).build().expect("a runtime on this thread");
    let (history, marks, panic) = runtime.block_on(async {
        let mut life = Life::new(seed, trace);
        let world = life.world.clone();
        let living = std::pin::pin!(life.live());
        let panic = Caught(living).await;
        let (history, marks) = world.take();
        (history, marks, panic)
    });
    let span = |first: &pillarbox_sim::history::Event| {
        history.events().last().map_or(Duration::ZERO, |last| last.at.since(first.at))
    };
    Outcome {
        seed,
        hash: history.hash(),
        marks,
        simulated: history.events().first().map_or(Duration::ZERO, span),
        events: history.events().len(),
        violations: check(&history),
        panic,
    }
}

/// Gives a panic's text instead of passing it on.
struct Caught<F>(F);

impl<F: Future<Output = ()> + Unpin> Future for Caught<F> {
    type Output = Option<String>;

    fn poll(
        mut self: std::pin::Pin<&mut Self>,
        context: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Self::Output> {
        let inner = std::pin::Pin::new(&mut self.0);
        match catch_unwind(AssertUnwindSafe(|| inner.poll(context))) {
            Ok(poll) => poll.map(|()| None),
            Err(panic) => {
                let said = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
                let said = said.or_else(|| panic.downcast_ref::<String>().cloned());
                std::task::Poll::Ready(Some(said.unwrap_or_default()))
            }
        }
    }
}

/// What came of many seeds.
#[derive(Debug, Default)]
pub(crate) struct Total {
    pub(crate) seeds: u64,
    pub(crate) marks: Marks,
    pub(crate) simulated: Duration,
    pub(crate) events: u64,
    pub(crate) failed: Vec<Outcome>,
}

impl Total {
    fn add(&mut self, outcome: Outcome) {
        self.seeds += 1;
        self.simulated += outcome.simulated;
        self.events += outcome.events as u64;
        for (mark, times) in &outcome.marks {
            *self.marks.entry(mark).or_default() += times;
        }
        if !outcome.is_fine() {
            self.failed.push(outcome);
        }
    }
}

/// Runs seeds from `first` on, on `threads` threads, while `goes_on` says so (asked before each with the total so
/// far).
pub(crate) fn run_many(first: u64, threads: usize, goes_on: impl Fn(&Total) -> bool + Sync) -> Total {
    let next = AtomicU64::new(first);
    let total = Mutex::new(Total::default());
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while total.lock().is_ok_and(|total| goes_on(&total)) {
                    let outcome = run(next.fetch_add(1, Ordering::Relaxed), false);
                    if let Ok(mut total) = total.lock() {
                        total.add(outcome);
                    }
                }
            });
        }
    });
    total.into_inner().unwrap_or_default()
}
