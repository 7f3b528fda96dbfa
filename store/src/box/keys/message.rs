//! Family 3: a message, under the number of its first delivery. It implies one delivery per port, numbered on from
//! there, each ready (or scheduled) on the primary route unless family 4 says otherwise.
//!
//! Head: version 1 (1 byte), flags (1), port count (2), message id (16), submitted (8), not before (8, 0 for at
//! once), body length (8), number of the body's fragments (8, 0 where the body is the record's own), a port number
//! each (4), headers (bincode, absent where the flag says so). Body: the body, where it has no fragments.

use super::{Fields, unknown};
use crate::engine::{Key, WriteSet};
use crate::{Error, Headers, MessageId, Timestamp, codec};

pub(crate) const FAMILY: u8 = 3;
const VERSION: u8 = 1;
const HEADERS: u8 = 1;
/// Where the port numbers begin.
const PORTS_AT: usize = 52;

/// The fixed part of a message's head.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct MessageHead {
    pub(crate) id: MessageId,
    pub(crate) submitted: Timestamp,
    pub(crate) not_before: Timestamp,
    pub(crate) body_len: u64,
    pub(crate) fragments: u64,
}

pub(crate) const fn key(number: u64) -> Key {
    Key::new(FAMILY, number, 0)
}

/// `headers` are encoded already, on the submitter's thread; empty where there are none.
pub(crate) fn write(
    writes: &mut WriteSet,
    number: u64,
    fixed: &MessageHead,
    ports: &[u32],
    headers: &[u8],
    body: bytes::Bytes,
) {
    writes.put(key(number), body, |head| {
        head.push(VERSION);
        head.push(if headers.is_empty() { 0 } else { HEADERS });
        head.extend_from_slice(&u16::try_from(ports.len()).unwrap_or(u16::MAX).to_le_bytes());
        head.extend_from_slice(&fixed.id.to_bytes());
        head.extend_from_slice(&fixed.submitted.as_micros().to_le_bytes());
        head.extend_from_slice(&fixed.not_before.as_micros().to_le_bytes());
        head.extend_from_slice(&fixed.body_len.to_le_bytes());
        head.extend_from_slice(&fixed.fragments.to_le_bytes());
        for port in ports {
            head.extend_from_slice(&port.to_le_bytes());
        }
        head.extend_from_slice(headers);
    });
}

/// A message's head with its ports, its headers still encoded.
pub(crate) struct Parsed<'a> {
    pub(crate) fixed: MessageHead,
    ports: &'a [u8],
    headers: Option<&'a [u8]>,
}

pub(crate) fn read(head: &[u8]) -> Result<Parsed<'_>, Error> {
    let mut fields = Fields(head);
    match fields.u8()? {
        VERSION => {}
        other => return Err(unknown("message version", other)),
    }
    let flags = fields.u8()?;
    let ports = usize::from(fields.u16()?);
    let fixed = MessageHead {
        id: MessageId::from_bytes(fields.take()?),
        submitted: Timestamp::from_micros(fields.i64()?),
        not_before: Timestamp::from_micros(fields.i64()?),
        body_len: fields.u64()?,
        fragments: fields.u64()?,
    };
    let ports = fields.bytes(ports * 4)?;
    Ok(Parsed { fixed, ports, headers: (flags & HEADERS != 0).then_some(fields.0) })
}

/// The message id in a head that may be damaged: right or wrong, but better than nothing.
pub(crate) fn peek_id(head: &[u8]) -> Option<MessageId> {
    let mut fields = Fields(head.get(4..)?);
    fields.take().ok().map(MessageId::from_bytes)
}

/// The head with other port numbers.
pub(crate) fn with_ports(head: &[u8], change: impl Fn(u32) -> u32) -> bytes::Bytes {
    let mut head = head.to_vec();
    let ports = head.get(2..4).and_then(|bytes| bytes.try_into().ok()).map_or(0, u16::from_le_bytes);
    let end = PORTS_AT + usize::from(ports) * 4;
    for bytes in head.get_mut(PORTS_AT..end).unwrap_or_default().as_chunks_mut::<4>().0 {
        *bytes = change(u32::from_le_bytes(*bytes)).to_le_bytes();
    }
    head.into()
}

impl Parsed<'_> {
    pub(crate) fn ports(&self) -> impl Iterator<Item = u32> {
        self.ports.as_chunks::<4>().0.iter().map(|bytes| u32::from_le_bytes(*bytes))
    }

    pub(crate) fn headers(&self) -> Result<Headers, Error> {
        self.headers.map_or_else(|| Ok(Headers::default()), codec::decode)
    }
}
