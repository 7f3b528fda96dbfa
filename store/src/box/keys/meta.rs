//! Family 1: what is true of the whole box: its id, written at its creation. Twice, as parts 0 and 1: without it no
//! destination recognises a repeat.

use super::Fields;
use crate::engine::{Key, WriteSet};
use crate::{BoxId, Error};

pub(crate) const FAMILY: u8 = 1;

pub(crate) fn write(writes: &mut WriteSet, id: BoxId) {
    for copy in 0..2 {
        let key = Key::new(FAMILY, 0, copy);
        writes.put(key, bytes::Bytes::new(), |head| head.extend_from_slice(&id.to_bytes()));
    }
}

pub(crate) fn read(head: &[u8]) -> Result<BoxId, Error> {
    Fields(head).take().map(BoxId::from_bytes)
}
