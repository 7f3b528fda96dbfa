//! Family 8: a piece of a long body, under the body's number and its index. The head is empty.

use crate::engine::{Key, WriteSet};

pub(crate) const FAMILY: u8 = 8;

pub(crate) const fn key(number: u64, index: u32) -> Key {
    Key::new(FAMILY, number, index)
}

pub(crate) fn write(writes: &mut WriteSet, number: u64, index: u32, bytes: bytes::Bytes) {
    writes.put(key(number, index), bytes, |_head| {});
}

/// Removes a body of so many bytes.
pub(crate) fn delete_all(writes: &mut WriteSet, number: u64, body_len: u64) {
    let count = body_len.div_ceil(crate::FRAGMENT_BYTES as u64);
    for index in 0..u32::try_from(count).unwrap_or(u32::MAX) {
        writes.delete(key(number, index));
    }
}
