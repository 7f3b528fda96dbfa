//! Records that are whole as their checksums have it, and say what no box ever wrote. They are refused by name: taken at
//! their word, they would overflow a number or ask for memory without end.

use crate::message_box::keys::applied::AppliedRecord;
use crate::message_box::keys::delivery::DeliveryHead;
use crate::message_box::keys::finished::Trace;
use crate::message_box::keys::message::MessageHead;
use crate::{DeliveryState, Error, ErrorKind, FRAGMENT_BYTES};

/// No number reaches this.
const NUMBER_MAX: u64 = 1 << 62;
/// As many fragments as can be numbered.
const BODY_BYTES_MAX: u64 = FRAGMENT_BYTES as u64 * (1 << 32);
/// So many port records may be missing, as damage leaves them.
const PORTS_MISSING_MAX: u64 = 65_536;

pub(super) fn check_number(number: u64) -> Result<(), Error> {
    refuse(number >= NUMBER_MAX, "number", number)
}

pub(super) fn check_applied(record: &AppliedRecord) -> Result<(), Error> {
    check_number(record.next_number)?;
    refuse(record.first > record.next_number, "first", record.first)
}

pub(super) fn check_message(head: &MessageHead) -> Result<(), Error> {
    check_number(head.fragments)?;
    refuse(head.body_len > BODY_BYTES_MAX, "body_bytes", head.body_len)
}

pub(super) fn check_delivery(head: &DeliveryHead) -> Result<(), Error> {
    refuse(head.state == DeliveryState::Leased, "state", head.state.as_str())
}

pub(super) fn check_trace(trace: &Trace) -> Result<(), Error> {
    check_number(trace.delivery)?;
    refuse(u64::from(trace.ordinal) > trace.delivery, "ordinal", trace.ordinal)?;
    refuse(!trace.state.is_terminal(), "state", trace.state.as_str())
}

/// `records` of ports are there, and `highest` is the highest number of one that is named.
pub(super) fn check_ports(records: u64, highest: u64) -> Result<(), Error> {
    refuse(highest > records.saturating_add(PORTS_MISSING_MAX), "port", highest)
}

fn refuse(is_nonsense: bool, what: &'static str, value: impl std::fmt::Display) -> Result<(), Error> {
    if !is_nonsense {
        return Ok(());
    }
    let error = Error::new(ErrorKind::Corrupt, "read the box");
    Err(error.with("reason", "a record says what no box ever wrote").with(what, value))
}
