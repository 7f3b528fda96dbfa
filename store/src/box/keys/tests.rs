//! Golden bytes: what is on users' disks. A test that fails here means a format change: do not "fix" the bytes.

use std::time::Duration;

use bytes::Bytes;

use super::*;
use crate::engine::{Key, Write, WriteSet};
use crate::{
    Answer, Attempt, AttemptOutcome, BatchId, BoxId, Decision, DeliveryState, Doubt, Failure, HeaderValue,
    Headers, MessageId, PortName, Refusal, Route, Timestamp, codec,
};

/// The head of the put that `write` makes, in hexadecimal, and its key.
fn head(write: impl FnOnce(&mut WriteSet)) -> (Key, Vec<u8>, String) {
    let mut writes = WriteSet::default();
    write(&mut writes);
    let mut all = writes.iter();
    let Some(Write::Put { key, head, .. }) = all.next() else { panic!("not a put: {writes:?}") };
    // What is written twice has the same bytes both times.
    for copy in all.filter(|_| key.family != answer::FAMILY) {
        let Write::Put { key: second, head: again, .. } = copy else { panic!("{copy:?}") };
        assert_eq!((second, again), (Key::new(key.family, key.number, 1), head));
    }
    let hex = head.iter().map(|byte| format!("{byte:02x}")).collect();
    (key, head.to_vec(), hex)
}

fn headers() -> Headers {
    let mut headers = Headers::default();
    headers.set("content-type", "text/plain").unwrap();
    headers.set("n", 300i64).unwrap();
    headers.set("flag", true).unwrap();
    headers.set("raw", HeaderValue::Bytes(vec![0xff, 0])).unwrap();
    headers
}

const ID: [u8; 16] = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16];

#[test]
fn meta_bytes() {
    let (key, bytes, hex) = head(|writes| meta::write(writes, BoxId::from_bytes(ID)));
    assert_eq!((key, hex.as_str()), (Key::new(1, 0, 0), "0102030405060708090a0b0c0d0e0f10"));
    assert_eq!(meta::read(&bytes).unwrap(), BoxId::from_bytes(ID));
}

#[test]
fn port_bytes() {
    let record = port::PortRecord {
        name: PortName::new("orders").unwrap(),
        backup: true,
        defined: true,
        paused: false,
    };
    let (key, bytes, hex) = head(|writes| port::write(writes, 7, &record));
    assert_eq!((key, hex.as_str()), (Key::new(2, 7, 0), "036f7264657273"));
    assert_eq!(port::read(&bytes).unwrap(), record);
}

#[test]
fn message_bytes() {
    let fixed = message::MessageHead {
        id: MessageId::from_bytes(ID),
        submitted: Timestamp::from_micros(0x0102_0304),
        not_before: Timestamp::EPOCH,
        body_len: 5,
        fragments: 0,
    };
    let mut encoded = Vec::new();
    codec::encode(&headers(), &mut encoded);
    let (key, bytes, hex) =
        head(|writes| message::write(writes, 42, &fixed, &[1, 9], &encoded, Bytes::from_static(b"hello")));
    assert_eq!(key, Key::new(3, 42, 0));
    assert_eq!(
        hex,
        "010102000102030405060708090a0b0c0d0e0f10040302010000000000000000000000000500000000000000000000000000000001000000\
         09000000040c636f6e74656e742d74797065000a746578742f706c61696e04666c61670201016e01fb58020372617703\
         02ff00"
    );
    let parsed = message::read(&bytes).unwrap();
    assert_eq!((parsed.fixed, parsed.ports().collect::<Vec<_>>()), (fixed, vec![1, 9]));
    assert_eq!(parsed.headers().unwrap(), headers());
}

#[test]
fn delivery_bytes() {
    let fixed = delivery::DeliveryHead {
        state: DeliveryState::Suspended,
        route: Route::Backup,
        attempts: 6,
        attempts_on_route: 3,
        due: Timestamp::from_micros(1),
    };
    let rest = delivery::DeliveryRest { reason: Some("no".to_owned()), carried: Headers::default() };
    let (key, bytes, hex) = head(|writes| delivery::write(writes, 9, &fixed, &rest));
    assert_eq!(
        (key, hex.as_str()),
        (Key::new(4, 9, 0), "0501060000000300000001000000000000000102 6e6f00".replace(' ', "").as_str())
    );
    assert_eq!(delivery::read(&bytes).unwrap(), (fixed, rest));
}

#[test]
fn attempt_bytes() {
    let record = Attempt {
        number: 33,
        route: Route::Primary,
        started: Timestamp::from_micros(100),
        took: Duration::from_micros(1_500),
        outcome: AttemptOutcome::Resubmitted,
        failure: Some(Failure::new(false, vec!["a".to_owned(), "b".to_owned()])),
    };
    let (key, bytes, hex) = head(|writes| attempt::write(writes, 9, &record));
    // The 33rd goes where the 1st was.
    assert_eq!(key, Key::new(5, 9, 0));
    assert_eq!(hex, "2100c800fc60e316000101000201610162");
    assert_eq!(attempt::read(&bytes).unwrap(), record);
}

fn answer_head(body_len: u64) -> answer::AnswerHead {
    let (message, received) = (MessageId::from_bytes(ID), Timestamp::from_micros(0x0102_0304));
    answer::AnswerHead { sequence: 6, message, received, body_len }
}

#[test]
fn answer_bytes() {
    let said = Answer::new(&b"hello"[..]).unwrap().header("n", 300).unwrap();
    let (key, bytes, hex) = head(|writes| answer::write(writes, 42, &answer_head(5), &said));
    assert_eq!(key, Key::new(9, 42, 0));
    let fixed = "0101 0600000000000000 0102030405060708090a0b0c0d0e0f10 0403020100000000 0500000000000000";
    assert_eq!(hex, format!("{}01016e01fb5802", fixed.replace(' ', "")));
    let (read, encoded) = answer::read(&bytes).unwrap();
    assert_eq!(read, answer_head(5));
    assert_eq!(&codec::decode::<Headers>(encoded.unwrap()).unwrap(), said.headers());
}

#[test]
fn a_long_answer_is_kept_in_pieces_under_one_number() {
    let body: Vec<u8> = (0..600_000_u32).map(|at| (at % 251) as u8).collect();
    let said = Answer::new(body.clone()).unwrap();
    let mut writes = WriteSet::default();
    answer::write(&mut writes, 42, &answer_head(600_000), &said);
    let mut whole = Vec::new();
    for (piece, write) in (0..).zip(writes.iter()) {
        let Write::Put { key, head, body } = write else { panic!("{write:?}") };
        assert_eq!((key, head.is_empty()), (Key::new(9, 42, piece), piece > 0));
        whole.extend_from_slice(body);
    }
    assert_eq!((whole == body, writes.len(), answer::pieces(600_000)), (true, 3, 3));
    let mut deletes = WriteSet::default();
    answer::delete_all(&mut deletes, 42);
    let Some(Write::DeleteNumbers { family: 9, first: 42, count: 1 }) = deletes.iter().next() else {
        panic!("{deletes:?}")
    };
    assert_eq!([0, 1, 262_144, 262_145].map(answer::pieces), [1, 1, 1, 2]);
}

#[test]
fn an_answer_longer_than_any_is_damage() {
    let said = Answer::default();
    let (_, bytes, _) =
        head(|writes| answer::write(writes, 1, &answer_head(Answer::BODY_BYTES_MAX as u64 + 1), &said));
    assert_eq!(answer::read(&bytes).unwrap_err().kind(), ErrorKind::Corrupt);
}

#[test]
fn decision_bytes() {
    let record = Decision {
        transaction: BatchId::from_bytes(ID),
        destination: "file:/out".to_owned(),
        decided: Timestamp::from_micros(0x0102_0304),
    };
    let (key, bytes, hex) = head(|writes| decision::write(writes, 3, &record));
    assert_eq!(key, Key::new(10, 3, 0));
    assert_eq!(hex, "010102030405060708090a0b0c0d0e0f10040302010000000066696c653a2f6f7574");
    assert_eq!(decision::read(&bytes).unwrap(), record);
    for len in 0..25 {
        assert!(decision::read(&bytes[..len]).is_err(), "{len}");
    }
    let long = Decision { destination: "x".repeat(Decision::DESTINATION_BYTES_MAX + 1), ..record };
    let (_, bytes, _) = head(|writes| decision::write(writes, 3, &long));
    assert_eq!(decision::read(&bytes).unwrap_err().kind(), ErrorKind::Corrupt);
}

#[test]
fn applied_bytes() {
    let first = applied::AppliedRecord {
        id: BatchId::from_bytes(ID),
        next_number: 300,
        first: 10,
        ops: 3,
        refusals: vec![(2, Refusal::WrongState { state: DeliveryState::Leased })],
    };
    let second = applied::AppliedRecord { first: 301, next_number: 301, ops: 1, refusals: vec![], ..first };
    let mut page = applied::Page::default();
    page.push(&first);
    page.push(&second);
    assert_eq!(page.count(), 2);
    let (key, bytes, hex) = head(|writes| page.write(writes, 5));
    assert_eq!(key, Key::new(7, 5, 0));
    let id = "0102030405060708090a0b0c0d0e0f10";
    assert_eq!(hex, format!("{id}0aa202030401020603{id}01000100"));
    assert_eq!(applied::rows(&bytes).unwrap(), [first, second]);
    assert_eq!(page.count(), 0);
    let (_, _, hex) = head(|writes| page.write(writes, 6));
    assert_eq!(hex, "", "a page begins anew");
}

#[test]
fn finished_bytes() {
    let first = finished::Trace {
        delivery: 3,
        message: MessageId::from_bytes(ID),
        port: 1,
        ordinal: 0,
        state: DeliveryState::Terminated,
        route: Route::Primary,
        attempts: 2,
        submitted: Timestamp::from_micros(1),
        finished: Timestamp::from_micros(200),
        body_len: 3,
        started: Timestamp::from_micros(196),
        took_micros: 5,
        reason: "no".to_owned(),
    };
    let mut page = finished::Page::default();
    page.push(&first);
    let second = finished::Trace {
        delivery: 2,
        route: Route::Backup,
        submitted: Timestamp::from_micros(201),
        started: Timestamp::EPOCH,
        took_micros: 0,
        reason: String::new(),
        ..first.clone()
    };
    page.push(&second);
    let (key, bytes, hex) = head(|writes| page.write(writes, 8));
    assert_eq!(key, Key::new(6, 8, 0));
    let id = "0102030405060708090a0b0c0d0e0f10";
    let less = "ffffffffffffffffff01";
    assert_eq!(
        hex,
        format!("{id}270301 0002c801c701030405026e6f{id}17{less}01000200{less}0300").replace(' ', "")
    );
    assert_eq!(finished::rows(&bytes).collect::<Result<Vec<_>, _>>().unwrap(), [first, second]);
}

#[test]
fn numbers_of_variable_length() {
    for number in [0, 1, 127, 128, 16_383, 16_384, u64::from(u32::MAX), u64::MAX] {
        let mut bytes = Vec::new();
        put_number(&mut bytes, number);
        let mut fields = Fields(&bytes);
        assert_eq!(fields.number().unwrap(), number);
        assert!(fields.0.is_empty());
        assert!(Fields(&bytes[..bytes.len() - 1]).number().is_err());
    }
    assert!(Fields(&[0xff; 11]).number().is_err(), "it does not end");
    assert!(Fields(&[0x80, 0x80, 0x04]).small::<u16>("port").is_err(), "65,536 is too large");
}

#[test]
fn every_truncation_of_a_record_is_an_error_or_a_shorter_list_and_never_a_panic() {
    let fixed = message::MessageHead {
        id: MessageId::from_bytes(ID),
        submitted: Timestamp::EPOCH,
        not_before: Timestamp::EPOCH,
        body_len: 0,
        fragments: 0,
    };
    let (_, bytes, _) = head(|writes| message::write(writes, 1, &fixed, &[1, 2, 3], &[], Bytes::new()));
    for len in 0..bytes.len() {
        assert!(message::read(&bytes[..len]).is_err(), "{len}");
    }
}

#[test]
fn intent_bytes() {
    let begun = Timestamp::from_micros(0x0102_0304);
    for (transacted, manner) in [(false, "01"), (true, "02")] {
        let attempted = intent::Attempted { begun, transacted };
        let (key, bytes, hex) = head(|writes| intent::write(writes, 3, attempted, [5, 6, 300].into_iter()));
        assert_eq!(key, Key::new(11, 3, 0));
        assert_eq!(hex, format!("{manner}0403020100000000030501a602"));
        assert_eq!(intent::read(&bytes).unwrap(), (attempted, vec![5, 6, 300]));
        for len in 0..bytes.len() {
            assert!(intent::read(&bytes[..len]).is_err(), "{len}");
        }
        let (_, bytes, _) = head(|writes| intent::write(writes, 3, attempted, [5, 5].into_iter()));
        assert_eq!(intent::read(&bytes).unwrap_err().kind(), ErrorKind::Corrupt);
    }
}

#[test]
fn doubt_bytes() {
    for (flags, resend, transacted) in [("00", false, false), ("01", true, false), ("02", false, true)] {
        let begun = Timestamp::from_micros(0x0102_0304);
        let record = Doubt { crashes: 2, begun, resend, transacted };
        let (key, bytes, hex) = head(|writes| doubt::write(writes, 9, &record));
        assert_eq!(key, Key::new(12, 9, 0));
        assert_eq!(hex, format!("01020000000403020100000000{flags}"));
        assert_eq!(doubt::read(&bytes).unwrap(), record);
        for len in 0..bytes.len() {
            assert!(doubt::read(&bytes[..len]).is_err(), "{len}");
        }
    }
}
