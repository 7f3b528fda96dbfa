//! What is lent, and what becomes of it.

use super::*;

#[test]
fn memory_is_aligned_and_of_the_asked_length() {
    let pool = Pool::default();
    for len in [0, 1, 511, 4096, 100_000, 3_000_000] {
        for aligned_to in [1, 512, ALIGNED_BYTES] {
            let mut buffer = pool.take(len, aligned_to);
            assert_eq!(buffer.bytes_mut().len(), len);
            assert_eq!(buffer.bytes_mut().as_ptr().align_offset(aligned_to), 0, "{len}");
            assert!(buffer.room() >= len);
        }
    }
}

#[test]
fn memory_comes_back_with_its_last_reader_and_is_used_again() {
    let pool = Pool::default();
    let mut buffer = pool.take(70_000, 512);
    buffer.bytes_mut().fill(7);
    let bytes = buffer.freeze();
    let part = bytes.slice(10..20);
    let place = bytes.as_ptr();
    drop(bytes);
    assert_eq!(pool.0.lock().unwrap().bytes, 0, "somebody still reads it");
    assert_eq!(part, [7; 10].as_slice());
    drop(part);
    assert_eq!(pool.take(60_000, 512).freeze().as_ptr(), place);
}

#[test]
fn little_is_not_put_into_much_and_what_lies_idle_is_bounded() {
    let pool = Pool::default();
    drop(pool.take(IDLE_BYTES_MAX / 2, 1));
    assert!(pool.take(1000, 1).room() < IDLE_BYTES_MAX / WASTE_FACTOR);
    drop(pool.take(2 * IDLE_BYTES_MAX, 1));
    drop((0..8).map(|_| pool.take(IDLE_BYTES_MAX / 5, 1)).collect::<Vec<_>>());
    drop((0..2 * IDLE_MAX).map(|_| pool.take(100, 1)).collect::<Vec<_>>());
    let idle = pool.0.lock().unwrap();
    assert!(idle.bytes <= IDLE_BYTES_MAX && idle.buffers.len() <= IDLE_MAX);
    assert_eq!(idle.bytes, idle.buffers.iter().map(Vec::len).sum::<usize>());
}
