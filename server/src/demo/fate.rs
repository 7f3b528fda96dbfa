//! What the demo's destination does to a request. Decided by the seed, the message and the number of its arrival
//! alone, so that a run can be had again.

use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use sha2::{Digest as _, Sha256};

/// Attempts of the port's primary route.
pub(super) const ATTEMPTS: u32 = 5;
/// Arrivals of an ordinary message that may go wrong: fewer than [`ATTEMPTS`], so that only hopeless messages use
/// up their attempts.
const MOODY_ARRIVALS: u32 = 3;
/// Of 1,000 messages, so many are rejected until the destination is repaired.
const REJECTED: u32 = 10;
/// Of 1,000 messages, so many never get through.
const HOPELESS: u32 = 30;
/// Of 100 requests, so many are answered that the destination is busy.
const BUSY: u32 = 20;
/// Of 100 requests, so many are taken and then left without an answer.
const SILENT: u32 = 5;
/// The longest the destination thinks, before it takes a message and again after.
const THINKING_MS_MAX: u64 = 15;

/// What becomes of a message, however often it arrives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    /// It gets through in the end.
    Ordinary,
    /// The destination is always busy when it comes.
    Hopeless,
    /// The destination rejects it for good, until it is repaired.
    Rejected,
}

/// How a request is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Answer {
    /// 200: the message is taken.
    Take,
    /// The message is taken, and the connection cut before an answer.
    TakeSilently,
    /// 503, where asked for with `Retry-After: 0`.
    Busy {
        /// Whether the sender may come again at once.
        at_once: bool,
    },
    /// 422.
    Reject,
}

/// How a request is answered, and when.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Choice {
    /// How.
    pub(super) answer: Answer,
    /// The time until it is taken or refused.
    pub(super) before: Duration,
    /// The time from then to the answer.
    pub(super) after: Duration,
}

/// Decides every fate of a run.
#[derive(Debug, Clone, Copy)]
pub(super) struct Fates {
    seed: u64,
}

impl Fates {
    /// The fates of this seed.
    pub(super) fn new(seed: u64) -> Self {
        Self { seed }
    }

    /// What becomes of a message.
    pub(super) fn of(self, message: &str) -> Fate {
        match self.dice(message, 0).random_range(0..1_000) {
            roll if roll < REJECTED => Fate::Rejected,
            roll if roll < REJECTED + HOPELESS => Fate::Hopeless,
            _ => Fate::Ordinary,
        }
    }

    /// How the message is answered at its `arrival`, counted from 1.
    pub(super) fn choose(self, message: &str, arrival: u32, repaired: bool) -> Choice {
        let mut dice = self.dice(message, arrival);
        let mut think = || Duration::from_millis(dice.random_range(1..=THINKING_MS_MAX));
        let (before, after) = (think(), think());
        let busy = Answer::Busy { at_once: dice.random() };
        let mood = dice.random_range(0..100);
        let answer = match self.of(message) {
            Fate::Rejected if !repaired => Answer::Reject,
            Fate::Hopeless => busy,
            _ if arrival > MOODY_ARRIVALS => Answer::Take,
            _ if mood < BUSY => busy,
            _ if mood < BUSY + SILENT => Answer::TakeSilently,
            _ => Answer::Take,
        };
        Choice { answer, before, after }
    }

    fn dice(self, message: &str, arrival: u32) -> StdRng {
        let hash = Sha256::new()
            .chain_update(self.seed.to_le_bytes())
            .chain_update(arrival.to_le_bytes())
            .chain_update(message.as_bytes());
        StdRng::from_seed(hash.finalize().into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn messages() -> impl Iterator<Item = String> {
        (0..10_000).map(|number| format!("message {number}"))
    }

    #[test]
    fn the_same_seed_makes_the_same_choices() {
        let choices = |seed: u64| -> Vec<Choice> {
            let fates = Fates::new(seed);
            messages().flat_map(|m| [1, 2].map(|arrival| fates.choose(&m, arrival, false))).collect()
        };
        assert_eq!(choices(7), choices(7));
        assert_ne!(choices(7), choices(8));
    }

    #[test]
    fn everything_happens_about_as_often_as_it_should() {
        let fates = Fates::new(1);
        let count = |answer: fn(&Answer) -> bool| {
            messages().filter(|m| answer(&fates.choose(m, 1, false).answer)).count()
        };
        assert!((50..200).contains(&count(|answer| *answer == Answer::Reject)));
        assert!((300..700).contains(&count(|answer| *answer == Answer::TakeSilently)));
        assert!((1_900..2_600).contains(&count(|answer| matches!(answer, Answer::Busy { .. }))));
        assert!((800..1_400).contains(&count(|answer| *answer == Answer::Busy { at_once: true })));
        assert!((200..400).contains(&messages().filter(|m| fates.of(m) == Fate::Hopeless).count()));
    }

    #[test]
    fn only_hopeless_messages_use_up_their_attempts() {
        let fates = Fates::new(2);
        for message in messages() {
            let last = fates.choose(&message, ATTEMPTS, true).answer;
            match fates.of(&message) {
                Fate::Hopeless => assert!(matches!(last, Answer::Busy { .. })),
                Fate::Ordinary | Fate::Rejected => assert_eq!(last, Answer::Take),
            }
        }
    }
}
