//! Family 1: what is true of the whole box. One record, written at its creation: the box's id.

use super::Fields;
use crate::engine::{Key, WriteSet};
use crate::{BoxId, Error};

pub(crate) const FAMILY: u8 = 1;

pub(crate) fn write(writes: &mut WriteSet, id: BoxId) {
    writes.put(Key::new(FAMILY, 0, 0), bytes::Bytes::new(), |head| head.extend_from_slice(&id.to_bytes()));
}

pub(crate) fn read(head: &[u8]) -> Result<BoxId, Error> {
    Fields(head).take().map(BoxId::from_bytes)
}
