//! What a program says of its messages, line by line.

use proptest::prelude::*;

use super::*;
use crate::parcel::sample::{ID, KEY, Sample};

fn told(pieces: &[&[u8]]) -> Told {
    let mut told = Told::of([7, 8]);
    pieces.iter().for_each(|piece| told.hears(piece));
    told
}

#[test]
fn each_line_says_what_became_of_a_message() {
    let one = told(&[b"8 permanent no such customer\n", b"7 delivered\n"]);
    assert_eq!(one.about(7), Some(&Said::Delivered));
    assert_eq!(one.about(8), Some(&Said::Permanent(b"no such customer".to_vec())));
    assert_eq!((one.strange(), one.about(9)), (None, None));
    let other = told(&[b"7 temporary\n\n \r\n8 delivered\r\n"]);
    assert_eq!(other.about(7), Some(&Said::Temporary(Vec::new())));
    assert_eq!((other.about(8), other.strange()), (Some(&Said::Delivered), None));
}

#[test]
fn what_is_no_whole_line_says_nothing() {
    let cut = told(&[b"7 delivered"]);
    assert_eq!((cut.about(7), cut.strange()), (None, None));
    for strange in [&b"9 delivered"[..], b"7", b"7 done", b"seven delivered", b"-7 delivered", b"\xff"] {
        let told = told(&[strange, b"\n8 delivered\n"]);
        assert_eq!((told.strange(), told.about(7)), (Some(strange), None));
        assert_eq!(told.about(8), Some(&Said::Delivered));
    }
}

#[test]
fn what_was_said_first_stands() {
    let told = told(&[b"7 permanent no\n7 delivered\n"]);
    assert_eq!(told.about(7), Some(&Said::Permanent(b"no".to_vec())));
}

#[test]
fn a_line_without_end_takes_no_room() {
    let mut told = told(&[b"7 temporary "]);
    for _ in 0..1_000 {
        told.hears(&[b'x'; 1_000]);
    }
    assert!(told.line.len() <= LINE_BYTES_MAX);
    told.hears(b"\n8 delivered\n");
    assert!(matches!(told.about(7), Some(Said::Temporary(text)) if text.len() > 4_000));
    assert_eq!(told.about(8), Some(&Said::Delivered));
}

proptest! {
    #[test]
    fn how_lines_are_cut_into_reads_changes_nothing(cuts in prop::collection::vec(0_usize..60, 0..6)) {
        let said = b"8 temporary it is full\nwhat?\n7 delivered\n8 delivered\n7 permanent no\n";
        let mut cuts = cuts;
        cuts.sort_unstable();
        let (mut in_parts, mut from) = (Told::of([7, 8]), 0);
        for cut in cuts.into_iter().chain([said.len()]) {
            in_parts.hears(&said[from..cut]);
            from = cut;
        }
        let whole = told(&[said]);
        prop_assert_eq!(&in_parts.of, &whole.of);
        prop_assert_eq!(in_parts.strange(), Some(&b"what?"[..]));
    }
}

#[test]
fn a_message_is_told_of_in_one_line_of_json() {
    let sample = Sample::new("a\nb").header("order", "17 \"ü\"").header("count", 3).attempt(2).in_doubt();
    let line = head(&sample.parcel());
    assert_eq!(line.iter().filter(|byte| **byte == b'\n').count(), 1);
    let read: serde_json::Value = serde_json::from_slice(&line).unwrap();
    let whole = serde_json::json!({
        "delivery": 7, "message_id": ID, "send_key": KEY, "port": "orders", "attempt": 2, "in_doubt": true,
        "submitted": 1_767_323_045_678_901_i64, "body_bytes": 3,
        "headers": { "order": "17 \"ü\"", "count": "3" },
    });
    assert_eq!(read, whole);
}
