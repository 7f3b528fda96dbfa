//! Messages: an id, headers, and a body. Immutable once submitted.

use std::fmt;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use serde::{Deserialize, Serialize};

use crate::{Error, ErrorKind, MessageId};

/// Bodies longer than this are kept as fragments of this many bytes (the last may be shorter), so that neither
/// submitting nor sending one needs it whole in memory. Persisted: never change it.
pub const FRAGMENT_BYTES: usize = 256 * 1024;

/// One message.
#[derive(Debug, Clone)]
pub struct Message {
    /// Its name, unique for ever.
    pub id: MessageId,
    /// Its properties.
    pub headers: Headers,
    /// Its content.
    pub body: Body,
}

impl Message {
    /// A message without headers.
    #[must_use]
    pub fn new(id: MessageId, body: impl Into<Body>) -> Self {
        Self { id, headers: Headers::default(), body: body.into() }
    }

    /// Adds a header, replacing one of the same name.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] as for [`Headers::set`]; the message is gone.
    pub fn header(mut self, name: &str, value: impl Into<HeaderValue>) -> Result<Self, Error> {
        self.headers.set(name, value)?;
        Ok(self)
    }
}

/// A header's value. Tags are persisted by their order: only append.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum HeaderValue {
    /// Text without control characters other than tab.
    Text(String),
    /// A whole number.
    Integer(i64),
    /// Yes or no.
    Boolean(bool),
    /// Anything else.
    Bytes(Vec<u8>),
}

impl fmt::Display for HeaderValue {
    /// As text: bytes in lower-case hexadecimal.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(text) => f.write_str(text),
            Self::Integer(number) => fmt::Display::fmt(number, f),
            Self::Boolean(flag) => fmt::Display::fmt(flag, f),
            Self::Bytes(bytes) => bytes.iter().try_for_each(|byte| write!(f, "{byte:02x}")),
        }
    }
}

impl From<&str> for HeaderValue {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<String> for HeaderValue {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl From<i64> for HeaderValue {
    fn from(number: i64) -> Self {
        Self::Integer(number)
    }
}

impl From<bool> for HeaderValue {
    fn from(flag: bool) -> Self {
        Self::Boolean(flag)
    }
}

/// A message's properties, in order of name. Names are lower case and compared so.
///
/// Limits: [`Headers::COUNT_MAX`] headers, [`Headers::NAME_BYTES_MAX`] bytes a name, [`Headers::BYTES_MAX`] bytes
/// of names and values together.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Headers(Vec<(String, HeaderValue)>);

impl Headers {
    /// The most headers a message may have.
    pub const COUNT_MAX: usize = 128;
    /// The longest name, in bytes.
    pub const NAME_BYTES_MAX: usize = 128;
    /// The most bytes that names and values may take together.
    pub const BYTES_MAX: usize = 64 * 1024;

    /// Sets a header, replacing one of the same name. Upper-case letters of the name become lower case.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`]: the name is empty, too long, or has a character other than letters, digits and
    /// `!#$%&'*+-.^_|~`; a text value has a control character; or a limit is passed. Nothing was changed.
    pub fn set(&mut self, name: &str, value: impl Into<HeaderValue>) -> Result<(), Error> {
        let name = name.to_ascii_lowercase();
        let value = value.into();
        check_header(&name, &value)?;
        let size = |name: &str, value: &HeaderValue| name.len() + value_bytes(value);
        let (place, replaced) = match self.0.binary_search_by(|(have, _)| have.as_str().cmp(&name)) {
            Ok(place) => (place, self.0.get(place).map_or(0, |(n, v)| size(n, v))),
            Err(place) => (place, 0),
        };
        if self.bytes() - replaced + size(&name, &value) > Self::BYTES_MAX {
            return Err(invalid("the headers are too large")
                .with("bytes_max", Self::BYTES_MAX)
                .with("header", &name));
        }
        if replaced > 0 {
            if let Some(entry) = self.0.get_mut(place) {
                entry.1 = value;
            }
            return Ok(());
        }
        if self.0.len() >= Self::COUNT_MAX {
            return Err(invalid("there are too many headers")
                .with("count_max", Self::COUNT_MAX)
                .with("header", &name));
        }
        self.0.insert(place, (name, value));
        Ok(())
    }

    /// The header of this name, whatever the case of its letters.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&HeaderValue> {
        let name = name.to_ascii_lowercase();
        let place = self.0.binary_search_by(|(have, _)| have.as_str().cmp(&name)).ok()?;
        self.0.get(place).map(|(_, value)| value)
    }

    /// Every header, in order of name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &HeaderValue)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value))
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The bytes of names and values together.
    pub(crate) fn bytes(&self) -> usize {
        self.0.iter().map(|(name, value)| name.len() + value_bytes(value)).sum()
    }
}

fn value_bytes(value: &HeaderValue) -> usize {
    match value {
        HeaderValue::Text(text) => text.len(),
        HeaderValue::Bytes(bytes) => bytes.len(),
        HeaderValue::Integer(_) => 8,
        HeaderValue::Boolean(_) => 1,
    }
}

fn invalid(what: &'static str) -> Error {
    Error::new(ErrorKind::Invalid, "take the header").with("reason", what)
}

fn check_header(name: &str, value: &HeaderValue) -> Result<(), Error> {
    let allowed = |c: char| {
        // One instruction for what nearly every name consists of.
        c.is_ascii_lowercase() || c == '-' || c.is_ascii_alphanumeric() || "!#$%&'*+.^_|~".contains(c)
    };
    if name.is_empty() || name.len() > Headers::NAME_BYTES_MAX {
        return Err(invalid("a header's name has 1 to 128 bytes").with("bytes", name.len()));
    }
    if let Some(bad) = name.chars().find(|&c| !allowed(c)) {
        return Err(invalid("a header's name may have letters, digits and !#$%&'*+-.^_|~")
            .with("header", name.escape_debug())
            .with("character", bad.escape_debug()));
    }
    match value {
        HeaderValue::Text(text)
            if !text.bytes().all(|byte| matches!(byte, b' '..=b'~'))
                && text.chars().any(|c| c.is_control() && c != '\t') =>
        {
            Err(invalid("a header's text may have no control characters").with("header", name))
        }
        _ => Ok(()),
    }
}

/// Where the fragments of a stored body are read from. The box implements it.
pub trait Fragments: fmt::Debug + Send + Sync {
    /// The fragment at `index`, counted from 0.
    ///
    /// # Errors
    /// [`ErrorKind::Corrupt`] where its bytes are damaged, [`ErrorKind::Invalid`] where the body is gone because
    /// the delivery it was leased with has ended, [`ErrorKind::Unavailable`] where the disk does not answer.
    fn fragment(&self, index: u32) -> Result<Bytes, Error>;
}

/// A message's content: in memory where it is short, else in the box and read a fragment at a time.
#[derive(Clone)]
pub struct Body(Repr);

#[derive(Clone)]
enum Repr {
    Whole(Bytes),
    Stored { source: Arc<dyn Fragments>, len: u64 },
    Staged(Arc<Staged>),
}

impl Body {
    /// A body that is read from `source`, `len` bytes long.
    #[must_use]
    pub fn stored(source: Arc<dyn Fragments>, len: u64) -> Self {
        Self(Repr::Stored { source, len })
    }

    /// Its length in bytes.
    #[must_use]
    pub fn len(&self) -> u64 {
        match &self.0 {
            Repr::Whole(bytes) => bytes.len() as u64,
            Repr::Stored { len, .. } => *len,
            Repr::Staged(staged) => staged.len,
        }
    }

    /// Whether it is empty.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The whole body where it is in memory already.
    #[must_use]
    pub fn whole(&self) -> Option<&Bytes> {
        match &self.0 {
            Repr::Whole(bytes) => Some(bytes),
            _ => None,
        }
    }

    /// How many fragments [`Body::fragment`] can be asked for; at least 1.
    #[must_use]
    pub fn fragments(&self) -> u32 {
        u32::try_from(self.len().div_ceil(FRAGMENT_BYTES as u64)).unwrap_or(u32::MAX).max(1)
    }

    /// One fragment: [`FRAGMENT_BYTES`] bytes, or what is left for the last.
    ///
    /// # Errors
    /// As [`Fragments::fragment`]; [`ErrorKind::Invalid`] past the end, and for a body that is staged only.
    pub fn fragment(&self, index: u32) -> Result<Bytes, Error> {
        if index >= self.fragments() {
            return Err(Error::new(ErrorKind::Invalid, "read a body").with("fragment", index));
        }
        match &self.0 {
            Repr::Whole(bytes) => {
                let start = index as usize * FRAGMENT_BYTES;
                Ok(bytes.slice(start..bytes.len().min(start + FRAGMENT_BYTES)))
            }
            Repr::Stored { source, .. } => source.fragment(index),
            Repr::Staged(_) => Err(Error::new(ErrorKind::Invalid, "read a body that was not submitted yet")),
        }
    }

    /// The whole body in memory. For bodies known to be small: a stored one is read from the box fragment by
    /// fragment and put together.
    ///
    /// # Errors
    /// As [`Body::fragment`].
    pub fn to_bytes(&self) -> Result<Bytes, Error> {
        if let Repr::Whole(bytes) = &self.0 {
            return Ok(bytes.clone());
        }
        let mut whole = BytesMut::with_capacity(usize::try_from(self.len()).unwrap_or(0));
        for index in 0..self.fragments() {
            whole.extend_from_slice(&self.fragment(index)?);
        }
        Ok(whole.freeze())
    }

    /// A body whose fragments were put into the box ahead of its message.
    #[must_use]
    pub fn staged(staged: Staged) -> Self {
        Self(Repr::Staged(Arc::new(staged)))
    }

    pub(crate) fn as_staged(&self) -> Option<&Staged> {
        match &self.0 {
            Repr::Staged(staged) => Some(staged),
            _ => None,
        }
    }
}

impl Default for Body {
    fn default() -> Self {
        Self(Repr::Whole(Bytes::new()))
    }
}

impl<T: Into<Bytes>> From<T> for Body {
    fn from(bytes: T) -> Self {
        Self(Repr::Whole(bytes.into()))
    }
}

impl fmt::Debug for Body {
    /// The length only: bodies do not belong in logs.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Body({} bytes)", self.len())
    }
}

/// A body that is in the box but belongs to no message yet. Made by [`crate::BodyWriter`]; dropping it without
/// submitting it gives its room back.
pub struct Staged {
    pub(crate) number: u64,
    pub(crate) len: u64,
    pub(crate) discard: Option<Box<dyn Fn(u64) + Send + Sync>>,
}

impl Drop for Staged {
    fn drop(&mut self) {
        if let Some(discard) = self.discard.take() {
            discard(self.number);
        }
    }
}

impl fmt::Debug for Staged {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Staged").field("number", &self.number).field("len", &self.len).finish_non_exhaustive()
    }
}
