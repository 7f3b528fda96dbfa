//! Round after round: a box is damaged, and what comes of it is counted.

use pillarbox_store::inspect::Finding;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use crate::harm::Harm;
use crate::judge::judge;
use crate::life::{Size, World, live};

/// The box that is damaged at random: some MiB in small segments.
pub(crate) const LARGE: Size = Size { rounds: 12, body: 12_000, long: 300_000, lives: 4 };

/// What came of all rounds.
#[derive(Debug, Default)]
pub(crate) struct Total {
    /// Boxes damaged.
    pub(crate) rounds: u64,
    /// Places damaged.
    pub(crate) harms: u64,
    /// Told by the check.
    pub(crate) noticed: u64,
    /// Nothing was lost and nothing told: the bytes belonged to nothing any more.
    pub(crate) harmless: u64,
    /// The end of the newest file looked as a crash leaves it.
    pub(crate) torn: u64,
    /// Messages that were lost, and named.
    pub(crate) lost: u64,
    /// Deliveries sent again, where damage was told.
    pub(crate) again: u64,
    /// What the check told in the last round.
    pub(crate) findings: Vec<Finding>,
    /// What must not be, with what replays it.
    pub(crate) problems: Vec<String>,
}

impl Total {
    /// Damages a copy of `world` and counts what comes of it.
    pub(crate) fn round(&mut self, world: &World, harms: &[Harm], replay: &str) {
        let mut files = world.files.clone();
        harms.iter().for_each(|harm| harm.apply(&mut files));
        let verdict = block_on(judge(world, &files));
        self.rounds += 1;
        self.harms += harms.len() as u64;
        self.noticed += u64::from(verdict.noticed);
        self.torn += u64::from(verdict.torn);
        self.harmless += u64::from(!verdict.noticed && !verdict.torn && verdict.problems.is_empty());
        self.lost += verdict.lost as u64;
        self.again += verdict.again as u64;
        self.findings = verdict.findings;
        let told = || harms.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ");
        self.problems.extend(
            verdict.problems.iter().take(3).map(|problem| format!("{replay}: {problem} after {}", told())),
        );
    }

    /// On one line.
    pub(crate) fn line(&self) -> String {
        format!(
            "{} boxes damaged in {} places: {} noticed, {} harmless, {} with an early end; {} messages lost and named; \
             silent {}",
            self.rounds,
            self.harms,
            self.noticed,
            self.harmless,
            self.torn,
            self.lost,
            self.problems.len()
        )
    }

    /// For the page of figures.
    pub(crate) fn table(&self, seed: u64) -> String {
        format!(
            "| boxes damaged | from seed | places | noticed | harmless | newest file ends early | messages lost and named | \
             ended deliveries sent again, told | silent |\n|---|---|---|---|---|---|---|---|---|\n\
             | {} | {seed} | {} | {} | {} | {} | {} | {} | {} |\n",
            self.rounds,
            self.harms,
            self.noticed,
            self.harmless,
            self.torn,
            self.lost,
            self.again,
            self.problems.len()
        )
    }
}

/// Damages a large box in places drawn from each of the seeds.
pub(crate) fn random(first: u64, rounds: u64, total: &mut Total, mut show: impl FnMut(&Total)) {
    let world = block_on(live(LARGE, 1));
    for seed in first..first + rounds {
        let mut random = StdRng::seed_from_u64(seed);
        let harms: Vec<Harm> =
            (0..random.random_range(1..=4)).map(|_| Harm::draw(&world.files, &mut random)).collect();
        total.round(&world, &harms, &format!("cargo xtask damage --flips 1 --seed {seed}"));
        show(total);
        if total.problems.len() > 20 {
            return;
        }
    }
}

/// Everything here is done by the caller: nothing waits for another thread.
pub(crate) fn block_on<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().build().expect("a runtime without drivers").block_on(work)
}
