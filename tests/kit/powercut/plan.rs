//! What a round does, as it follows from a seed and the round's number.

use std::time::Duration;

use pillarbox_store::EngineKind;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::{Keeps, NameRule};

/// Rounds on one database.
pub(super) const ROUNDS_A_DATABASE: u32 = 5;

/// The engines that survive a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Engine {
    /// The journal.
    Journal,
    /// sled.
    Sled,
}

impl Engine {
    /// Its name in configuration.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        self.kind().as_str()
    }

    /// The engine of this name.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        [Self::Journal, Self::Sled].into_iter().find(|engine| engine.as_str() == name)
    }

    pub(super) const fn kind(self) -> EngineKind {
        match self {
            Self::Journal => EngineKind::Journal,
            Self::Sled => EngineKind::Sled,
        }
    }
}

/// What a round does, as it follows from the seed and the round's number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// Its number.
    pub round: u32,
    /// Whether it begins a database.
    pub is_new: bool,
    /// What the cut keeps.
    pub keeps: Keeps,
    /// What makes names last.
    pub names: NameRule,
    /// How long a journal's segments are.
    pub segment_bytes: u64,
    /// How many traces are kept.
    pub traces: u64,
    /// How long after its beginning the worker loses power.
    pub cut_after: Duration,
    /// And then once more while the box is opened.
    pub cut_again_after: Option<Duration>,
}

impl Plan {
    /// The plan of a round. Every six rounds each way to cut comes with each rule for names, and every thirty each
    /// of these with each age of a database.
    #[must_use]
    pub fn new(seed: u64, round: u32) -> Self {
        let random = &mut random(seed, round, 0);
        let database = (round / ROUNDS_A_DATABASE) as usize;
        Self {
            round,
            is_new: round.is_multiple_of(ROUNDS_A_DATABASE),
            keeps: Keeps::ALL[round as usize % Keeps::ALL.len()],
            names: NameRule::ALL[round as usize / Keeps::ALL.len() % NameRule::ALL.len()],
            segment_bytes: [64 * 1024, 256 * 1024, 64 * 1024 * 1024, 1024 * 1024][database % 4],
            traces: [300, 3_000][database % 2],
            cut_after: Duration::from_millis(if random.random_bool(0.25) {
                // While the box is opened, or a new one is young.
                random.random_range(5..60)
            } else {
                random.random_range(5..900)
            }),
            cut_again_after: random
                .random_bool(0.3)
                .then(|| Duration::from_millis(random.random_range(0..60))),
        }
    }
}

/// What a generator of a round begins with.
pub(super) fn random(seed: u64, round: u32, purpose: u64) -> StdRng {
    StdRng::seed_from_u64(seed.rotate_left(17) ^ u64::from(round) << 4 ^ purpose)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn thirty_rounds_meet_every_way_to_cut_at_every_age() {
        let plans: Vec<Plan> = (0..30).map(|round| Plan::new(1, round)).collect();
        let met: BTreeSet<_> =
            plans.iter().map(|plan| (plan.round % ROUNDS_A_DATABASE, plan.keeps, plan.names)).collect();
        assert_eq!(met.len(), 30);
        assert!(plans.iter().any(|plan| plan.cut_again_after.is_some()));
        assert_eq!(plans, (0..30).map(|round| Plan::new(1, round)).collect::<Vec<_>>());
    }
}
