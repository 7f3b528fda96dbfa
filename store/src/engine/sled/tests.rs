//! What is particular to the sled engine.

use super::*;
use crate::engine::tests::{body, contents, put};

fn store(engine: &Sled, number: u64, bytes: usize) {
    let mut writes = WriteSet::default();
    put(&mut writes, Key::new(1, number, 0), b"head", body(number, bytes));
    engine.apply(&writes, Durability::Flushed).unwrap();
}

#[test]
fn golden_bytes() {
    let key = Key::new(7, 0x0102_0304_0506_0708, 0x090a_0b0c);
    assert_eq!(key_bytes(key), [7, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12]);
    assert_eq!(key_of(&key_bytes(key)), Some(key));
    assert_eq!(key_of(&key_bytes(key)[..12]), None);
    let value = value_bytes(key, b"ab", b"cde");
    assert_eq!(&value[..9], [2, 0, 0, 0, b'a', b'b', b'c', b'd', b'e']);
    assert_eq!(value_of(key, &value), Some((&b"ab"[..], &b"cde"[..])));
    for bit in 0..value.len() * 8 {
        let mut flipped = value.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        assert_eq!(value_of(key, &flipped), None);
    }
    assert_eq!(value_of(Key::new(7, 0, 0), &value), None);
}

#[test]
fn a_creation_that_was_cut_off_is_begun_anew() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("data/sled");
    let left = folder.path().join("data/sled.new");
    fs::create_dir_all(&left).unwrap();
    fs::write(left.join("conf"), b"half").unwrap();
    let engine = Sled::open_folder(&path).unwrap();
    store(&engine, 1, 10);
    assert!(!left.exists());
}

/// Found by chaos: a disk that was full at an opening left half a snapshot, and sled took that for the latest.
#[test]
fn a_snapshot_that_was_cut_off_keeps_nothing_closed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("sled");
    let engine = Sled::open_folder(&path).unwrap();
    store(&engine, 1, 10);
    let before = contents(&engine);
    drop(engine);
    for half in [&b""[..], b"half of a snapshot that is longer than its checksum"] {
        let left = path.join("snap.00000000FFFFFFFF.generating");
        fs::write(&left, half).unwrap();
        let engine = Sled::open_folder(&path).unwrap();
        assert_eq!(contents(&engine), before);
        assert!(!left.exists());
    }
}

#[test]
fn another_opening_is_refused_while_one_has_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("sled");
    let engine = Sled::open_folder(&path).unwrap();
    assert_eq!(Sled::open_folder(&path).unwrap_err().kind(), ErrorKind::Locked);
    drop(engine);
    Sled::open_folder(&path).unwrap();
}

/// sled keeps pages that are too long for its log as files of their own, and a power cut made it lose acknowledged
/// changes with them, or not open any more.
#[test]
fn no_page_becomes_a_file_of_its_own() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("sled");
    let engine = Sled::open_folder(&path).unwrap();
    let blobs = || fs::read_dir(path.join("blobs")).unwrap().count();
    for number in 0..60 {
        // Also against the order of the keys, so that pages are split everywhere.
        store(
            &engine,
            number * 7 % 60,
            if number % 3 == 0 { crate::engine::BODY_BYTES_MAX } else { PIECE_BYTES - 200 },
        );
        assert_eq!(blobs(), 0, "after {number}");
    }
    for number in 0..60 {
        let mut writes = WriteSet::default();
        writes.delete(Key::new(1, number, 0));
        if number % 10 != 0 {
            engine.apply(&writes, Durability::Flushed).unwrap();
        }
        assert_eq!(blobs(), 0, "after {number} deletes");
    }
    let before = contents(&engine);
    assert_eq!(before.len(), 6);
    drop(engine);
    assert_eq!(contents(&Sled::open_folder(&path).unwrap()), before);
}

#[test]
fn a_long_record_leaves_no_piece_behind() {
    let folder = tempfile::tempdir().unwrap();
    let engine = Sled::open_folder(&folder.path().join("sled")).unwrap();
    let pieces = || engine.db().unwrap().len();
    // The value has 12 bytes more than head and body: exactly three pieces, then one byte more, then one.
    for (bytes, expected) in [(3 * PIECE_BYTES - 12, 3), (3 * PIECE_BYTES - 11, 4), (10, 1)] {
        store(&engine, 1, bytes);
        assert_eq!(engine.get(Key::new(1, 1, 0)).unwrap().unwrap().body, body(1, bytes));
        assert_eq!((pieces(), engine.stats().records), (expected, 1));
    }
    store(&engine, 1, 3 * PIECE_BYTES);
    let mut both = WriteSet::default();
    put(&mut both, Key::new(1, 1, 0), b"head", body(5, 2 * PIECE_BYTES));
    put(&mut both, Key::new(1, 1, 0), b"head", body(6, 20));
    put(&mut both, Key::new(2, 1, 0), b"head", body(7, 2 * PIECE_BYTES));
    engine.apply(&both, Durability::Flushed).unwrap();
    assert_eq!((pieces(), engine.stats().records), (4, 2));
    both.clear();
    both.delete(Key::new(1, 1, 0));
    both.delete_below(2, 2);
    engine.apply(&both, Durability::Flushed).unwrap();
    assert_eq!((pieces(), engine.stats().records), (0, 0));
}

#[test]
fn pieces_that_a_crash_left_alone_are_removed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("sled");
    let engine = Sled::open_folder(&path).unwrap();
    store(&engine, 1, 10);
    store(&engine, 2, 2 * PIECE_BYTES);
    let before = contents(&engine);
    for number in [1, 3] {
        let key = piece_key(&key_bytes(Key::new(1, number, 0)), 1);
        engine.db().unwrap().insert(key, vec![0; 10]).unwrap();
    }
    drop(engine);
    let engine = Sled::open_folder(&path).unwrap();
    assert_eq!(contents(&engine), before);
    assert_eq!((engine.db().unwrap().len(), engine.stats().records), (4, 2));
}

#[test]
fn a_damaged_value_is_listed_and_left_out() {
    let folder = tempfile::tempdir().unwrap();
    let engine = Sled::open_folder(&folder.path().join("sled")).unwrap();
    store(&engine, 1, 10);
    store(&engine, 2, 10);
    let key = Key::new(1, 1, 0);
    let mut value = engine.db().unwrap().get(key_bytes(key)).unwrap().unwrap().to_vec();
    value[6] ^= 1;
    engine.db().unwrap().insert(key_bytes(key), value).unwrap();
    let mut keys = Vec::new();
    engine
        .recover(&mut |key, _| {
            keys.push(key);
            Ok(())
        })
        .unwrap();
    assert_eq!(keys, [Key::new(1, 2, 0)]);
    assert_eq!(engine.get(key).unwrap_err().kind(), ErrorKind::Corrupt);
    let damage = engine.damage();
    assert_eq!((damage.len(), damage[0].key), (1, Some(key)));
}

/// sled's threads may hold its lock a moment longer than its last handle.
#[test]
fn a_closed_database_opens_again_at_once() {
    let folder = tempfile::tempdir().unwrap();
    for round in 0..30u64 {
        let engine = Sled::open_folder(&folder.path().join("sled")).unwrap();
        let mut writes = WriteSet::default();
        writes.put(Key::new(1, round, 0), Bytes::from(vec![1; 50_000]), |_head| {});
        engine.apply(&writes, Durability::Flushed).unwrap();
        engine.close().unwrap();
    }
}
