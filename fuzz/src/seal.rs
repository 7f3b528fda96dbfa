//! Makes the checksums of a changed segment right again, so that changes of fields are not met by checksums alone.
//!
//! Written from `docs/journal-format.md`, not from the journal's code.

use crc32c::{crc32c, crc32c_append};

const HEADER: usize = 64;
const ENTRY: usize = 48;
const ALIGNMENT: usize = 16;

/// Seals every header, entry, head, body and trailer in a segment's bytes that can be told from its magic number.
pub fn seal(segment: &mut [u8]) {
    for at in [0, HEADER] {
        if has_magic(segment, at, b"PBXSEGMT") {
            put_crc(segment, at + 60, 0, at..at + 60);
        }
    }
    let (salt, number) = (u64_at(segment, 16), u64_at(segment, 24));
    let seed = crc32c_append(crc32c(&salt.to_le_bytes()), &number.to_le_bytes());
    for at in (2 * HEADER..segment.len()).step_by(ALIGNMENT) {
        if has_magic(segment, at, b"PBXGROUP") {
            seal_group(segment, at, seed);
        }
    }
}

fn seal_group(segment: &mut [u8], at: usize, seed: u32) {
    let entries = u32_at(segment, at + 44) as usize;
    let table = at + HEADER;
    let most = segment.len().saturating_sub(table) / ENTRY;
    for index in 0..entries.min(most) {
        seal_entry(segment, table + index * ENTRY, seed);
    }
    let group_bytes = u32_at(segment, at + 40) as usize;
    let end = table.saturating_add(entries.saturating_mul(ENTRY)).min(segment.len());
    let table_crc = segment.get(table..end).map_or(0, crc32c).to_le_bytes();
    let trailer = (at + group_bytes).saturating_sub(HEADER);
    for mark in [at, trailer] {
        let is_mark = mark == at || has_magic(segment, mark, b"PBXTRAIL");
        if is_mark && let Some(place) = segment.get_mut(mark + 56..mark + 60) {
            place.copy_from_slice(&table_crc);
            put_crc(segment, mark + 60, crc32c(&(at as u64).to_le_bytes()), mark..mark + 60);
        }
    }
}

fn seal_entry(segment: &mut [u8], at: usize, seed: u32) {
    for (part, crc_at) in [(16, 32), (24, 36)] {
        let start = u32_at(segment, at + part) as usize;
        let end = start.saturating_add(u32_at(segment, at + part + 4) as usize);
        put_crc(segment, at + crc_at, seed, start..end);
    }
    put_crc(segment, at + 44, crc32c_append(seed, &(at as u64).to_le_bytes()), at..at + 44);
}

fn has_magic(bytes: &[u8], at: usize, magic: &[u8; 8]) -> bool {
    bytes.get(at..at + 8) == Some(magic)
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    bytes.get(at..).and_then(<[u8]>::first_chunk).copied().map_or(0, u32::from_le_bytes)
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    bytes.get(at..).and_then(<[u8]>::first_chunk).copied().map_or(0, u64::from_le_bytes)
}

/// Puts the checksum of a range at `at`; nothing where either is not within the bytes.
fn put_crc(bytes: &mut [u8], at: usize, seed: u32, covered: std::ops::Range<usize>) {
    let Some(crc) = bytes.get(covered).map(|covered| crc32c_append(seed, covered)) else { return };
    if let Some(place) = bytes.get_mut(at..at + 4) {
        place.copy_from_slice(&crc.to_le_bytes());
    }
}
