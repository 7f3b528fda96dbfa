//! The suite that every engine passes, and the model that it is held against.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use proptest::prelude::*;

use super::journal::{Journal, JournalConfig};
use super::memory::Memory;
use super::{BODY_BYTES_MAX, Engine, HEAD_BYTES_MAX, Key, Record, Write, WriteSet};
use crate::{Durability, ErrorKind};

/// What an engine should hold.
pub(super) type Model = BTreeMap<Key, (Vec<u8>, Bytes)>;

/// Applies a write set to a model.
pub(super) fn apply_to(model: &mut Model, writes: &WriteSet) {
    for write in writes.iter() {
        match write {
            Write::Put { key, head, body } => {
                model.insert(key, (head.to_vec(), body.clone()));
            }
            Write::Delete { key } => {
                model.remove(&key);
            }
            Write::DeleteNumbers { family, first, count } => {
                let numbers = first..first + u64::from(count);
                model.retain(|key, _| key.family != family || !numbers.contains(&key.number));
            }
            Write::DeleteBelow { family, number } => {
                model.retain(|key, _| key.family != family || key.number >= number);
            }
        }
    }
}

/// Everything an engine holds, as recovery and reading give it.
pub(super) fn contents(engine: &dyn Engine) -> Model {
    let mut heads = BTreeMap::new();
    engine
        .recover(&mut |key, head| {
            assert!(heads.insert(key, head.to_vec()).is_none(), "{key:?} was visited twice");
            Ok(())
        })
        .unwrap();
    let mut model = Model::new();
    for (key, head) in heads {
        let record = engine.get(key).unwrap().unwrap();
        assert_eq!(record.head, head, "the head of {key:?}");
        model.insert(key, (head, record.body));
    }
    assert_eq!(engine.stats().records, model.len() as u64);
    // The same, all at once, in order and against it, with some that are not there.
    let mut keys: Vec<Key> = model.keys().flat_map(|key| [*key, Key::new(99, key.number, 0)]).collect();
    for _ in 0..2 {
        for (key, record) in keys.iter().zip(engine.get_many(&keys)) {
            let expected =
                model.get(key).map(|(head, body)| Record { head: head.clone().into(), body: body.clone() });
            assert_eq!(record.unwrap(), expected, "{key:?}");
        }
        keys.reverse();
        keys.retain(|key| key.family != 99);
    }
    model
}

/// A body of `bytes` bytes that differs with `seed`.
pub(super) fn body(seed: u64, bytes: usize) -> Bytes {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut out = Vec::with_capacity(bytes + 8);
    while out.len() < bytes {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        out.extend_from_slice(&state.to_le_bytes());
    }
    out.truncate(bytes);
    Bytes::from(out)
}

pub(super) fn put(writes: &mut WriteSet, key: Key, head: &[u8], body: Bytes) {
    writes.put(key, body, |out| out.extend_from_slice(head));
}

/// Opens the engine under test anew, on what the one before left.
type Open<'a> = dyn FnMut() -> Arc<dyn Engine> + 'a;

/// The contract, step by step.
fn suite(open: &mut Open<'_>, is_durable: bool) {
    let engine = open();
    let key = Key::new(7, 1, 0);
    assert!(engine.get(key).unwrap().is_none());
    engine.apply(&WriteSet::default(), Durability::Flushed).unwrap();

    let mut writes = WriteSet::default();
    put(&mut writes, key, b"head", body(1, 1000));
    put(&mut writes, Key::new(7, 1, 1), b"", Bytes::new());
    put(&mut writes, Key::new(7, 2, 0), b"two", body(2, 70_000));
    put(&mut writes, Key::new(8, u64::MAX, u32::MAX), b"last", body(3, 1));
    engine.reserve(writes.payload_bytes() as u64, 0).unwrap();
    engine.apply(&writes, Durability::Flushed).unwrap();
    let record = engine.get(key).unwrap().unwrap();
    assert_eq!((&*record.head, &record.body), (&b"head"[..], &body(1, 1000)));
    assert_eq!(engine.stats().records, 4);

    // Within one apply the order decides.
    writes.clear();
    writes.delete(key);
    put(&mut writes, key, b"again", body(4, 10));
    put(&mut writes, Key::new(7, 3, 0), b"gone", body(5, 10));
    writes.delete(Key::new(7, 3, 0));
    writes.delete(Key::new(9, 9, 9));
    engine.apply(&writes, Durability::Written).unwrap();
    assert_eq!(engine.get(key).unwrap().unwrap().head, b"again"[..]);
    assert!(engine.get(Key::new(7, 3, 0)).unwrap().is_none());

    // A bound removes what is below it and what came before it, of its family only.
    writes.clear();
    put(&mut writes, Key::new(7, 0, 5), b"below", Bytes::new());
    writes.delete_below(7, 2);
    put(&mut writes, Key::new(7, 1, 9), b"after", Bytes::new());
    engine.apply(&writes, Durability::Flushed).unwrap();
    let keys: Vec<Key> = contents(&*engine).into_keys().collect();
    assert_eq!(keys, [Key::new(7, 1, 9), Key::new(7, 2, 0), Key::new(8, u64::MAX, u32::MAX)]);

    refuses_long_records(&*engine);
    let before = contents(&*engine);
    assert!(engine.damage().is_empty());
    engine.close().unwrap();
    writes.clear();
    writes.delete(key);
    for result in [engine.apply(&writes, Durability::Flushed), engine.reserve(1, 0)] {
        assert_eq!(result.unwrap_err().kind(), ErrorKind::Closed);
    }
    engine.close().unwrap();
    drop(engine);
    if is_durable {
        assert_eq!(contents(&*open()), before);
        assert_eq!(contents(&*open()), before);
    }
}

fn refuses_long_records(engine: &dyn Engine) {
    let before = contents(engine);
    for (head, bytes) in [(HEAD_BYTES_MAX + 1, 0), (0, BODY_BYTES_MAX + 1)] {
        let mut writes = WriteSet::default();
        put(&mut writes, Key::new(1, 1, 1), b"whole", Bytes::new());
        put(&mut writes, Key::new(1, 2, 1), &vec![1; head], body(1, bytes));
        let error = engine.apply(&writes, Durability::Flushed).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid);
    }
    assert_eq!(contents(engine), before);
    let mut writes = WriteSet::default();
    put(&mut writes, Key::new(1, 1, 1), &vec![1; HEAD_BYTES_MAX], body(1, BODY_BYTES_MAX));
    engine.apply(&writes, Durability::Flushed).unwrap();
    assert_eq!(engine.get(Key::new(1, 1, 1)).unwrap().unwrap().body.len(), BODY_BYTES_MAX);
    writes.clear();
    writes.delete_below(1, u64::MAX);
    engine.apply(&writes, Durability::Flushed).unwrap();
    assert_eq!(contents(engine), before);
}

#[derive(Debug, Clone)]
enum Step {
    Put { family: u8, number: u64, part: u32, head: usize, body: usize },
    Delete { family: u8, number: u64, part: u32 },
    DeleteNumbers { family: u8, first: u64, count: u64 },
    DeleteBelow { family: u8, number: u64 },
    Apply(Durability),
    Reopen,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let durability = prop_oneof![Just(Durability::Flushed), Just(Durability::Written)];
    let step = prop_oneof![
        8 => (0..3_u8, 0..40_u64, 0..2_u32, 0..40_usize, 0..9000_usize)
            .prop_map(|(family, number, part, head, body)| Step::Put { family, number, part, head, body }),
        4 => (0..3_u8, 0..40_u64, 0..2_u32)
            .prop_map(|(family, number, part)| Step::Delete { family, number, part }),
        2 => (0..3_u8, 0..40_u64, 1..10_u64)
            .prop_map(|(family, first, count)| Step::DeleteNumbers { family, first, count }),
        1 => (0..3_u8, 0..40_u64).prop_map(|(family, number)| Step::DeleteBelow { family, number }),
        4 => durability.prop_map(Step::Apply),
        1 => Just(Step::Reopen),
    ];
    prop::collection::vec(step, 0..150)
}

/// Runs the steps and compares with the model at every reopening and at the end.
fn follows_model(open: &mut Open<'_>, is_durable: bool, steps: &[Step]) {
    let mut engine = open();
    let mut model = Model::new();
    let mut writes = WriteSet::default();
    for (index, step) in steps.iter().enumerate() {
        match *step {
            Step::Put { family, number, part, head, body: bytes } => {
                let key = Key::new(family, number, part);
                put(&mut writes, key, &body(index as u64, head), body(index as u64 + 1, bytes));
            }
            Step::Delete { family, number, part } => writes.delete(Key::new(family, number, part)),
            Step::DeleteNumbers { family, first, count } => {
                (first..first + count).for_each(|number| writes.delete_number(family, number));
            }
            Step::DeleteBelow { family, number } => writes.delete_below(family, number),
            Step::Apply(durability) => {
                engine.reserve(writes.payload_bytes() as u64, 0).unwrap();
                engine.apply(&writes, durability).unwrap();
                apply_to(&mut model, &writes);
                writes.clear();
            }
            Step::Reopen if is_durable => {
                // Now and then without a clean end, as when the process is killed.
                if index % 2 == 0 {
                    engine.close().unwrap();
                }
                drop(engine);
                engine = open();
                assert_eq!(contents(&*engine), model);
                assert!(engine.damage().is_empty());
            }
            Step::Reopen => {}
        }
    }
    assert_eq!(contents(&*engine), model);
}

fn small_journal(folder: &std::path::Path) -> Arc<dyn Engine> {
    let config = JournalConfig { segment_bytes: 64 * 1024, spare_segments_max: 2, salt: 42 };
    Arc::new(Journal::open_folder(&folder.join("new/journal"), config).unwrap())
}

#[test]
fn memory_passes_the_suite() {
    suite(&mut || Arc::new(Memory::new()), false);
}

#[test]
fn journal_passes_the_suite() {
    let folder = tempfile::tempdir().unwrap();
    suite(&mut || small_journal(folder.path()), true);
}

#[cfg(feature = "sled")]
fn sled(folder: &std::path::Path) -> Arc<dyn Engine> {
    Arc::new(super::sled::Sled::open_folder(&folder.join("new/sled")).unwrap())
}

#[cfg(feature = "sled")]
#[test]
fn sled_passes_the_suite() {
    let folder = tempfile::tempdir().unwrap();
    suite(&mut || sled(folder.path()), true);
}

#[cfg(feature = "sled")]
#[test]
fn sled_follows_the_model() {
    // Fewer rounds than the others: each of its openings flushes a dozen files.
    let config = ProptestConfig { cases: 6, failure_persistence: None, ..ProptestConfig::default() };
    let mut runner = proptest::test_runner::TestRunner::new(config);
    runner
        .run(&steps(), |steps| {
            let folder = tempfile::tempdir().unwrap();
            follows_model(&mut || sled(folder.path()), true, &steps);
            Ok(())
        })
        .unwrap();
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn memory_follows_the_model(steps in steps()) {
        follows_model(&mut || Arc::new(Memory::new()), false, &steps);
    }

    #[test]
    fn journal_follows_the_model(steps in steps()) {
        let folder = tempfile::tempdir().unwrap();
        follows_model(&mut || small_journal(folder.path()), true, &steps);
    }
}
