//! Files of any content in a journal's folder.
//!
//! An input is a number of files, each with its segment number, its kind, its length and its bytes. Of a kind with
//! [`SEALED`] the checksums are made right first.

use std::sync::Arc;

use pillarbox_store::engine::journal::{Disk as _, Journal, JournalConfig};

use crate::disk::MemoryDisk;
use crate::input::Input;
use crate::journal::{self, Contents};
use crate::seal::seal;

/// Endings of names by a kind's last two bits.
const KINDS: [&str; 4] = ["seg", "spare", "damaged", "new"];
/// The flag of a kind whose file is sealed.
pub const SEALED: u8 = 4;
const FILES_MAX: usize = 6;

/// The folder that an input describes.
#[must_use]
pub fn folder(data: &[u8]) -> MemoryDisk {
    let disk = MemoryDisk::default();
    let mut input = Input(data);
    for _ in 0..FILES_MAX {
        if !input.has_more() {
            break;
        }
        let (number, kind) = (input.u8(), input.u8());
        let length = usize::from(input.u16());
        let mut bytes = input.bytes(length).to_vec();
        if kind & SEALED != 0 {
            seal(&mut bytes);
        }
        let ending = KINDS.get(usize::from(kind & 3)).copied().unwrap_or_default();
        disk.put(&format!("{number:016}.{ending}"), bytes);
    }
    disk
}

/// The input that describes a folder; what [`folder`] cannot describe is cut.
#[must_use]
pub fn input_of(disk: &MemoryDisk) -> Vec<u8> {
    let mut data = Vec::new();
    for name in disk.list().unwrap_or_default().iter().take(FILES_MAX) {
        let (digits, ending) = name.split_once('.').unwrap_or((name, ""));
        let kind = KINDS.iter().position(|known| *known == ending).unwrap_or(0);
        let bytes = disk.bytes(name);
        let length = u16::try_from(bytes.len()).unwrap_or(u16::MAX);
        data.push(digits.parse().unwrap_or(u8::MAX));
        data.push(u8::try_from(kind).unwrap_or(0));
        data.extend_from_slice(&length.to_le_bytes());
        data.extend_from_slice(bytes.get(..usize::from(length)).unwrap_or_default());
    }
    data
}

/// Opens the folder. Nothing panics, nothing is read without end, and opening it again finds the same.
pub fn run(data: &[u8]) {
    let disk = folder(data);
    let Ok(journal) = Journal::open(Arc::new(disk.clone()), JournalConfig::default()) else { return };
    let Contents { records, .. } = journal::contents(&journal);
    drop(journal);
    let again = Journal::open(Arc::new(disk), JournalConfig::default()).expect("it opened before");
    assert_eq!(journal::contents(&again).records, records, "another opening finds something else");
}
