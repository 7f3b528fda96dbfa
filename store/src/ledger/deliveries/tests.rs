//! What is put in comes out, whether or not it was ever tried.

use super::{Deliveries, DeliveryRow};
use crate::{DeliveryState, Timestamp};

fn rows(deliveries: &Deliveries) -> Vec<(u64, i64, u32)> {
    deliveries.range(0).map(|(number, row)| (number, row.due, row.attempts)).collect()
}

#[test]
fn what_was_never_tried_takes_one_small_row() {
    let mut deliveries = Deliveries::default();
    for number in 1..=3 {
        deliveries.insert(number, DeliveryRow::new(7, 0, Timestamp::EPOCH));
    }
    assert_eq!(deliveries.tried.range(0).count(), 0);
    let (before, after) = deliveries.update(2, |row| (row.attempts, row.due) = (1, 50)).unwrap();
    assert_eq!(((before.attempts, before.due), (after.attempts, after.due)), ((0, 0), (1, 50)));
    assert_eq!(rows(&deliveries), [(1, 0, 0), (2, 50, 1), (3, 0, 0)]);
    assert_eq!(deliveries.tried.range(0).count(), 1);
    deliveries.set_state(2, DeliveryState::Suspended);
    let row = deliveries.get(2).unwrap();
    assert_eq!((row.state, row.port, row.due), (DeliveryState::Suspended, 7, 50));
}

#[test]
fn what_is_as_new_again_or_gone_leaves_nothing_behind() {
    let mut deliveries = Deliveries::default();
    let due = DeliveryRow::new(7, 0, Timestamp::from_micros(5));
    for number in 1..=2 {
        deliveries.insert(number, due);
    }
    deliveries.update(1, |row| row.due = 0).unwrap();
    assert_eq!(deliveries.remove(2).unwrap().due, 5);
    assert!(deliveries.remove(2).is_none() && deliveries.update(2, |_| {}).is_none());
    assert_eq!((rows(&deliveries), deliveries.tried.range(0).count()), (vec![(1, 0, 0)], 0));
}
