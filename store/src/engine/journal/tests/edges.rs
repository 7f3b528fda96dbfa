//! Bounds, figures and rare turns, each by itself.

use std::io::IoSlice;

use super::super::format::{
    GROUP_BYTES_MAX, GroupHeader, GroupKind, GroupMark, SEGMENT_HEADER_BYTES, TableEntry, group_bytes,
};
use super::super::group::{Change, GroupSize};
use super::*;
use crate::engine::{BODY_BYTES_MAX, HEAD_BYTES_MAX};

const FIRST: &str = "0000000000000001.seg";
const BALLAST: &str = "0000000000000000.spare";

fn open_with(disk: &FaultDisk, config: JournalConfig) -> Journal {
    Journal::open(Arc::new(disk.clone()), config).unwrap()
}

fn names(disk: &FaultDisk, kind: &str) -> Vec<String> {
    disk.list().unwrap().into_iter().filter(|name| name.ends_with(kind)).collect()
}

/// Number, end, records and their bytes.
type Figures = (u32, u64, u64, u64);

/// Of each segment, and the sums.
fn figures(journal: &Journal) -> (Vec<Figures>, [u64; 3]) {
    let live = journal.live();
    let segments = live.segments();
    let segments = segments.map(|(number, one)| (number, one.end, one.records, one.live_bytes)).collect();
    (segments, [live.live_bytes(), live.end_bytes(), live.records()])
}

#[test]
fn figures_are_those_of_the_files_also_after_reopening() {
    let disk = FaultDisk::without_blocks();
    let journal = open(&disk);
    for writes in (0..SCENARIO_STEPS).map(scenario_writes) {
        journal.apply(&writes, Durability::Flushed).unwrap();
        assert_eq!(journal.stats().disk_bytes, disk.used() as u64);
        let used: u64 = journal.files().iter().map(|file| file.used_bytes).sum();
        assert_eq!(used, figures(&journal).1[1]);
    }
    let (segments, sums) = figures(&journal);
    assert_eq!(segments.iter().map(|one| one.3).sum::<u64>(), sums[0]);
    assert_eq!(segments.iter().map(|one| one.2).sum::<u64>(), sums[2]);
    for (file, (number, end, records, _)) in journal.files().into_iter().zip(&segments) {
        assert_eq!(file.file, format!("{number:016}.seg"));
        assert_eq!((file.used_bytes, file.records), (*end, *records));
        assert_eq!(file.bytes, disk.bytes(&file.file).len() as u64);
    }
    drop(journal);
    let journal = open(&disk);
    assert_eq!(figures(&journal), (segments, sums));
    assert_eq!(journal.stats().disk_bytes, disk.used() as u64);
    // Every byte of it belongs to a record that lives.
    let bytes: u64 =
        contents(&journal).values().map(|(head, body)| (48 + head.len() + body.len()) as u64).sum();
    assert_eq!(sums[0], bytes);
}

#[test]
fn a_flush_is_counted_where_there_is_one() {
    let disk = FaultDisk::without_blocks();
    let journal = open(&disk);
    apply_one(&journal, Key::new(1, 0, 0), 10);
    let before = journal.stats().flushes;
    for number in 1..=5 {
        apply_one(&journal, Key::new(1, number, 0), 10);
    }
    assert_eq!(journal.stats().flushes, before + 5);
    let mut writes = WriteSet::default();
    put(&mut writes, Key::new(1, 9, 0), b"head", body(9, 10));
    journal.apply(&writes, Durability::Written).unwrap();
    assert_eq!(journal.stats().flushes, before + 5);
    journal.apply(&WriteSet::default(), Durability::Flushed).unwrap();
    journal.apply(&WriteSet::default(), Durability::Flushed).unwrap();
    assert_eq!(journal.stats().flushes, before + 6, "what was flushed is not flushed again");
}

#[test]
fn a_segment_is_never_smaller_than_the_least() {
    let disk = FaultDisk::without_blocks();
    let journal = open_with(&disk, JournalConfig { segment_bytes: 1, ..config() });
    for number in 0..50 {
        apply_one(&journal, Key::new(1, number, 0), 1000);
    }
    assert_eq!(names(&disk, ".seg"), [FIRST]);
    for number in 50..70 {
        apply_one(&journal, Key::new(1, number, 0), 1000);
    }
    assert_eq!(names(&disk, ".seg").len(), 2);
    assert!(disk.bytes(FIRST).len() as u64 <= SEGMENT_BYTES);
    // A group that is longer than any segment has one to itself.
    apply_one(&journal, Key::new(1, 100, 0), 200_000);
    apply_one(&journal, Key::new(1, 101, 0), 1000);
    let files = journal.files();
    assert_eq!(files.iter().map(|file| file.records).collect::<Vec<_>>(), [55, 15, 1, 1]);
}

#[test]
fn a_journal_that_is_looked_at_takes_nothing_and_changes_nothing() {
    let (disk, model) = small_box();
    disk.create("0000000000000009.new").unwrap();
    let before: Vec<_> = disk.list().unwrap().into_iter().map(|name| (disk.bytes(&name), name)).collect();
    let operations = disk.operations();
    let journal = Journal::look(Arc::new(disk.clone())).unwrap();
    assert_eq!(contents(&journal), model);
    let mut writes = WriteSet::default();
    writes.delete(Key::new(1, 0, 0));
    let refused = journal.apply(&writes, Durability::Flushed).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Closed);
    assert_eq!(journal.reserve(1, 0).unwrap_err().kind(), ErrorKind::Closed);
    journal.close().unwrap();
    let after: Vec<_> = disk.list().unwrap().into_iter().map(|name| (disk.bytes(&name), name)).collect();
    assert!(before == after && disk.operations() == operations);
    assert_eq!(journal.damage(), []);
}

#[test]
fn damage_of_what_was_replaced_or_deleted_since_costs_nothing() {
    let disk = FaultDisk::without_blocks();
    let journal = open(&disk);
    let key = |number| Key::new(1, number, 0);
    put_one(&journal, key(1), b"first head of one", body(1, 50));
    put_one(&journal, key(2), b"head of two", body(2, 50));
    put_one(&journal, key(3), b"head of three", body(3, 50));
    put_one(&journal, key(4), b"head of four", body(4, 50));
    put_one(&journal, key(1), b"second head of one", body(5, 50));
    delete_one(&journal, key(2));
    journal.close().unwrap();
    drop(journal);
    disk.change(FIRST, |bytes| {
        for head in [&b"first head of one"[..], b"head of two", b"head of three"] {
            let at = bytes.windows(head.len()).position(|window| window == head).unwrap();
            bytes[at] ^= 1;
        }
    });
    let journal = open(&disk);
    let of = |number| journal.damage().into_iter().find(|damage| damage.key == Some(key(number)));
    for number in [1, 2] {
        let damage = of(number).unwrap();
        assert_eq!(damage.loss, Loss::None);
        assert!(damage.what.ends_with("; it was replaced or deleted since"), "{}", damage.what);
    }
    let damage = of(3).unwrap();
    assert_eq!((damage.loss, damage.bytes), (Loss::Record, 13));
    assert!(disk.bytes(FIRST)[damage.offset as usize..].ends_with(b"") && of(4).is_none());
    assert_eq!(journal.get(key(1)).unwrap().unwrap().body, body(5, 50));
    assert_eq!(journal.get(key(3)).unwrap_err().kind(), ErrorKind::Corrupt);
    assert_eq!(journal.damage().len(), 3, "it is listed already");
    assert_eq!(&journal.peek(key(4)).unwrap()[..], b"head of four");
    assert_eq!(&journal.peek(key(3)).unwrap()[1..], b"ead of three");
    assert_eq!(journal.peek(key(2)), None);
}

#[test]
fn damage_that_is_met_while_reading_is_listed_once_and_where_it_is() {
    let disk = FaultDisk::without_blocks();
    let journal = open(&disk);
    put_one(&journal, Key::new(1, 1, 0), b"head", body(1, 50));
    put_one(&journal, Key::new(1, 2, 0), b"head", body(2, 50));
    disk.change(FIRST, |bytes| {
        let at = bytes.windows(50).position(|window| window == &body(1, 50)[..]).unwrap();
        bytes[at] ^= 1;
    });
    for _ in 0..2 {
        assert_eq!(journal.get(Key::new(1, 1, 0)).unwrap_err().kind(), ErrorKind::Corrupt);
    }
    let place = journal.locate(Key::new(1, 1, 0)).unwrap();
    let first_entry = (2 * SEGMENT_HEADER_BYTES + GROUP_HEADER_BYTES) as u64;
    assert_eq!((&*place.file, place.offset, place.bytes), (FIRST, first_entry, 48 + 4 + 50));
    let damage = &journal.damage()[..];
    let [one] = damage else { panic!("{damage:?}") };
    assert_eq!((&*one.file, one.offset, one.bytes), (FIRST, place.offset, place.bytes));
    assert_eq!((one.key, one.loss), (Some(Key::new(1, 1, 0)), Loss::Record));
    assert!(journal.get(Key::new(1, 2, 0)).unwrap().is_some());
    assert_eq!(journal.locate(Key::new(1, 3, 0)), None);
}

/// With plenty of room the file system is asked now and then, and what was promised meanwhile is there.
#[test]
fn what_was_promised_fits_whatever_the_size_of_the_disk() {
    for capacity in [3_000_000, 6_000_000, 12_000_000] {
        let disk = FaultDisk::without_blocks();
        disk.set_capacity(capacity);
        let journal = open(&disk);
        let mut stored = 0;
        while journal.reserve(60_004, 0).is_ok() {
            apply_one(&journal, Key::new(1, stored, 0), 60_000);
            stored += 1;
            assert!(stored * 60_000 < capacity as u64);
        }
        assert!(stored * 60_000 > capacity as u64 / 2, "{stored} in {capacity} bytes");
    }
    let disk = FaultDisk::without_blocks();
    let journal = open(&disk);
    for _ in 0..1000 {
        journal.reserve(1000, 0).unwrap();
    }
    assert_eq!(disk.asked(), 1);
    // No more than 64 MiB are promised on one word of it.
    for _ in 0..1000 {
        journal.reserve(300_000, 0).unwrap();
    }
    assert!((5..=7).contains(&disk.asked()), "asked {} times", disk.asked());
    let late = open(&disk);
    disk.set_capacity(0);
    assert_eq!(late.reserve(1, 0).unwrap_err().kind(), ErrorKind::Full);
}

#[test]
fn room_is_at_hand_once_the_file_system_was_asked_and_until_the_disk_is_nearly_full() {
    let disk = FaultDisk::without_blocks();
    let journal = open(&disk);
    assert!(!journal.has_room(1), "it was not asked yet");
    journal.reserve(1, 0).unwrap();
    let asked = disk.asked();
    assert!(journal.has_room(1000) && !journal.has_room(u64::MAX));
    journal.reserve(1000, 1).unwrap();
    assert_eq!(disk.asked(), asked, "what is at hand asks nobody");
    disk.set_capacity(0);
    let late = open(&disk);
    assert!(late.reserve(1, 0).is_err() && !late.has_room(1));
}

#[test]
fn a_disk_that_has_room_again_is_no_longer_filled_with_zeros() {
    let disk = FaultDisk::without_blocks();
    let journal = open_with(&disk, JournalConfig { spare_segments_max: 0, ..config() });
    disk.set_capacity(600 * 1024);
    let mut stored = 0;
    while journal.reserve(1004, 0).is_ok() {
        apply_one(&journal, Key::new(1, stored, 0), 1000);
        stored += 1;
    }
    let is_filled = |journal: &Journal| {
        let last = journal.files().pop().unwrap();
        last.bytes > last.used_bytes
    };
    assert!(is_filled(&journal), "room is secured on a full disk");
    disk.set_capacity(1 << 30);
    for number in 0..200 {
        journal.reserve(1004, 0).unwrap();
        apply_one(&journal, Key::new(2, number, 0), 1000);
    }
    assert!(!is_filled(&journal));
    assert_eq!(names(&disk, ".spare"), [BALLAST], "room is put aside again");
    assert_eq!(contents(&journal).len() as u64, stored + 200);
}

/// It used to take what was left of the room before it gave up, and was not there either: the group did not fit.
#[test]
fn putting_room_aside_takes_none_where_there_is_too_little() {
    let disk = FaultDisk::without_blocks();
    disk.set_capacity(10 * 1024);
    let journal = open(&disk);
    for number in 0..5 {
        apply_one(&journal, Key::new(1, number, 0), 100);
    }
    assert_eq!(contents(&journal).len(), 5);
    assert_eq!(names(&disk, ".spare"), [""; 0]);
    assert_eq!(journal.stats().disk_bytes, disk.used() as u64);
    drop(journal);
    assert_eq!(contents(&open(&disk)).len(), 5);
}

#[test]
fn room_is_put_aside_where_there_is_any() {
    let disk = FaultDisk::without_blocks();
    apply_one(&open(&disk), Key::new(1, 1, 0), 100);
    assert_eq!(names(&disk, ".spare"), [BALLAST]);
    assert_eq!(disk.bytes(BALLAST).len(), 128 + 16 * 1024);
    // Opened again it is still what is kept for a full disk, not a spare segment.
    let journal = open(&disk);
    for number in 0..200 {
        apply_one(&journal, Key::new(1, number, 0), 1000);
    }
    assert_eq!(names(&disk, ".spare"), [BALLAST]);
}

#[test]
fn so_many_freed_segments_are_kept_and_none_that_is_much_too_long() {
    for spare_segments_max in [0, 1, 3] {
        let disk = FaultDisk::without_blocks();
        let journal = open_with(&disk, JournalConfig { spare_segments_max, ..config() });
        for number in 0..600 {
            apply_one(&journal, Key::new(1, number, 0), 1000);
        }
        let mut writes = WriteSet::default();
        writes.delete_below(1, 600);
        journal.apply(&writes, Durability::Flushed).unwrap();
        assert_eq!(names(&disk, ".spare").len(), spare_segments_max + 1, "with what is kept for a full disk");
        assert_eq!(names(&disk, ".seg").len(), 1);
        assert_eq!(journal.stats().disk_bytes, disk.used() as u64);
    }
    for (bytes, kept) in [(131_072 - 400, 1), (131_072, 0), (400_000, 0)] {
        let disk = FaultDisk::without_blocks();
        let journal = open(&disk);
        apply_one(&journal, Key::new(1, 1, 0), bytes);
        apply_one(&journal, Key::new(1, 2, 0), 1000);
        delete_one(&journal, Key::new(1, 1, 0));
        assert_eq!(names(&disk, ".spare").len(), 1 + kept, "{bytes} bytes");
    }
}

/// A segment of so many groups is not looked through at once, nor moved at once where so many records live in it.
#[test]
fn an_old_segment_of_very_many_groups_or_records_is_emptied_bit_by_bit() {
    let disk = FaultDisk::without_blocks();
    let config = JournalConfig { segment_bytes: 2 * 1024 * 1024, ..config() };
    let journal = open_with(&disk, config);
    let mut writes = WriteSet::default();
    for number in 0..9000 {
        writes.clear();
        put(&mut writes, Key::new(1, number, 0), b"", Bytes::new());
        journal.apply(&writes, Durability::Written).unwrap();
    }
    writes.clear();
    (0..5000).for_each(|number| put(&mut writes, Key::new(2, number, 0), b"x", Bytes::new()));
    writes.delete_below(1, 9000);
    journal.apply(&writes, Durability::Flushed).unwrap();
    assert_eq!(names(&disk, ".seg"), [FIRST]);
    let oldest = |journal: &Journal| journal.live().segments().next().unwrap().0;
    for number in 0..60 {
        apply_one(&journal, Key::new(3, number, 0), 300_000);
        delete_one(&journal, Key::new(3, number, 0));
    }
    assert!(oldest(&journal) > 1, "the first segment is still there");
    assert_eq!(contents(&journal).len(), 5000);
    assert_eq!(contents(&open_with(&disk, config)).len(), 5000);
}

#[test]
fn a_file_name_is_one_of_ours_or_none() {
    use FileName::{Damaged, New, Segment, Spare};
    let known = [
        ("0000000000000007.seg", Segment(7)),
        ("0000000000000007.spare", Spare(7)),
        ("0000004294967295.damaged", Damaged(u32::MAX)),
        ("0000000000000000.new", New(0)),
    ];
    for (text, name) in known {
        assert_eq!((FileName::parse(text), name.to_string()), (Some(name), text.to_owned()));
    }
    for text in [
        "",
        "LOCK",
        "000000000000007.seg",
        "00000000000000007.seg",
        "000000000000000x.seg",
        "0000000000000007.s",
        "0000004294967296.seg",
        "+000000000000007.seg",
        "0000000000000007",
        "0000000000000007.seg.old",
    ] {
        assert_eq!(FileName::parse(text), None, "{text}");
    }
}

#[test]
fn lengths_are_taken_up_to_their_bounds() {
    let entry = |head_bytes: usize, body_bytes: usize| TableEntry {
        head_bytes: head_bytes as u32,
        body_bytes: body_bytes as u32,
        ..TableEntry::removal(format::EntryKind::Put, Key::new(1, 2, 3))
    };
    for (head, body, is_read) in [
        (HEAD_BYTES_MAX, BODY_BYTES_MAX, true),
        (HEAD_BYTES_MAX + 1, 0, false),
        (0, BODY_BYTES_MAX + 1, false),
        (HEAD_BYTES_MAX + 1, BODY_BYTES_MAX + 1, false),
    ] {
        let entry = entry(head, body);
        assert_eq!(entry.stored_bytes() as usize, 48 + head + body);
        let read = TableEntry::decode(&entry.encode(5, 16), 5, 16);
        assert_eq!(read, is_read.then_some(entry), "{head} and {body}");
    }
    let head = vec![0; HEAD_BYTES_MAX + 1];
    let long = Bytes::from(vec![0; BODY_BYTES_MAX + 1]);
    let size = |head: usize, body: usize, of: &[u8]| {
        let change = Change::Put {
            key: Key::new(1, 1, 1),
            head: &of[..head],
            body: &long[..body],
            is_head_damaged: false,
            is_body_damaged: false,
        };
        GroupSize::of([change, Change::Delete { key: Key::new(1, 1, 1) }].into_iter())
    };
    assert_eq!(size(3, 5, &head).unwrap().group_bytes, 2 * 64 + 2 * 48 + 16);
    assert_eq!(size(8, 8, &head).unwrap().group_bytes, 2 * 64 + 2 * 48 + 16);
    assert_eq!(size(8, 9, &head).unwrap().group_bytes, 2 * 64 + 2 * 48 + 32);
    assert!(size(HEAD_BYTES_MAX, BODY_BYTES_MAX, &head).is_ok());
    assert_eq!(size(HEAD_BYTES_MAX + 1, 0, &head).unwrap_err().kind(), ErrorKind::Invalid);
    assert_eq!(size(0, BODY_BYTES_MAX + 1, &head).unwrap_err().kind(), ErrorKind::Invalid);
    assert_eq!(group_bytes(2, GROUP_BYTES_MAX - 2 * 64 - 2 * 48, 0), Some(GROUP_BYTES_MAX));
    assert_eq!(group_bytes(2, GROUP_BYTES_MAX - 2 * 64 - 2 * 48, 1), None);
    assert_eq!(group_bytes(u64::MAX, 1, 1), None);
}

#[test]
fn a_group_header_that_cannot_be_is_none() {
    let header = |group_bytes: u64, entries: u32, heads_bytes: u32| GroupHeader {
        salt: 1,
        segment: 2,
        record: 3,
        flushed_below: 4,
        group_bytes: u32::try_from(group_bytes).unwrap(),
        entries,
        heads_bytes,
        kind: GroupKind::Moved,
        table_crc: 5,
    };
    let least = 2 * 64 + 3 * 48;
    for (header, is_read) in [
        (header(least, 3, 0), true),
        (header(least - 16, 3, 0), false),
        (header(least, 3, 1), false),
        (header(least + 16, 3, 16), true),
        (header(least + 8, 3, 0), false),
        (header(GROUP_BYTES_MAX, 3, 16), true),
        (header(GROUP_BYTES_MAX + 16, 3, 16), false),
        (header(128, 0, 0), true),
    ] {
        let at = 4096;
        let read = GroupHeader::decode_header(&header.encode(GroupMark::Header, at), at);
        assert_eq!(read, is_read.then_some(header));
        let trailer_at = at + u64::from(header.group_bytes) - 64;
        let read = GroupHeader::decode_trailer(&header.encode(GroupMark::Trailer, at), trailer_at);
        assert_eq!(read, is_read.then_some((header, at)));
    }
}

/// The records say which journal they belong to, whatever the one who opens it thinks.
#[test]
fn a_journal_without_any_segment_header_is_read_by_what_its_groups_say() {
    let disk = FaultDisk::without_blocks();
    let journal = open(&disk);
    for number in 0..100 {
        apply_one(&journal, Key::new(1, number, 0), 1000);
    }
    let model = contents(&journal);
    journal.close().unwrap();
    let files = names(&disk, ".seg");
    assert_eq!(files.len(), 2);
    for name in &files {
        disk.change(name, |bytes| bytes[..128].fill(0));
    }
    let stranger = JournalConfig { salt: 77, ..config() };
    assert_eq!(contents(&open_with(&disk.crash(Keep::All), stranger)), model);
    // Also where the first group's header of the first file is gone as well.
    disk.change(FIRST, |bytes| bytes[128..192].fill(0));
    assert_eq!(contents(&open_with(&disk, stranger)), model);
}

#[test]
fn a_file_of_another_journal_does_not_count() {
    let disk = FaultDisk::without_blocks();
    let journal = open(&disk);
    for number in 0..150 {
        apply_one(&journal, Key::new(1, number, 0), 1000);
    }
    let model = contents(&journal);
    journal.close().unwrap();
    let other = FaultDisk::without_blocks();
    let journal = open_with(&other, JournalConfig { salt: 4, ..config() });
    apply_one(&journal, Key::new(1, 500, 0), 1000);
    journal.close().unwrap();
    let last = names(&disk, ".seg").pop().unwrap();
    assert_eq!(last, "0000000000000003.seg");
    // Instead of the first one: its records are lost, those of the others are not.
    let lost = journal_records(&disk, 1);
    disk.change(FIRST, |bytes| *bytes = other.bytes(FIRST));
    let journal = open_with(&disk, JournalConfig { salt: 4, ..config() });
    let left = contents(&journal);
    assert!(!journal.damage().is_empty() && !left.contains_key(&Key::new(1, 500, 0)));
    assert_eq!(left.len(), model.len() - lost);
    assert!(left.iter().all(|(key, record)| model.get(key) == Some(record)));
}

/// How many records live in a segment.
fn journal_records(disk: &FaultDisk, segment: u32) -> usize {
    let journal = open(&disk.crash(Keep::All));
    let live = journal.live();
    live.segment(segment).unwrap().records as usize
}

#[test]
fn a_missing_segment_and_missing_groups_are_told() {
    let disk = FaultDisk::without_blocks();
    let journal = open(&disk);
    for number in 0..200 {
        apply_one(&journal, Key::new(1, number, 0), 1000);
    }
    journal.close().unwrap();
    drop(journal);
    assert_eq!(open(&disk.crash(Keep::All)).damage(), []);
    let gone = disk.crash(Keep::All);
    gone.remove("0000000000000002.seg").unwrap();
    let damage = open(&gone).damage();
    let told: Vec<_> = damage.iter().map(|one| (&*one.file, &*one.what, one.loss)).collect();
    assert_eq!(told, [("0000000000000002.seg", "the file is missing", Loss::Unknown)]);
    // The first file ends before its last groups do.
    let short = disk.crash(Keep::All);
    let length = short.bytes(FIRST).len();
    short.change(FIRST, |bytes| bytes.truncate(length - 2 * 1184 - 10));
    let journal = open(&short);
    let left = |number| journal.get(Key::new(1, number, 0)).is_ok_and(|record| record.is_some());
    let lost: Vec<u64> = (0..200).filter(|number| !left(*number)).collect();
    assert_eq!(lost, [53, 54]);
    assert!(journal.damage().iter().any(|one| one.file == FIRST && one.loss == Loss::Unknown));
    let missing = |one: &Damage| one.what.ends_with("groups are missing before this segment");
    assert!(journal.damage().iter().any(|one| missing(one) && one.file == "0000000000000002.seg"));
}

#[test]
fn a_torn_tail_is_as_long_as_what_was_dropped() {
    let disk = FaultDisk::without_blocks();
    let journal = open(&disk);
    apply_one(&journal, Key::new(1, 1, 0), 300);
    let begin = disk.bytes(FIRST).len();
    apply_one(&journal, Key::new(1, 2, 0), 300);
    drop(journal);
    let end = disk.bytes(FIRST).len();
    assert_eq!(open(&disk.crash(Keep::All)).torn_tail(), None);
    let torn = |change: &dyn Fn(&mut Vec<u8>)| {
        let disk = disk.crash(Keep::All);
        disk.change(FIRST, change);
        let tail = open(&disk).torn_tail().unwrap();
        assert_eq!((&*tail.file, tail.offset), (FIRST, begin as u64));
        tail.bytes as usize
    };
    assert_eq!(torn(&|bytes| bytes[end - 100] ^= 1), end - begin);
    assert_eq!(torn(&|bytes| bytes.truncate(end - 10)), end - 10 - begin);
    assert_eq!(torn(&|bytes| bytes[end - 100..].fill(0)), end - begin, "as its header says");
    let empty = disk.crash(Keep::All);
    empty.change(FIRST, |bytes| bytes.truncate(2 * SEGMENT_HEADER_BYTES));
    let journal = open(&empty);
    assert_eq!((journal.files()[0].used_bytes, journal.torn_tail()), (128, None));
    // What lies behind the last group and is none was never one.
    disk.change(FIRST, |bytes| bytes.resize(end + 500, 0xa5));
    assert_eq!(open(&disk).torn_tail(), None);
}

/// All of it is there but its header, as a power cut may leave it: whether it was ever finished nobody knows.
#[test]
fn a_last_group_without_its_header_does_not_count() {
    let disk = FaultDisk::without_blocks();
    let journal = open(&disk);
    apply_one(&journal, Key::new(1, 1, 0), 300);
    let begin = disk.bytes(FIRST).len();
    apply_one(&journal, Key::new(1, 2, 0), 300);
    drop(journal);
    let end = disk.bytes(FIRST).len();
    disk.change(FIRST, |bytes| bytes[begin..begin + GROUP_HEADER_BYTES].fill(0));
    let journal = open(&disk);
    assert_eq!(contents(&journal).into_keys().collect::<Vec<_>>(), [Key::new(1, 1, 0)]);
    assert_eq!(journal.damage(), []);
    let tail = journal.torn_tail().unwrap();
    assert_eq!((tail.offset, tail.bytes), (begin as u64, (end - begin) as u64));
}

/// A journal with two spare segments on a disk with no room for anything else.
fn full_disk_with_spares() -> (FaultDisk, Journal) {
    let disk = FaultDisk::without_blocks();
    let journal = open(&disk);
    for number in 0..300 {
        apply_one(&journal, Key::new(1, number, 0), 1000);
    }
    let mut writes = WriteSet::default();
    writes.delete_below(1, 300);
    journal.apply(&writes, Durability::Flushed).unwrap();
    assert_eq!(names(&disk, ".spare").len(), 3);
    disk.set_capacity(disk.used());
    (disk, journal)
}

#[test]
fn a_full_disk_goes_on_in_the_segments_that_were_kept() {
    let (disk, journal) = full_disk_with_spares();
    apply_one(&journal, Key::new(2, 0, 0), 1000);
    assert_eq!(names(&disk, ".spare").len(), 2);
    let (disk, journal) = full_disk_with_spares();
    journal.reserve(1004, 0).unwrap();
    assert_eq!(names(&disk, ".spare").len(), 2);
    apply_one(&journal, Key::new(2, 0, 0), 1000);
    assert_eq!(contents(&open(&disk)).len(), 1);
}

#[test]
fn a_disk_that_fails_while_room_is_secured_is_no_full_one() {
    let (disk, journal) = full_disk_with_spares();
    // Too little to take the file system's word, and enough to go on here.
    disk.set_capacity(disk.used() + 200 * 1024);
    disk.plan(Plan::FailAt(disk.operations()));
    assert_eq!(journal.reserve(1004, 0).unwrap_err().kind(), ErrorKind::Unavailable);
    assert_eq!(journal.reserve(1004, 0).unwrap_err().kind(), ErrorKind::Unavailable);
    assert_eq!(names(&disk, ".spare").len(), 3);
}

#[test]
fn a_folder_of_the_host_is_a_disk() {
    let folder = tempfile::tempdir().unwrap();
    let below = folder.path().join("a/b/c");
    let disk = HostDisk::new(&below);
    disk.create_folder().unwrap();
    disk.create_folder().unwrap();
    assert!(below.is_dir());
    let figures = rustix::fs::statvfs(&below).unwrap();
    let free = disk.free_bytes().unwrap();
    assert!(free > 1024 * 1024 && free <= figures.f_blocks * figures.f_frsize, "{free}");
    let file = disk.create("one").unwrap();
    // More slices than the kernel takes at once, and empty ones among them.
    let pieces: Vec<Vec<u8>> = (0..3000_usize).map(|number| vec![number as u8; number % 5]).collect();
    let mut slices: Vec<_> = pieces.iter().map(|piece| IoSlice::new(piece)).collect();
    file.write_all_at(&mut slices, 7).unwrap();
    let whole = pieces.concat();
    assert_eq!(file.file_bytes().unwrap(), 7 + whole.len() as u64);
    let mut read = vec![1; whole.len() + 20];
    assert_eq!(file.read_at(&mut read, 0).unwrap(), whole.len() + 7);
    assert!(read[..7] == [0; 7] && read[7..whole.len() + 7] == whole);
    assert_eq!(file.read_at(&mut read, 1 << 20).unwrap(), 0);
    file.write_all_at(&mut [IoSlice::new(b"")], 1 << 20).unwrap();
    file.sync_data().unwrap();
    disk.rename("one", "two").unwrap();
    disk.create("three").unwrap();
    let mut names = disk.list().unwrap();
    names.sort_unstable();
    assert_eq!(names, ["three", "two"]);
    disk.remove("three").unwrap();
    disk.sync_folder().unwrap();
    assert_eq!(disk.list().unwrap(), ["two"]);
    assert_eq!(disk.open("three").unwrap_err().kind(), std::io::ErrorKind::NotFound);
    let reader = HostDisk::for_reading(&below);
    let file = reader.open("two").unwrap();
    assert_eq!(file.read_at(&mut read, 0).unwrap(), whole.len() + 7);
    assert!(file.write_all_at(&mut [IoSlice::new(b"x")], 0).is_err());
    assert!(disk.create("two").unwrap().file_bytes().unwrap() == 0, "created anew it is empty");
    // A file where a folder should be.
    assert!(HostDisk::new(below.join("two/d")).create_folder().is_err());
}

/// The moved segment has one large group, so that much of it waits to be moved when some of that is deleted.
#[test]
fn what_dies_while_its_segment_is_being_moved_does_not_come_back() {
    let disk = FaultDisk::without_blocks();
    let config = JournalConfig { segment_bytes: 1024 * 1024, spare_segments_max: 0, salt: 7 };
    let journal = open_with(&disk, config);
    let mut model = Model::new();
    let mut apply = |writes: &WriteSet| {
        journal.apply(writes, Durability::Flushed).unwrap();
        apply_to(&mut model, writes);
        assert_eq!(contents(&journal), model);
        journal.files().first().is_some_and(|file| file.file == FIRST)
    };
    let mut all = WriteSet::default();
    for number in 0..1000 {
        put(&mut all, Key::new(3, number, 0), b"head", body(number, 2000));
    }
    assert!(apply(&all));
    // Until a part of it has been moved, and then without what waits behind that part.
    let mut large = WriteSet::default();
    put(&mut large, Key::new(4, 0, 0), b"", body(1, BODY_BYTES_MAX));
    let is_moving = || journal.live().segment(1).is_some_and(|segment| segment.records < 1000);
    while !is_moving() {
        assert!(apply(&large));
    }
    let mut deleted = WriteSet::default();
    (300..1000).filter(|number| number % 3 > 0).for_each(|number| deleted.delete_number(3, number));
    let mut is_there = apply(&deleted);
    assert!(is_there, "it must not be moved already");
    let mut small = WriteSet::default();
    put(&mut small, Key::new(4, 1, 0), b"", body(2, 10));
    for _ in 0..100 {
        is_there = is_there && apply(&small);
    }
    assert!(!is_there, "it is moved and gone");
    drop(journal);
    assert_eq!(contents(&open(&disk)), model);
}

#[test]
fn segments_are_written_in_whole_blocks() {
    let disk = FaultDisk::new();
    let journal = open(&disk);
    for number in 0..200 {
        apply_one(&journal, Key::new(1, 0, 0), 3000 + number as usize);
    }
    assert!(disk.blocks_written() > 100, "most of it went to old blocks");
    let lasting = disk.crash(Keep::Synced);
    assert_eq!(contents(&open(&lasting)), contents(&journal));
}

#[test]
fn a_host_that_takes_no_blocks_after_all_gets_the_group_the_usual_way() {
    let disk = FaultDisk::new();
    disk.refuse_blocks();
    let journal = open(&disk);
    for number in 0..200 {
        apply_one(&journal, Key::new(1, 0, 0), 3000 + number as usize);
    }
    assert_eq!(disk.blocks_written(), 0);
    let lasting = disk.crash(Keep::Synced);
    assert_eq!(contents(&open(&lasting)), contents(&journal));
}
