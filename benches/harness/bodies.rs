//! Bodies that no compression makes smaller, and that can be told apart.

use bytes::Bytes;
use rand::rngs::StdRng;
use rand::{RngCore, SeedableRng};

/// How much memory the bodies take.
const POOL_BYTES: usize = 16 * 1024 * 1024;
const SEED: u64 = 0x5049_4c4c_4152;
/// How much of a body's end is compared.
const TAIL_BYTES: usize = 64;

/// A pool of random bodies of one length, made once. Each begins with its place in the pool. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Bodies {
    pool: Bytes,
    body_bytes: usize,
}

impl Bodies {
    /// A pool of bodies of `body_bytes` each; at least 8.
    #[must_use]
    pub fn new(body_bytes: usize) -> Self {
        let body_bytes = body_bytes.max(8);
        let count = (POOL_BYTES / body_bytes).max(1);
        let mut pool = vec![0; count * body_bytes];
        StdRng::seed_from_u64(SEED).fill_bytes(&mut pool);
        for (place, body) in (0_u32..).zip(pool.chunks_exact_mut(body_bytes)) {
            if let Some(start) = body.first_chunk_mut() {
                *start = place.to_le_bytes();
            }
        }
        Self { pool: pool.into(), body_bytes }
    }

    /// The length of each.
    #[must_use]
    pub const fn body_bytes(&self) -> usize {
        self.body_bytes
    }

    /// The body of this number; numbers beyond the pool begin anew.
    #[must_use]
    pub fn get(&self, number: u64) -> Bytes {
        let count = (self.pool.len() / self.body_bytes) as u64;
        let place = usize::try_from(number % count).unwrap_or(0);
        self.pool.slice(place * self.body_bytes..(place + 1) * self.body_bytes)
    }

    /// Whether `body` is one of the pool, by its length, its place, and its end.
    #[must_use]
    pub fn know(&self, body: &[u8]) -> bool {
        let Some(place) = body.first_chunk() else { return false };
        let start = u32::from_le_bytes(*place) as usize * self.body_bytes;
        let expected = self.pool.get(start..start + self.body_bytes);
        let tail = |bytes: &[u8]| bytes.len().saturating_sub(TAIL_BYTES);
        expected.is_some_and(|expected| {
            body.len() == expected.len() && body.get(tail(body)..) == expected.get(tail(expected)..)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_is_known_and_a_changed_one_is_not() {
        let bodies = Bodies::new(1024);
        let body = bodies.get(7);
        assert_eq!(body.len(), 1024);
        assert!(bodies.know(&body));
        assert_ne!(body, bodies.get(8));
        assert_eq!(body, bodies.get(7 + (POOL_BYTES / 1024) as u64));
        let mut changed = body.to_vec();
        changed[1023] ^= 1;
        assert!(!bodies.know(&changed));
        assert!(!bodies.know(&body[..1023]));
    }
}
