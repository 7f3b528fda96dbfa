//! Family 12: that it is not known how a delivery's last attempt ended, under the delivery's number. It goes with the next
//! outcome that is recorded.
//!
//! Version 1 (1 byte), crashes (4), when the attempt began (8), flags (1): 1 somebody decided to send it again, 2 it was sent
//! in transactions only.

use super::{Fields, unknown};
use crate::engine::{Key, WriteSet};
use crate::{Doubt, Error, Timestamp};

pub(crate) const FAMILY: u8 = 12;
const VERSION: u8 = 1;
const RESEND: u8 = 1;
const TRANSACTED: u8 = 2;

pub(crate) const fn key(delivery: u64) -> Key {
    Key::new(FAMILY, delivery, 0)
}

pub(crate) fn write(writes: &mut WriteSet, delivery: u64, doubt: &Doubt) {
    writes.put(key(delivery), bytes::Bytes::new(), |head| {
        head.push(VERSION);
        head.extend_from_slice(&doubt.crashes.to_le_bytes());
        head.extend_from_slice(&doubt.begun.as_micros().to_le_bytes());
        let resend = if doubt.resend { RESEND } else { 0 };
        head.push(resend | if doubt.transacted { TRANSACTED } else { 0 });
    });
}

pub(crate) fn read(head: &[u8]) -> Result<Doubt, Error> {
    let mut fields = Fields(head);
    match fields.u8()? {
        VERSION => {}
        other => return Err(unknown("doubt version", other)),
    }
    let (crashes, begun) = (fields.u32()?, Timestamp::from_micros(fields.i64()?));
    let flags = fields.u8()?;
    if flags & !(RESEND | TRANSACTED) != 0 {
        return Err(unknown("flags of a doubt", flags));
    }
    let (resend, transacted) = (flags & RESEND != 0, flags & TRANSACTED != 0);
    Ok(Doubt { crashes, begun, resend, transacted })
}
