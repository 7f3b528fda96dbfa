//! The bytes as they were written down: a change here is a change of the format.

#![allow(clippy::indexing_slicing, reason = "a test that panics has found something")]

use super::*;

fn hex(bytes: &[u8]) -> String {
    let lines =
        bytes.chunks(16).map(|line| line.iter().map(|byte| format!("{byte:02x}")).collect::<String>());
    lines.collect::<Vec<_>>().join("\n")
}

fn segment() -> SegmentHeader {
    SegmentHeader { salt: 1, number: 2, first_record: 3, previous: 4, previous_end: 5 }
}

fn header() -> GroupHeader {
    GroupHeader {
        salt: 0x0102_0304_0506_0708,
        segment: 3,
        record: 9,
        flushed_below: 8,
        group_bytes: 208,
        entries: 1,
        heads_bytes: 5,
        kind: GroupKind::Changes,
        table_crc: 0xdead_beef,
    }
}

fn entry() -> TableEntry {
    TableEntry {
        kind: EntryKind::Put,
        is_head_damaged: false,
        is_body_damaged: true,
        key: Key::new(7, 0x1122_3344_5566_7788, 0x99aa_bbcc),
        head_at: 240,
        head_bytes: 5,
        body_at: 245,
        body_bytes: 11,
        head_crc: 1,
        body_crc: 2,
    }
}

#[test]
fn golden_bytes() {
    assert_eq!(
        hex(&segment().encode()[..SEGMENT_HEADER_BYTES]),
        [
            "5042585345474d540100000000000000",
            "01000000000000000200000000000000",
            "03000000000000000400000000000000",
            "05000000000000000000000006fa5575",
        ]
        .join("\n")
    );
    assert_eq!(
        hex(&header().encode(GroupMark::Header, 128)),
        [
            "50425847524f55500807060504030201",
            "03000000000000000900000000000000",
            "0800000000000000d000000001000000",
            "0500000000000000efbeaddeadb5bccd",
        ]
        .join("\n")
    );
    assert_eq!(
        hex(&header().encode(GroupMark::Trailer, 128)),
        [
            "504258545241494c0807060504030201",
            "03000000000000000900000000000000",
            "0800000000000000d000000001000000",
            "0500000000000000efbeadde12cdd9d7",
        ]
        .join("\n")
    );
    assert_eq!(
        hex(&entry().encode(segment_seed(1, 2), 192)),
        [
            "01070200ccbbaa998877665544332211",
            "f000000005000000f50000000b000000",
            "0100000002000000000000003b0a9aa2",
        ]
        .join("\n")
    );
}

#[test]
fn golden_bytes_of_what_removes() {
    let seed = segment_seed(1, 2);
    let removals =
        [(EntryKind::Delete, "02"), (EntryKind::DeleteBelow, "03"), (EntryKind::DeleteNumbers, "04")];
    for (kind, code) in removals {
        let entry = TableEntry::removal(kind, Key::new(7, 0x1122, 5));
        let bytes = entry.encode(seed, 192);
        assert_eq!(hex(&bytes[..16]), format!("{code}070000050000002211000000000000"));
        assert_eq!(bytes[16..44], [0; 28]);
        assert_eq!(TableEntry::decode(&bytes, seed, 192), Some(entry));
        assert_eq!(TableEntry::mend_byte(&[&[0], &bytes[1..]].concat(), seed, 192), [entry]);
    }
    let numbers = |kind| TableEntry::removal(kind, Key::new(7, 10, 5)).numbers();
    assert_eq!(numbers(EntryKind::DeleteBelow), 0..10);
    assert_eq!(numbers(EntryKind::DeleteNumbers), 10..15);
    assert!(numbers(EntryKind::Delete).is_empty());
}

#[test]
fn what_is_encoded_is_read_back_only_where_it_was_written() {
    let bytes = segment().encode();
    assert_eq!(SegmentHeader::decode(&bytes), HeaderCopy::Sound(segment()));
    assert_eq!(SegmentHeader::decode(&bytes[SEGMENT_HEADER_BYTES..]), HeaderCopy::Sound(segment()));
    let bytes = header().encode(GroupMark::Header, 128);
    assert_eq!(GroupHeader::decode_header(&bytes, 128), Some(header()));
    assert_eq!(GroupHeader::decode_header(&bytes, 144), None);
    let bytes = header().encode(GroupMark::Trailer, 128);
    assert_eq!(GroupHeader::decode_trailer(&bytes, 128 + 208 - 64), Some((header(), 128)));
    assert_eq!(GroupHeader::decode_trailer(&bytes, 128 + 208), None);
    let seed = segment_seed(1, 2);
    let bytes = entry().encode(seed, 192);
    assert_eq!(TableEntry::decode(&bytes, seed, 192), Some(entry()));
    assert_eq!(TableEntry::decode(&bytes, seed, 208), None);
    assert_eq!(TableEntry::decode(&bytes, segment_seed(1, 3), 192), None);
}

#[test]
fn every_single_bit_of_an_entry_can_be_mended_and_no_two() {
    let seed = segment_seed(1, 2);
    let bytes = entry().encode(seed, 192);
    for bit in 0..ENTRY_BYTES * 8 {
        let mut flipped = bytes;
        flipped[bit / 8] ^= 1 << (bit % 8);
        assert_eq!(TableEntry::decode(&flipped, seed, 192), None);
        assert_eq!(TableEntry::mend(&flipped, seed, 192), Some(entry()), "bit {bit}");
        let other = (bit * 7 + 13) % (ENTRY_BYTES * 8);
        flipped[other / 8] ^= 1 << (other % 8);
        if other != bit {
            assert_eq!(TableEntry::mend(&flipped, seed, 192), None, "bits {bit} and {other}");
        }
    }
}

#[test]
fn arbitrary_bytes_are_read_without_panic() {
    let mut state = 1_u64;
    for length in 0..200 {
        let bytes: Vec<u8> = (0..length)
            .map(|_| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                (state >> 56) as u8
            })
            .collect();
        assert_eq!(SegmentHeader::decode(&bytes), HeaderCopy::Damaged);
        assert_eq!(GroupHeader::decode_header(&bytes, 0), None);
        assert_eq!(GroupHeader::decode_trailer(&bytes, 0), None);
        assert_eq!(TableEntry::mend(&bytes, 0, 0), None);
    }
}

/// Found by fuzzing: a journal went on from such a mark and at the next opening found something else.
#[test]
fn a_mark_with_a_number_that_nothing_has_is_damage_though_its_checksum_is_right() {
    let at = 4096;
    let far = GroupHeader { record: NUMBER_MAX, ..header() };
    let near = GroupHeader { record: NUMBER_MAX - 1, ..header() };
    assert_eq!(GroupHeader::decode_header(&far.encode(GroupMark::Header, at), at), None);
    assert_eq!(GroupHeader::decode_header(&near.encode(GroupMark::Header, at), at), Some(near));
    let segment =
        |first_record| SegmentHeader { salt: 1, number: 2, first_record, previous: 1, previous_end: 3 };
    let read = |header: &SegmentHeader| SegmentHeader::decode(&header.encode()[..SEGMENT_HEADER_BYTES]);
    assert_eq!(read(&segment(NUMBER_MAX)), HeaderCopy::Damaged);
    assert_eq!(read(&segment(NUMBER_MAX - 1)), HeaderCopy::Sound(segment(NUMBER_MAX - 1)));
}
