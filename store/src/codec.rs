//! Headers and metadata to bytes and back: serde and bincode with one pinned configuration.
//!
//! Persisted: the configuration is little endian with variable-length integers and must not change; golden bytes
//! in `box/keys/tests.rs` hold it. Bodies never pass through here: a codec would walk them byte by byte.

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::{Error, ErrorKind};

/// The largest value that is decoded: damaged bytes must not make us ask for more memory than this.
const BYTES_MAX: usize = 1024 * 1024;

fn config() -> impl bincode::config::Config {
    bincode::config::standard().with_little_endian().with_variable_int_encoding().with_limit::<BYTES_MAX>()
}

/// Appends `value` to `into`.
pub(crate) fn encode(value: &impl Serialize, into: &mut Vec<u8>) {
    bincode::serde::encode_into_std_write(value, into, config())
        .expect("writing to memory does not fail, and every record's sequences know their length");
}

/// The value at the start of `bytes`.
pub(crate) fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Error> {
    bincode::serde::decode_from_slice(bytes, config())
        .map(|(value, _bytes)| value)
        .map_err(|cause| Error::new(ErrorKind::Corrupt, "decode a record").caused_by(cause))
}
