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

#[test]
fn another_opening_is_refused_while_one_has_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("sled");
    let engine = Sled::open_folder(&path).unwrap();
    assert_eq!(Sled::open_folder(&path).unwrap_err().kind(), ErrorKind::Locked);
    drop(engine);
    Sled::open_folder(&path).unwrap();
}

#[test]
fn blobs_are_flushed_and_known() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("sled");
    let engine = Sled::open_folder(&path).unwrap();
    for number in 0..4 {
        store(&engine, number, 400_000);
    }
    let there: HashSet<PathBuf> =
        fs::read_dir(path.join("blobs")).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert!(!there.is_empty(), "this test wants values that sled keeps as blobs");
    assert_eq!(engine.writer().blobs, there);
    let before = contents(&engine);
    drop(engine);
    assert_eq!(contents(&Sled::open_folder(&path).unwrap()), before);
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
