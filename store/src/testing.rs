//! The decoders of everything that is kept, for the fuzzing of this workspace. No part of the interface.

use crate::engine::journal::recode as journal;
#[cfg(feature = "sled")]
use crate::engine::sled::recode as sled;
use crate::message_box::keys::recode as keys;
use crate::{Error, ErrorKind};

/// What is decoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// The head of a record of this family, as `box/keys` lists them.
    Head(u8),
    /// One copy of a journal segment's header, its checksum made right.
    SegmentHeader,
    /// A journal group's header, its checksum made right.
    GroupHeader,
    /// A journal group's trailer, its checksum made right.
    GroupTrailer,
    /// An entry of a journal group's table, its checksum made right.
    TableEntry,
    /// An entry of a journal group's table with one bit flipped: the first two bytes say which.
    FlippedEntry,
    /// The name of a journal's file.
    FileName,
    /// A key of the second engine.
    #[cfg(feature = "sled")]
    SledKey,
    /// A value of the second engine, its checksum made right.
    #[cfg(feature = "sled")]
    SledValue,
}

impl Form {
    /// All of them.
    pub const ALL: &[Self] = &[
        Self::Head(1),
        Self::Head(2),
        Self::Head(3),
        Self::Head(4),
        Self::Head(5),
        Self::Head(6),
        Self::Head(7),
        Self::Head(8),
        Self::SegmentHeader,
        Self::GroupHeader,
        Self::GroupTrailer,
        Self::TableEntry,
        Self::FlippedEntry,
        Self::FileName,
        #[cfg(feature = "sled")]
        Self::SledKey,
        #[cfg(feature = "sled")]
        Self::SledValue,
        Self::Head(9),
        Self::Head(10),
        Self::Head(11),
        Self::Head(12),
    ];
}

/// Decodes `bytes` and encodes what they say.
///
/// # Errors
/// They are not of this form.
pub fn recode(form: Form, bytes: &[u8]) -> Result<Vec<u8>, Error> {
    let recoded = match form {
        Form::Head(family) => return keys::head(family, bytes),
        Form::SegmentHeader => journal::segment_header(bytes),
        Form::GroupHeader => journal::group_header(bytes),
        Form::GroupTrailer => journal::group_trailer(bytes),
        Form::TableEntry => journal::table_entry(bytes),
        Form::FlippedEntry => journal::flipped_entry(bytes),
        Form::FileName => journal::file_name(bytes),
        #[cfg(feature = "sled")]
        Form::SledKey => sled::key(bytes),
        #[cfg(feature = "sled")]
        Form::SledValue => sled::value(bytes),
    };
    recoded.ok_or_else(|| Error::new(ErrorKind::Corrupt, "decode bytes of this form"))
}
