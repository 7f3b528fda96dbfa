//! What came to the demo's destination: its own record, which nothing of the box's has a hand in.

use std::collections::BTreeMap;
use std::fmt;

use sha2::{Digest as _, Sha256};

/// What a body is compared by.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Content {
    /// Its length in bytes.
    pub(super) len: u64,
    /// Its hash.
    sha256: [u8; 32],
}

impl Content {
    /// That of these bytes.
    pub(super) fn of(bytes: &[u8]) -> Self {
        Self { len: bytes.len() as u64, sha256: Sha256::digest(bytes).into() }
    }
}

impl fmt::Debug for Content {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, ..] = self.sha256;
        write!(f, "{} bytes, SHA-256 {a:02x}{b:02x}{c:02x}{d:02x}...", self.len)
    }
}

/// A request whose body came whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Arrival {
    /// Its `Idempotency-Key`.
    pub(super) key: Option<String>,
    /// Its body.
    pub(super) content: Content,
    /// Whether the destination took it; else it was refused.
    pub(super) taken: bool,
}

/// Every arrival, by the message id that it named; in order.
#[derive(Debug, Clone, Default)]
pub(super) struct Ledger {
    arrivals: BTreeMap<String, Vec<Arrival>>,
    taken: usize,
}

impl Ledger {
    /// How often a message has come.
    pub(super) fn count(&self, message: &str) -> u32 {
        self.arrivals.get(message).map_or(0, |all| u32::try_from(all.len()).unwrap_or(u32::MAX))
    }

    /// Notes an arrival.
    pub(super) fn note(&mut self, message: &str, arrival: Arrival) {
        let all = self.arrivals.entry(message.to_owned()).or_default();
        if arrival.taken && !all.iter().any(|earlier| earlier.taken) {
            self.taken += 1;
        }
        all.push(arrival);
    }

    /// The messages that were taken, each counted once.
    pub(super) fn taken(&self) -> usize {
        self.taken
    }

    /// Every message that came, with its arrivals.
    pub(super) fn messages(&self) -> impl Iterator<Item = (&str, &[Arrival])> {
        self.arrivals.iter().map(|(message, all)| (message.as_str(), all.as_slice()))
    }
}
