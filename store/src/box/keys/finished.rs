//! Family 6: traces of deliveries that have ended, many to a page, pages under a rising sequence number. The
//! oldest pages go when the retention is passed.
//!
//! Head: rows one after another, each: message id (16 bytes); state (low 4 bits), backup route (bit 4), whether the last
//! attempt is told (bit 5; it is not where the history of family 5 has it); then numbers of variable length: delivery
//! less that of the row before, port, ordinal within the message, attempts, finished less that of the row before,
//! finished less submitted, body length; finished less the last attempt's start and that attempt's length in
//! microseconds, if told; reason's length; then the reason. Differences wrap around.

use super::delivery::state;
use super::{Fields, put_number, unknown};
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

/// A page that is being put together.
#[derive(Debug, Default)]
pub(crate) struct Page {
    rows: Vec<u8>,
    count: u32,
    last: Last,
}

/// What a row's differences are from.
#[derive(Debug, Clone, Copy, Default)]
struct Last {
    delivery: u64,
    finished: i64,
}

const BACKUP: u8 = 1 << 4;
const TOLD: u8 = 1 << 5;

impl Page {
    pub(crate) fn push(&mut self, trace: &Trace) {
        let (page, last) = (&mut self.rows, self.last);
        let cut = trace.reason.floor_char_boundary(crate::Failure::BYTES_MAX);
        let reason = trace.reason.get(..cut).unwrap_or_default().as_bytes();
        let finished = trace.finished.as_micros();
        let is_told = trace.started != Timestamp::EPOCH || trace.took_micros != 0;
        let before = |time: Timestamp| finished.wrapping_sub(time.as_micros()).cast_unsigned();
        let route = if trace.route == Route::Backup { BACKUP } else { 0 };
        page.extend_from_slice(&trace.message.to_bytes());
        page.push(trace.state as u8 | route | if is_told { TOLD } else { 0 });
        put_number(page, trace.delivery.wrapping_sub(last.delivery));
        put_number(page, u64::from(trace.port));
        put_number(page, u64::from(trace.ordinal));
        put_number(page, u64::from(trace.attempts));
        put_number(page, finished.wrapping_sub(last.finished).cast_unsigned());
        put_number(page, before(trace.submitted));
        put_number(page, trace.body_len);
        if is_told {
            put_number(page, before(trace.started));
            put_number(page, trace.took_micros);
        }
        put_number(page, reason.len() as u64);
        page.extend_from_slice(reason);
        self.last = Last { delivery: trace.delivery, finished };
        self.count += 1;
    }

    pub(crate) fn is_full(&self) -> bool {
        self.rows.len() >= PAGE_BYTES
    }

    /// How many rows it has.
    pub(crate) const fn count(&self) -> u32 {
        self.count
    }

    /// Writes the page and begins anew.
    pub(crate) fn write(&mut self, writes: &mut WriteSet, page: u64) {
        writes.put(key(page), bytes::Bytes::new(), |head| head.extend_from_slice(&self.rows));
        self.rows.clear();
        (self.count, self.last) = (0, Last::default());
    }
}

/// The traces of a page, in the order in which they were pushed.
pub(crate) fn rows(page: &[u8]) -> impl Iterator<Item = Result<Trace, Error>> {
    let mut fields = Fields(page);
    let mut last = Last::default();
    std::iter::from_fn(move || {
        if fields.0.is_empty() {
            return None;
        }
        let row = row(&mut fields, &mut last);
        if row.is_err() {
            // Nothing after a bad row can be trusted to start where it should.
            fields.0 = &[];
        }
        Some(row)
    })
}

/// The page with other port numbers. A row that cannot be read, and what is behind it, stays out.
pub(crate) fn with_ports(page: &[u8], change: impl Fn(u32) -> u32) -> bytes::Bytes {
    let mut changed = Page::default();
    for mut trace in rows(page).flatten() {
        trace.port = change(trace.port);
        changed.push(&trace);
    }
    changed.rows.into()
}

fn row(fields: &mut Fields<'_>, last: &mut Last) -> Result<Trace, Error> {
    let message = MessageId::from_bytes(fields.take()?);
    let flags = fields.u8()?;
    if flags & !(0xf | BACKUP | TOLD) != 0 {
        return Err(unknown("flags of a trace", flags));
    }
    let delivery = last.delivery.wrapping_add(fields.number()?);
    let (port, ordinal, attempts) =
        (fields.small("port")?, fields.small("ordinal")?, fields.small("attempts")?);
    let finished = last.finished.wrapping_add(fields.number()?.cast_signed());
    let before = |span: u64| Timestamp::from_micros(finished.wrapping_sub(span.cast_signed()));
    let submitted = before(fields.number()?);
    let body_len = fields.number()?;
    let (started, took_micros) =
        if flags & TOLD == 0 { (Timestamp::EPOCH, 0) } else { (before(fields.number()?), fields.number()?) };
    let reason = fields.small("bytes of the reason")?;
    let reason = String::from_utf8_lossy(fields.bytes(reason)?).into_owned();
    *last = Last { delivery, finished };
    Ok(Trace {
        delivery,
        message,
        port,
        ordinal,
        state: state(flags & 0xf)?,
        route: if flags & BACKUP == 0 { Route::Primary } else { Route::Backup },
        attempts,
        submitted,
        finished: Timestamp::from_micros(finished),
        body_len,
        started,
        took_micros,
        reason,
    })
}
