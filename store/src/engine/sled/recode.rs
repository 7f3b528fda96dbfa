//! Decodes keys and values and encodes what they say, for fuzzing. Checksums are made right first.

use crc32c::{crc32c, crc32c_append};

use super::{key_bytes, key_of, value_bytes, value_of};
use crate::engine::Key;

const KEY: Key = Key::new(3, 1, 0);

pub(crate) fn key(bytes: &[u8]) -> Option<Vec<u8>> {
    key_of(bytes).map(|key| key_bytes(key).to_vec())
}

pub(crate) fn value(bytes: &[u8]) -> Option<Vec<u8>> {
    let (covered, _) = bytes.split_last_chunk::<4>()?;
    let crc = crc32c_append(crc32c(&key_bytes(KEY)), covered);
    let sealed = [covered, &crc.to_le_bytes()].concat();
    value_of(KEY, &sealed).map(|(head, body)| value_bytes(KEY, head, body))
}
