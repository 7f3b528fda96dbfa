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
