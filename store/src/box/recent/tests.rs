//! What is kept, and what no longer is.

use bytes::Bytes;

use super::*;
use crate::engine::Key;

fn group(numbers: impl IntoIterator<Item = u64>, body_bytes: usize) -> WriteSet {
    let mut writes = WriteSet::default();
    for number in numbers {
        let body = Bytes::from(vec![number as u8; body_bytes]);
        writes.put(keys::message::key(number), body, |head| head.extend_from_slice(&number.to_le_bytes()));
        writes.put(Key::new(keys::delivery::FAMILY, number, 0), Bytes::new(), |_| {});
    }
    writes
}

fn keep(recent: &mut Recent, writes: &WriteSet) {
    if let Some(group) = Group::of(writes, None) {
        recent.keep(group);
    }
}

fn get(recent: &Recent, number: u64) -> Option<Record> {
    recent.get([number].into_iter()).remove(0)
}

#[test]
fn short_messages_are_found_and_nothing_else() {
    let mut recent = Recent::default();
    keep(&mut recent, &group([3, 4, 9], 100));
    keep(&mut recent, &group([10], BODY_BYTES_MAX + 1));
    keep(&mut recent, &group([12, 15], 0));
    for (number, body_bytes) in [(3, 100), (4, 100), (9, 100), (12, 0), (15, 0)] {
        let record = get(&recent, number).unwrap();
        assert_eq!(record.head, number.to_le_bytes().as_slice());
        assert_eq!(record.body, vec![number as u8; body_bytes]);
    }
    for number in [0, 1, 5, 10, 11, 13, 16] {
        assert_eq!(get(&recent, number), None, "{number}");
    }
    let asked = [4, 9, 10, 12, 3, 4, 5, 15, 16];
    let found = recent.get(asked.into_iter());
    for (number, found) in asked.into_iter().zip(found) {
        assert_eq!(found, get(&recent, number), "{number}");
    }
}

#[test]
fn the_oldest_go_first_and_the_bound_holds() {
    let mut recent = Recent::default();
    for number in 0..10_000 {
        keep(&mut recent, &group([number], 4_000));
        let bytes: usize = recent.groups.iter().map(Group::cost).sum();
        assert!(bytes == recent.bytes && bytes <= BYTES_MAX);
    }
    assert!(get(&recent, 9_999).is_some() && get(&recent, 6_500).is_some());
    assert_eq!(get(&recent, 5_000), None);
    keep(&mut recent, &group(10_000..20_000, 4_000));
    assert!(get(&recent, 9_999).is_some(), "a group that alone is too large is not kept");
}

#[test]
fn a_group_goes_once_all_of_it_has_gone() {
    let mut recent = Recent::default();
    keep(&mut recent, &group([3, 4, 9], 100));
    keep(&mut recent, &group([10, 11], 100));
    keep(&mut recent, &group([12, 15], 100));
    let forget = |recent: &mut Recent, numbers: Range<u64>| {
        let mut writes = WriteSet::default();
        writes.delete_numbers(keys::message::FAMILY, numbers);
        recent.forget(&writes);
        assert_eq!(recent.bytes, recent.groups.iter().map(Group::cost).sum::<usize>());
    };
    forget(&mut recent, 4..9);
    forget(&mut recent, 0..3);
    forget(&mut recent, 16..20);
    assert!(get(&recent, 3).is_some() && get(&recent, 9).is_some());
    forget(&mut recent, 9..13);
    assert!(get(&recent, 3).is_some() && get(&recent, 15).is_some());
    assert_eq!(get(&recent, 10), None, "both messages of its group have gone");
    forget(&mut recent, 3..4);
    forget(&mut recent, 15..16);
    assert!(recent.groups.is_empty() && recent.bytes == 0);
}
