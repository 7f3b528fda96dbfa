//! A journal that the input writes through the engine and then damages.
//!
//! An input is a row of steps. Those before the end mark write; those behind it change bytes of files. What is found
//! at the end has to be one of the states between two groups, unless damage is reported.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use pillarbox_store::Durability;
use pillarbox_store::engine::journal::{Journal, JournalConfig};
use pillarbox_store::engine::{Engine, Key, WriteSet};

use crate::disk::MemoryDisk;
use crate::input::Input;
use crate::seal::seal;

/// Ends the steps that write.
pub const END: u8 = 0xff;
/// Room that every journal puts aside for a full disk.
const BALLAST: &str = "0000000000000000.spare";
const STEPS_MAX: usize = 200;
const CHANGES_MAX: usize = 20;
/// Bytes that one input may write.
const BYTES_MAX: usize = 512 * 1024;

/// A record's head and body.
type Stored = (Vec<u8>, Vec<u8>);
/// What a journal holds.
pub type Records = BTreeMap<Key, Stored>;

/// What can be read of a journal.
#[derive(Debug, Default)]
pub struct Contents {
    /// The records that recovery visits and that can be read.
    pub records: Records,
    /// Whether all of it is as it was written, as far as the journal tells.
    pub is_sound: bool,
}

/// Reads everything.
#[must_use]
pub fn contents(journal: &Journal) -> Contents {
    let mut heads = BTreeMap::new();
    let visited = journal.recover(&mut |key, head| {
        assert!(heads.insert(key, head.to_vec()).is_none(), "{key:?} was visited twice");
        Ok(())
    });
    let mut records = Records::new();
    for (key, head) in heads {
        if let Ok(Some(record)) = journal.get(key) {
            assert_eq!(record.head, head, "the head of {key:?}");
            records.insert(key, (head, record.body.to_vec()));
        }
    }
    Contents { records, is_sound: visited.is_ok() && journal.damage().is_empty() }
}

/// Writes as the input says.
struct Writing {
    disk: MemoryDisk,
    journal: Option<Journal>,
    now: Records,
    /// The state after each group.
    states: Vec<Records>,
    written: usize,
}

fn config() -> JournalConfig {
    JournalConfig { segment_bytes: 64 * 1024, spare_segments_max: 2, salt: 0x5a17 }
}

fn open(disk: &MemoryDisk) -> Journal {
    Journal::open(Arc::new(disk.clone()), config())
        .expect("a disk in memory answers, and the version is ours")
}

fn key(input: &mut Input<'_>) -> Key {
    let byte = input.u8();
    Key::new(1 + byte % 3, u64::from(byte >> 3), u32::from(byte >> 2 & 1))
}

/// A body that differs from others and compresses to three bytes of input.
fn body(input: &mut Input<'_>) -> Vec<u8> {
    let (length, first) = (input.u16(), input.u8());
    (0..length).map(|at| first.wrapping_add((at >> 8) as u8).wrapping_mul((at as u8) | 1)).collect()
}

impl Writing {
    fn journal(&mut self) -> &Journal {
        self.journal.get_or_insert_with(|| open(&self.disk))
    }

    fn group(&mut self, kind: u8, input: &mut Input<'_>) {
        let mut writes = WriteSet::default();
        for _ in 0..=kind >> 3 & 7 {
            let key = key(input);
            match kind & 3 {
                0 | 1 => {
                    let head_bytes = usize::from(input.u8() & 63);
                    let (head, body) = (input.bytes(head_bytes).to_vec(), body(input));
                    self.written += body.len();
                    if self.written > BYTES_MAX {
                        break;
                    }
                    writes.put(key, Bytes::from(body.clone()), |into| into.extend_from_slice(&head));
                    self.now.insert(key, (head, body));
                }
                2 => {
                    writes.delete(key);
                    self.now.remove(&key);
                }
                _ => {
                    writes.delete_below(key.family, key.number);
                    self.now.retain(|have, _| have.family != key.family || have.number >= key.number);
                }
            }
        }
        let durability = if kind & 4 == 0 { Durability::Flushed } else { Durability::Written };
        self.journal().apply(&writes, durability).expect("the disk has room");
        self.states.push(self.now.clone());
    }

    fn step(&mut self, kind: u8, input: &mut Input<'_>) {
        match kind {
            0xfe => {
                self.journal().close().expect("the disk answers");
                self.journal = None;
            }
            0xfd => self.journal = None,
            kind => self.group(kind, input),
        }
    }
}

/// Changes files as the input says. Whether the result may still be told from what was written: checksums that were
/// made right again and files that are gone as a whole cannot.
fn damage(disk: &MemoryDisk, input: &mut Input<'_>) -> bool {
    let mut is_telling = true;
    for _ in 0..CHANGES_MAX {
        if !input.has_more() {
            break;
        }
        let mut names = disk.names();
        names.retain(|name| name != BALLAST);
        let kind = input.u8();
        let Some(name) = names.get(usize::from(input.u8()) % names.len().max(1)) else { break };
        let (at, value) = (input.u32() as usize, input.u8());
        match kind & 15 {
            8 => {
                disk.change(name, |bytes| seal(bytes));
                is_telling = false;
            }
            9 => {
                is_telling = false;
                let bytes = disk.bytes(name);
                let (digits, _) = name.split_once('.').unwrap_or((name, ""));
                let ending = ["seg", "spare", "new", "damaged"][usize::from(value & 3)];
                disk.put(&format!("{digits}.{ending}"), bytes);
            }
            10 => {
                is_telling = false;
                disk.put(&format!("{value:016}.seg"), disk.bytes(name));
            }
            other => disk.change(name, |bytes| change(bytes, other, at, value, input)),
        }
    }
    is_telling
}

fn change(bytes: &mut Vec<u8>, kind: u8, at: usize, value: u8, input: &mut Input<'_>) {
    let at = at.checked_rem(bytes.len()).unwrap_or(0);
    let length = usize::from(value) * if kind & 1 == 0 { 1 } else { 16 };
    match kind {
        0 | 1 => {
            if let Some(byte) = bytes.get_mut(at) {
                *byte ^= 1 << (value & 7);
            }
        }
        2 => bytes.truncate(at),
        3 => bytes.extend(std::iter::repeat_n(0, length)),
        4 | 5 => bytes.iter_mut().skip(at).take(length).for_each(|byte| *byte = 0),
        6 | 7 => {
            let to = (input.u32() as usize).checked_rem(bytes.len()).unwrap_or(0);
            let copied: Vec<u8> = bytes.iter().skip(at).take(length).copied().collect();
            bytes.iter_mut().skip(to).zip(copied).for_each(|(to, from)| *to = from);
        }
        _ => {
            let new = input.bytes(usize::from(value & 15));
            bytes.iter_mut().skip(at).zip(new).for_each(|(to, from)| *to = *from);
        }
    }
}

/// What an input came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing was damaged, and everything was there.
    Undamaged,
    /// Something was changed, and what was found is the state after one of the groups.
    Whole,
    /// Something was changed, and damage is reported.
    Reported,
    /// Of what was changed, or of its freed segments, nothing follows.
    Untold,
    /// It does not open.
    Refused,
}

/// Writes, damages, opens, and goes on.
pub fn run(data: &[u8]) {
    let _ = verdict(data);
}

/// As [`run`], and tells what it came to.
#[must_use]
pub fn verdict(data: &[u8]) -> Verdict {
    let mut input = Input(data);
    let mut writing = Writing {
        disk: MemoryDisk::default(),
        journal: None,
        now: Records::new(),
        states: vec![Records::new()],
        written: 0,
    };
    for _ in 0..STEPS_MAX {
        let kind = input.u8();
        if kind == END || !input.has_more() {
            break;
        }
        writing.step(kind, &mut input);
    }
    let Writing { disk, journal, now, states, .. } = writing;
    drop(journal);
    // What a freed segment held, only the later ones knew: without these, older states cannot be told.
    let names = disk.names();
    let mut kept = names.iter().filter(|name| *name != BALLAST);
    let is_all_there = kept.next().is_none_or(|name| name == "0000000000000001.seg")
        && kept.all(|name| name.ends_with(".seg"));
    let was_damaged = input.has_more();
    let is_telling = damage(&disk, &mut input) && is_all_there;
    let Ok(journal) = Journal::open(Arc::new(disk.clone()), config()) else {
        assert!(was_damaged, "an undamaged journal does not open");
        return Verdict::Refused;
    };
    let found = contents(&journal);
    let verdict = if !was_damaged {
        assert!(found.is_sound && journal.torn_tail().is_none(), "{:?}", journal.damage());
        assert_eq!(found.records, now);
        Verdict::Undamaged
    } else if !is_telling {
        Verdict::Untold
    } else if found.is_sound {
        assert!(states.contains(&found.records), "half a group counts, and no damage is reported");
        Verdict::Whole
    } else {
        Verdict::Reported
    };
    go_on(&disk, journal, found);
    verdict
}

/// A journal that opened takes more, and has all of it when it is opened again.
fn go_on(disk: &MemoryDisk, journal: Journal, mut found: Contents) {
    let key = Key::new(9, 1, 0);
    let mut writes = WriteSet::default();
    writes.put(key, Bytes::from_static(b"more"), |head| head.push(7));
    if journal.apply(&writes, Durability::Flushed).is_err() {
        return;
    }
    found.records.insert(key, (vec![7], b"more".to_vec()));
    drop(journal);
    assert_eq!(contents(&open(disk)).records, found.records, "another opening finds something else");
}
