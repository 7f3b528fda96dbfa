//! Family 5: a failed attempt of a delivery, bincode, under the delivery's number and a part that goes round: of
//! more than [`ATTEMPTS_KEPT`] attempts the latest are kept. The attempt that delivered stands in family 6.

use crate::engine::{Key, WriteSet};
use crate::{ATTEMPTS_KEPT, Attempt, Error, codec};

pub(crate) const FAMILY: u8 = 5;

/// Where the attempt with this number (from 1) is kept.
pub(crate) const fn key(delivery: u64, attempt: u32) -> Key {
    Key::new(FAMILY, delivery, attempt.saturating_sub(1) % ATTEMPTS_KEPT)
}

pub(crate) fn write(writes: &mut WriteSet, delivery: u64, attempt: &Attempt) {
    writes.put(key(delivery, attempt.number), bytes::Bytes::new(), |head| codec::encode(attempt, head));
}

pub(crate) fn read(head: &[u8]) -> Result<Attempt, Error> {
    codec::decode(head)
}

/// Removes the history of a delivery.
pub(crate) fn delete_all(writes: &mut WriteSet, delivery: u64) {
    writes.delete_number(FAMILY, delivery);
}
