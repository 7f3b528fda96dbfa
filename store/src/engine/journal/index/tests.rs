//! The index against an ordered map.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

#[derive(Debug, Clone)]
enum Step {
    Put(u8, u64, u32),
    Remove(u8, u64, u32),
    RemoveNumbers(u8, u64, u64),
}

fn number() -> impl Strategy<Value = u64> {
    prop_oneof![8 => 0..2000_u64, 1 => any::<u64>()]
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        20 => (0..2_u8, number(), 0..2_u32).prop_map(|(family, number, part)| Step::Put(family, number, part)),
        5 => (0..2_u8, number(), 0..2_u32).prop_map(|(family, number, part)| Step::Remove(family, number, part)),
        1 => (0..2_u8, 0..300_u64).prop_map(|(family, number)| Step::RemoveNumbers(family, 0, number)),
        1 => (0..2_u8, number(), 0..300_u64)
            .prop_map(|(family, first, count)| Step::RemoveNumbers(family, first, first.saturating_add(count))),
    ];
    prop::collection::vec(step, 0..1500)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn index_follows_an_ordered_map(steps in steps()) {
        let mut index = Index::default();
        let mut model: BTreeMap<Key, Place> = BTreeMap::new();
        for (count, step) in steps.into_iter().enumerate() {
            match step {
                Step::Put(family, number, part) => {
                    let (key, place) = (Key::new(family, number, part), Place::new(count as u32, 16, 1));
                    prop_assert_eq!(index.put(key, place), model.insert(key, place));
                }
                Step::Remove(family, number, part) => {
                    let key = Key::new(family, number, part);
                    prop_assert_eq!(index.remove(key), model.remove(&key));
                }
                Step::RemoveNumbers(family, from, to) => {
                    let mut removed = Vec::new();
                    index.remove_numbers(family, from..to, |place| removed.push(place.segment));
                    let gone = |key: &Key| key.family == family && (from..to).contains(&key.number);
                    let mut expected: Vec<u32> =
                        model.iter().filter(|(key, _)| gone(key)).map(|(_, place)| place.segment).collect();
                    model.retain(|key, _| !gone(key));
                    removed.sort_unstable();
                    expected.sort_unstable();
                    prop_assert_eq!(removed, expected);
                }
            }
        }
        prop_assert_eq!(index.records(), model.len() as u64);
        for (key, place) in &model {
            prop_assert_eq!(index.get(*key), Some(*place));
        }
    }
}

#[test]
fn ascending_numbers_fill_their_chunks_and_survivors_cost_little() {
    let mut index = Index::default();
    for number in 0..100_000 {
        index.put(Key::new(0, number, 0), Place::new(1, 16, 1));
    }
    let bytes = |index: &Index| -> usize { index.families[0].0.iter().map(|(_, chunk)| chunk.bytes()).sum() };
    assert!(bytes(&index) <= 16 * (100_000 + CHUNK_ROWS), "{} bytes", bytes(&index));
    for number in 0..100_000 {
        if number % 256 != 77 {
            index.remove(Key::new(0, number, 0));
        }
    }
    assert!(bytes(&index) <= 64 * index.records() as usize, "{} bytes", bytes(&index));
}

#[test]
fn whole_chunks_and_a_part_of_one_go_below_a_bound() {
    for bound in [0, 1, 255, 256, 257, 700, 900, 999, 1000, 5000] {
        let mut index = Index::default();
        for number in 0..1000 {
            index.put(Key::new(3, number, 0), Place::new(number as u32, 16, 1));
        }
        let mut removed = Vec::new();
        index.remove_numbers(3, 0..bound, |place| removed.push(u64::from(place.segment)));
        assert_eq!(removed, (0..bound.min(1000)).collect::<Vec<_>>());
        assert_eq!(index.records(), 1000 - bound.min(1000));
        for number in 0..1000 {
            let is_there = index.get(Key::new(3, number, 0)).is_some();
            assert_eq!(is_there, number >= bound, "{number} below {bound}");
        }
        // What was removed can come again, before all that is left.
        for number in (0..bound.min(1000)).rev() {
            assert_eq!(index.put(Key::new(3, number, 0), Place::new(7, 16, 1)), None);
        }
        assert!((0..1000).all(|number| index.get(Key::new(3, number, 0)).is_some()));
        index.remove_numbers(9, 0..5, |_| panic!("there is no such family"));
    }
}

#[test]
fn numbers_between_others_are_found_with_parts_and_without() {
    for parts in [1, 2] {
        let mut index = Index::default();
        let mut keys = Vec::new();
        for number in (100..2000).step_by(2).chain((101..2000).step_by(2)).chain(0..100) {
            keys.extend((0..parts).map(|part| Key::new(0, number, part)));
        }
        for (at, key) in keys.iter().enumerate() {
            assert_eq!(index.put(*key, Place::new(at as u32, 16, 1)), None);
        }
        for (at, key) in keys.iter().enumerate() {
            assert_eq!(index.get(*key), Some(Place::new(at as u32, 16, 1)), "{key:?}");
        }
        for (at, key) in keys.iter().enumerate() {
            assert_eq!(index.remove(*key), Some(Place::new(at as u32, 16, 1)), "{key:?}");
            assert_eq!(index.records(), (keys.len() - at - 1) as u64);
        }
    }
}
