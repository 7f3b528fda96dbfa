//! Decodes the journal's forms and encodes what they say, for fuzzing. Checksums are made right first.

use super::format::{
    ENTRY_BYTES, GROUP_HEADER_BYTES, GroupHeader, GroupMark, HeaderCopy, SEGMENT_HEADER_BYTES, SegmentHeader,
    TableEntry, position_seed, seal,
};
use super::segment::FileName;

/// Where the form stands, for the checksums that say so.
const AT: u64 = 4096;
const SEED: u32 = 0x5a17;

pub(crate) fn segment_header(bytes: &[u8]) -> Option<Vec<u8>> {
    let mut copy: [u8; SEGMENT_HEADER_BYTES] = *bytes.first_chunk()?;
    seal(&mut copy, 0);
    match SegmentHeader::decode(&copy) {
        HeaderCopy::Sound(header) => Some(header.encode().get(..SEGMENT_HEADER_BYTES)?.to_vec()),
        HeaderCopy::OtherVersion(_) | HeaderCopy::Damaged => None,
    }
}

pub(crate) fn group_header(bytes: &[u8]) -> Option<Vec<u8>> {
    let mut copy: [u8; GROUP_HEADER_BYTES] = *bytes.first_chunk()?;
    seal(&mut copy, position_seed(AT));
    Some(GroupHeader::decode_header(&copy, AT)?.encode(GroupMark::Header, AT).to_vec())
}

pub(crate) fn group_trailer(bytes: &[u8]) -> Option<Vec<u8>> {
    let mut copy: [u8; GROUP_HEADER_BYTES] = *bytes.first_chunk()?;
    let group_bytes = u32::from_le_bytes(*copy.get(40..)?.first_chunk()?);
    let begin = (AT + GROUP_HEADER_BYTES as u64).checked_sub(u64::from(group_bytes))?;
    seal(&mut copy, position_seed(begin));
    let (header, found) = GroupHeader::decode_trailer(&copy, AT)?;
    Some(header.encode(GroupMark::Trailer, found).to_vec())
}

pub(crate) fn table_entry(bytes: &[u8]) -> Option<Vec<u8>> {
    let copy = sealed_entry(bytes)?;
    Some(TableEntry::decode(&copy, SEED, AT)?.encode(SEED, AT).to_vec())
}

/// Behind the two bytes that say which bit. It comes back as it was, with the same two bytes in front.
pub(crate) fn flipped_entry(bytes: &[u8]) -> Option<Vec<u8>> {
    let (which, bytes) = bytes.split_first_chunk::<2>()?;
    let copy = TableEntry::decode(&sealed_entry(bytes)?, SEED, AT)?.encode(SEED, AT);
    let bit = usize::from(u16::from_le_bytes(*which)) % (ENTRY_BYTES * 8);
    let mut flipped = copy;
    *flipped.get_mut(bit / 8)? ^= 1 << (bit % 8);
    assert!(TableEntry::decode(&flipped, SEED, AT).is_none(), "a flipped bit goes unnoticed");
    let mended = TableEntry::mend(&flipped, SEED, AT).map(|entry| entry.encode(SEED, AT));
    assert_eq!(mended, Some(copy), "a flipped bit is not mended");
    Some([which.as_slice(), &copy].concat())
}

fn sealed_entry(bytes: &[u8]) -> Option<[u8; ENTRY_BYTES]> {
    let mut copy: [u8; ENTRY_BYTES] = *bytes.first_chunk()?;
    seal(&mut copy, crc32c::crc32c_append(SEED, &AT.to_le_bytes()));
    Some(copy)
}

pub(crate) fn file_name(bytes: &[u8]) -> Option<Vec<u8>> {
    FileName::parse(std::str::from_utf8(bytes).ok()?).map(|name| name.to_string().into_bytes())
}
