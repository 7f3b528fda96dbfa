//! The record families of a box: one file a family, with its layout.
//!
//! Family numbers and layouts are persisted: never change or reuse one. Fixed fields are little endian and come
//! first, so that recovery reads them without decoding the rest. In pages of many small rows numbers are of variable
//! length, and told as differences where they rise.

pub(crate) mod answer;
pub(crate) mod applied;
pub(crate) mod attempt;
pub(crate) mod decision;
pub(crate) mod delivery;
pub(crate) mod doubt;
pub(crate) mod finished;
pub(crate) mod fragment;
pub(crate) mod intent;
pub(crate) mod message;
pub(crate) mod meta;
pub(crate) mod port;
#[cfg(feature = "testing")]
pub(crate) mod recode;

#[cfg(test)]
mod tests;

use crate::{Error, ErrorKind};

/// Reads little-endian fields from the front of a record.
pub(crate) struct Fields<'a>(pub(crate) &'a [u8]);

impl<'a> Fields<'a> {
    pub(crate) fn take<const N: usize>(&mut self) -> Result<[u8; N], Error> {
        let (field, rest) = self.0.split_first_chunk::<N>().ok_or_else(short)?;
        self.0 = rest;
        Ok(*field)
    }

    pub(crate) fn u8(&mut self) -> Result<u8, Error> {
        self.take().map(|[byte]| byte)
    }

    pub(crate) fn u16(&mut self) -> Result<u16, Error> {
        self.take().map(u16::from_le_bytes)
    }

    pub(crate) fn u32(&mut self) -> Result<u32, Error> {
        self.take().map(u32::from_le_bytes)
    }

    pub(crate) fn u64(&mut self) -> Result<u64, Error> {
        self.take().map(u64::from_le_bytes)
    }

    pub(crate) fn i64(&mut self) -> Result<i64, Error> {
        self.take().map(i64::from_le_bytes)
    }

    /// A number as [`put_number`] writes it.
    pub(crate) fn number(&mut self) -> Result<u64, Error> {
        let mut number = 0;
        for shift in (0..u64::BITS).step_by(7) {
            let byte = self.u8()?;
            number |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(number);
            }
        }
        Err(Error::new(ErrorKind::Corrupt, "decode a record").with("reason", "a number has too many bytes"))
    }

    /// The same, where it must be a small one.
    pub(crate) fn small<T: TryFrom<u64>>(&mut self, what: &'static str) -> Result<T, Error> {
        let number = self.number()?;
        T::try_from(number).map_err(|_| {
            Error::new(ErrorKind::Corrupt, "decode a record").with("field", what).with("value", number)
        })
    }

    pub(crate) fn bytes(&mut self, len: usize) -> Result<&'a [u8], Error> {
        let (field, rest) = self.0.split_at_checked(len).ok_or_else(short)?;
        self.0 = rest;
        Ok(field)
    }
}

/// Appends a number, seven bits a byte, the low ones first: small numbers are short.
pub(crate) fn put_number(into: &mut Vec<u8>, mut number: u64) {
    while number > 0x7f {
        into.push(number as u8 | 0x80);
        number >>= 7;
    }
    into.push(number as u8);
}

fn short() -> Error {
    Error::new(ErrorKind::Corrupt, "decode a record").with("reason", "it is shorter than its layout")
}

/// An enum's persisted number was not one of ours.
pub(crate) fn unknown(what: &'static str, number: u8) -> Error {
    Error::new(ErrorKind::Corrupt, "decode a record").with("field", what).with("value", number)
}
