//! What a group comes to, beside what is stored.

use super::super::Sled;
use super::*;
use crate::Durability;
use crate::engine::Engine;
use crate::engine::tests::{body, contents, put};

fn open() -> (tempfile::TempDir, Sled) {
    let folder = tempfile::tempdir().unwrap();
    let engine = Sled::open_folder(&folder.path().join("sled")).unwrap();
    (folder, engine)
}

fn changes(engine: &Sled, writes: &WriteSet) -> Changes {
    let db = engine.db().unwrap();
    Changes::of(&db, &mut engine.writer().reach, writes).unwrap()
}

#[test]
fn a_large_group_goes_ahead_in_parts_that_nobody_sees() {
    let (_folder, engine) = open();
    let mut writes = WriteSet::default();
    for number in 0..20 {
        put(&mut writes, Key::new(1, number, 0), b"head", body(number, 256 * 1024));
    }
    let mut group = Changes::of(&engine.db().unwrap(), &mut Reach::default(), &writes).unwrap();
    assert_eq!(group.growth(), 20);
    let parts = group.parts_ahead();
    assert!(parts.len() > 1 && parts.iter().all(|part| part.bytes() < UNFLUSHED_BYTES_MAX));
    assert!(parts.iter().flat_map(|part| part.0.keys()).all(|name| name.len() > KEY_BYTES));
    assert!(group.0.len() == 20 && group.0.keys().all(|name| name.len() == KEY_BYTES));
    engine.apply(&writes, Durability::Flushed).unwrap();
    assert_eq!(contents(&engine).len(), 20);
    // The same again: the pieces of what is there change with it, not ahead of it.
    let mut group = changes(&engine, &writes);
    assert_eq!(group.growth(), 0);
    assert_eq!(group.parts_ahead().len(), 0);
}

#[test]
fn what_comes_and_goes_with_a_group_is_never_stored() {
    let (_folder, engine) = open();
    let mut writes = WriteSet::default();
    put(&mut writes, Key::new(1, 1, 0), b"stays", body(1, 10));
    put(&mut writes, Key::new(1, 2, 0), b"goes", body(2, 300_000));
    put(&mut writes, Key::new(1, 3, 0), b"goes", body(3, 10));
    writes.delete(Key::new(1, 2, 0));
    writes.delete_number(1, 3);
    let group = changes(&engine, &writes);
    assert_eq!(group.growth(), 1);
    engine.apply(&writes, Durability::Flushed).unwrap();
    assert_eq!(contents(&engine).into_keys().collect::<Vec<_>>(), [Key::new(1, 1, 0)]);
    assert_eq!((engine.db().unwrap().len(), engine.stats().records), (1, 1));
}

#[test]
fn what_is_stored_is_found_also_after_reopening() {
    let (folder, engine) = open();
    let mut writes = WriteSet::default();
    for number in [5, 6, 7] {
        put(&mut writes, Key::new(1, number, 0), b"head", body(number, 300_000));
    }
    engine.apply(&writes, Durability::Flushed).unwrap();
    engine.close().unwrap();
    drop(engine);
    let engine = Sled::open_folder(&folder.path().join("sled")).unwrap();
    let mut writes = WriteSet::default();
    put(&mut writes, Key::new(1, 5, 0), b"shorter", body(5, 10));
    writes.delete(Key::new(1, 6, 0));
    writes.delete_numbers(1, 7..100);
    engine.apply(&writes, Durability::Flushed).unwrap();
    assert_eq!(contents(&engine).into_keys().collect::<Vec<_>>(), [Key::new(1, 5, 0)]);
    assert_eq!((engine.db().unwrap().len(), engine.stats().records), (1, 1));
}
