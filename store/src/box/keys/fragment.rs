//! Family 8: a piece of a long body, under the body's number and its index. The head is empty.

use crate::engine::{Key, WriteSet};

pub(crate) const FAMILY: u8 = 8;

pub(crate) const fn key(number: u64, index: u32) -> Key {
    Key::new(FAMILY, number, index)
}

pub(crate) fn write(writes: &mut WriteSet, number: u64, index: u32, bytes: bytes::Bytes) {
    writes.put(key(number, index), bytes, |_head| {});
}

/// Removes a body.
pub(crate) fn delete_all(writes: &mut WriteSet, number: u64) {
    writes.delete_number(FAMILY, number);
}
