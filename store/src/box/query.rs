//! Questions about messages and deliveries: the ledger knows where they stand, the engine has the rest.

use bytes::{Bytes, BytesMut};

use super::{Shared, keys};
use crate::engine::{Key, Record};
use crate::ledger::{DeliveryRow, MessageRow};
use crate::message_box::keys::finished::Trace;
use crate::{
    ATTEMPTS_KEPT, Answer, Answered, Attempt, AttemptOutcome, DeliveryDetail, DeliveryId, DeliveryInfo,
    DeliveryState, Doubt, Error, ErrorKind, Filter, Headers, MessageId, MessageInfo, PortName, Timestamp,
    codec,
};

const LIMIT_DEFAULT: usize = 100;
const LIMIT_MAX: usize = 1_000;
/// Rows looked at before the ledger and the view are let go for others.
const SCAN_ROWS: usize = 10_000;

/// What the ledger knows of a delivery.
struct Known {
    id: DeliveryId,
    row: DeliveryRow,
    message: MessageRow,
    port: PortName,
    answer_len: Option<u64>,
    doubt: Option<Doubt>,
}

pub(super) fn message(shared: &Shared, id: MessageId) -> Result<Option<MessageInfo>, Error> {
    let (number, row, known) = {
        let state = shared.state();
        let Some(number) = state.ledger.number_of(id) else { return Ok(None) };
        let Some(row) = state.ledger.message(number).copied() else { return Ok(None) };
        let of_message = |(delivery, row): &(u64, DeliveryRow)| *delivery - u64::from(row.ordinal) == number;
        // A message's deliveries are numbered on from its own number, and nothing else is in between.
        let rows = state.ledger.deliveries_from(number).take_while(of_message);
        let known: Vec<Known> =
            rows.filter_map(|(delivery, row)| know(&state.ledger, delivery, row)).collect();
        (number, row, known)
    };
    let headers = match readable(shared, keys::message::key(number))? {
        Some(record) if row.live > 0 => Some(keys::message::read(&record.head)?.headers()?),
        _ => None,
    };
    let deliveries = known.iter().map(|known| detail(shared, known)).collect::<Result<_, _>>()?;
    Ok(Some(MessageInfo { id, submitted: row.submitted, headers, body_len: row.body_len, deliveries }))
}

pub(super) fn delivery(shared: &Shared, id: DeliveryId) -> Result<Option<DeliveryDetail>, Error> {
    let known = {
        let state = shared.state();
        let Some(row) = state.ledger.delivery(id) else { return Ok(None) };
        know(&state.ledger, id.number(), row)
    };
    known.map(|known| detail(shared, &known)).transpose()
}

pub(super) fn body(shared: &Shared, id: MessageId, fragment: u32) -> Result<Option<Bytes>, Error> {
    let (number, fragments) = {
        let state = shared.state();
        let Some(number) = state.ledger.number_of(id) else { return Ok(None) };
        if state.ledger.message(number).is_none_or(|row| row.live == 0) {
            return Ok(None);
        }
        (number, state.ledger.fragments_of(number))
    };
    let key = match fragments {
        Some(fragments) => keys::fragment::key(fragments, fragment),
        None if fragment == 0 => keys::message::key(number),
        None => return Ok(None),
    };
    Ok(shared.engine.get(key)?.map(|record| record.body))
}

pub(super) fn answer(shared: &Shared, id: DeliveryId) -> Result<Option<Answered>, Error> {
    let number = id.number();
    if shared.state().ledger.answer_len(number).is_none() {
        return Ok(None);
    }
    let piece = |index| {
        shared.engine.get(keys::answer::key(number, index))?.ok_or_else(|| {
            Error::new(ErrorKind::Corrupt, "read an answer")
                .with("delivery", id)
                .with("piece", index)
                .with("reason", "it is missing")
        })
    };
    let first = piece(0)?;
    let (fixed, headers) = keys::answer::read(&first.head)?;
    let headers = headers.map_or_else(|| Ok(Headers::default()), codec::decode)?;
    let pieces = keys::answer::pieces(fixed.body_len);
    let body = if pieces == 1 {
        first.body
    } else {
        let mut whole = BytesMut::from(first.body);
        for index in 1..pieces {
            whole.extend_from_slice(&piece(index)?.body);
        }
        whole.freeze()
    };
    let answer = Answer::kept(headers, body);
    Ok(Some(Answered { delivery: id, message: fixed.message, received: fixed.received, answer }))
}

/// A page of deliveries in the making.
pub(super) struct Page {
    pub(super) found: Vec<DeliveryInfo>,
    limit: usize,
    from: u64,
}

impl Page {
    pub(super) fn new(filter: &Filter) -> Self {
        let limit = if filter.limit == 0 { LIMIT_DEFAULT } else { filter.limit.min(LIMIT_MAX) };
        let from = filter.after.map_or(0, |after| after.number().saturating_add(1));
        Self { found: Vec::new(), limit, from }
    }

    pub(super) fn is_full(&self) -> bool {
        self.found.len() >= self.limit
    }

    /// Looks through the next portion. False where there is no more.
    pub(super) fn look_on(&mut self, shared: &Shared, filter: &Filter) -> Result<bool, Error> {
        let (known, more) = {
            let state = shared.state();
            let port = filter.port.as_ref().map(|name| state.ledger.port_number(name));
            if port == Some(None) {
                return Ok(false);
            }
            let ledger = &state.ledger;
            let wanted = |row: &DeliveryRow| {
                port.is_none_or(|port| port == Some(row.port))
                    && filter.state.is_none_or(|state| row.state == state)
            };
            let (mut known, mut looked) = (Vec::new(), 0);
            // Those in doubt are few and found without looking at all.
            let doubtful = ledger.doubtful(self.from);
            let doubtful =
                doubtful.filter_map(|number| Some((number, ledger.delivery(DeliveryId::new(number))?)));
            let rows: Box<dyn Iterator<Item = (u64, DeliveryRow)>> = if filter.in_doubt {
                Box::new(doubtful)
            } else {
                Box::new(ledger.deliveries_from(self.from))
            };
            for (number, row) in rows.take(SCAN_ROWS) {
                looked += 1;
                self.from = number + 1;
                if wanted(&row) {
                    known.extend(know(ledger, number, row));
                    if self.found.len() + known.len() >= self.limit {
                        break;
                    }
                }
            }
            (known, looked == SCAN_ROWS)
        };
        for known in &known {
            self.found.push(detail(shared, known)?.info);
        }
        Ok(more)
    }
}

fn know(ledger: &crate::ledger::Ledger, number: u64, row: DeliveryRow) -> Option<Known> {
    let message = *ledger.message(number - u64::from(row.ordinal))?;
    let port = ledger.port(row.port)?.record.name.clone();
    let (id, answer_len, doubt) = (DeliveryId::new(number), ledger.answer_len(number), ledger.doubt(number));
    Some(Known { id, row, message, port, answer_len, doubt })
}

/// A record, or `None` where it is missing or damaged: what is left can still be shown, and the engine lists it.
fn readable(shared: &Shared, key: Key) -> Result<Option<Record>, Error> {
    match shared.engine.get(key) {
        Err(error) if error.kind() == ErrorKind::Corrupt => Ok(None),
        read => read,
    }
}

/// A delivery with what the engine has of it.
fn detail(shared: &Shared, known: &Known) -> Result<DeliveryDetail, Error> {
    let (row, number) = (&known.row, known.id.number());
    let waits = matches!(row.state, DeliveryState::Scheduled | DeliveryState::RetryWait);
    let mut info = DeliveryInfo {
        id: known.id,
        message: known.message.id,
        port: known.port.clone(),
        state: row.state,
        route: row.route(),
        attempts: row.attempts,
        submitted: known.message.submitted,
        due: waits.then(|| Timestamp::from_micros(row.due)),
        finished: None,
        reason: None,
        body_len: known.message.body_len,
        answer_len: known.answer_len,
        doubt: known.doubt,
    };
    let mut attempts = if row.has_history() { history(shared, number, row.attempts)? } else { Vec::new() };
    if row.state.is_terminal() {
        if let Some(trace) = trace(shared, number, row)? {
            info.finished = Some(trace.finished);
            info.reason = (!trace.reason.is_empty()).then(|| trace.reason.clone());
            attempts.extend(delivering_attempt(&trace));
        }
    } else if row.has_record()
        && let Some(record) = readable(shared, keys::delivery::key(number))?
    {
        info.reason = keys::delivery::read(&record.head)?.1.reason;
    }
    Ok(DeliveryDetail { info, attempts })
}

fn history(shared: &Shared, delivery: u64, attempts: u32) -> Result<Vec<Attempt>, Error> {
    let parts = 0..attempts.min(ATTEMPTS_KEPT);
    let read = |part| {
        let record = readable(shared, Key::new(keys::attempt::FAMILY, delivery, part)).transpose()?;
        Some(record.and_then(|record| keys::attempt::read(&record.head)))
    };
    let mut history: Vec<Attempt> = parts.filter_map(read).collect::<Result<_, _>>()?;
    history.sort_by_key(|attempt| attempt.number);
    Ok(history)
}

fn trace(shared: &Shared, delivery: u64, row: &DeliveryRow) -> Result<Option<Trace>, Error> {
    let page = u64::try_from(row.due).unwrap_or(0);
    let Some(record) = readable(shared, keys::finished::key(page))? else { return Ok(None) };
    let same = |row: &Result<Trace, Error>| row.as_ref().map_or(true, |trace| trace.delivery == delivery);
    keys::finished::rows(&record.head).find(same).transpose()
}

/// The attempt that delivered, which only the trace has. One that was not charged was not noted either.
fn delivering_attempt(trace: &Trace) -> Option<Attempt> {
    (trace.state == DeliveryState::Done && trace.started > Timestamp::EPOCH).then(|| Attempt {
        number: trace.attempts,
        route: trace.route,
        started: trace.started,
        took: std::time::Duration::from_micros(trace.took_micros),
        outcome: AttemptOutcome::Delivered,
        failure: None,
    })
}
