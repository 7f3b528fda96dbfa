//! A queue of numbers in blocks: a plain ring buffer would double, and keep its longest size.

use std::collections::VecDeque;

/// Numbers of a full block.
const BLOCK_NUMBERS: usize = 1024;

/// First in, first out.
#[derive(Debug, Default)]
pub(super) struct Queue {
    /// None is empty.
    blocks: VecDeque<VecDeque<u64>>,
}

impl Queue {
    pub(super) fn push_back(&mut self, number: u64) {
        match self.blocks.back_mut().filter(|block| block.len() < BLOCK_NUMBERS) {
            Some(block) => block.push_back(number),
            None => self.blocks.push_back(VecDeque::from([number])),
        }
    }

    pub(super) fn push_front(&mut self, number: u64) {
        match self.blocks.front_mut().filter(|block| block.len() < BLOCK_NUMBERS) {
            Some(block) => block.push_front(number),
            None => self.blocks.push_front(VecDeque::from([number])),
        }
    }

    pub(super) fn pop_front(&mut self) -> Option<u64> {
        let block = self.blocks.front_mut()?;
        let number = block.pop_front();
        if block.is_empty() {
            self.blocks.pop_front();
        }
        number
    }

    /// Takes everything out, in order.
    pub(super) fn drain(&mut self) -> impl Iterator<Item = u64> + use<> {
        std::mem::take(&mut self.blocks).into_iter().flatten()
    }
}

#[cfg(test)]
mod tests;
