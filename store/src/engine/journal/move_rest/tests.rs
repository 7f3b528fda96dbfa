//! When moving is worth it.

use super::super::disk::Disk;
use super::super::index::Place;
use super::super::segment::Segment;
use super::super::tests::fault_disk::FaultDisk;
use super::*;

/// Segments of so many bytes, the oldest with records of so many.
fn live(records: &[u32], ends: &[u64]) -> LiveMap {
    let file = FaultDisk::new().create("file").unwrap();
    let mut live = LiveMap::default();
    for (number, end) in (1..).zip(ends) {
        live.add_segment(number, Segment::new(file.clone(), *end, *end));
    }
    for (number, bytes) in (0..).zip(records) {
        live.put(Key::new(1, number, 0), Place::new(1, 128, *bytes));
    }
    live
}

#[test]
fn the_oldest_segment_is_moved_once_too_much_of_the_disk_is_dead() {
    // Four segments' worth of dead bytes are left alone, and as much again as lives unless the oldest is mostly dead.
    let cases: [(&[u32], &[u64], bool); 9] = [
        (&[250], &[1000, 3250], false),
        (&[250], &[1000, 3251], true),
        (&[200, 50], &[1000, 1000, 2250], false),
        (&[200, 50], &[1000, 1000, 2251], true),
        (&[251], &[1000, 3502], false),
        (&[251], &[1000, 3503], true),
        (&[251], &[1000, 900, 3503], true),
        (&[], &[1000, 90_000], false),
        (&[10], &[90_000], false),
    ];
    for (records, ends, is_worth_it) in cases {
        let found = worth_moving(&live(records, ends), 1000);
        assert_eq!(found, is_worth_it.then_some(1), "{records:?} in {ends:?}");
    }
}
