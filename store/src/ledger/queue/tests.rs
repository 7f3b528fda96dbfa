//! The queue against the standard library's.

use std::collections::VecDeque;

use proptest::prelude::*;

use super::{BLOCK_NUMBERS, Queue};

proptest! {
    #[test]
    fn behaves_as_a_deque(steps in prop::collection::vec((0u8..4, 1usize..700), 1..40)) {
        let (mut queue, mut model) = (Queue::default(), VecDeque::new());
        let mut number = 0;
        for (step, times) in steps {
            for _ in 0..times {
                number += 1;
                match step {
                    0 | 1 => {
                        queue.push_back(number);
                        model.push_back(number);
                    }
                    2 => {
                        queue.push_front(number);
                        model.push_front(number);
                    }
                    _ => prop_assert_eq!(queue.pop_front(), model.pop_front()),
                }
            }
        }
        prop_assert!(queue.drain().eq(model));
        prop_assert_eq!(queue.pop_front(), None);
    }
}

#[test]
fn takes_little_more_than_its_numbers() {
    let mut queue = Queue::default();
    (0..1_000_000).for_each(|number| queue.push_back(number));
    let room: usize = queue.blocks.iter().map(VecDeque::capacity).sum();
    assert!(room <= 1_000_000 + BLOCK_NUMBERS, "{room}");
    while queue.pop_front().is_some() {}
    assert!(queue.blocks.is_empty());
    // Also from the other end: a block for each would be dear.
    (0..10_000).for_each(|number| queue.push_front(number));
    assert_eq!(queue.blocks.len(), 10_000_usize.div_ceil(BLOCK_NUMBERS));
}
