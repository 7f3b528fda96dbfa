//! Family 11: deliveries that were about to be sent, under a number that is free. It is written before the first byte
//! leaves. Those of them that have not ended are in doubt after a crash; one whose attempt ended otherwise is taken out by
//! writing the record anew, and the record goes with the last one.
//!
//! How they are sent (1 byte): 1 plainly, 2 in transactions that the box decides. When they were about to be sent (8), how many there are, then their numbers in rising order, each as
//! the difference to the one before.

use super::{Fields, put_number, unknown};
use crate::engine::{Key, WriteSet};
use crate::{Error, ErrorKind, Timestamp};

pub(crate) const FAMILY: u8 = 11;
const PLAIN: u8 = 1;
const TRANSACTED: u8 = 2;
/// A record has at most so many.
pub(crate) const DELIVERIES_MAX: usize = 4_096;

/// How and when deliveries were about to be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Attempted {
    pub(crate) begun: Timestamp,
    pub(crate) transacted: bool,
}

pub(crate) const fn key(number: u64) -> Key {
    Key::new(FAMILY, number, 0)
}

/// Writes `deliveries`, which rise.
pub(crate) fn write(
    writes: &mut WriteSet,
    number: u64,
    attempted: Attempted,
    deliveries: impl Iterator<Item = u64> + Clone,
) {
    writes.put(key(number), bytes::Bytes::new(), |head| {
        head.push(if attempted.transacted { TRANSACTED } else { PLAIN });
        head.extend_from_slice(&attempted.begun.as_micros().to_le_bytes());
        put_number(head, deliveries.clone().count() as u64);
        let mut before = 0;
        for delivery in deliveries {
            put_number(head, delivery - before);
            before = delivery;
        }
    });
}

pub(crate) fn read(head: &[u8]) -> Result<(Attempted, Vec<u64>), Error> {
    let mut fields = Fields(head);
    let transacted = match fields.u8()? {
        PLAIN => false,
        TRANSACTED => true,
        other => return Err(unknown("manner of an intent", other)),
    };
    let attempted = Attempted { begun: Timestamp::from_micros(fields.i64()?), transacted };
    let nonsense =
        || Error::new(ErrorKind::Corrupt, "decode a record").with("field", "deliveries of an intent");
    let count: usize = fields.small("deliveries of an intent")?;
    if count > DELIVERIES_MAX {
        return Err(nonsense());
    }
    let mut before = 0_u64;
    let mut deliveries = Vec::with_capacity(count);
    for _ in 0..count {
        let step = fields.number()?;
        before = before.checked_add(step).filter(|_| step > 0).ok_or_else(nonsense)?;
        deliveries.push(before);
    }
    if fields.0.is_empty() { Ok((attempted, deliveries)) } else { Err(nonsense()) }
}
