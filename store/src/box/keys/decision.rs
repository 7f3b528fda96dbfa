//! Family 10: that a transaction of a destination is to be committed, under a number that is free. It is written with the
//! end of the transaction's deliveries and deleted once the destination has committed.
//!
//! One about the transaction of no number ([`NONE`]) says that damage may have taken others, about transactions up to its
//! time: a salvaged box has it.
//!
//! Version 1 (1 byte), number of the transaction (16), when it was decided (8), name of the destination (the rest, UTF-8).

use super::{Fields, unknown};
use crate::engine::{Key, WriteSet};
use crate::{BatchId, Decision, Error, ErrorKind, Timestamp};

pub(crate) const FAMILY: u8 = 10;
const VERSION: u8 = 1;
/// No transaction.
pub(crate) const NONE: BatchId = BatchId::from_bytes([0; 16]);

pub(crate) const fn key(number: u64) -> Key {
    Key::new(FAMILY, number, 0)
}

pub(crate) fn write(writes: &mut WriteSet, number: u64, decision: &Decision) {
    writes.put(key(number), bytes::Bytes::new(), |head| {
        head.push(VERSION);
        head.extend_from_slice(&decision.transaction.to_bytes());
        head.extend_from_slice(&decision.decided.as_micros().to_le_bytes());
        head.extend_from_slice(decision.destination.as_bytes());
    });
}

/// Says that decisions about transactions that were begun up to then may be lost.
pub(crate) fn write_lost(writes: &mut WriteSet, number: u64, until: Timestamp) {
    write(writes, number, &Decision { transaction: NONE, destination: String::new(), decided: until });
}

pub(crate) fn read(head: &[u8]) -> Result<Decision, Error> {
    let mut fields = Fields(head);
    match fields.u8()? {
        VERSION => {}
        other => return Err(unknown("decision version", other)),
    }
    let transaction = BatchId::from_bytes(fields.take()?);
    let decided = Timestamp::from_micros(fields.i64()?);
    let destination = std::str::from_utf8(fields.0)
        .ok()
        .filter(|name| name.len() <= Decision::DESTINATION_BYTES_MAX)
        .ok_or_else(|| {
            Error::new(ErrorKind::Corrupt, "decode a record").with("field", "destination of a decision")
        })?;
    Ok(Decision { transaction, destination: destination.to_owned(), decided })
}
