//! What is done to the files.

use std::fmt;

use rand::Rng;
use rand::rngs::StdRng;

use crate::life::Files;

/// One thing that is done to a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Harm {
    /// Bits of a byte are turned.
    Flip { file: String, at: usize, by: u8 },
    /// A range reads as zeros.
    Zero { file: String, at: usize, bytes: usize },
    /// A range reads as something else.
    Garbage { file: String, at: usize, bytes: usize },
    /// Two sectors have changed places.
    Swap { file: String, at: usize, with: usize },
    /// The file ends early.
    Cut { file: String, at: usize },
    /// The file is gone.
    Gone { file: String },
}

impl fmt::Display for Harm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flip { file, at, by } => write!(f, "{file}: byte {at} ^ {by:#04x}"),
            Self::Zero { file, at, bytes } => write!(f, "{file}: {bytes} zeros at {at}"),
            Self::Garbage { file, at, bytes } => write!(f, "{file}: {bytes} bytes of garbage at {at}"),
            Self::Swap { file, at, with } => write!(f, "{file}: sectors at {at} and {with} swapped"),
            Self::Cut { file, at } => write!(f, "{file}: cut at {at}"),
            Self::Gone { file } => write!(f, "{file}: gone"),
        }
    }
}

const SECTOR: usize = 512;

impl Harm {
    /// Draws one.
    pub(crate) fn draw(files: &Files, random: &mut StdRng) -> Self {
        let all: usize = files.values().map(Vec::len).sum();
        // By their length, so that every byte is as likely.
        let mut at = random.random_range(0..all);
        let (file, bytes) = files
            .iter()
            .find(|(_, bytes)| {
                let here = at < bytes.len();
                at = if here { at } else { at - bytes.len() };
                here
            })
            .map(|(name, bytes)| (name.clone(), bytes.len()))
            .expect("every byte is in a file");
        match random.random_range(0..100) {
            0..55 => Self::Flip { file, at, by: random.random_range(1..=255) },
            55..68 => Self::Zero { file, at: at / SECTOR * SECTOR, bytes: SECTOR },
            68..78 => Self::Zero { file, at: at / 4096 * 4096, bytes: 4096 },
            78..88 => Self::Garbage { file, at, bytes: random.random_range(2..200) },
            88..94 => {
                let with = random.random_range(0..bytes) / SECTOR * SECTOR;
                Self::Swap { file, at: at / SECTOR * SECTOR, with }
            }
            94..97 => Self::Cut { file, at },
            _ => Self::Gone { file },
        }
    }

    /// Does it.
    pub(crate) fn apply(&self, files: &mut Files) {
        let fill = |files: &mut Files, file: &str, at: usize, bytes: usize, with: &dyn Fn(usize) -> u8| {
            let Some(content) = files.get_mut(file) else { return };
            let end = (at + bytes).min(content.len());
            for (index, byte) in content[at.min(end)..end].iter_mut().enumerate() {
                *byte = with(index);
            }
        };
        match self {
            Self::Flip { file, at, by } => {
                if let Some(byte) = files.get_mut(file).and_then(|content| content.get_mut(*at)) {
                    *byte ^= by;
                }
            }
            Self::Zero { file, at, bytes } => fill(files, file, *at, *bytes, &|_| 0),
            Self::Garbage { file, at, bytes } => {
                fill(files, file, *at, *bytes, &|index| (index as u8).wrapping_mul(167).wrapping_add(13));
            }
            Self::Swap { file, at, with } => {
                let Some(content) = files.get_mut(file) else { return };
                let end = content.len();
                if at.max(with) + SECTOR <= end {
                    for index in 0..SECTOR {
                        content.swap(at + index, with + index);
                    }
                }
            }
            Self::Cut { file, at } => {
                if let Some(content) = files.get_mut(file) {
                    content.truncate(*at);
                }
            }
            Self::Gone { file } => drop(files.remove(file)),
        }
    }
}
