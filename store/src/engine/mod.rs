//! What an embedded database must offer to carry a box, and the engines that do.
//!
//! An engine is a map from [`Key`] to a record (a short head and a body) with an atomic, durable [`Engine::apply`].
//! It is synchronous, knows nothing of messages, and is driven by one writer at a time while any number of threads
//! read. Everything that makes a box out of it stands once, in `box/`. This seam may change at any release.

use std::fmt;
use std::ops::Range;

use bytes::Bytes;

use crate::{Durability, Error, ErrorKind};

#[cfg(any(test, feature = "testing"))]
#[doc(hidden)]
pub mod hooked;
pub mod journal;
pub mod memory;
#[cfg(feature = "sled")]
pub mod sled;

#[cfg(test)]
mod tests;

/// A record's name. Ordered by family, then number, then part.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    /// The kind of record; `box/keys` lists them.
    pub family: u8,
    /// Which one of its kind.
    pub number: u64,
    /// Which part of it.
    pub part: u32,
}

impl Key {
    /// The key with these three parts.
    #[must_use]
    pub const fn new(family: u8, number: u64, part: u32) -> Self {
        Self { family, number, part }
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.family, self.number, self.part)
    }
}

/// A stored record. The head is what recovery reads; the body is opaque to everybody but its reader.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// At most [`HEAD_BYTES_MAX`].
    pub head: Bytes,
    /// At most [`BODY_BYTES_MAX`].
    pub body: Bytes,
}

/// The longest head.
pub const HEAD_BYTES_MAX: usize = 1024 * 1024;
/// The longest body of one record.
pub const BODY_BYTES_MAX: usize = 1024 * 1024;

/// Changes that an engine applies together, in order. Reused from group to group to spare allocations.
#[derive(Debug, Default)]
pub struct WriteSet {
    entries: Vec<Entry>,
    heads: Vec<u8>,
    body_bytes: usize,
}

#[derive(Debug)]
enum Entry {
    Put { key: Key, head: Range<usize>, body: Bytes },
    Delete { key: Key },
    DeleteNumbers { family: u8, first: u64, count: u32 },
    DeleteBelow { family: u8, number: u64 },
}

/// One change of a [`WriteSet`].
#[derive(Debug, Clone, Copy)]
pub enum Write<'a> {
    /// Store a record under a key, over the one that is there.
    Put {
        /// Its name.
        key: Key,
        /// Its head.
        head: &'a [u8],
        /// Its body.
        body: &'a Bytes,
    },
    /// Remove the record of a key; nothing happens where there is none.
    Delete {
        /// Its name.
        key: Key,
    },
    /// Remove every record of a family, whatever its part, that has one of these numbers.
    DeleteNumbers {
        /// The family.
        family: u8,
        /// The lowest number.
        first: u64,
        /// How many numbers from there on.
        count: u32,
    },
    /// Remove every record of a family whose number is below a bound.
    DeleteBelow {
        /// The family.
        family: u8,
        /// The lowest number that stays.
        number: u64,
    },
}

impl WriteSet {
    /// Adds a put whose head `encode` appends to the buffer it is given.
    pub fn put(&mut self, key: Key, body: Bytes, encode: impl FnOnce(&mut Vec<u8>)) {
        let start = self.heads.len();
        encode(&mut self.heads);
        self.body_bytes += body.len();
        self.entries.push(Entry::Put { key, head: start..self.heads.len(), body });
    }

    /// Adds a delete.
    pub fn delete(&mut self, key: Key) {
        self.entries.push(Entry::Delete { key });
    }

    /// Adds a delete of every record of `family` with this number. One that goes on where the last change ended is
    /// one with it: deleting what was put in a row costs little.
    pub fn delete_number(&mut self, family: u8, number: u64) {
        if let Some(Entry::DeleteNumbers { family: before, first, count }) = self.entries.last_mut()
            && *before == family
            && first.checked_add(u64::from(*count)) == Some(number)
            && let Some(more) = count.checked_add(1)
        {
            *count = more;
            return;
        }
        self.entries.push(Entry::DeleteNumbers { family, first: number, count: 1 });
    }

    /// Adds a delete of every record of `family` with one of these numbers.
    pub fn delete_numbers(&mut self, family: u8, numbers: Range<u64>) {
        let (mut first, mut left) = (numbers.start, numbers.end.saturating_sub(numbers.start));
        while left > 0 {
            let count = u32::try_from(left).unwrap_or(u32::MAX);
            self.entries.push(Entry::DeleteNumbers { family, first, count });
            (first, left) = (first.saturating_add(count.into()), left - u64::from(count));
        }
    }

    /// Adds a delete of every record of `family` with a number below `number`.
    pub fn delete_below(&mut self, family: u8, number: u64) {
        self.entries.push(Entry::DeleteBelow { family, number });
    }

    /// The changes, in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = Write<'_>> {
        self.entries.iter().map(|entry| match entry {
            Entry::Put { key, head, body } => {
                Write::Put { key: *key, head: self.heads.get(head.clone()).unwrap_or_default(), body }
            }
            Entry::Delete { key } => Write::Delete { key: *key },
            Entry::DeleteNumbers { family, first, count } => {
                Write::DeleteNumbers { family: *family, first: *first, count: *count }
            }
            Entry::DeleteBelow { family, number } => Write::DeleteBelow { family: *family, number: *number },
        })
    }

    /// How many changes there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The bytes of all heads and bodies.
    #[must_use]
    pub fn payload_bytes(&self) -> usize {
        self.heads.len() + self.body_bytes
    }

    /// Forgets every change and keeps the room for the next ones.
    pub fn clear(&mut self) {
        self.entries.clear();
        self.heads.clear();
        self.body_bytes = 0;
    }
}

/// Heads and bodies of all puts that were applied together, still in memory.
#[derive(Debug)]
pub struct Kept {
    /// The heads, one after the other, in order.
    pub heads: Bytes,
    /// The bodies, the same.
    pub bodies: Bytes,
    /// Bytes of memory that are held by it.
    pub room: usize,
}

/// Refuses records that are longer than allowed.
fn check_sizes(writes: &WriteSet) -> Result<(), Error> {
    for write in writes.iter() {
        if let Write::Put { key, head, body } = write
            && (head.len() > HEAD_BYTES_MAX || body.len() > BODY_BYTES_MAX)
        {
            return Err(Error::new(ErrorKind::Invalid, "store a record longer than allowed")
                .with("key", format_args!("{key:?}"))
                .with("head_bytes", head.len())
                .with("body_bytes", body.len()));
        }
    }
    Ok(())
}

/// Figures of an engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct EngineStats {
    /// Bytes its files take, with what is kept for reuse.
    pub disk_bytes: u64,
    /// Records it holds.
    pub records: u64,
    /// Flushes since it was opened.
    pub flushes: u64,
}

/// Stored bytes that cannot be trusted, as found while opening and since.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Damage {
    /// The file; empty where it is no single one.
    pub file: String,
    /// Where in it.
    pub offset: u64,
    /// How much of it.
    pub bytes: u64,
    /// The record that was there, where that can still be told.
    pub key: Option<Key>,
    /// What is wrong with it.
    pub what: String,
    /// What it costs.
    pub loss: Loss,
}

/// What damage costs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Loss {
    /// Nothing: what was there is known from elsewhere.
    None,
    /// The record under the damage's key.
    Record,
    /// Records that cannot be told any more: some are missing, or what they replaced or deleted is back.
    Unknown,
}

/// Where a record is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Location {
    /// The file.
    pub file: String,
    /// Where in it.
    pub offset: u64,
    /// How much of it.
    pub bytes: u64,
}

/// A file of an engine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileInfo {
    /// Its name.
    pub file: String,
    /// Its length.
    pub bytes: u64,
    /// How much of it holds anything, dead or alive.
    pub used_bytes: u64,
    /// Records that live in it.
    pub records: u64,
}

/// The end of the files that a crash left unfinished, and that was dropped at opening. It had never been acknowledged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TornTail {
    /// The file.
    pub file: String,
    /// Where the dropped part begins.
    pub offset: u64,
    /// How much was dropped, as far as it can be told.
    pub bytes: u64,
}

/// Called with the key and the head of a record; an error ends the recovery.
pub type Visit<'a> = dyn FnMut(Key, &[u8]) -> Result<(), Error> + 'a;

/// An ordered map of records with atomic, durable writes.
pub trait Engine: fmt::Debug + Send + Sync + 'static {
    /// The engine's name in configuration.
    fn name(&self) -> &'static str;

    /// Calls `visit` with the key and the head of every record, each once, in no particular order. The caller does
    /// not write meanwhile.
    ///
    /// # Errors
    /// What `visit` returns, or [`crate::ErrorKind::Unavailable`] where the files cannot be read. A record whose
    /// bytes are damaged is left out and listed by [`Engine::damage`].
    fn recover(&self, visit: &mut Visit<'_>) -> Result<(), Error>;

    /// The record under `key`, its checksum verified.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Corrupt`] where its bytes are damaged, [`crate::ErrorKind::Unavailable`] where the disk
    /// does not answer.
    fn get(&self, key: Key) -> Result<Option<Record>, Error>;

    /// What [`Engine::get`] gives for each of these keys, in their order. Keys in the order in which they were put
    /// are read fastest.
    fn get_many(&self, keys: &[Key]) -> Vec<Result<Option<Record>, Error>> {
        keys.iter().map(|key| self.get(*key)).collect()
    }

    /// Makes sure, as far as the file system tells, that `bytes` more payload can be written, beside `promised` bytes
    /// that earlier calls made sure of and that are to be applied with them. Called before a group's changes are
    /// decided, so that a full disk refuses submissions before anything is changed; an earlier group may be on its
    /// way through [`Engine::apply`] meanwhile.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Full`]: there is no room; nothing was changed.
    fn reserve(&self, bytes: u64, promised: u64) -> Result<(), Error>;

    /// Whether [`Engine::reserve`] would promise `bytes` at once, and need not wait for the disk or for a group that is on
    /// its way. `false` says nothing about how much room there is.
    fn has_room(&self, bytes: u64) -> bool {
        let _at_once = bytes;
        true
    }

    /// Applies every change or none, and with [`Durability::Flushed`] returns once that is on the disk, and with
    /// it everything that was applied before. One caller at a time.
    ///
    /// # Errors
    /// - [`crate::ErrorKind::Invalid`]: a record or the whole is longer than allowed; nothing was applied.
    /// - [`crate::ErrorKind::Full`]: nothing was applied, and nothing of it will appear later.
    /// - [`crate::ErrorKind::Unavailable`]: unknown whether it was applied. The engine is poisoned: every later
    ///   write fails the same way until it is opened anew.
    fn apply(&self, writes: &WriteSet, durability: Durability) -> Result<(), Error>;

    /// As [`Engine::apply`], and gives what it has in memory of it anyway, for who reads it soon; `None` where it has
    /// nothing.
    ///
    /// # Errors
    /// As [`Engine::apply`].
    fn apply_kept(&self, writes: &WriteSet, durability: Durability) -> Result<Option<Kept>, Error> {
        self.apply(writes, durability).map(|()| None)
    }

    /// Its figures.
    fn stats(&self) -> EngineStats;

    /// What was found damaged, at opening and since. Empty on a healthy box.
    fn damage(&self) -> Vec<Damage>;

    /// Where the record under `key` is; `None` where there is none, or the engine cannot tell.
    fn locate(&self, key: Key) -> Option<Location> {
        let _untold = key;
        None
    }

    /// The head under `key` as it is stored, right or wrong: for telling people what a damaged record was about.
    fn peek(&self, key: Key) -> Option<Bytes> {
        let _untold = key;
        None
    }

    /// Its files, oldest first, where it can tell what is in each.
    fn files(&self) -> Vec<FileInfo> {
        Vec::new()
    }

    /// What opening dropped because a crash had left it unfinished.
    fn torn_tail(&self) -> Option<TornTail> {
        None
    }

    /// Flushes what was written and ends cleanly. Later writes fail with [`crate::ErrorKind::Closed`].
    ///
    /// # Errors
    /// [`crate::ErrorKind::Unavailable`] where the last flush failed.
    fn close(&self) -> Result<(), Error>;
}
