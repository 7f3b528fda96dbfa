//! Memory for groups: aligned as a disk takes it, and used again once nobody reads it any more.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;

/// No disk asks for a greater alignment.
pub(super) const ALIGNED_BYTES: usize = 4096;
/// Buffers kept for the next groups have no more bytes together.
const IDLE_BYTES_MAX: usize = 16 * 1024 * 1024;
/// And so many: they are looked through for one that fits.
const IDLE_MAX: usize = 64;
/// A buffer is not used for a group that needs less than such a part of it.
const WASTE_FACTOR: usize = 4;
/// What a small buffer may be too large.
const WASTE_BYTES: usize = 4096;

/// Buffers that nobody uses.
#[derive(Debug, Clone, Default)]
pub(super) struct Pool(Arc<Mutex<Idle>>);

#[derive(Debug, Default)]
struct Idle {
    /// In the order in which they came back.
    buffers: VecDeque<Vec<u8>>,
    bytes: usize,
}

/// Aligned memory of a certain length. It goes back to its pool with the last who holds it.
#[derive(Debug)]
pub(super) struct Buffer {
    memory: Vec<u8>,
    start: usize,
    len: usize,
    pool: Pool,
}

impl Pool {
    /// A buffer of `len` bytes, of any content, that begins at a multiple of `aligned_to`, at most [`ALIGNED_BYTES`].
    pub(super) fn take(&self, len: usize, aligned_to: usize) -> Buffer {
        let wanted = len.saturating_add(aligned_to);
        let memory = self.fitting(wanted).unwrap_or_else(|| {
            // A little more, so that the next one, which is about as long, fits as well.
            vec![0; wanted + wanted / 4]
        });
        let start = memory.as_ptr().align_offset(aligned_to).min(aligned_to);
        Buffer { memory, start, len, pool: self.clone() }
    }

    fn fitting(&self, wanted: usize) -> Option<Vec<u8>> {
        let mut idle = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let most = wanted.saturating_mul(WASTE_FACTOR).max(wanted.saturating_add(WASTE_BYTES));
        let at = idle.buffers.iter().rposition(|memory| (wanted..=most).contains(&memory.len()))?;
        let memory = idle.buffers.remove(at)?;
        idle.bytes -= memory.len();
        Some(memory)
    }

    fn give_back(&self, memory: Vec<u8>) {
        let mut idle = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        idle.bytes += memory.len();
        idle.buffers.push_back(memory);
        while idle.bytes > IDLE_BYTES_MAX || idle.buffers.len() > IDLE_MAX {
            // The one that was not wanted for the longest.
            let Some(gone) = idle.buffers.pop_front() else { return };
            idle.bytes -= gone.len();
        }
    }
}

impl Buffer {
    /// Its bytes.
    pub(super) fn bytes_mut(&mut self) -> &mut [u8] {
        self.memory.get_mut(self.start..self.start + self.len).unwrap_or_default()
    }

    /// What it takes of the memory.
    pub(super) const fn room(&self) -> usize {
        self.memory.len()
    }

    /// The same, to be read by any number.
    pub(super) fn freeze(self) -> Bytes {
        Bytes::from_owner(self)
    }
}

impl AsRef<[u8]> for Buffer {
    fn as_ref(&self) -> &[u8] {
        self.memory.get(self.start..self.start + self.len).unwrap_or_default()
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        self.pool.give_back(std::mem::take(&mut self.memory));
    }
}

#[cfg(test)]
mod tests;
