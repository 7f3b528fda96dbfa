//! Ids and bodies that follow from a number, so that whoever knows the number knows what must be stored.

use bytes::Bytes;
use pillarbox_store::{BatchId, MessageId};

/// The number of the `count`-th thing that a client makes in a round.
pub(super) fn number(round: u32, client: u32, count: u32) -> u64 {
    u64::from(round) << 40 | u64::from(client) << 32 | u64::from(count)
}

/// A UUID of version 7 and the usual variant with the number in its last bytes.
fn id_bytes(number: u64) -> [u8; 16] {
    let mut bytes = [0x01, 0x93, 0, 0, 0, 0, 0x70, 0, 0x80, 0, 0, 0, 0, 0, 0, 0];
    let (_, last) = bytes.split_at_mut(9);
    last.copy_from_slice(number.to_be_bytes().get(1..).unwrap_or_default());
    bytes
}

pub(super) fn message_id(number: u64) -> MessageId {
    MessageId::from_bytes(id_bytes(number))
}

pub(super) fn batch_id(number: u64) -> BatchId {
    BatchId::from_bytes(id_bytes(number))
}

/// The number behind a message's id; none for an id that is not one of ours.
pub(super) fn message_number(id: MessageId) -> Option<u64> {
    let bytes = id.to_bytes();
    let number = bytes.get(9..)?.iter().fold(0, |number, byte| number << 8 | u64::from(*byte));
    (bytes == id_bytes(number)).then_some(number)
}

/// The body of message `number`.
pub(super) fn body(number: u64, bytes: usize) -> Bytes {
    let mut state = number.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut body = Vec::with_capacity(bytes + 8);
    while body.len() < bytes {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        body.extend_from_slice(&state.to_le_bytes());
    }
    body.truncate(bytes);
    body.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_leads_back_to_its_number() {
        let number = number(60_000, 3, u32::MAX);
        assert_eq!(message_number(message_id(number)), Some(number));
        assert_eq!(message_number(MessageId::from_bytes([9; 16])), None);
        assert_eq!(batch_id(number).to_bytes(), message_id(number).to_bytes());
    }

    #[test]
    fn bodies_differ_and_have_their_length() {
        assert_eq!(body(1, 1_001).len(), 1_001);
        assert_ne!(body(1, 64), body(2, 64));
        assert_eq!(body(1, 100).slice(..50), body(1, 50));
    }
}
