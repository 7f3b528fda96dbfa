//! Family 2: a port, under its internal number: flags (1 byte), name. Twice, as parts 0 and 1: every delivery of the
//! port depends on it.

use super::Fields;
use crate::engine::{Key, WriteSet};
use crate::{Error, PortName};

pub(crate) const FAMILY: u8 = 2;

const BACKUP: u8 = 1;
const DEFINED: u8 = 2;
const PAUSED: u8 = 4;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PortRecord {
    pub(crate) name: PortName,
    pub(crate) backup: bool,
    pub(crate) defined: bool,
    pub(crate) paused: bool,
}

pub(crate) fn key(number: u32) -> Key {
    Key::new(FAMILY, u64::from(number), 0)
}

pub(crate) fn write(writes: &mut WriteSet, number: u32, record: &PortRecord) {
    let flag = |set: bool, bit: u8| if set { bit } else { 0 };
    let flags = flag(record.backup, BACKUP) | flag(record.defined, DEFINED) | flag(record.paused, PAUSED);
    for copy in 0..2 {
        writes.put(Key::new(FAMILY, u64::from(number), copy), bytes::Bytes::new(), |head| {
            head.push(flags);
            head.extend_from_slice(record.name.as_str().as_bytes());
        });
    }
}

pub(crate) fn read(head: &[u8]) -> Result<PortRecord, Error> {
    let mut fields = Fields(head);
    let flags = fields.u8()?;
    let name = std::str::from_utf8(fields.0)
        .map_err(|cause| Error::new(crate::ErrorKind::Corrupt, "decode a port").caused_by(cause))?;
    Ok(PortRecord {
        name: PortName::new(name)?,
        backup: flags & BACKUP != 0,
        defined: flags & DEFINED != 0,
        paused: flags & PAUSED != 0,
    })
}
