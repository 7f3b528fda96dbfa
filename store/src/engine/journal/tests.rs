//! What only the journal promises: how it rolls, recycles, moves, and what it makes of crashes, damage and full
//! disks.

mod edges;
pub(crate) mod fault_disk;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use bytes::Bytes;

use self::fault_disk::{FaultDisk, Keep, Plan};
use super::format::GROUP_HEADER_BYTES;
use super::*;
use crate::engine::tests::{Model, apply_to, body, contents, put};

const SEGMENT_BYTES: u64 = SEGMENT_BYTES_MIN;

fn config() -> JournalConfig {
    JournalConfig { segment_bytes: SEGMENT_BYTES, spare_segments_max: 2, salt: 0x5a17 }
}

fn open(disk: &FaultDisk) -> Journal {
    Journal::open(Arc::new(disk.clone()), config()).unwrap()
}

fn apply_one(journal: &Journal, key: Key, bytes: usize) {
    let mut writes = WriteSet::default();
    put(&mut writes, key, b"head", body(key.number, bytes));
    journal.apply(&writes, Durability::Flushed).unwrap();
}

fn put_one(journal: &Journal, key: Key, head: &[u8], body: Bytes) {
    let mut writes = WriteSet::default();
    put(&mut writes, key, head, body);
    journal.apply(&writes, Durability::Flushed).unwrap();
}

fn delete_one(journal: &Journal, key: Key) {
    let mut writes = WriteSet::default();
    writes.delete(key);
    journal.apply(&writes, Durability::Flushed).unwrap();
}

/// The n-th apply of a scenario that rolls, recycles and moves live rests with small segments.
fn scenario_writes(step: u64) -> WriteSet {
    let mut writes = WriteSet::default();
    if step % 40 == 3 {
        // What stays for long, and so has to be moved.
        put(&mut writes, Key::new(2, step, 0), b"stays", body(step, 3000));
    }
    for part in 0..(step % 3 + 1) {
        let bytes = (step * 2711 + part * 977) % 9000 + usize::from(step % 17 == 5) as u64 * 30_000;
        put(&mut writes, Key::new(1, step, part as u32), &body(step, 30), body(step + part, bytes as usize));
    }
    match step % 5 {
        0 => writes.delete_below(1, step.saturating_sub(6)),
        1 | 2 => writes.delete(Key::new(1, step.saturating_sub(3), 0)),
        3 => put(&mut writes, Key::new(3, 0, 0), b"counter", body(step, 8)),
        _ => {}
    }
    writes
}

const SCENARIO_STEPS: u64 = 130;

fn scenario_durability(step: u64) -> Durability {
    if step % 4 == 2 { Durability::Written } else { Durability::Flushed }
}

/// What a run of the scenario knows: the states after each apply, and which of them is flushed at least.
struct Run {
    states: Vec<Model>,
    flushed: usize,
    error: Option<Error>,
}

/// Runs the scenario until it is through or an apply fails for another reason than a full disk.
fn run_scenario(journal: &Journal, start: Model) -> Run {
    let mut model = start;
    let mut run = Run { states: vec![model.clone()], flushed: 0, error: None };
    static WRITES: OnceLock<Vec<WriteSet>> = OnceLock::new();
    let all = WRITES.get_or_init(|| (0..SCENARIO_STEPS).map(scenario_writes).collect());
    for (step, writes) in (0..).zip(all) {
        let result = journal
            .reserve(writes.payload_bytes() as u64, 0)
            .and_then(|()| journal.apply(writes, scenario_durability(step)));
        match result {
            Ok(()) => {
                apply_to(&mut model, writes);
                run.states.push(model.clone());
                if scenario_durability(step) == Durability::Flushed {
                    run.flushed = run.states.len() - 1;
                }
            }
            Err(error) if error.kind() == ErrorKind::Full => {}
            Err(error) => {
                apply_to(&mut model, writes);
                run.states.push(model);
                run.error = Some(error);
                break;
            }
        }
    }
    run
}

fn assert_recovered(journal: &Journal, run: &Run, what: &str) -> Model {
    let found = contents(journal);
    assert!(journal.damage().is_empty(), "{what}: {:?}", journal.damage());
    let from = run.flushed;
    assert!(
        run.states.iter().skip(from).any(|state| *state == found),
        "{what}: {} records are there, which is none of the {} states since the last flush",
        found.len(),
        run.states.len() - from,
    );
    found
}

#[test]
fn the_scenario_reaches_everything() {
    let disk = FaultDisk::new();
    let journal = open(&disk);
    let run = run_scenario(&journal, Model::new());
    assert!(run.error.is_none());
    assert_eq!(&contents(&journal), run.states.last().unwrap());
    let names = disk.list().unwrap();
    let segments: Vec<_> = names.iter().filter(|name| name.ends_with(".seg")).collect();
    assert!(disk.renames() > 12, "rolled {} times", disk.renames());
    assert!(!names.contains(&"0000000000000001.seg".to_owned()), "the first segment was never freed");
    assert!(segments.len() <= 8, "{segments:?}");
    assert!(names.iter().any(|name| name.ends_with(".spare")), "{names:?}");
    // What stays was moved at least once, and is whole.
    assert!(journal.get(Key::new(2, 3, 0)).unwrap().unwrap().body == body(3, 3000));
    assert!(journal.live().place(Key::new(2, 3, 0)).unwrap().segment > 3);
}

#[test]
fn a_crash_at_every_operation_loses_nothing_acknowledged() {
    let disk = FaultDisk::new();
    run_scenario(&open(&disk), Model::new());
    let operations = disk.operations();
    for n in 0..operations {
        for keep in [Keep::Synced, Keep::All, Keep::Sectors(n)] {
            let disk = FaultDisk::new();
            disk.plan(Plan::StopAt(n));
            let Ok(journal) = Journal::open(Arc::new(disk.clone()), config()) else { continue };
            let run = run_scenario(&journal, Model::new());
            drop(journal);
            let disk = disk.crash(keep);
            let what = format!("operation {n}, {keep:?}");
            let journal = open(&disk);
            let found = assert_recovered(&journal, &run, &what);
            // And goes on from there, with another segment, cut off once more without any flush.
            apply_one(&journal, Key::new(9, n, 0), 500);
            drop(journal);
            let journal = open(&disk.crash(Keep::Synced));
            let mut again = contents(&journal);
            assert!(again.remove(&Key::new(9, n, 0)).is_some(), "{what}");
            assert_eq!(again, found, "{what}");
            assert!(journal.damage().is_empty(), "{what}: {:?}", journal.damage());
        }
    }
}

#[test]
fn a_crash_during_recovery_changes_nothing() {
    let disk = FaultDisk::new();
    let total = {
        run_scenario(&open(&disk), Model::new());
        disk.operations()
    };
    for n in (0..total).step_by(37) {
        let disk = FaultDisk::new();
        disk.plan(Plan::StopAt(n));
        let Ok(journal) = Journal::open(Arc::new(disk.clone()), config()) else { continue };
        let run = run_scenario(&journal, Model::new());
        drop(journal);
        let disk = disk.crash(Keep::Sectors(n));
        for second in 0..12 {
            let disk = disk.crash(Keep::All);
            disk.plan(Plan::StopAt(second));
            let what = format!("operation {n}, then {second}");
            if let Ok(journal) = Journal::open(Arc::new(disk.clone()), config()) {
                let mut writes = WriteSet::default();
                put(&mut writes, Key::new(9, 9, 9), b"", Bytes::new());
                let _ = journal.apply(&writes, Durability::Flushed);
            }
            let journal = open(&disk.crash(Keep::Sectors(second)));
            let mut found = contents(&journal);
            found.remove(&Key::new(9, 9, 9));
            let is_known = run.states.iter().skip(run.flushed).any(|state| *state == found);
            assert!(is_known && journal.damage().is_empty(), "{what}: {:?}", journal.damage());
        }
    }
}

#[test]
fn a_full_disk_at_every_operation_refuses_and_goes_on() {
    let disk = FaultDisk::new();
    run_scenario(&open(&disk), Model::new());
    for n in 0..disk.operations() {
        let disk = FaultDisk::new();
        disk.plan(Plan::FullAt(n));
        let Ok(journal) = Journal::open(Arc::new(disk.clone()), config()) else { continue };
        let run = run_scenario(&journal, Model::new());
        if run.error.is_none() {
            assert_eq!(&contents(&journal), run.states.last().unwrap(), "operation {n}");
        }
        drop(journal);
        assert_recovered(&open(&disk.crash(Keep::All)), &run, &format!("full at operation {n}"));
        assert_recovered(&open(&disk.crash(Keep::Synced)), &run, &format!("full at operation {n}, then cut"));
    }
}

/// A rename that says that the disk is full and has happened: the new segment says where the one before it ends, so
/// what is written there afterwards would be lost.
#[test]
fn a_rename_that_failed_and_happened_costs_nothing() {
    let disk = FaultDisk::new();
    run_scenario(&open(&disk), Model::new());
    for n in 0..disk.operations() {
        let disk = FaultDisk::new();
        disk.plan(Plan::FullYetDoneAt(n));
        let Ok(journal) = Journal::open(Arc::new(disk.clone()), config()) else { continue };
        let run = run_scenario(&journal, Model::new());
        drop(journal);
        disk.plan(Plan::Nothing);
        assert_recovered(&open(&disk.crash(Keep::All)), &run, &format!("renamed at operation {n}"));
        assert_recovered(
            &open(&disk.crash(Keep::Synced)),
            &run,
            &format!("renamed at operation {n}, then cut"),
        );
    }
}

#[test]
fn a_failed_operation_poisons_until_the_next_opening() {
    let disk = FaultDisk::new();
    run_scenario(&open(&disk), Model::new());
    for n in 0..disk.operations() {
        let disk = FaultDisk::new();
        disk.plan(Plan::FailAt(n));
        let Ok(journal) = Journal::open(Arc::new(disk.clone()), config()) else { continue };
        let run = run_scenario(&journal, Model::new());
        let error = run.error.as_ref().unwrap_or_else(|| panic!("operation {n} failed and nobody was told"));
        assert_eq!(error.kind(), ErrorKind::Unavailable);
        for _ in 0..2 {
            let mut writes = WriteSet::default();
            put(&mut writes, Key::new(9, 9, 9), b"", Bytes::new());
            let error = journal.apply(&writes, Durability::Flushed).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Unavailable, "operation {n}");
        }
        assert_eq!(journal.close().unwrap_err().kind(), ErrorKind::Unavailable);
        drop(journal);
        disk.plan(Plan::Nothing);
        let found = assert_recovered(&open(&disk), &run, &format!("operation {n}"));
        // What was seen after the opening lasts, even if the host lied about what it had flushed.
        assert_eq!(contents(&open(&disk.crash(Keep::Synced))), found, "operation {n}");
    }
}

#[test]
fn a_journal_reopened_on_a_full_disk_takes_completions() {
    let disk = FaultDisk::new();
    let journal = open(&disk);
    disk.set_capacity(600 * 1024);
    let mut stored = 0;
    loop {
        let mut writes = WriteSet::default();
        put(&mut writes, Key::new(1, stored, 0), b"head", body(stored, 1000));
        if journal.reserve(1004, 0).is_err() {
            break;
        }
        journal.apply(&writes, Durability::Flushed).unwrap();
        stored += 1;
    }
    drop(journal);
    let disk = disk.crash(Keep::Synced);
    // Not a byte is left.
    let free = disk.free_bytes().unwrap() as usize;
    disk.set_capacity((1 << 30) - free);
    let journal = open(&disk);
    assert_eq!(contents(&journal).len() as u64, stored);
    for number in 0..stored {
        delete_one(&journal, Key::new(1, number, 0));
    }
    assert!(contents(&journal).is_empty() && journal.damage().is_empty());
    journal.close().unwrap();
}

/// Found by chaos: a group of whole blocks of which nothing fitted any more stopped the box, since there was no room for the
/// wiping of what had never been written either.
#[test]
fn a_disk_that_is_full_to_the_last_byte_refuses_a_group_and_goes_on() {
    for left in [0, 1, 10, 23, 24, 511, 512, 600] {
        let disk = FaultDisk::new();
        let journal = open(&disk);
        (0..3).for_each(|number| apply_one(&journal, Key::new(1, number, 0), 5_000));
        let blocks = disk.blocks_written();
        disk.set_capacity(disk.used() + left);
        let mut writes = WriteSet::default();
        put(&mut writes, Key::new(1, 3, 0), b"head", body(3, 5_000));
        let refused = journal.apply(&writes, Durability::Flushed).unwrap_err();
        assert_eq!((refused.kind(), disk.blocks_written()), (ErrorKind::Full, blocks + 1), "{left} left");
        disk.set_capacity(1 << 30);
        apply_one(&journal, Key::new(1, 4, 0), 5_000);
        let expected = contents(&journal);
        assert_eq!(expected.len(), 4, "{left} left");
        drop(journal);
        assert_eq!(contents(&open(&disk.crash(Keep::Synced))), expected, "{left} left");
    }
}

/// Deletes that were only written free nothing by themselves, and on a full disk nothing else may come that would.
#[test]
fn a_full_disk_frees_what_unflushed_deletes_left() {
    let disk = FaultDisk::new();
    let journal = open(&disk);
    put_one(&journal, Key::new(9, 0, 0), b"old", b"pins the first segment".to_vec().into());
    disk.set_capacity(1024 * 1024);
    let mut stored = 0;
    while journal.reserve(10_000, 0).is_ok() {
        put_one(&journal, Key::new(1, stored, 0), b"", body(stored, 10_000));
        stored += 1;
    }
    assert!(stored > 50, "{stored}");
    let mut writes = WriteSet::default();
    (0..stored).for_each(|number| writes.delete(Key::new(1, number, 0)));
    journal.apply(&writes, Durability::Written).unwrap();
    for number in 0..stored {
        journal.reserve(10_000, 0).unwrap();
        put_one(&journal, Key::new(2, number, 0), b"", body(number, 10_000));
        journal.reserve(0, 0).unwrap();
        delete_one(&journal, Key::new(2, number, 0));
    }
}

#[test]
fn a_full_disk_still_takes_completions() {
    let disk = FaultDisk::new();
    let journal = open(&disk);
    let mut first_full = None;
    disk.set_capacity(600 * 1024);
    for number in 0..2000 {
        let mut writes = WriteSet::default();
        put(&mut writes, Key::new(1, number, 0), b"head", body(number, 1000));
        match journal.reserve(1004, 0).and_then(|()| journal.apply(&writes, Durability::Flushed)) {
            Ok(()) => assert_eq!(first_full, None, "the disk was full before"),
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::Full);
                first_full.get_or_insert(number);
            }
        }
    }
    let stored = first_full.unwrap();
    assert!(stored > 300, "only {stored} of 1,000 bytes fitted");
    // Completions are applied without a reservation, and make room in the end.
    for number in 0..stored {
        delete_one(&journal, Key::new(1, number, 0));
    }
    assert!(contents(&journal).is_empty());
    for number in 3000..3050 {
        journal.reserve(1004, 0).unwrap();
        apply_one(&journal, Key::new(1, number, 0), 1000);
    }
}

#[test]
fn a_disk_of_any_size_refuses_in_time_and_loses_nothing() {
    for capacity in (70 * 1024..1500 * 1024).step_by(23 * 1024) {
        let disk = FaultDisk::new();
        disk.set_capacity(capacity);
        let journal = open(&disk);
        let run = run_scenario(&journal, Model::new());
        assert!(run.error.is_none());
        assert_eq!(&contents(&journal), run.states.last().unwrap(), "{capacity} bytes");
        drop(journal);
        assert_recovered(&open(&disk.crash(Keep::All)), &run, &format!("{capacity} bytes"));
        assert_recovered(&open(&disk.crash(Keep::Synced)), &run, &format!("{capacity} bytes, then cut"));
    }
}

#[test]
fn random_flips_in_many_segments_lose_nothing_in_silence() {
    let disk = FaultDisk::new();
    let journal = open(&disk);
    let run = run_scenario(&journal, Model::new());
    journal.close().unwrap();
    let model = run.states.last().unwrap();
    let live: Vec<String> =
        journal.live().segments().map(|(number, _)| FileName::Segment(number).to_string()).collect();
    for seed in 0..300_u64 {
        let disk = disk.crash(Keep::All);
        let mut random = body(seed, 4096).into_iter();
        for name in &live {
            disk.change(name, |bytes| {
                // Far enough apart not to meet in one table entry.
                for piece in bytes.chunks_mut(8192) {
                    let at = (u16::from(random.next().unwrap()) << 8) | u16::from(random.next().unwrap());
                    let length = piece.len();
                    piece[usize::from(at) % length] ^= 1 << (at % 8);
                }
            });
        }
        compare_with_damage(&open(&disk), model, &format!("seed {seed}"));
    }
}

/// A generator of numbers for a seeded test.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % bound
    }

    fn writes(&mut self, step: u64) -> WriteSet {
        let mut writes = WriteSet::default();
        for _ in 0..=self.below(4) {
            let key = Key::new(self.below(3) as u8, self.below(step / 4 + 8), self.below(2) as u32);
            match self.below(10) {
                0..6 => {
                    let bytes = if self.below(12) == 0 { self.below(90_000) } else { self.below(5000) };
                    put(&mut writes, key, &step.to_le_bytes(), body(step, bytes as usize));
                }
                6..9 => writes.delete(key),
                _ => writes.delete_below(key.family, key.number / 2),
            }
        }
        writes
    }
}

/// One journal's life with several crashes, each at a random operation of writing or of opening.
fn crash_again_and_again(seed: u64) {
    let mut random = Random(seed);
    let mut disk = FaultDisk::new();
    let mut known = vec![Model::new()];
    for round in 0..6 {
        let plan = match random.below(4) {
            0 => Plan::FailAt(random.below(150)),
            1 => Plan::FullAt(random.below(150)),
            _ => Plan::StopAt(random.below(150)),
        };
        disk.plan(plan);
        if let Ok(journal) = Journal::open(Arc::new(disk.clone()), config()) {
            let mut model = contents(&journal);
            let what = format!("seed {seed} round {round}");
            assert!(known.contains(&model), "{what}: {} records are a state never seen", model.len());
            assert!(journal.damage().is_empty(), "{what}: {:?}", journal.damage());
            known = vec![model.clone()];
            for step in 0..random.below(120) {
                let writes = random.writes(round * 200 + step);
                let durability = if random.below(3) == 0 { Durability::Written } else { Durability::Flushed };
                let result = journal.apply(&writes, durability);
                if result.as_ref().is_err_and(|error| error.kind() == ErrorKind::Full) {
                    continue;
                }
                apply_to(&mut model, &writes);
                if result.is_ok() && durability == Durability::Flushed {
                    known.clear();
                }
                known.push(model.clone());
                if result.is_err() {
                    break;
                }
            }
            if random.below(5) == 0 && journal.close().is_ok() {
                known = vec![model];
            }
        }
        let keep = match random.below(3) {
            0 => Keep::All,
            1 => Keep::Synced,
            _ => Keep::Sectors(random.below(1 << 30)),
        };
        disk = disk.crash(keep);
    }
}

#[test]
fn many_crashes_one_after_the_other_lose_nothing() {
    for seed in 0..150 {
        crash_again_and_again(seed);
    }
}

/// A small box, closed cleanly, with what it holds.
fn small_box() -> (FaultDisk, Model) {
    let disk = FaultDisk::new();
    let journal = open(&disk);
    let mut model = Model::new();
    for step in 0..4 {
        let mut writes = WriteSet::default();
        put(&mut writes, Key::new(1, step, 0), &body(step, 20), body(step, 70));
        put(&mut writes, Key::new(1, step, 1), b"", body(step, 10));
        if step > 1 {
            writes.delete(Key::new(1, step - 2, 1));
        }
        journal.apply(&writes, Durability::Flushed).unwrap();
        apply_to(&mut model, &writes);
    }
    journal.close().unwrap();
    (disk, model)
}

/// Each place used to be compared with every one that was known.
#[test]
fn damage_in_very_many_places_is_listed_up_to_a_bound() {
    use super::damages::LISTED_MAX;
    let disk = FaultDisk::new();
    let config = JournalConfig { segment_bytes: 16 * 1024 * 1024, ..config() };
    let open = |disk: &FaultDisk| Journal::open(Arc::new(disk.clone()), config).unwrap();
    let journal = open(&disk);
    apply_one(&journal, Key::new(1, 1, 0), 100);
    let mut writes = WriteSet::default();
    (0..2 * LISTED_MAX as u64).for_each(|number| writes.delete(Key::new(2, number, 0)));
    journal.apply(&writes, Durability::Flushed).unwrap();
    apply_one(&journal, Key::new(1, 2, 0), 100);
    drop(journal);
    let name = "0000000000000001.seg";
    disk.change(name, |bytes| {
        let marker = b"PBXGROUP";
        let groups: Vec<usize> =
            (0..bytes.len()).step_by(16).filter(|at| bytes[*at..].starts_with(marker)).collect();
        let table = groups[1] + GROUP_HEADER_BYTES;
        bytes[table..table + 2 * LISTED_MAX * 48].fill(0xa5);
    });
    let journal = open(&disk);
    assert_eq!(journal.damage().len(), LISTED_MAX + 1, "and one that says that there is more");
    assert_eq!(contents(&journal).len(), 2);
}

#[test]
fn every_flipped_bit_is_survived_and_what_it_costs_is_told() {
    let (disk, model) = small_box();
    let name = "0000000000000001.seg";
    let bytes = disk.bytes(name).len();
    let mut lost_in_all = 0;
    for at in 0..bytes {
        for bit in [0, 3, 7] {
            let disk = disk.crash(Keep::All);
            disk.change(name, |bytes| bytes[at] ^= 1 << bit);
            let journal = open(&disk);
            let lost = compare_with_damage(&journal, &model, &format!("byte {at} bit {bit}"));
            assert!(lost <= 1, "one bit at {at} cost {lost} records");
            assert!(journal.torn_tail().is_none(), "byte {at}: damage was taken for a torn tail");
            lost_in_all += lost;
            // The journal can be used on, and still knows.
            apply_one(&journal, Key::new(5, 5, 5), 100);
            drop(journal);
            compare_with_damage(&open(&disk), &model, &format!("byte {at} bit {bit}, opened again"));
        }
    }
    assert!(lost_in_all > 0);
}

#[test]
fn every_garbled_byte_is_survived_and_what_it_costs_is_told() {
    let (disk, model) = small_box();
    let name = "0000000000000001.seg";
    for at in 0..disk.bytes(name).len() {
        let disk = disk.crash(Keep::All);
        disk.change(name, |bytes| bytes[at] = !bytes[at]);
        let journal = open(&disk);
        let lost = compare_with_damage(&journal, &model, &format!("byte {at}"));
        assert!(lost <= 1, "one byte at {at} cost {lost} records");
        assert!(journal.torn_tail().is_none(), "byte {at}: damage was taken for a torn tail");
    }
}

/// Everything is there, or named in the damage. Returns how many records are lost.
fn compare_with_damage(journal: &Journal, model: &Model, what: &str) -> usize {
    let mut lost = 0;
    let mut heads = std::collections::BTreeMap::new();
    journal
        .recover(&mut |key, head| {
            heads.insert(key, head.to_vec());
            Ok(())
        })
        .unwrap();
    heads.retain(|key, _| key.family != 5);
    for (key, (head, bytes)) in model {
        let is_listed = || journal.damage().iter().any(|damage| damage.key == Some(*key));
        match journal.get(*key) {
            Ok(Some(record)) => {
                assert_eq!((&*record.head, &*record.body), (&**head, &**bytes), "{what}");
                assert_eq!(heads.remove(key).as_ref(), Some(head), "{what}");
            }
            Ok(None) => panic!("{what}: {key:?} is gone in silence"),
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::Corrupt);
                assert!(is_listed(), "{what}: {key:?} is not listed");
                heads.remove(key);
                lost += 1;
            }
        }
    }
    assert!(heads.is_empty(), "{what}: {heads:?} came back");
    lost
}

/// More of a table entry than can be mended: its record is gone, or one is back that it removed.
#[test]
fn wiped_bytes_are_survived_and_what_they_cost_is_told() {
    let (disk, model) = small_box();
    let name = "0000000000000001.seg";
    for at in (0..disk.bytes(name).len() - 16).step_by(8) {
        let disk = disk.crash(Keep::All);
        disk.change(name, |bytes| bytes[at..at + 16].fill(0x5a));
        // Where one entry ends and the next one begins it is both.
        compare_loosely(&open(&disk), &model, 2, &format!("bytes from {at} on"));
    }
}

/// As above, for damage that hides which record it is about.
fn compare_loosely(journal: &Journal, model: &Model, at_most: usize, what: &str) {
    let mut difference = 0;
    for (key, (head, bytes)) in model {
        match journal.get(*key) {
            Ok(Some(record)) => assert_eq!((&*record.head, &*record.body), (&**head, &**bytes), "{what}"),
            Ok(None) => difference += 1,
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::Corrupt);
                assert!(journal.damage().iter().any(|damage| damage.key == Some(*key)), "{what}");
            }
        }
    }
    journal
        .recover(&mut |key, _| {
            difference += usize::from(!model.contains_key(&key));
            Ok(())
        })
        .unwrap();
    assert!(difference <= at_most, "{what}: cost {difference} records");
    assert!(difference == 0 || !journal.damage().is_empty(), "{what}: a loss in silence");
}

#[test]
fn a_last_group_cut_anywhere_is_a_torn_tail() {
    let disk = FaultDisk::new();
    let journal = open(&disk);
    apply_one(&journal, Key::new(1, 1, 0), 300);
    let name = "0000000000000001.seg";
    let begin = disk.bytes(name).len();
    apply_one(&journal, Key::new(1, 2, 0), 300);
    drop(journal);
    let end = disk.bytes(name).len();
    for at in begin..end {
        let cut = disk.crash(Keep::All);
        cut.change(name, |bytes| bytes.truncate(at));
        let garbled = disk.crash(Keep::All);
        garbled.change(name, |bytes| bytes[at..].fill(0xa5));
        for disk in [cut, garbled] {
            let journal = open(&disk);
            assert!(journal.damage().is_empty(), "cut at {at}: {:?}", journal.damage());
            assert_eq!(
                contents(&journal).into_keys().collect::<Vec<_>>(),
                [Key::new(1, 1, 0)],
                "cut at {at}"
            );
            if at >= begin + GROUP_HEADER_BYTES {
                assert_eq!(journal.torn_tail().unwrap().offset, begin as u64);
            }
            apply_one(&journal, Key::new(1, 3, 0), 50);
            drop(journal);
            let journal = open(&disk);
            assert!(journal.damage().is_empty(), "cut at {at}: {:?}", journal.damage());
            assert_eq!(contents(&journal).len(), 2, "cut at {at}");
        }
    }
}

#[test]
fn a_closing_mark_cut_in_two_is_no_damage() {
    let (disk, model) = small_box();
    let name = "0000000000000001.seg";
    let end = disk.bytes(name).len();
    for half in [end - 128..end - 64, end - 64..end] {
        for left in [0, 0xa5] {
            let disk = disk.crash(Keep::All);
            disk.change(name, |bytes| bytes[half.clone()].fill(left));
            let journal = open(&disk);
            assert_eq!(journal.damage(), [], "{half:?}");
            apply_one(&journal, Key::new(5, 5, 5), 100);
            drop(journal);
            let journal = open(&disk);
            assert_eq!(journal.damage(), [], "{half:?}, opened again");
            assert_eq!(contents(&journal).len(), model.len() + 1);
        }
    }
}

#[test]
fn a_closing_mark_that_was_never_flushed_is_not_missed_later() {
    let disk = FaultDisk::new();
    let journal = open(&disk);
    apply_one(&journal, Key::new(1, 1, 0), 300);
    // The mark is written and its flush fails; the process ends, the host goes on.
    disk.plan(Plan::FailAt(disk.operations() + 1));
    assert!(journal.close().is_err());
    disk.plan(Plan::Nothing);
    drop(journal);
    let journal = open(&disk);
    apply_one(&journal, Key::new(1, 2, 0), 300);
    drop(journal);
    let journal = open(&disk.crash(Keep::Synced));
    assert_eq!(journal.damage(), []);
    assert_eq!(contents(&journal).len(), 2);
}

#[test]
fn damage_before_a_flushed_group_is_no_torn_tail() {
    let disk = FaultDisk::new();
    let journal = open(&disk);
    let name = "0000000000000001.seg";
    apply_one(&journal, Key::new(1, 1, 0), 300);
    let begin = disk.bytes(name).len();
    apply_one(&journal, Key::new(1, 2, 0), 300);
    let end = disk.bytes(name).len();
    apply_one(&journal, Key::new(1, 3, 0), 300);
    drop(journal);
    // Its header and trailer alone: the record is still there.
    let markless = disk.crash(Keep::All);
    markless.change(name, |bytes| {
        bytes[begin..begin + 64].fill(0);
        bytes[end - 64..end].fill(0);
    });
    let journal = open(&markless);
    assert_eq!(contents(&journal).len(), 3);
    assert_eq!(journal.damage()[0].offset, begin as u64);
    disk.change(name, |bytes| bytes[begin..end].fill(0));
    let journal = open(&disk);
    assert_eq!(contents(&journal).len(), 2);
    let damage = journal.damage();
    assert_eq!((damage[0].offset, damage[0].bytes), (begin as u64, (end - begin) as u64), "{damage:?}");
    assert!(journal.torn_tail().is_none());
}

#[test]
fn groups_behind_an_unfinished_one_do_not_count() {
    let disk = FaultDisk::new();
    let journal = open(&disk);
    let name = "0000000000000001.seg";
    apply_one(&journal, Key::new(1, 1, 0), 300);
    let begin = disk.bytes(name).len();
    let mut writes = WriteSet::default();
    for number in 2..5 {
        writes.clear();
        put(&mut writes, Key::new(1, number, 0), b"head", body(number, 300));
        journal.apply(&writes, Durability::Written).unwrap();
    }
    drop(journal);
    // A power cut wrote the later ones and not the first.
    disk.change(name, |bytes| bytes[begin + 64..begin + 128].fill(0));
    let journal = open(&disk);
    assert!(journal.damage().is_empty(), "{:?}", journal.damage());
    assert_eq!(contents(&journal).into_keys().collect::<Vec<_>>(), [Key::new(1, 1, 0)]);
    assert_eq!(journal.torn_tail().unwrap().offset, begin as u64);
}

#[test]
fn damage_does_not_hide_a_hole_behind_it() {
    let disk = FaultDisk::new();
    let journal = open(&disk);
    let name = "0000000000000001.seg";
    apply_one(&journal, Key::new(1, 1, 0), 300);
    let begin = disk.bytes(name).len();
    apply_one(&journal, Key::new(1, 2, 0), 300);
    let mut ends = Vec::new();
    for number in 3..5 {
        let mut writes = WriteSet::default();
        put(&mut writes, Key::new(1, number, 0), b"head", body(number, 300));
        journal.apply(&writes, Durability::Written).unwrap();
        ends.push(disk.bytes(name).len());
    }
    drop(journal);
    // The second was flushed and is damaged, the third never arrived, the fourth did.
    disk.change(name, |bytes| bytes[begin..ends[0]].fill(0));
    let journal = open(&disk);
    assert_eq!(contents(&journal).into_keys().collect::<Vec<_>>(), [Key::new(1, 1, 0)]);
    assert_eq!(journal.damage()[0].offset, begin as u64);
    assert_eq!(journal.torn_tail().unwrap().offset, ends[0] as u64);
}

#[test]
fn stale_groups_of_a_recycled_segment_never_count() {
    let disk = FaultDisk::new();
    let journal = open(&disk);
    for number in 0..400 {
        apply_one(&journal, Key::new(1, number, 0), 1000);
        if number > 0 {
            delete_one(&journal, Key::new(1, number - 1, 0));
        }
    }
    // The segment being written is a recycled one, full of groups of its former life.
    let live = journal.live().segments().last().map(|(number, _)| number).unwrap();
    assert!(live > 4);
    let expected = contents(&journal);
    drop(journal);
    assert_eq!(expected.len(), 1);
    let journal = open(&disk);
    assert_eq!(contents(&journal), expected);
    assert!(journal.damage().is_empty() && journal.torn_tail().is_none());
}

#[test]
fn a_folder_of_garbage_opens_and_says_so() {
    for seed in 0..200 {
        let mut random = Random(seed);
        let (disk, _) = small_box();
        let journal = open(&disk);
        apply_one(&journal, Key::new(1, 1, 1), 3000);
        drop(journal);
        for name in disk.list().unwrap() {
            disk.change(&name, |bytes| {
                let from = random.below(bytes.len() as u64) as usize;
                let garbage = body(seed, random.below(4000) as usize);
                match random.below(3) {
                    0 => bytes.truncate(from),
                    1 => *bytes = garbage.to_vec(),
                    _ => {
                        bytes.splice(from..from, garbage);
                    }
                }
            });
        }
        let journal = open(&disk);
        journal.recover(&mut |_, _| Ok(())).unwrap();
        for number in 0..4 {
            let _ = journal.get(Key::new(1, number, 0));
        }
        assert!(!journal.damage().is_empty() || journal.torn_tail().is_some(), "seed {seed}");
        apply_one(&journal, Key::new(9, 9, 9), 100);
        assert!(open(&disk).get(Key::new(9, 9, 9)).unwrap().is_some(), "seed {seed}");
    }
}

#[test]
fn another_version_is_refused_and_left_alone() {
    let (disk, _) = small_box();
    disk.change("0000000000000001.seg", |bytes| {
        bytes[8] = 2;
        bytes[64 + 8] = 2;
    });
    let before = disk.bytes("0000000000000001.seg");
    let error = Journal::open(Arc::new(disk.clone()), config()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Incompatible);
    assert!(error.to_string().contains("format_version=2"), "{error}");
    assert_eq!(disk.bytes("0000000000000001.seg"), before);
}

#[test]
fn segments_that_are_missing_or_headless_are_reported() {
    let disk = FaultDisk::new();
    let journal = open(&disk);
    for number in 0..200 {
        apply_one(&journal, Key::new(1, number, 0), 1000);
    }
    journal.close().unwrap();
    let gone = disk.crash(Keep::All);
    gone.remove("0000000000000002.seg").unwrap();
    let journal = open(&gone);
    assert!(journal.damage().iter().any(|damage| damage.file == "0000000000000002.seg"));
    assert!(contents(&journal).len() > 100);
    for name in ["0000000000000001.seg", "0000000000000003.seg"] {
        let headless = disk.crash(Keep::All);
        headless.change(name, |bytes| bytes[..128].fill(0));
        let journal = open(&headless);
        assert_eq!(contents(&journal).len(), 200);
        assert!(journal.damage().iter().all(|damage| damage.file == name));
        assert_eq!(journal.damage().len(), 2);
    }
    let all_headless = disk.crash(Keep::All);
    for name in all_headless.list().unwrap() {
        all_headless.change(&name, |bytes| bytes[..128].fill(0));
    }
    assert_eq!(contents(&open(&all_headless)).len(), 200);
}

#[test]
fn damaged_records_move_along_and_stay_listed() {
    let disk = FaultDisk::new();
    let journal = open(&disk);
    apply_one(&journal, Key::new(2, 1, 0), 700);
    apply_one(&journal, Key::new(2, 2, 0), 700);
    let wanted = body(1, 700);
    disk.change("0000000000000001.seg", |bytes| {
        let at = bytes.windows(700).position(|window| window == &wanted[..]).unwrap();
        bytes[at + 100] ^= 1;
    });
    for number in 0..1200 {
        apply_one(&journal, Key::new(1, number, 0), 1000);
        delete_one(&journal, Key::new(1, number, 0));
    }
    assert!(journal.live().segments().next().unwrap().0 > 1, "the first segment is still there");
    for journal in [journal, open(&disk)] {
        assert_eq!(journal.get(Key::new(2, 1, 0)).unwrap_err().kind(), ErrorKind::Corrupt);
        assert!(journal.get(Key::new(2, 2, 0)).unwrap().is_some());
        assert!(journal.damage().iter().any(|damage| damage.key == Some(Key::new(2, 1, 0))));
        // Its head is whole, and still recovered.
        let mut keys = Vec::new();
        journal
            .recover(&mut |key, _| {
                keys.push(key);
                Ok(())
            })
            .unwrap();
        assert_eq!(keys, [Key::new(2, 1, 0), Key::new(2, 2, 0)]);
    }
}

#[test]
fn old_records_do_not_pin_the_disk() {
    let disk = FaultDisk::new();
    let journal = open(&disk);
    // Ten segments that live for ever, then much that does not.
    for number in 0..640 {
        apply_one(&journal, Key::new(2, number, 0), 1000);
    }
    let live = journal.live().live_bytes();
    for number in 0..4000 {
        apply_one(&journal, Key::new(1, number, 0), 1000);
        delete_one(&journal, Key::new(1, number, 0));
        let bytes = journal.stats().disk_bytes;
        let bound = 2 * live + 8 * SEGMENT_BYTES + 300 * 1024;
        assert!(bytes <= bound, "{bytes} bytes on the disk for {live} that live, after {number}");
    }
    assert_eq!(contents(&journal).len(), 640);
}

#[test]
fn records_can_be_read_while_segments_are_written_over() {
    let folder = tempfile::tempdir().unwrap();
    let journal = Arc::new(Journal::open_folder(folder.path(), config()).unwrap());
    for number in 0..20 {
        apply_one(&journal, Key::new(2, number, 0), 900);
    }
    let is_done = Arc::new(AtomicBool::new(false));
    std::thread::scope(|scope| {
        for _ in 0..2 {
            let (journal, is_done) = (journal.clone(), is_done.clone());
            scope.spawn(move || {
                while !is_done.load(Ordering::Relaxed) {
                    for number in 0..20 {
                        let record = journal.get(Key::new(2, number, 0)).unwrap().unwrap();
                        assert_eq!(record.body, body(number, 900));
                    }
                }
            });
        }
        for number in 0..1500 {
            apply_one(&journal, Key::new(1, number, 0), 3000);
            delete_one(&journal, Key::new(1, number, 0));
            if number % 10 == 0 {
                apply_one(&journal, Key::new(2, number / 10 % 20, 0), 900);
            }
        }
        is_done.store(true, Ordering::Relaxed);
    });
    assert!(journal.damage().is_empty());
}
