//! Moving the live rest of the oldest segment forward, so that the disk used stays in proportion to what lives.
//!
//! Only the oldest segment is ever freed (then no delete need outlive the record it deletes), so one old record can
//! pin everything behind it. Once too much of the disk is dead, the records that live in the oldest segment are put
//! again at the front, a bounded amount with every flushed apply; the next flush makes that last, and the segment is
//! freed. Going round like this writes at most about as much again as was written.

use std::collections::VecDeque;
use std::sync::{Arc, PoisonError};

use super::disk::DiskFile;
use super::format::{ENTRY_BYTES, EntryKind, GroupKind, TableEntry, segment_seed};
use super::group::Change;
use super::index::Place;
use super::read::{Raw, ReadFault, read_entry, read_raw};
use super::read_many::{RUN_BYTES_MAX, follows_upto, read_run};
use super::segment::LiveMap;
use super::write::{Shared, Writer, Written, publish};
use crate::engine::Key;
use crate::{Durability, Error, ErrorKind};

/// Moved with one apply, at least.
const MOVED_BYTES: usize = 256 * 1024;
/// Records moved with one apply, at most.
const MOVED_RECORDS_MAX: usize = 4096;
/// Moves tried, one after the other, to free a segment on a full disk.
const RECLAIM_ROUNDS: usize = 16;
/// Segments' worth of dead bytes that are left alone.
const SLACK_SEGMENTS: u64 = 4;

/// How far the move of the oldest segment has come.
#[derive(Debug, Default)]
pub(super) struct Mover {
    under_way: Option<UnderWay>,
    /// A segment that could not be emptied; it is left alone until the next opening.
    given_up: Option<u32>,
}

#[derive(Debug)]
struct UnderWay {
    segment: u32,
    file: Arc<dyn DiskFile>,
    /// What lived there when the move began, in the order in which it stands there, and is not moved yet.
    rest: VecDeque<(Key, Place)>,
}

struct Moved {
    key: Key,
    raw: Raw,
}

/// The oldest segment, where its live rest should be moved.
fn worth_moving(live: &LiveMap, segment_bytes: u64) -> Option<u32> {
    let (number, oldest) = live.oldest_of_several()?;
    let slack = SLACK_SEGMENTS.saturating_mul(segment_bytes);
    let is_mostly_dead = oldest.live_bytes <= oldest.end / 4;
    let factor = if is_mostly_dead { 1 } else { 2 };
    let bound = live.live_bytes().saturating_mul(factor).saturating_add(slack);
    (oldest.records > 0 && live.end_bytes() > bound).then_some(number)
}

impl Writer {
    /// Moves some of the oldest segment's live rest forward, where that is worth it. `applied` is the payload of
    /// the apply it comes with, in bytes: larger ones move more along.
    ///
    /// Whatever goes wrong here costs nobody anything yet: the records are still where they were.
    pub(super) fn move_rest(&mut self, shared: &Shared, applied: usize) {
        let budget =
            MOVED_BYTES.max(applied).min(usize::try_from(self.room_for_move()).unwrap_or(usize::MAX));
        if !self.is_open() || !self.take_up_move(shared) {
            return;
        }
        let Some(mut under_way) = self.mover.under_way.take() else { return };
        let moved = match collect(&mut under_way, shared, self.salt, budget) {
            Ok(moved) => moved,
            Err(error) => {
                tracing::error!(%error, segment = under_way.segment, "a segment cannot be emptied");
                self.mover.given_up = Some(under_way.segment);
                return;
            }
        };
        if moved.is_empty() {
            self.end_move(shared, under_way.segment);
            return;
        }
        let changes = || {
            moved.iter().map(|moved| Change::Put {
                key: moved.key,
                head: &moved.raw.record.head,
                body: &moved.raw.record.body,
                is_head_damaged: !moved.raw.is_head_sound,
                is_body_damaged: !moved.raw.is_body_sound,
            })
        };
        match self.append(shared, GroupKind::Moved, Durability::Written, changes) {
            Ok(Written { segment, at, .. }) => {
                publish(&mut shared.live_mut(), segment, at, changes());
                self.mover.under_way = Some(under_way);
            }
            // What was taken out is met again by a new move, once there is room.
            Err(error) if error.kind() == ErrorKind::Full => {}
            Err(_) => self.mover.given_up = Some(under_way.segment),
        }
    }

    /// Frees what can be freed without any new group, since on a full disk none may come: what was moved away is made
    /// last, what is dead goes, and what little lives in the oldest segment is moved on. True where a segment went.
    pub(super) fn reclaim(&mut self, shared: &Shared) -> Result<bool, Error> {
        let oldest = || {
            let live = shared.live.read().unwrap_or_else(PoisonError::into_inner);
            live.oldest_of_several().map(|(number, _)| number)
        };
        let before = oldest();
        for _ in 0..RECLAIM_ROUNDS {
            self.flush(shared)?;
            self.drop_dead(shared);
            self.check()?;
            let record = self.next_record;
            if oldest() != before {
                return Ok(true);
            }
            self.move_rest(shared, 0);
            self.check()?;
            if self.next_record == record {
                break;
            }
        }
        Ok(oldest() != before)
    }

    fn take_up_move(&mut self, shared: &Shared) -> bool {
        let live = shared.live.read().unwrap_or_else(PoisonError::into_inner);
        let Some(number) = worth_moving(&live, self.config.segment_bytes) else { return false };
        if self.mover.given_up == Some(number) || self.current_number() == Some(number) {
            return false;
        }
        if self.mover.under_way.as_ref().is_some_and(|under_way| under_way.segment == number) {
            return true;
        }
        let Some(segment) = live.segment(number) else { return false };
        // Short of room, only a move that frees the segment with what there is left is worth beginning.
        let rest = segment.live_bytes.saturating_add(segment.records.saturating_mul(ENTRY_BYTES as u64));
        if rest > self.room_for_move() {
            return false;
        }
        self.mover.under_way = Some(UnderWay {
            segment: number,
            file: segment.file.clone(),
            rest: live.records_in(number).into(),
        });
        true
    }

    fn end_move(&mut self, shared: &Shared, number: u32) {
        let live = shared.live.read().unwrap_or_else(PoisonError::into_inner);
        // What lives there still cannot be read.
        if live.segment(number).is_some_and(|segment| segment.records > 0) {
            tracing::error!(segment = number, "a segment cannot be emptied: not all of it can be read");
            self.mover.given_up = Some(number);
        }
    }
}

/// Reads the next records that live in the segment: nothing once there are none that can be read.
fn collect(
    under_way: &mut UnderWay,
    shared: &Shared,
    salt: u64,
    budget: usize,
) -> std::io::Result<Vec<Moved>> {
    let seed = segment_seed(salt, u64::from(under_way.segment));
    let mut moved: Vec<Moved> = Vec::new();
    while moved.is_empty() && !under_way.rest.is_empty() {
        let next = next_live(under_way, shared, budget);
        for run in next.chunk_by(follows_upto(RUN_BYTES_MAX)) {
            let together = read_run(&*under_way.file, seed, run).unwrap_or_default();
            for (found, record) in run.iter().zip(together.into_iter().chain(std::iter::repeat(None))) {
                let raw = match record {
                    Some(record) => Some(Raw { record, is_head_sound: true, is_body_sound: true }),
                    None => read_alone(&*under_way.file, seed, found)?,
                };
                moved.extend(raw.map(|raw| Moved { key: found.0, raw }));
            }
        }
    }
    Ok(moved)
}

/// Takes out the next records that live there still, at most so many bytes and at least one.
fn next_live(under_way: &mut UnderWay, shared: &Shared, budget: usize) -> Vec<(Key, Place)> {
    let live = shared.live.read().unwrap_or_else(PoisonError::into_inner);
    let (mut next, mut bytes) = (Vec::new(), 0);
    while bytes < budget && next.len() < MOVED_RECORDS_MAX {
        let Some((key, place)) = under_way.rest.pop_front() else { break };
        if live.place(key) == Some(place) {
            bytes += place.bytes as usize;
            next.push((key, place));
        }
    }
    next
}

/// A record, however damaged. `None` where not even its table entry can be read.
fn read_alone(file: &dyn DiskFile, seed: u32, (key, place): &(Key, Place)) -> std::io::Result<Option<Raw>> {
    match read_entry(file, seed, place.at()) {
        Ok(entry) if entry.key == *key && entry.kind == EntryKind::Put => {
            read_raw(file, seed, &entry).map(Some)
        }
        Err(ReadFault::Disk(error)) => Err(error),
        Ok(_) | Err(ReadFault::Mismatch(_)) => Ok(None),
    }
}

/// Whether the record that `entry` stores is the one its key leads to.
pub(super) fn lives_at(live: &LiveMap, segment: u32, at: u64, entry: &TableEntry) -> bool {
    entry.kind == EntryKind::Put
        && live.place(entry.key).is_some_and(|place| place.segment == segment && place.at() == at)
}

#[cfg(test)]
mod tests;
