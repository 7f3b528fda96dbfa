//! The default engine: a segmented, append-only journal.
//!
//! Every apply becomes one group behind the last one: a table of its changes, the heads, the bodies, with checksums
//! over all of it. An index in memory leads from each key to its newest table entry. Nothing is ever changed in
//! place; the oldest segment is freed when nothing in it lives, and written over when another one is needed.
//! `docs/journal-format.md` has the bytes and the rules.
//!
//! Limits: 2^32 segments in a journal's life; a group of at most 1 GiB; one open file and about 200 bytes of memory
//! per segment; 16 or 24 bytes of memory per record where numbers ascend, up to twice that where they do not. The disk
//! holds at most about twice what lives, four segments, and the spare ones.

mod blocks;
mod damages;
mod disk;
mod format;
mod group;
#[cfg(target_os = "linux")]
mod host_blocks;
mod index;
mod look;
mod move_rest;
mod pool;
mod read;
mod read_many;
#[cfg(feature = "testing")]
pub(crate) mod recode;
mod recover;
mod replay;
mod reserve;
mod scan;
mod segment;
mod write;

#[cfg(test)]
pub(crate) mod tests;

use std::path::Path;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLockReadGuard};

use bytes::Bytes;

use self::damages::Damages;
use self::format::{SEGMENT_BYTES_MAX, SEGMENT_BYTES_MIN, segment_seed};
use self::look::{LookedAt, Unreadable};
use self::read::{ReadFault, read_entry, read_raw};
use self::segment::{FileName, LiveMap};
use self::write::{Shared, Writer};
use crate::engine::{
    Damage, Engine, EngineStats, FileInfo, Kept, Key, Location, Loss, Record, TornTail, Visit, WriteSet,
};
use crate::{Durability, Error, ErrorKind};

pub use self::disk::{BlockFile, Disk, DiskFile, HostDisk};
#[cfg(feature = "sled")]
pub(super) use self::disk::{create_folder_synced, free_bytes};

/// How a journal keeps its files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct JournalConfig {
    /// The size after which a segment is followed by another one, in bytes. Default 64 MiB; taken as at least
    /// 64 KiB and at most 1 GiB.
    pub segment_bytes: u64,
    /// How many freed segments are kept to be written over. Default 4.
    pub spare_segments_max: usize,
    /// A number that differs from journal to journal: bytes of another one never count in this one. Only used when
    /// the journal is created. Default 0; a box gives a random one.
    pub salt: u64,
}

impl Default for JournalConfig {
    fn default() -> Self {
        Self { segment_bytes: 64 * 1024 * 1024, spare_segments_max: 4, salt: 0 }
    }
}

/// A segmented, append-only journal with an index in memory.
#[derive(Debug)]
pub struct Journal {
    writer: Mutex<Writer>,
    shared: Shared,
    salt: u64,
    damages: Mutex<Damages>,
    torn_tail: Option<TornTail>,
    /// What the disk did not give, where it is only looked at.
    unreadable: Unreadable,
}

impl Journal {
    /// Opens the journal in `disk`'s folder, or creates it. The caller sees to it that nobody else has it open.
    ///
    /// # Errors
    /// - [`ErrorKind::Incompatible`]: another version of the format wrote it; nothing was changed.
    /// - [`ErrorKind::Unavailable`] or [`ErrorKind::Full`]: the disk failed; what is stored is as it was.
    ///
    /// Damage is no error: it is listed by [`Engine::damage`], and everything else can be used.
    pub fn open(disk: Arc<dyn Disk>, config: JournalConfig) -> Result<Self, Error> {
        let mut opened = replay::open(&*disk, config.salt)?;
        let segment_bytes = config.segment_bytes.clamp(SEGMENT_BYTES_MIN, SEGMENT_BYTES_MAX);
        let config = JournalConfig { segment_bytes, ..config };
        let damages = Mutex::new(std::mem::take(&mut opened.damages));
        let torn_tail = opened.torn_tail.take();
        let salt = opened.salt;
        let (writer, shared) = Writer::new(disk, config, opened);
        let unreadable = Unreadable::default();
        let journal = Self { writer: Mutex::new(writer), shared, salt, damages, torn_tail, unreadable };
        journal.damages().settle(|damage| journal.is_of_a_live_record(damage));
        Ok(journal)
    }

    /// Whether the damaged bytes are those of the record that its key leads to.
    fn is_of_a_live_record(&self, damage: &Damage) -> bool {
        let live = self.live();
        let Some(place) = damage.key.and_then(|key| live.place(key)) else { return false };
        let Some(segment) = live.segment(place.segment) else { return false };
        let seed = segment_seed(self.salt, u64::from(place.segment));
        FileName::Segment(place.segment).to_string() == damage.file
            && read_entry(&*segment.file, seed, place.at())
                .is_ok_and(|entry| [entry.head_at, entry.body_at].map(u64::from).contains(&damage.offset))
    }

    /// Opens the journal in `disk`'s folder only to be read: nothing is written, also not what opening usually tidies
    /// up, and every apply fails with [`ErrorKind::Closed`]. The caller sees to it that nobody writes meanwhile.
    ///
    /// # Errors
    /// As [`Journal::open`].
    pub fn look(disk: Arc<dyn Disk>) -> Result<Self, Error> {
        let unreadable = Unreadable::default();
        let disk = Arc::new(LookedAt::new(disk, unreadable.clone()));
        let mut journal = Self::open(disk, JournalConfig::default())?;
        journal.unreadable = unreadable;
        journal.writer().seal();
        Ok(journal)
    }

    /// Opens the journal in a folder of the host's, or creates it with the folders above.
    ///
    /// # Errors
    /// As [`Journal::open`].
    pub fn open_folder(folder: &Path, config: JournalConfig) -> Result<Self, Error> {
        Self::open(Arc::new(HostDisk::new(folder)), config)
    }

    fn writer(&self) -> MutexGuard<'_, Writer> {
        self.writer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn live(&self) -> RwLockReadGuard<'_, LiveMap> {
        self.shared.live.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn damages(&self) -> MutexGuard<'_, Damages> {
        self.damages.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads the record at the place that `key` led to a moment ago.
    fn read(&self, key: Key, file: &dyn DiskFile, segment: u32, at: u64) -> Result<Record, ReadFault> {
        let seed = segment_seed(self.salt, u64::from(segment));
        let entry = read_entry(file, seed, at)?;
        if entry.key != key {
            return Err(ReadFault::Mismatch("the record's table entry is another record's"));
        }
        let raw = read_raw(file, seed, &entry)?;
        match (raw.is_head_sound, raw.is_body_sound) {
            (true, true) => Ok(raw.record),
            (false, _) => Err(ReadFault::Mismatch("the record's head does not match its checksum")),
            (true, false) => Err(ReadFault::Mismatch("the record's body does not match its checksum")),
        }
    }
}

impl Engine for Journal {
    fn name(&self) -> &'static str {
        "journal"
    }

    fn recover(&self, visit: &mut Visit<'_>) -> Result<(), Error> {
        self.visit_all(visit)
    }

    fn get(&self, key: Key) -> Result<Option<Record>, Error> {
        loop {
            let (place, file) = {
                let live = self.live();
                let Some(place) = live.place(key) else { return Ok(None) };
                let Some(segment) = live.segment(place.segment) else { return Ok(None) };
                (place, segment.file.clone())
            };
            let fault = match self.read(key, &*file, place.segment, place.at()) {
                Ok(record) => return Ok(Some(record)),
                Err(fault) => fault,
            };
            // The record may have been replaced or moved while it was read, and its segment written over.
            if self.live().place(key) != Some(place) {
                continue;
            }
            let name = FileName::Segment(place.segment);
            return Err(match fault {
                ReadFault::Disk(error) => read_error(error, name).with("key", format_args!("{key:?}")),
                ReadFault::Mismatch(what) => {
                    let file = name.to_string();
                    let offset = place.at();
                    self.damages().add_record(Damage {
                        file,
                        offset,
                        bytes: u64::from(place.bytes),
                        key: Some(key),
                        what: what.to_owned(),
                        loss: Loss::Record,
                    });
                    self.shared.live_mut().set_damaged(place.segment);
                    Error::new(ErrorKind::Corrupt, "read a record")
                        .with("key", format_args!("{key:?}"))
                        .with("file", name)
                        .with("at", offset)
                }
            });
        }
    }

    fn get_many(&self, keys: &[Key]) -> Vec<Result<Option<Record>, Error>> {
        self.read_many(keys)
    }

    fn reserve(&self, bytes: u64, promised: u64) -> Result<(), Error> {
        if self.shared.take_credit(bytes) {
            return Ok(());
        }
        self.writer().reserve(&self.shared, bytes, promised)
    }

    fn has_room(&self, bytes: u64) -> bool {
        self.shared.has_credit(bytes)
    }

    fn apply(&self, writes: &WriteSet, durability: Durability) -> Result<(), Error> {
        self.apply_kept(writes, durability).map(drop)
    }

    fn apply_kept(&self, writes: &WriteSet, durability: Durability) -> Result<Option<Kept>, Error> {
        self.writer().apply(&self.shared, writes, durability)
    }

    fn stats(&self) -> EngineStats {
        let live = self.live();
        EngineStats {
            disk_bytes: live.file_bytes() + self.shared.spare_bytes.load(Ordering::Relaxed),
            records: live.records(),
            flushes: self.shared.flushes.load(Ordering::Relaxed),
        }
    }

    fn damage(&self) -> Vec<Damage> {
        let mut damages = self.damages().list().to_vec();
        let unreadable = self.unreadable.lock().unwrap_or_else(PoisonError::into_inner);
        damages.extend(unreadable.iter().map(|(file, offset)| Damage {
            file: file.clone(),
            offset: *offset,
            bytes: 0,
            key: None,
            what: "the disk does not give what is here".to_owned(),
            // What it costs is told by the records that miss it.
            loss: Loss::None,
        }));
        damages
    }

    fn locate(&self, key: Key) -> Option<Location> {
        let place = self.live().place(key)?;
        let file = FileName::Segment(place.segment).to_string();
        Some(Location { file, offset: place.at(), bytes: u64::from(place.bytes) })
    }

    fn peek(&self, key: Key) -> Option<Bytes> {
        let (place, file) = {
            let live = self.live();
            let place = live.place(key)?;
            (place, live.segment(place.segment)?.file.clone())
        };
        let seed = segment_seed(self.salt, u64::from(place.segment));
        let entry = read_entry(&*file, seed, place.at()).ok()?;
        Some(read_raw(&*file, seed, &entry).ok()?.record.head)
    }

    fn files(&self) -> Vec<FileInfo> {
        let live = self.live();
        let info = |(number, segment): (u32, &segment::Segment)| FileInfo {
            file: FileName::Segment(number).to_string(),
            bytes: segment.file_bytes,
            used_bytes: segment.end,
            records: segment.records,
        };
        live.segments().map(info).collect()
    }

    fn torn_tail(&self) -> Option<TornTail> {
        self.torn_tail.clone()
    }

    fn close(&self) -> Result<(), Error> {
        self.writer().close(&self.shared)
    }
}

fn read_error(error: std::io::Error, file: FileName) -> Error {
    Error::io("read the journal", error).as_kind(ErrorKind::Unavailable).with("file", file)
}
