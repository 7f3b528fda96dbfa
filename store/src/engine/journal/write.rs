//! The one writer: appending groups, flushing, going on to the next segment, and what a full disk means.

use std::io::{self, IoSlice};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock, RwLockWriteGuard};

use super::JournalConfig;
use super::blocks::{Blocks, Landed};
use super::disk::{Disk, DiskFile};
use super::format::{ENTRY_BYTES, GROUP_HEADER_BYTES, GroupKind, SEGMENT_START, SegmentHeader};
use super::group::{Change, Encoded, GroupPlace, GroupSize};
use super::index::Place;
use super::move_rest::Mover;
use super::pool::Pool;
use super::replay::{Opened, Spare};
use super::reserve::{FREE_BYTES_MIN, is_full, secure_to};
use super::segment::{FileName, LiveMap, Segment};
use crate::engine::{Kept, WriteSet};
use crate::{Durability, Error, ErrorKind};

/// The segment being written.
#[derive(Debug)]
pub(super) struct Current {
    pub(super) number: u32,
    pub(super) file: Arc<dyn DiskFile>,
    /// Where the next group goes.
    pub(super) position: u64,
    /// Up to here the file has blocks on the disk already.
    pub(super) secured: u64,
    /// How it is written past the host's cache, where the host can.
    pub(super) blocks: Option<Blocks>,
}

/// Whether a full disk's ballast may be used up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ballast {
    /// No: room is only being promised.
    Kept,
    /// Yes: a group has to be written.
    Used,
}

#[derive(Debug)]
enum State {
    Open,
    Poisoned(Error),
    Closed,
}

/// What only the writer knows. One at a time holds it.
#[derive(Debug)]
pub(super) struct Writer {
    pub(super) disk: Arc<dyn Disk>,
    pub(super) config: JournalConfig,
    pub(super) salt: u64,
    pub(super) spares: Vec<Spare>,
    /// A small spare segment that is kept for a full disk: room for completions, which then free more.
    ballast: Option<Spare>,
    pub(super) mover: Mover,
    pub(super) current: Option<Current>,
    /// The newest segment that is no longer written, and where its groups end.
    last: Option<(u32, u64)>,
    next_segment: u32,
    pub(super) next_record: u64,
    /// Every group with a lower number is on the disk.
    flushed_below: u64,
    state: State,
    /// The disk was full: room is secured by writing before it is promised.
    pub(super) is_cautious: bool,
    /// What readers of [`Shared`] may promise themselves.
    pub(super) credit: Arc<AtomicU64>,
    pool: Pool,
}

/// A group that was written.
#[derive(Debug)]
pub(super) struct Written {
    pub(super) segment: u32,
    pub(super) at: u64,
    kept: Kept,
}

/// What the writer shares with readers.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) live: RwLock<LiveMap>,
    pub(super) flushes: AtomicU64,
    pub(super) spare_bytes: AtomicU64,
    /// Bytes that may still be promised before the file system is asked again. None while the writer is cautious.
    pub(super) credit: Arc<AtomicU64>,
}

impl Shared {
    pub(super) fn live_mut(&self) -> RwLockWriteGuard<'_, LiveMap> {
        self.live.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Writer {
    /// The writer after an opening that found `opened`, and what it shares.
    pub(super) fn new(disk: Arc<dyn Disk>, config: JournalConfig, opened: Opened) -> (Self, Shared) {
        let is_small = |spare: &Spare| spare.file_bytes < config.segment_bytes / 2;
        let (mut small, mut spares): (Vec<_>, Vec<_>) = opened.spares.into_iter().partition(is_small);
        small.sort_by_key(|spare| spare.file_bytes);
        let ballast = small.pop();
        // Left by crashes: they are used up first.
        spares.append(&mut small);
        let writer = Self {
            disk,
            config,
            salt: opened.salt,
            spares,
            ballast,
            mover: Mover::default(),
            current: None,
            last: opened.last,
            next_segment: opened.next_segment,
            next_record: opened.next_record,
            flushed_below: opened.next_record,
            state: State::Open,
            is_cautious: false,
            credit: Arc::default(),
            pool: Pool::default(),
        };
        let shared = Shared {
            live: RwLock::new(opened.live),
            flushes: AtomicU64::new(0),
            spare_bytes: AtomicU64::new(0),
            credit: writer.credit.clone(),
        };
        writer.count_spares(&shared);
        (writer, shared)
    }

    pub(super) fn count_spares(&self, shared: &Shared) {
        let bytes = self.spares.iter().chain(&self.ballast).map(|spare| spare.file_bytes).sum();
        shared.spare_bytes.store(bytes, Ordering::Relaxed);
    }

    pub(super) fn check(&self) -> Result<(), Error> {
        match &self.state {
            State::Open => Ok(()),
            State::Poisoned(cause) => Err(cause.clone()),
            State::Closed => Err(Error::new(ErrorKind::Closed, "write to the journal")),
        }
    }

    /// Makes every later write fail, because what is on the disk is no longer known.
    pub(super) fn poison(&mut self, error: Error) -> Error {
        let error = error.as_kind(ErrorKind::Unavailable);
        tracing::error!(%error, "the journal takes no more writes until it is opened anew");
        self.credit.store(0, Ordering::Relaxed);
        self.state = State::Poisoned(error.clone());
        error
    }

    /// The disk is full, or nearly: nothing is promised any more that is not secured.
    pub(super) fn be_cautious(&mut self) {
        self.is_cautious = true;
        self.credit.store(0, Ordering::Relaxed);
    }

    /// A full disk leaves the journal as it is; any other failure poisons it.
    pub(super) fn fail(&mut self, error: Error) -> Error {
        if error.kind() == ErrorKind::Full { error } else { self.poison(error) }
    }

    /// Applies every change or none; see [`crate::engine::Engine::apply_kept`].
    pub(super) fn apply(
        &mut self,
        shared: &Shared,
        writes: &WriteSet,
        durability: Durability,
    ) -> Result<Option<Kept>, Error> {
        self.check()?;
        let changes = || writes.iter().map(Change::from);
        let written = if writes.is_empty() {
            None
        } else {
            Some(self.append(shared, GroupKind::Changes, durability, changes)?)
        };
        if durability == Durability::Flushed {
            self.flush(shared)?;
        }
        if let Some(Written { segment, at, .. }) = written {
            publish(&mut shared.live_mut(), segment, at, changes());
        }
        if durability == Durability::Flushed {
            self.drop_dead(shared);
            self.move_rest(shared, writes.payload_bytes());
        }
        Ok(written.map(|written| written.kept))
    }

    /// Writes a group behind the last one. It is not published, and may not be flushed yet even where `durability` asks
    /// for that.
    pub(super) fn append<'a, I>(
        &mut self,
        shared: &Shared,
        kind: GroupKind,
        durability: Durability,
        changes: impl Fn() -> I,
    ) -> Result<Written, Error>
    where
        I: Iterator<Item = Change<'a>>,
    {
        let size = GroupSize::of(changes())?;
        loop {
            if kind != GroupKind::Closing && self.must_roll(size.group_bytes) {
                self.roll(shared, size.group_bytes, Ballast::Used)?;
            }
            match self.write_group(shared, (kind, durability), size, changes()) {
                // A spare segment has its room already: the next round goes on to it.
                Err(error)
                    if error.kind() == ErrorKind::Full
                        && kind != GroupKind::Closing
                        && !self.spares.is_empty() => {}
                other => return other,
            }
        }
    }

    fn write_group<'a>(
        &mut self,
        shared: &Shared,
        (kind, durability): (GroupKind, Durability),
        size: GroupSize,
        changes: impl Iterator<Item = Change<'a>>,
    ) -> Result<Written, Error> {
        let Some(current) = &mut self.current else {
            return Err(Error::new(ErrorKind::Unavailable, "find the segment being written"));
        };
        let (segment, at) = (current.number, current.position);
        // On a full disk nothing is given away, and of a closing mark half has to be enough.
        let fills = !self.is_cautious && kind != GroupKind::Closing;
        let size = if fills { current.size_in_blocks(size) } else { size };
        let place = GroupPlace {
            salt: self.salt,
            segment,
            at,
            record: self.next_record,
            flushed_below: self.flushed_below,
            kind,
            aligned_to: current.block_bytes(),
        };
        let encoded = Encoded::new(&self.pool, place, size, changes);
        // Only a group with nothing unflushed before it lasts by being written so.
        let is_alone = self.flushed_below == self.next_record;
        let landed = match current.write(encoded.bytes(), durability, is_alone) {
            Ok(landed) => landed,
            Err(error) => {
                let is_gone = current.wipe(size.group_bytes);
                let error =
                    Error::io("write a group to the journal", error).with("segment", segment).with("at", at);
                if error.kind() == ErrorKind::Full {
                    tracing::warn!(%error, "the disk is full");
                    self.be_cautious();
                }
                return Err(if is_gone { self.fail(error) } else { self.poison(error) });
            }
        };
        current.position += size.group_bytes;
        current.secured = current.secured.max(current.position);
        self.next_record += 1;
        if landed == Landed::Synced {
            self.flushed_below = self.next_record;
            shared.flushes.fetch_add(1, Ordering::Relaxed);
        }
        shared.live_mut().extend_segment(segment, current.position, current.secured);
        Ok(Written { segment, at, kept: encoded.into_kept() })
    }

    /// Makes every group written so far last.
    pub(super) fn flush(&mut self, shared: &Shared) -> Result<(), Error> {
        let Some(current) = &self.current else { return Ok(()) };
        if self.flushed_below == self.next_record {
            return Ok(());
        }
        shared.flushes.fetch_add(1, Ordering::Relaxed);
        let synced = if crate::mutant::is("skipped-flush") { Ok(()) } else { current.file.sync_data() };
        match synced {
            Err(_) if crate::mutant::is("failed-flush-passes") => Ok(()),
            Ok(()) => {
                self.flushed_below = self.next_record;
                Ok(())
            }
            Err(error) => Err(self.poison(Error::io("flush the journal", error))),
        }
    }

    /// Whether the segment being written has no place for so many bytes more.
    pub(super) fn is_at_end(&self, bytes: u64) -> bool {
        let Some(current) = &self.current else { return true };
        let end = current.position.saturating_add(bytes);
        current.position > SEGMENT_START && end > self.config.segment_bytes
    }

    /// Whether a group of so many bytes belongs into another segment: at this one's end, or, on a full disk, where
    /// only a spare one has room for it.
    fn must_roll(&self, bytes: u64) -> bool {
        let has_spare = self.is_cautious && !self.spares.is_empty();
        (self.is_at_end(bytes) || has_spare) && !self.is_secured(bytes)
    }

    /// Whether what was secured on a full disk has a place for so many bytes.
    pub(super) fn is_secured(&self, bytes: u64) -> bool {
        let fits = |current: &Current| current.position.saturating_add(bytes) <= current.secured;
        self.is_cautious && self.current.as_ref().is_some_and(fits)
    }

    /// The number of the segment being written.
    pub(super) fn current_number(&self) -> Option<u32> {
        self.current.as_ref().map(|current| current.number)
    }

    /// Room that is secured beyond what is asked for, so that small groups (completions) still fit on a full disk:
    /// enough to finish what a segment or so holds, and so to free it.
    pub(super) fn extra_bytes(&self) -> u64 {
        (self.config.segment_bytes / 4).min(256 * 1024).max(self.config.segment_bytes / 8)
    }

    /// Goes on to a new segment, which after a full disk has `bytes` and the extra room from the start. Where there
    /// is no room for it, nothing is changed: the room secured in the old one is still there.
    pub(super) fn roll(&mut self, shared: &Shared, bytes: u64, ballast: Ballast) -> Result<(), Error> {
        // The header of the next segment vouches for everything before it.
        self.flush(shared)?;
        let current = match self.next_segment(shared, bytes, ballast) {
            Ok(current) => current,
            Err(error) => return Err(self.fail(error)),
        };
        self.count_spares(shared);
        let segment = Segment::new(current.file.clone(), current.position, current.secured);
        shared.live_mut().add_segment(current.number, segment);
        self.last = Some((current.number, current.position));
        self.next_segment = current.number.saturating_add(1);
        self.current = Some(current);
        if self.is_cautious {
            let wanted = self.config.segment_bytes.saturating_mul(2).saturating_add(FREE_BYTES_MIN);
            self.is_cautious = self.disk.free_bytes().is_ok_and(|free| free < wanted);
        }
        if self.ballast.is_none() && self.has_room_for_ballast() {
            match self.make_ballast() {
                Ok(ballast) => self.ballast = Some(ballast),
                // Then there is none: it is no reason to refuse what there is room for, with what it took.
                Err(error) if is_full(&error) => {
                    let _ = self.disk.remove(&FileName::Spare(0).to_string());
                }
                Err(error) => return Err(self.poison(Error::io("put room aside for a full disk", error))),
            }
        }
        self.count_spares(shared);
        Ok(())
    }

    /// A file for the next segment: a spare one, a new one, or on a full disk the ballast.
    fn next_segment(&mut self, shared: &Shared, bytes: u64, ballast: Ballast) -> Result<Current, Error> {
        if let Some(spare) = self.spares.pop() {
            let made = self.make_segment(shared, Some(&spare), if self.is_cautious { bytes } else { 0 });
            if made.is_err() {
                self.spares.push(spare);
            }
            return made;
        }
        let room = if self.is_cautious { bytes.saturating_add(self.extra_bytes()) } else { 0 };
        let error = match self.make_segment(shared, None, room) {
            Err(error) if error.kind() == ErrorKind::Full => error,
            made => return made,
        };
        self.be_cautious();
        // Gives back what it took. If it cannot be removed, the next attempt empties it.
        let _ = self.disk.remove(&FileName::New(self.next_segment).to_string());
        if ballast == Ballast::Kept {
            return Err(error);
        }
        let Some(ballast) = self.ballast.take() else { return Err(error) };
        let made = self.make_segment(shared, Some(&ballast), bytes);
        if made.is_err() {
            self.ballast = Some(ballast);
        }
        made
    }

    fn has_room_for_ballast(&self) -> bool {
        !self.is_cautious || self.disk.free_bytes().is_ok_and(|free| free / 4 >= self.extra_bytes())
    }

    /// Puts room aside for a full disk.
    fn make_ballast(&self) -> io::Result<Spare> {
        let name = FileName::Spare(0);
        let file = self.disk.create(&name.to_string())?;
        let mut file_bytes = 0;
        secure_to(&*file, &mut file_bytes, SEGMENT_START.saturating_add(self.extra_bytes()))?;
        file.sync_data()?;
        self.disk.sync_folder()?;
        Ok(Spare { name, file_bytes })
    }

    fn make_segment(&self, shared: &Shared, spare: Option<&Spare>, room: u64) -> Result<Current, Error> {
        let number = self.next_segment;
        if number == u32::MAX {
            return Err(Error::new(ErrorKind::Unavailable, "number another segment"));
        }
        let (previous, previous_end) = match &self.current {
            Some(current) => (current.number, current.position),
            None => self.last.unwrap_or_default(),
        };
        let header = SegmentHeader {
            salt: self.salt,
            number: u64::from(number),
            first_record: self.next_record,
            previous: u64::from(previous),
            previous_end,
        };
        let made = spare.map_or(FileName::New(number), |spare| spare.name).to_string();
        let name = FileName::Segment(number).to_string();
        let fault = |doing, error| Error::io(doing, error).with("file", &made);
        let file = match spare {
            Some(_) => self.disk.open(&made).map_err(|error| fault("open a spare segment", error))?,
            None => self.disk.create(&made).map_err(|error| fault("create a segment", error))?,
        };
        let blocks = Blocks::open(&*self.disk, &made, spare.map(|spare| spare.file_bytes));
        file.write_all_at(&mut [IoSlice::new(&header.encode())], 0)
            .map_err(|error| fault("write a segment's header", error))?;
        let mut secured = spare.map_or(SEGMENT_START, |spare| spare.file_bytes.max(SEGMENT_START));
        secure_to(&*file, &mut secured, SEGMENT_START.saturating_add(room))
            .map_err(|error| fault("secure room in a segment", error))?;
        // Only a file with a whole header is ever called a segment.
        shared.flushes.fetch_add(1, Ordering::Relaxed);
        file.sync_data().map_err(|error| fault("flush a segment's header", error))?;
        self.disk.rename(&made, &name).map_err(|error| {
            let error = fault("name a segment", error);
            // If the file has its new name all the same, it says where the segment before it ends: nothing may be
            // written there any more.
            let is_unchanged =
                self.disk.list().is_ok_and(|names| names.contains(&made) && !names.contains(&name));
            if is_unchanged { error } else { error.as_kind(ErrorKind::Unavailable) }
        })?;
        // After the rename a failure leaves it open which name will last: that is no full disk any more.
        if crate::mutant::is("folder-not-flushed") {
            return Ok(Current { number, file, position: SEGMENT_START, secured, blocks });
        }
        self.disk.sync_folder().map_err(|error| {
            Error::io("flush the journal's folder", error).as_kind(ErrorKind::Unavailable)
        })?;
        Ok(Current { number, file, position: SEGMENT_START, secured, blocks })
    }

    /// Frees the oldest segments while nothing lives in them. Only after a flush: what killed them must last.
    pub(super) fn drop_dead(&mut self, shared: &Shared) {
        loop {
            let (number, file_bytes, is_damaged) = {
                let live = shared.live.read().unwrap_or_else(PoisonError::into_inner);
                match live.oldest_of_several() {
                    Some((number, segment))
                        if segment.records == 0
                            || (segment.records < 3 && crate::mutant::is("wrong-recycle-check")) =>
                    {
                        (number, segment.file_bytes, segment.is_damaged)
                    }
                    _ => break,
                }
            };
            let from = FileName::Segment(number).to_string();
            // Files much shorter or longer than a segment are not worth keeping.
            let is_spare = self.spares.len() < self.config.spare_segments_max
                && file_bytes >= self.config.segment_bytes / 2
                && file_bytes <= self.config.segment_bytes.saturating_mul(2);
            let renamed = if is_damaged {
                self.disk.rename(&from, &FileName::Damaged(number).to_string())
            } else if is_spare {
                self.disk.rename(&from, &FileName::Spare(number).to_string())
            } else {
                self.disk.remove(&from)
            };
            // One at a time, in order: a segment's deletes must not go before the records they delete.
            if renamed.as_ref().is_err_and(is_full) {
                break;
            }
            if let Err(error) = renamed.and_then(|()| self.disk.sync_folder()) {
                // The apply that brought us here is on the disk already; only the next one is told.
                self.poison(Error::io("free a segment", error).with("file", from));
                break;
            }
            if is_spare && !is_damaged {
                self.spares.push(Spare { name: FileName::Spare(number), file_bytes });
            }
            shared.live_mut().remove_segment(number);
        }
        self.count_spares(shared);
    }

    /// Whether writes are taken.
    pub(super) const fn is_open(&self) -> bool {
        matches!(self.state, State::Open)
    }

    /// Takes no writes from the beginning.
    pub(super) fn seal(&mut self) {
        self.credit.store(0, Ordering::Relaxed);
        self.state = State::Closed;
    }

    /// Flushes, marks the journal as closed cleanly, and takes no more writes.
    pub(super) fn close(&mut self, shared: &Shared) -> Result<(), Error> {
        match &self.state {
            State::Closed => return Ok(()),
            State::Poisoned(cause) => return Err(cause.clone()),
            State::Open => {}
        }
        self.flush(shared)?;
        if self.current.is_some() {
            self.write_closing_mark(shared)?;
        }
        self.credit.store(0, Ordering::Relaxed);
        self.state = State::Closed;
        Ok(())
    }

    fn write_closing_mark(&mut self, shared: &Shared) -> Result<(), Error> {
        match self.append(shared, GroupKind::Closing, Durability::Flushed, std::iter::empty) {
            Ok(_) => self.flush(shared),
            // Everything else is flushed; without the mark the next opening looks closer at the last group.
            Err(error) if error.kind() == ErrorKind::Full => Ok(()),
            Err(error) => Err(error),
        }
    }
}

/// Makes a group that was written visible to readers.
pub(super) fn publish<'a>(
    live: &mut LiveMap,
    segment: u32,
    group_at: u64,
    changes: impl Iterator<Item = Change<'a>>,
) {
    let mut at = group_at + GROUP_HEADER_BYTES as u64;
    for change in changes {
        match change {
            Change::Put { key, head, body, .. } => {
                let bytes = (ENTRY_BYTES + head.len() + body.len()) as u32;
                live.put(key, Place::new(segment, at, bytes));
            }
            Change::Delete { key } => live.remove(key),
            Change::DeleteNumbers { family, first, count } => {
                live.remove_numbers(family, first..first.saturating_add(u64::from(count)));
            }
            Change::DeleteBelow { family, number } => live.remove_numbers(family, 0..number),
        }
        at += ENTRY_BYTES as u64;
    }
}
