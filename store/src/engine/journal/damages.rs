//! The list of what was found damaged.

use hashbrown::HashSet;

use super::segment::FileName;
use crate::engine::{Damage, Key, Loss};

/// Places that are listed one by one; beyond them there is one entry that says so.
pub(super) const LISTED_MAX: usize = 100_000;
/// Places that are logged one by one.
const LOGGED_MAX: usize = 1_000;

/// What was found damaged, each place once.
#[derive(Debug, Default)]
pub(super) struct Damages {
    list: Vec<Damage>,
    places: HashSet<(String, u64, Option<Key>)>,
    keys: HashSet<Key>,
}

impl Damages {
    /// What was noted so far.
    pub(super) fn list(&self) -> &[Damage] {
        &self.list
    }

    /// Notes damage, unless that place was noted before.
    pub(super) fn add(&mut self, damage: Damage) {
        if self.list.len() > LISTED_MAX
            || !self.places.insert((damage.file.clone(), damage.offset, damage.key))
        {
            return;
        }
        if self.list.len() < LOGGED_MAX {
            tracing::error!(
                file = damage.file,
                offset = damage.offset,
                bytes = damage.bytes,
                key = ?damage.key,
                "the journal is damaged: {}",
                damage.what
            );
        }
        self.keys.extend(damage.key.filter(|_| damage.loss == Loss::Record));
        self.list.push(damage);
        if self.list.len() == LISTED_MAX {
            let what = format!("there is more: only the first {LISTED_MAX} places are listed");
            self.list.push(Damage {
                file: String::new(),
                offset: 0,
                bytes: 0,
                key: None,
                what,
                loss: Loss::Unknown,
            });
        }
    }

    /// Notes that a record cannot be read, unless that is known.
    pub(super) fn add_record(&mut self, damage: Damage) {
        if damage.key.is_none_or(|key| !self.keys.contains(&key)) {
            self.add(damage);
        }
    }

    /// Damage of records that live no more costs nothing: `is_live` says whether those bytes are still a record's.
    pub(super) fn settle(&mut self, is_live: impl Fn(&Damage) -> bool) {
        for damage in self.list.iter_mut().filter(|damage| damage.loss == Loss::Record) {
            if !is_live(damage) {
                damage.loss = Loss::None;
                damage.what.push_str("; it was replaced or deleted since");
            }
        }
        self.keys.clear();
        let lost = self.list.iter().filter(|damage| damage.loss == Loss::Record);
        self.keys.extend(lost.filter_map(|damage| damage.key));
    }

    /// Notes damage of a record, or of one that is not known.
    pub(super) fn note(
        &mut self,
        file: FileName,
        offset: u64,
        bytes: u64,
        key: Option<Key>,
        what: impl Into<String>,
    ) {
        let loss = if key.is_some() { Loss::Record } else { Loss::Unknown };
        self.add(Damage { file: file.to_string(), offset, bytes, key, what: what.into(), loss });
    }

    /// Notes damage that costs nothing, because what was there is known from elsewhere.
    pub(super) fn note_mended(
        &mut self,
        file: FileName,
        offset: u64,
        bytes: u64,
        key: Option<Key>,
        what: impl Into<String>,
    ) {
        self.add(Damage { file: file.to_string(), offset, bytes, key, what: what.into(), loss: Loss::None });
    }
}
