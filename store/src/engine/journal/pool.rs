//! Memory for groups: aligned as a disk takes it, and used again once nobody reads it any more.

use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;

/// Where a group begins in memory is a multiple of this: no disk asks for more.
pub(super) const ALIGNED_BYTES: usize = 4096;
/// Buffers kept for the next groups have no more bytes together.
const IDLE_BYTES_MAX: usize = 16 * 1024 * 1024;
/// A buffer is not used for a group that needs less than such a part of it.
const WASTE_FACTOR: usize = 4;
/// The smallest buffer.
const BUFFER_BYTES_MIN: usize = 64 * 1024;

/// Buffers that nobody uses.
#[derive(Debug, Clone, Default)]
pub(super) struct Pool(Arc<Mutex<Idle>>);

#[derive(Debug, Default)]
struct Idle {
    buffers: Vec<Vec<u8>>,
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
    /// A buffer of `len` bytes, of any content.
    pub(super) fn take(&self, len: usize) -> Buffer {
        let wanted = len.saturating_add(ALIGNED_BYTES);
        let memory = self.fitting(wanted).unwrap_or_else(|| {
            let room = wanted.max(BUFFER_BYTES_MIN);
            // A little more, so that the next one, which is about as long, fits as well.
            vec![0; room + room / 4]
        });
        let start = memory.as_ptr().align_offset(ALIGNED_BYTES).min(ALIGNED_BYTES);
        Buffer { memory, start, len, pool: self.clone() }
    }

    fn fitting(&self, wanted: usize) -> Option<Vec<u8>> {
        let mut idle = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let most = wanted.max(BUFFER_BYTES_MIN).saturating_mul(WASTE_FACTOR);
        let at = idle.buffers.iter().rposition(|memory| (wanted..=most).contains(&memory.len()))?;
        let memory = idle.buffers.remove(at);
        idle.bytes -= memory.len();
        Some(memory)
    }

    fn give_back(&self, memory: Vec<u8>) {
        let mut idle = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        idle.bytes += memory.len();
        idle.buffers.push(memory);
        while idle.bytes > IDLE_BYTES_MAX {
            // The one that was not wanted for the longest.
            let gone = idle.buffers.remove(0);
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
