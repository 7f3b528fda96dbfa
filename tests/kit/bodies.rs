//! Bodies to send: made from a seed, and told apart by their hash.

use bytes::Bytes;
use rand::rngs::StdRng;
use rand::{Rng as _, RngCore as _, SeedableRng as _};
use sha2::{Digest as _, Sha256};

/// A body's SHA-256.
pub type Hash = [u8; 32];

/// The hash of a body.
#[must_use]
pub fn hash(body: &[u8]) -> Hash {
    Sha256::digest(body).into()
}

/// A body of this length, the same for the same seed.
#[must_use]
pub fn body(seed: u64, len: usize) -> Bytes {
    let mut bytes = vec![0; len];
    StdRng::seed_from_u64(seed).fill_bytes(&mut bytes);
    bytes.into()
}

/// Bodies of 1 B to 1 MiB: most are small, one of `large_every` has 64 KiB and more. The first has one byte and the
/// second 1 MiB.
#[derive(Debug)]
pub struct Sizes {
    random: StdRng,
    large_every: u32,
    made: u32,
}

impl Sizes {
    /// Sizes by this seed.
    #[must_use]
    pub fn new(seed: u64, large_every: u32) -> Self {
        Self { random: StdRng::seed_from_u64(seed), large_every, made: 0 }
    }
}

impl Iterator for Sizes {
    type Item = usize;

    fn next(&mut self) -> Option<usize> {
        const LARGEST: usize = 1024 * 1024;
        self.made += 1;
        Some(match self.made {
            1 => 1,
            2 => LARGEST,
            n if n.is_multiple_of(self.large_every) => self.random.random_range(64 * 1024..=LARGEST),
            _ => self.random.random_range(1..=4096),
        })
    }
}
