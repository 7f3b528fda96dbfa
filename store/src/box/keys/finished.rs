//! Family 6: traces of deliveries that have ended, many to a page, pages under a rising sequence number. The
//! oldest pages go when the retention is passed.
//!
//! Head: rows one after another, each: delivery (8 bytes), message id (16), port (4), ordinal within the message
//! (2), state (1), route (1), attempts (4), submitted (8), finished (8), body length (8), last attempt's start (8)
//! and length in microseconds (8; both 0 where the history of family 5 has it), reason's length (2), reason.

use super::Fields;
use super::delivery::{route, state};
use crate::engine::{Key, WriteSet};
use crate::{DeliveryState, Error, MessageId, Route, Timestamp};

pub(crate) const FAMILY: u8 = 6;

/// Rows start a new page once a page has so many bytes.
pub(crate) const PAGE_BYTES: usize = 256 * 1024;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Trace {
    pub(crate) delivery: u64,
    pub(crate) message: MessageId,
    pub(crate) port: u32,
    pub(crate) ordinal: u16,
    pub(crate) state: DeliveryState,
    pub(crate) route: Route,
    pub(crate) attempts: u32,
    pub(crate) submitted: Timestamp,
    pub(crate) finished: Timestamp,
    pub(crate) body_len: u64,
    pub(crate) started: Timestamp,
    pub(crate) took_micros: u64,
    pub(crate) reason: String,
}

pub(crate) const fn key(page: u64) -> Key {
    Key::new(FAMILY, page, 0)
}

pub(crate) fn push(page: &mut Vec<u8>, trace: &Trace) {
    let cut = trace.reason.floor_char_boundary(crate::Failure::BYTES_MAX);
    let reason = trace.reason.get(..cut).unwrap_or_default().as_bytes();
    page.extend_from_slice(&trace.delivery.to_le_bytes());
    page.extend_from_slice(&trace.message.to_bytes());
    page.extend_from_slice(&trace.port.to_le_bytes());
    page.extend_from_slice(&trace.ordinal.to_le_bytes());
    page.push(trace.state as u8);
    page.push(trace.route as u8);
    page.extend_from_slice(&trace.attempts.to_le_bytes());
    page.extend_from_slice(&trace.submitted.as_micros().to_le_bytes());
    page.extend_from_slice(&trace.finished.as_micros().to_le_bytes());
    page.extend_from_slice(&trace.body_len.to_le_bytes());
    page.extend_from_slice(&trace.started.as_micros().to_le_bytes());
    page.extend_from_slice(&trace.took_micros.to_le_bytes());
    page.extend_from_slice(&u16::try_from(reason.len()).unwrap_or(0).to_le_bytes());
    page.extend_from_slice(reason);
}

pub(crate) fn write(writes: &mut WriteSet, page: u64, rows: &[u8]) {
    writes.put(key(page), bytes::Bytes::new(), |head| head.extend_from_slice(rows));
}

/// The traces of a page, in the order in which they were pushed.
pub(crate) fn rows(page: &[u8]) -> impl Iterator<Item = Result<Trace, Error>> {
    let mut fields = Fields(page);
    std::iter::from_fn(move || {
        if fields.0.is_empty() {
            return None;
        }
        let row = row(&mut fields);
        if row.is_err() {
            // Nothing after a bad row can be trusted to start where it should.
            fields.0 = &[];
        }
        Some(row)
    })
}

/// The page with other port numbers. A row that cannot be read, and what is behind it, stays out.
pub(crate) fn with_ports(page: &[u8], change: impl Fn(u32) -> u32) -> bytes::Bytes {
    let mut changed = Vec::with_capacity(page.len());
    for mut trace in rows(page).flatten() {
        trace.port = change(trace.port);
        push(&mut changed, &trace);
    }
    changed.into()
}

fn row(fields: &mut Fields<'_>) -> Result<Trace, Error> {
    let mut trace = Trace {
        delivery: fields.u64()?,
        message: MessageId::from_bytes(fields.take()?),
        port: fields.u32()?,
        ordinal: fields.u16()?,
        state: state(fields.u8()?)?,
        route: route(fields.u8()?)?,
        attempts: fields.u32()?,
        submitted: Timestamp::from_micros(fields.i64()?),
        finished: Timestamp::from_micros(fields.i64()?),
        body_len: fields.u64()?,
        started: Timestamp::from_micros(fields.i64()?),
        took_micros: fields.u64()?,
        reason: String::new(),
    };
    let reason = usize::from(fields.u16()?);
    trace.reason = String::from_utf8_lossy(fields.bytes(reason)?).into_owned();
    Ok(trace)
}
