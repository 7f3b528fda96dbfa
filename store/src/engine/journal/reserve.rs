//! Promising room: what the file system tells, and, on a disk that is nearly full, what is secured by writing ahead.

use std::io::{self, IoSlice};
use std::sync::atomic::Ordering;

use super::disk::DiskFile;
use super::format::{ENTRY_BYTES, GROUP_HEADER_BYTES};
use super::write::{Ballast, Shared, Writer};
use crate::{Error, ErrorKind};

/// Free bytes below which the writer no longer takes the file system's word.
pub(super) const FREE_BYTES_MIN: u64 = 1024 * 1024;
/// After how many bytes, at most, the file system is asked again.
const CREDIT_BYTES_MAX: u64 = 64 * 1024 * 1024;
/// Zeros written at once.
const ZERO_BYTES: usize = 64 * 1024;

/// What is left of the credit once `bytes` were promised; `None` where it does not suffice.
fn credit_left(credit: u64, bytes: u64) -> Option<u64> {
    credit.checked_sub(bytes).filter(|rest| *rest >= FREE_BYTES_MIN)
}

impl Shared {
    /// Promises `bytes` without asking anybody, where there is credit: nobody waits for a flush that is under way.
    pub(super) fn take_credit(&self, bytes: u64) -> bool {
        let rest = |credit| credit_left(credit, bytes);
        self.credit.fetch_update(Ordering::Relaxed, Ordering::Relaxed, rest).is_ok()
    }

    /// Whether there is credit for `bytes`.
    pub(super) fn has_credit(&self, bytes: u64) -> bool {
        credit_left(self.credit.load(Ordering::Relaxed), bytes).is_some()
    }
}

impl Writer {
    /// Sees to it that `bytes` more payload can be written; see [`crate::engine::Engine::reserve`].
    pub(super) fn reserve(&mut self, shared: &Shared, bytes: u64, promised: u64) -> Result<(), Error> {
        self.check()?;
        let bytes = bytes.saturating_add(promised);
        if !self.is_cautious {
            let wanted = bytes.saturating_add(FREE_BYTES_MIN);
            match self.disk.free_bytes() {
                Ok(free) if free / 4 >= wanted => {
                    let credit = (free / 4).min(CREDIT_BYTES_MAX).max(wanted) - bytes;
                    self.credit.store(credit, Ordering::Relaxed);
                    return Ok(());
                }
                Ok(free) if free >= wanted => return Ok(()),
                Ok(_) => self.be_cautious(),
                // A file system that does not tell is asked by writing, once it says that it is full.
                Err(_) => return Ok(()),
            }
        }
        match self.secure(shared, bytes) {
            Err(error) if error.kind() == ErrorKind::Full => {
                if self.reclaim(shared)? {
                    self.secure(shared, bytes)
                } else {
                    Err(error)
                }
            }
            secured => secured,
        }
    }

    /// Writes zeros ahead of the position, so that the blocks are there.
    fn secure(&mut self, shared: &Shared, bytes: u64) -> Result<(), Error> {
        let bytes = bytes.saturating_add(2 * GROUP_HEADER_BYTES as u64 + ENTRY_BYTES as u64);
        let extra = self.extra_bytes();
        // The room that is secured here already is for what comes without a reservation: it does not keep the
        // segment going.
        if self.is_at_end(bytes) {
            self.roll(shared, bytes, Ballast::Kept)?;
        }
        loop {
            let Some(current) = &mut self.current else { return Ok(()) };
            let target = current.position.saturating_add(bytes).saturating_add(extra);
            let outcome = secure_to(&*current.file, &mut current.secured, target);
            shared.live_mut().extend_segment(current.number, current.position, current.secured);
            match outcome {
                // A spare segment has its room already.
                Err(error) if is_full(&error) && !self.spares.is_empty() => {
                    self.roll(shared, bytes, Ballast::Kept)?;
                }
                outcome => {
                    return outcome.map_err(|error| {
                        self.fail(Error::io("secure room on the disk", error).with("bytes", bytes))
                    });
                }
            }
        }
    }

    /// How many bytes a move of live records may add. On a full disk half of what is secured, so that completions
    /// always have the other half.
    pub(super) fn room_for_move(&self) -> u64 {
        match &self.current {
            Some(current) if self.is_cautious => current.secured.saturating_sub(current.position) / 2,
            _ => u64::MAX,
        }
    }
}

/// Writes zeros from `secured` to `target` and moves `secured` along.
pub(super) fn secure_to(file: &dyn DiskFile, secured: &mut u64, target: u64) -> io::Result<()> {
    static ZEROS: [u8; ZERO_BYTES] = [0; ZERO_BYTES];
    while *secured < target {
        let room = usize::try_from(target - *secured).unwrap_or(ZERO_BYTES).min(ZERO_BYTES);
        let piece = ZEROS.get(..room).unwrap_or_default();
        file.write_all_at(&mut [IoSlice::new(piece)], *secured)?;
        *secured += room as u64;
    }
    Ok(())
}

/// Whether a failure means that there is no room.
pub(super) fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}
