//! The second engine: sled 0.34.7, made honest.
//!
//! What sled leaves undone is done here:
//! - Its `flush()` hands the data to the host and, on Linux, flushes nothing (`sync_file_range`). After it we flush
//!   the file `db` ourselves, through a handle of our own, before a flushed apply is answered.
//! - It never flushes its file `conf` or any folder. A new database is made under another name, flushed as a whole,
//!   and only then named `sled`; after every opening everything in the folder is flushed once.
//! - A page that is too long for its log it keeps as a file of its own in `blobs/`, which it may remove before what
//!   replaces it is flushed, and where one is missing its recovery leaves the page's last changes out without a word.
//!   So no page may become that long: longer values are cut into pieces, and segments are as large as sled allows.
//! - It writes over a segment once what replaced its content was handed to the host. As we flush later than that, no
//!   more may be written between two flushes than makes it go through a whole segment: long records go ahead of
//!   their group a few at a time, and what need not be flushed is, now and then.
//! - A snapshot that it did not finish (a kill or a full disk while it opened) it takes for the latest one, finds it
//!   damaged, and never opens again. So what bears the name of an unfinished one is removed first: the one before it
//!   is there until the next has its own name.
//! - A full disk leaves it broken: [`Engine::reserve`] wants much more room than asked for, and an apply that meets
//!   a full disk all the same poisons the engine.
//! - Where it fails in an unexpected way, or panics, the engine is poisoned and a new opening decides.
//!
//! Limits: sled's format is that of 0.34 for good; a group of more than about 6 MiB of short records in one apply may
//! go through a whole segment all the same, and a power cut in the midst of it may then cost older records; it keeps
//! up to 64 MiB of pages in memory and several times that while it writes large values; a database takes 16 MiB at
//! least; space is reused but seldom given back; a record costs the log its key, its value
//! and now and then its whole page; damage that sled finds in its own pages fails the whole call, as it cannot say
//! which records are concerned. A single process may open a folder.

use std::fs::{self, File};
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use crc32c::{crc32c, crc32c_append};

use self::changes::{Changes, Reach};
use super::journal::{create_folder_synced, free_bytes};
use super::{Damage, Engine, EngineStats, Key, Loss, Record, Visit, WriteSet};
use crate::{Durability, Error, ErrorKind};

mod changes;
#[cfg(feature = "testing")]
pub(crate) mod recode;
#[cfg(test)]
mod tests;

/// Free bytes wanted beyond what is asked for: sled's segments, and pages it writes again.
const FREE_BYTES_MIN: u64 = 64 * 1024 * 1024;
/// How much sled may write for a byte of payload.
const AMPLIFICATION: u64 = 4;
/// Pages kept in memory.
const CACHE_BYTES: u64 = 64 * 1024 * 1024;
/// The longest log segment that sled knows. A page of up to a quarter of it stays in the log.
const SEGMENT_BYTES: usize = 16 * 1024 * 1024;
/// Longer values are cut into pieces of so many bytes. A page holds some 20 values before it is split.
const PIECE_BYTES: usize = 132 * 1024;
/// After so many bytes what was written is flushed, asked for or not.
const UNFLUSHED_BYTES_MAX: usize = 2 * 1024 * 1024;
const KEY_BYTES: usize = 13;
/// How often, and how long after each other, a locked database is tried.
const LOCKED_TRIES: u32 = 100;
const LOCKED_PAUSE: Duration = Duration::from_millis(20);

/// A map of records in a sled database.
#[derive(Debug)]
pub struct Sled {
    /// `None` once closed: sled lets go of its files when the last handle goes.
    db: Mutex<Option<::sled::Db>>,
    folder: PathBuf,
    writer: Mutex<Writer>,
    /// Apart from the writer: who asks for room does not wait for a flush.
    state: Mutex<State>,
    records: AtomicU64,
    flushes: AtomicU64,
    damages: Mutex<Vec<Damage>>,
}

#[derive(Debug)]
struct Writer {
    /// Our own handle on sled's `db`.
    file: File,
    /// Bytes written since the last flush.
    unflushed: usize,
    reach: Reach,
}

#[derive(Debug)]
enum State {
    Open,
    Poisoned(Error),
    Closed,
}

impl Sled {
    /// Opens the database in `folder`, or creates it with the folders above.
    ///
    /// # Errors
    /// - [`ErrorKind::Locked`]: another process has it open.
    /// - [`ErrorKind::Corrupt`]: sled finds it damaged and does not open it.
    /// - [`ErrorKind::Unavailable`] or [`ErrorKind::Full`]: the disk failed; what is stored is as it was.
    pub fn open_folder(folder: &Path) -> Result<Self, Error> {
        let fault = |error| Error::io("open the sled database", error).with("folder", folder.display());
        let parent = folder.parent().unwrap_or(Path::new("."));
        create_folder_synced(parent).map_err(fault)?;
        if !folder.exists() {
            create_settled(folder, parent)?;
        }
        remove_unfinished_snapshots(folder).map_err(fault)?;
        let db = open_database(folder)?;
        sync_everything(folder).map_err(fault)?;
        let file = File::open(folder.join("db")).map_err(fault)?;
        let (records, reach) = guard("count the records", || count(&db))?;
        Ok(Self {
            db: Mutex::new(Some(db)),
            folder: folder.to_owned(),
            writer: Mutex::new(Writer { file, unflushed: 0, reach }),
            state: Mutex::new(State::Open),
            records: AtomicU64::new(records),
            flushes: AtomicU64::new(0),
            damages: Mutex::default(),
        })
    }

    fn writer(&self) -> MutexGuard<'_, Writer> {
        self.writer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn db(&self) -> Result<::sled::Db, Error> {
        let db = self.db.lock().unwrap_or_else(PoisonError::into_inner).clone();
        db.ok_or_else(|| Error::new(ErrorKind::Closed, "use the sled database"))
    }

    fn note(&self, key: Option<Key>, bytes: usize, what: &str) {
        let mut damages = self.damages.lock().unwrap_or_else(PoisonError::into_inner);
        if !damages.iter().any(|known| known.key == key) {
            tracing::error!(?key, bytes, "the sled database is damaged: {what}");
            let (file, bytes) = ("db".to_owned(), bytes as u64);
            let loss = if key.is_some() { Loss::Record } else { Loss::Unknown };
            damages.push(Damage { file, offset: 0, bytes, key, what: what.to_owned(), loss });
        }
    }

    fn write(&self, writer: &mut Writer, writes: &WriteSet, durability: Durability) -> Result<(), Error> {
        let db = self.db()?;
        let doing = "write to the sled database";
        let mut changes = guard(doing, || Changes::of(&db, &mut writer.reach, writes))?;
        let growth = changes.growth();
        for part in changes.parts_ahead() {
            guard(doing, || apply(&db, part))?;
            self.sync(writer)?;
        }
        writer.unflushed += changes.bytes();
        guard(doing, || apply(&db, changes))?;
        if durability == Durability::Flushed || writer.unflushed > UNFLUSHED_BYTES_MAX {
            self.sync(writer)?;
        }
        self.records
            .store(self.records.load(Ordering::Relaxed).saturating_add_signed(growth), Ordering::Relaxed);
        Ok(())
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn check(&self) -> Result<(), Error> {
        match &*self.state() {
            State::Open => Ok(()),
            State::Poisoned(cause) => Err(cause.clone()),
            State::Closed => Err(Error::new(ErrorKind::Closed, "write to the sled database")),
        }
    }

    fn poison(&self, error: Error) -> Error {
        let error = error.as_kind(ErrorKind::Unavailable);
        tracing::error!(%error, "the sled database takes no more writes until it is opened anew");
        *self.state() = State::Poisoned(error.clone());
        error
    }

    fn sync(&self, writer: &mut Writer) -> Result<(), Error> {
        self.flushes.fetch_add(1, Ordering::Relaxed);
        writer.unflushed = 0;
        writer.file.sync_data().map_err(|error| Error::io("flush the sled database", error))
    }
}

/// Applies all or nothing and hands it to the host: without that it would be in the process's memory only.
fn apply(db: &::sled::Db, changes: Changes) -> ::sled::Result<()> {
    db.apply_batch(changes.into_batch())?;
    db.flush().map(drop)
}

/// How many records there are, and how high their numbers reach. Pieces that a crash left without their first one are
/// removed.
fn count(db: &::sled::Db) -> ::sled::Result<(u64, Reach)> {
    let mut records = 0;
    let mut reach = Reach::default();
    let mut orphans = ::sled::Batch::default();
    let mut pieces = 0;
    // The record whose pieces come next, where it has any.
    let mut long: Option<::sled::IVec> = None;
    for entry in db.iter() {
        let (key, value) = entry?;
        if key.len() == KEY_BYTES {
            records += 1;
            if let Some(key) = key_of(&key) {
                reach.note(key);
            }
            long = (value.len() == PIECE_BYTES).then_some(key);
        } else if !long.as_ref().is_some_and(|first| key.starts_with(first)) {
            orphans.remove(key);
            pieces += 1;
        }
    }
    if pieces > 0 {
        tracing::warn!(pieces, "removed what a crash left of records that were never stored");
        db.apply_batch(orphans)?;
        db.flush()?;
    }
    Ok((records, reach))
}

/// Makes a new database under another name, flushes all of it, and gives it its name.
fn create_settled(folder: &Path, parent: &Path) -> Result<(), Error> {
    let mut made = folder.as_os_str().to_owned();
    made.push(".new");
    let made = PathBuf::from(made);
    let fault = |error| Error::io("create the sled database", error).with("folder", made.display());
    match fs::remove_dir_all(&made) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(fault(error)),
        _ => {}
    }
    let db = open_database(&made)?;
    guard("flush a new sled database", || db.flush())?;
    drop(db);
    sync_everything(&made).map_err(fault)?;
    fs::rename(&made, folder).and_then(|()| File::open(parent)?.sync_all()).map_err(fault)
}

/// Removes the snapshots that a killed or failed opening was still writing.
fn remove_unfinished_snapshots(folder: &Path) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name();
        if name.as_encoded_bytes().starts_with(b"snap.") && name.as_encoded_bytes().ends_with(b".generating")
        {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

/// Opens the database. sled's own threads may hold its lock for a moment after the last handle of a closed one is
/// gone, so a locked one is tried again for a while: whether another process has it, the box's own lock says.
#[expect(clippy::disallowed_methods, reason = "waits for threads of sled's that tell nobody when they end")]
fn open_database(folder: &Path) -> Result<::sled::Db, Error> {
    let config = ::sled::Config::new().path(folder).flush_every_ms(None).cache_capacity(CACHE_BYTES);
    let config = config.segment_size(SEGMENT_BYTES);
    let mut tries = 0;
    loop {
        match guard("open the sled database", || config.open()) {
            Err(error) if error.kind() == ErrorKind::Locked && tries < LOCKED_TRIES => {
                tries += 1;
                std::thread::sleep(LOCKED_PAUSE);
            }
            opened => return opened.map_err(|error| error.with("folder", folder.display())),
        }
    }
}

/// Flushes every file and folder of the database.
fn sync_everything(folder: &Path) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        match File::open(entry?.path()).and_then(|file| file.sync_all()) {
            // sled removed it meanwhile.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            other => other?,
        }
    }
    File::open(folder)?.sync_all()
}

/// Runs something of sled's; neither its errors nor its panics get through as they are.
fn guard<T>(doing: &'static str, run: impl FnOnce() -> ::sled::Result<T>) -> Result<T, Error> {
    match catch_unwind(AssertUnwindSafe(run)) {
        Ok(Ok(done)) => Ok(done),
        Ok(Err(::sled::Error::Io(error))) if error.to_string().contains("could not acquire lock") => {
            Err(Error::new(ErrorKind::Locked, doing).caused_by(error))
        }
        Ok(Err(::sled::Error::Io(error))) => Err(Error::io(doing, error)),
        Ok(Err(error @ ::sled::Error::Corruption { .. })) => {
            Err(Error::new(ErrorKind::Corrupt, doing).caused_by(error))
        }
        Ok(Err(error)) => Err(Error::new(ErrorKind::Unavailable, doing).caused_by(error)),
        Err(_) => Err(Error::new(ErrorKind::Unavailable, doing).with("cause", "sled panicked")),
    }
}

fn key_bytes(key: Key) -> [u8; KEY_BYTES] {
    let mut bytes = [key.family; KEY_BYTES];
    let (_, rest) = bytes.split_at_mut(1);
    let (number, part) = rest.split_at_mut(8);
    number.copy_from_slice(&key.number.to_be_bytes());
    part.copy_from_slice(&key.part.to_be_bytes());
    bytes
}

/// The key of a value's `piece`-th piece; the first is under the key itself.
fn piece_key(key: &[u8], piece: u16) -> ::sled::IVec {
    if piece == 0 {
        return key.into();
    }
    let mut bytes = key.to_vec();
    bytes.extend_from_slice(&piece.to_be_bytes());
    bytes.into()
}

/// The whole value that begins with `first`.
fn whole(db: &::sled::Db, key: Key, first: ::sled::IVec) -> ::sled::Result<::sled::IVec> {
    if first.len() != PIECE_BYTES {
        return Ok(first);
    }
    let mut value = first.to_vec();
    let mut piece = 0;
    while value.len() == (usize::from(piece) + 1) * PIECE_BYTES {
        piece += 1;
        match db.get(piece_key(&key_bytes(key), piece))? {
            Some(part) => value.extend_from_slice(&part),
            None => break,
        }
    }
    Ok(value.into())
}

fn key_of(bytes: &[u8]) -> Option<Key> {
    let (&[family], rest) = bytes.split_first_chunk::<1>()?;
    let (number, rest) = rest.split_first_chunk::<8>()?;
    let part = <[u8; 4]>::try_from(rest).ok()?;
    Some(Key::new(family, u64::from_be_bytes(*number), u32::from_be_bytes(part)))
}

/// Length of the head, head, body, and the CRC32C of key and all that.
fn value_bytes(key: Key, head: &[u8], body: &[u8]) -> Vec<u8> {
    let mut value = Vec::with_capacity(head.len() + body.len() + 8);
    value.extend_from_slice(&(head.len() as u32).to_le_bytes());
    value.extend_from_slice(head);
    value.extend_from_slice(body);
    let crc = crc32c_append(crc32c(&key_bytes(key)), &value);
    value.extend_from_slice(&crc.to_le_bytes());
    value
}

/// Head and body of a value, if it is what was stored under `key`.
fn value_of(key: Key, value: &[u8]) -> Option<(&[u8], &[u8])> {
    let (covered, crc) = value.split_last_chunk::<4>()?;
    if crc32c_append(crc32c(&key_bytes(key)), covered) != u32::from_le_bytes(*crc) {
        return None;
    }
    let (head_bytes, rest) = covered.split_first_chunk::<4>()?;
    rest.split_at_checked(u32::from_le_bytes(*head_bytes) as usize)
}

impl Engine for Sled {
    fn name(&self) -> &'static str {
        "sled"
    }

    fn recover(&self, visit: &mut Visit<'_>) -> Result<(), Error> {
        let db = self.db()?;
        let mut records = db.iter();
        let mut next = || guard("read the sled database", || records.next().transpose());
        let unavailable = |error: Error| error.as_kind(ErrorKind::Unavailable);
        while let Some((name, first)) = next().map_err(unavailable)? {
            if name.len() == KEY_BYTES + 2 {
                continue;
            }
            let Some(key) = key_of(&name) else {
                self.note(None, first.len(), "a key that is none of ours");
                continue;
            };
            let value = guard("read the sled database", || whole(&db, key, first)).map_err(unavailable)?;
            match value_of(key, &value) {
                Some((head, _)) => visit(key, head)?,
                None => self.note(Some(key), value.len(), "the record does not match its checksum"),
            }
        }
        Ok(())
    }

    fn get(&self, key: Key) -> Result<Option<Record>, Error> {
        let db = self.db()?;
        loop {
            let first = guard("read the sled database", || db.get(key_bytes(key)))?;
            let Some(first) = first else { return Ok(None) };
            let value = guard("read the sled database", || whole(&db, key, first.clone()))?;
            if let Some((head, body)) = value_of(key, &value) {
                let (head, body) = (Bytes::copy_from_slice(head), Bytes::copy_from_slice(body));
                return Ok(Some(Record { head, body }));
            }
            // The record may have been replaced between two of its pieces.
            if guard("read the sled database", || db.get(key_bytes(key)))? != Some(first) {
                continue;
            }
            self.note(Some(key), value.len(), "the record does not match its checksum");
            return Err(Error::new(ErrorKind::Corrupt, "read a record").with("key", format_args!("{key:?}")));
        }
    }

    fn reserve(&self, bytes: u64, promised: u64) -> Result<(), Error> {
        self.check()?;
        let wanted =
            bytes.saturating_add(promised).saturating_mul(AMPLIFICATION).saturating_add(FREE_BYTES_MIN);
        match free_bytes(&self.folder) {
            Ok(free) if free < wanted => Err(Error::new(ErrorKind::Full, "secure room on the disk")
                .with("free_bytes", free)
                .with("wanted_bytes", wanted)),
            _ => Ok(()),
        }
    }

    fn apply(&self, writes: &WriteSet, durability: Durability) -> Result<(), Error> {
        super::check_sizes(writes)?;
        let mut writer = self.writer();
        self.check()?;
        self.write(&mut writer, writes, durability).map_err(|error| self.poison(error))
    }

    fn stats(&self) -> EngineStats {
        EngineStats {
            disk_bytes: self
                .db()
                .and_then(|db| guard("measure the sled database", || db.size_on_disk()))
                .unwrap_or_default(),
            records: self.records.load(Ordering::Relaxed),
            flushes: self.flushes.load(Ordering::Relaxed),
        }
    }

    fn damage(&self) -> Vec<Damage> {
        self.damages.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn close(&self) -> Result<(), Error> {
        let mut writer = self.writer();
        match &*self.state() {
            State::Closed => return Ok(()),
            State::Poisoned(cause) => return Err(cause.clone()),
            State::Open => {}
        }
        let db = self.db()?;
        let flushed = guard("flush the sled database", || db.flush().map(drop));
        flushed.and_then(|()| self.sync(&mut writer)).map_err(|error| self.poison(error))?;
        *self.state() = State::Closed;
        self.db.lock().unwrap_or_else(PoisonError::into_inner).take();
        Ok(())
    }
}
