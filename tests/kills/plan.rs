//! When what is killed, and what is submitted: drawn from the seed alone.

use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};

/// A life of the server, which a SIGKILL ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Life {
    /// So long after it listens; or after its process began, where it is killed while it starts.
    pub(crate) span: Duration,
    pub(crate) at_start: bool,
    /// The destination is killed as well.
    pub(crate) down: Option<Down>,
}

/// A kill of the destination.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Down {
    /// So long after the server listens, and never after the server's own end.
    pub(crate) at: Duration,
    /// It is started again so long after, or once the server is killed.
    pub(crate) span: Duration,
    /// Where the server is killed first: the next one starts before the destination does.
    pub(crate) late: bool,
}

fn millis(random: &mut StdRng, from: u64, to: u64) -> Duration {
    Duration::from_millis(random.random_range(from..=to))
}

/// The lives of a server whose destination can be killed or not.
pub(crate) fn lives(seed: u64, kills: u32, restarts: bool) -> Vec<Life> {
    let mut random = StdRng::seed_from_u64(seed);
    (0..kills)
        .map(|_| {
            let at_start = random.random_bool(0.15);
            let span = if at_start {
                millis(&mut random, 0, 120)
            } else {
                // Short lives are more frequent than long ones.
                millis(&mut random, 150, 1_500).min(millis(&mut random, 150, 1_500))
            };
            let down = Down {
                at: span.mul_f64(random.random_range(0.0..1.0)),
                span: millis(&mut random, 0, 400),
                late: random.random_bool(0.5),
            };
            let is_killed = random.random_bool(0.25) && restarts && !at_start;
            Life { span, at_start, down: is_killed.then_some(down) }
        })
        .collect()
}

/// A submission: one message, or a batch of so many, which is refused as a whole where one of them is for no port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Sort {
    pub(crate) messages: u64,
    pub(crate) is_refused: bool,
}

impl Sort {
    pub(crate) fn draw(seed: u64, number: u64) -> Self {
        let mut random = of_message(seed, 1, number);
        if random.random_bool(0.9) {
            return Self { messages: 1, is_refused: false };
        }
        Self { messages: random.random_range(2..=8), is_refused: random.random_bool(0.2) }
    }
}

/// A message, by its number alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Shape {
    pub(crate) len: usize,
    /// The destination refuses it for good, where it can.
    pub(crate) is_bad: bool,
}

impl Shape {
    pub(crate) fn draw(seed: u64, number: u64) -> Self {
        let mut random = of_message(seed, 2, number);
        // None is so short that another may have the same body.
        let len = match random.random_range(0..400) {
            0 => random.random_range(256 * 1024..=600 * 1024),
            1..6 => random.random_range(16 * 1024..=128 * 1024),
            _ => random.random_range(16..=4096),
        };
        Self { len, is_bad: random.random_bool(0.01) }
    }
}

fn of_message(seed: u64, what: u64, number: u64) -> StdRng {
    // Any mixing does: the generator spreads what it is given.
    StdRng::seed_from_u64(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ what.rotate_left(56) ^ number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_stands_for_its_lives() {
        assert_eq!(lives(7, 50, true), lives(7, 50, true));
        assert_ne!(lives(7, 50, true), lives(8, 50, true));
        let all = lives(7, 200, true);
        assert!(all.iter().filter(|life| life.down.is_some()).count() > 20);
        assert!(all.iter().filter(|life| life.at_start).count() > 10);
        assert!(all.iter().all(|life| life.down.is_none_or(|down| down.at <= life.span && !life.at_start)));
        // The moments of the server's kills are the same whether the destination can be killed or not.
        let spans = |restarts| lives(7, 200, restarts).iter().map(|life| life.span).collect::<Vec<_>>();
        assert_eq!(spans(true), spans(false));
    }
}
