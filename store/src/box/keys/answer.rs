//! Family 9: what a destination answered, under the number of the delivery that brought it. It goes with that delivery's
//! trace, or before it by the retention of answers.
//!
//! Head of part 0: version 1 (1 byte), flags (1), a number that rises from answer to answer (8), id of the message that
//! it answers (16), received (8), body length (8), headers (bincode, absent where the flag says so). Body of each part:
//! a piece of [`FRAGMENT_BYTES`] of the body, in order; there is always a part 0, and the head of the others is empty.

use super::{Fields, unknown};
use crate::engine::{Key, WriteSet};
use crate::{Answer, Error, ErrorKind, FRAGMENT_BYTES, Headers, MessageId, Timestamp, codec};

pub(crate) const FAMILY: u8 = 9;
const VERSION: u8 = 1;
const HEADERS: u8 = 1;

/// The fixed part of an answer's head.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct AnswerHead {
    pub(crate) sequence: u64,
    pub(crate) message: MessageId,
    pub(crate) received: Timestamp,
    pub(crate) body_len: u64,
}

pub(crate) const fn key(delivery: u64, piece: u32) -> Key {
    Key::new(FAMILY, delivery, piece)
}

/// How many pieces a body of so many bytes is kept in.
pub(crate) fn pieces(body_len: u64) -> u32 {
    u32::try_from(body_len.div_ceil(FRAGMENT_BYTES as u64)).unwrap_or(u32::MAX).max(1)
}

pub(crate) fn write(writes: &mut WriteSet, delivery: u64, fixed: &AnswerHead, answer: &Answer) {
    let body = answer.body();
    for piece in 0..pieces(body.len() as u64) {
        let start = piece as usize * FRAGMENT_BYTES;
        let bytes = body.slice(start..body.len().min(start + FRAGMENT_BYTES));
        writes.put(key(delivery, piece), bytes, |head| {
            if piece == 0 {
                put_head(head, fixed, answer.headers());
            }
        });
    }
}

fn put_head(head: &mut Vec<u8>, fixed: &AnswerHead, headers: &Headers) {
    head.push(VERSION);
    head.push(if headers.is_empty() { 0 } else { HEADERS });
    head.extend_from_slice(&fixed.sequence.to_le_bytes());
    head.extend_from_slice(&fixed.message.to_bytes());
    head.extend_from_slice(&fixed.received.as_micros().to_le_bytes());
    head.extend_from_slice(&fixed.body_len.to_le_bytes());
    if !headers.is_empty() {
        codec::encode(headers, head);
    }
}

/// The fixed part, and the headers still encoded.
pub(crate) fn read(head: &[u8]) -> Result<(AnswerHead, Option<&[u8]>), Error> {
    let mut fields = Fields(head);
    match fields.u8()? {
        VERSION => {}
        other => return Err(unknown("answer version", other)),
    }
    let flags = fields.u8()?;
    let fixed = AnswerHead {
        sequence: fields.u64()?,
        message: MessageId::from_bytes(fields.take()?),
        received: Timestamp::from_micros(fields.i64()?),
        body_len: fields.u64()?,
    };
    if fixed.body_len > Answer::BODY_BYTES_MAX as u64 {
        return Err(Error::new(ErrorKind::Corrupt, "decode a record")
            .with("field", "body length of an answer")
            .with("value", fixed.body_len));
    }
    Ok((fixed, (flags & HEADERS != 0).then_some(fields.0)))
}

/// Removes an answer.
pub(crate) fn delete_all(writes: &mut WriteSet, delivery: u64) {
    writes.delete_number(FAMILY, delivery);
}

/// Reads the head of a first piece and writes it again, for fuzzing.
#[cfg(feature = "testing")]
pub(crate) fn recode(bytes: &[u8]) -> Result<Vec<u8>, Error> {
    let (fixed, headers) = read(bytes)?;
    let headers: Headers = headers.map_or_else(|| Ok(Headers::default()), codec::decode)?;
    let mut head = Vec::new();
    put_head(&mut head, &fixed, &headers);
    Ok(head)
}
