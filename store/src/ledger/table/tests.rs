//! The table against the standard library's ordered map.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::Table;

proptest! {
    #[test]
    fn behaves_as_an_ordered_map(steps in prop::collection::vec((0u8..8, 0u64..3_000), 1..3_000)) {
        let mut table = Table::default();
        let mut model = BTreeMap::new();
        let mut top = 0;
        for (step, number) in steps {
            match step {
                0..=3 => {
                    top += 1 + number % 2;
                    table.insert(top, number);
                    model.insert(top, number);
                }
                4 => {
                    table.insert(number, number);
                    model.insert(number, number);
                    top = top.max(number);
                }
                5 | 6 => prop_assert_eq!(table.remove(number), model.remove(&number)),
                _ => prop_assert_eq!(table.get(number), model.get(&number)),
            }
        }
        prop_assert_eq!(table.len(), model.len());
        for from in [0, 500, top] {
            let have: Vec<_> = table.range(from).map(|(number, row)| (number, *row)).collect();
            let want: Vec<_> = model.range(from..).map(|(number, row)| (*number, *row)).collect();
            prop_assert_eq!(have, want);
        }
    }
}

#[test]
fn one_survivor_per_chunk_keeps_little_memory() {
    let mut table = Table::default();
    for number in 0..512_000u64 {
        table.insert(number, number);
    }
    for number in (0..512_000u64).filter(|number| number % 512 != 7) {
        table.remove(number);
    }
    assert_eq!(table.len(), 1_000);
    let room: usize = table.chunks.iter().map(|(_, chunk)| chunk.rows.capacity()).sum();
    assert!(room <= 64 * table.len(), "{room} rows of room for {} rows", table.len());
    assert_eq!(table.get(7), Some(&7));
}
