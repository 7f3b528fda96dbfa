//! Records that are whole and say what no box wrote.

use super::*;
use crate::engine::{Write, WriteSet};
use crate::message_box::keys::message::MessageHead;
use crate::{MessageId, PortName};

fn recover(writes: &WriteSet) -> Result<Recovered, Error> {
    let mut recovery = Recovery::new(Retention::default());
    for write in writes.iter() {
        if let Write::Put { key, head, .. } = write {
            recovery.visit(key, head)?;
        }
    }
    recovery.check_ports()?;
    Ok(recovery.finish(&[]))
}

fn message(writes: &mut WriteSet, number: u64, ports: &[u32], fragments: u64) {
    long_message(writes, number, ports, fragments, 1);
}

fn long_message(writes: &mut WriteSet, number: u64, ports: &[u32], fragments: u64, body_len: u64) {
    let fixed = MessageHead {
        id: MessageId::from_bytes([7; 16]),
        submitted: Timestamp::EPOCH,
        not_before: Timestamp::EPOCH,
        body_len,
        fragments,
    };
    keys::message::write(writes, number, &fixed, ports, &[], bytes::Bytes::new());
}

fn port(writes: &mut WriteSet, number: u32) {
    let name = PortName::new("orders").unwrap();
    let record = PortRecord { name, backup: false, defined: true, paused: false };
    keys::port::write(writes, number, &record);
}

fn answer(writes: &mut WriteSet, delivery: u64, sequence: u64) {
    let message = MessageId::from_bytes([7; 16]);
    let head = keys::answer::AnswerHead { sequence, message, received: Timestamp::EPOCH, body_len: 1 };
    keys::answer::write(writes, delivery, &head, &crate::Answer::new("a").unwrap());
}

#[test]
fn an_answer_stays_only_with_a_delivery_that_is_done() {
    let mut writes = WriteSet::default();
    port(&mut writes, 0);
    message(&mut writes, 5, &[0], 0);
    trace(&mut writes, 3, 0, DeliveryState::Done);
    trace(&mut writes, 4, 0, DeliveryState::Terminated);
    (2..6).for_each(|delivery| answer(&mut writes, delivery, 1));
    let recovered = recover(&writes).unwrap();
    let kept: Vec<_> = (2..6).map(|delivery| recovered.ledger.answer_len(delivery)).collect();
    assert_eq!(kept, [None, Some(1), None, None]);
    assert_eq!(recovered.orphans, [2, 4, 5].map(|delivery| keys::answer::key(delivery, 0)));
}

#[test]
fn of_two_decisions_about_one_transaction_the_first_is_kept_and_numbers_go_on() {
    let mut writes = WriteSet::default();
    let decided = |destination: &str, transaction| crate::Decision {
        transaction: crate::BatchId::from_bytes([transaction; 16]),
        destination: destination.to_owned(),
        decided: Timestamp::EPOCH,
    };
    for (number, decision) in [(6, decided("a", 1)), (4, decided("b", 2)), (9, decided("c", 1))] {
        keys::decision::write(&mut writes, number, &decision);
    }
    let mut recovered = recover(&writes).unwrap();
    assert_eq!(recovered.orphans, [keys::decision::key(9)]);
    assert_eq!(recovered.ledger.decisions().known, [decided("a", 1), decided("b", 2)]);
    let mut writes = WriteSet::default();
    let batch = crate::Batch::new(crate::BatchId::from_bytes([8; 16]))
        .decide(crate::BatchId::from_bytes([3; 16]), "d")
        .forget(crate::BatchId::from_bytes([2; 16]));
    let mut prepared = crate::ledger::Prepared::new(&batch, 0).unwrap();
    assert!(recovered.ledger.apply(&mut prepared, Timestamp::EPOCH, &mut writes).all_applied());
    let touched: Vec<_> = writes
        .iter()
        .map(|write| {
            matches!(write, Write::Put { key, .. } | Write::Delete { key }
        if key == keys::decision::key(10) || key == keys::decision::key(4))
        })
        .collect();
    assert_eq!(touched, [true, true]);
}

fn delivery(writes: &mut WriteSet, state: DeliveryState) {
    let fixed = DeliveryHead {
        state,
        route: Route::Primary,
        attempts: 1,
        attempts_on_route: 1,
        due: Timestamp::EPOCH,
    };
    keys::delivery::write(writes, 3, &fixed, &keys::delivery::DeliveryRest::default());
}

fn applied(writes: &mut WriteSet, record: &AppliedRecord) {
    let mut page = keys::applied::Page::default();
    page.push(record);
    page.write(writes, 1);
}

fn trace(writes: &mut WriteSet, delivery: u64, ordinal: u16, state: DeliveryState) {
    let trace = Trace {
        delivery,
        message: MessageId::from_bytes([7; 16]),
        port: 0,
        ordinal,
        state,
        route: Route::Primary,
        attempts: 1,
        submitted: Timestamp::EPOCH,
        finished: Timestamp::EPOCH,
        body_len: 1,
        started: Timestamp::EPOCH,
        took_micros: 0,
        reason: String::new(),
    };
    let mut page = keys::finished::Page::default();
    page.push(&trace);
    page.write(writes, 1);
}

/// Found by fuzzing: such numbers overflowed, and a port of the highest number asked for four thousand million others.
#[test]
fn a_record_that_says_what_cannot_be_is_refused() {
    type Make = fn(&mut WriteSet);
    let wrong: [Make; 11] = [
        |writes| long_message(writes, 1, &[0], 2, u64::MAX),
        |writes| trace(writes, 1, 2, DeliveryState::Done),
        |writes| message(writes, u64::MAX, &[0], 0),
        |writes| message(writes, 1, &[0], u64::MAX),
        |writes| message(writes, 1, &[u32::MAX], 0),
        |writes| port(writes, u32::MAX),
        |writes| delivery(writes, DeliveryState::Leased),
        |writes| trace(writes, u64::MAX, 0, DeliveryState::Done),
        |writes| trace(writes, 1, 0, DeliveryState::Ready),
        |writes| keys::fragment::write(writes, u64::MAX, 0, bytes::Bytes::new()),
        |writes| {
            let id = crate::BatchId::from_bytes([7; 16]);
            let record = AppliedRecord { id, next_number: u64::MAX, first: 1, ops: 1, refusals: Vec::new() };
            applied(writes, &record);
        },
    ];
    for (index, make) in wrong.into_iter().enumerate() {
        let mut writes = WriteSet::default();
        make(&mut writes);
        let error = recover(&writes).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt, "{index}: {error}");
    }
}

#[test]
fn a_missing_port_record_costs_a_name_only() {
    let mut writes = WriteSet::default();
    port(&mut writes, 2);
    message(&mut writes, 1, &[2, 4], 0);
    let Recovered { ledger, .. } = recover(&writes).unwrap();
    let names: Vec<_> = ledger.ports.iter().map(|port| port.record.name.to_string()).collect();
    assert_eq!(names, ["damaged-port-0", "damaged-port-1", "orders", "damaged-port-3", "damaged-port-4"]);
    assert!(ledger.ports.iter().all(|port| port.record.defined == (port.record.name.as_str() == "orders")));
}

/// Whatever is the last to tell of a number, it is not given again.
#[test]
fn no_number_is_given_twice_after_reopening() {
    type Make = fn(&mut WriteSet);
    let known: [(Make, u64); 6] = [
        (|_| {}, 1),
        (|writes| message(writes, 40, &[0, 0, 0], 0), 43),
        (|writes| message(writes, 40, &[0], 70), 71),
        (|writes| trace(writes, 40, 2, DeliveryState::Done), 41),
        (|writes| keys::fragment::write(writes, 40, 3, bytes::Bytes::new()), 41),
        (
            |writes| {
                let id = crate::BatchId::from_bytes([7; 16]);
                let record = AppliedRecord { id, next_number: 40, first: 1, ops: 1, refusals: Vec::new() };
                applied(writes, &record);
            },
            40,
        ),
    ];
    for (index, (make, next)) in known.into_iter().enumerate() {
        let mut writes = WriteSet::default();
        make(&mut writes);
        assert_eq!(recover(&writes).unwrap().ledger.next, next, "{index}");
    }
}
