//! What was found damaged.

use std::collections::BTreeSet;

use super::segment::FileName;
use crate::engine::{Damage, Key};

/// So many places are listed. More need no list, and each costs time and memory.
pub(super) const DAMAGES_MAX: usize = 10_000;

/// What was found damaged, each place once.
#[derive(Debug, Default)]
pub(super) struct Damages {
    list: Vec<Damage>,
    places: BTreeSet<(String, u64, Option<Key>)>,
    records: BTreeSet<Key>,
    is_cut: bool,
}

impl Damages {
    /// What was noted so far.
    pub(super) fn list(&self) -> &[Damage] {
        &self.list
    }

    /// Notes damage, unless that place was noted before.
    pub(super) fn add(&mut self, damage: Damage) {
        if self.list.len() >= DAMAGES_MAX {
            if !std::mem::replace(&mut self.is_cut, true) {
                tracing::error!("the journal is damaged in more places than are listed");
            }
            return;
        }
        if !self.places.insert((damage.file.clone(), damage.offset, damage.key)) {
            return;
        }
        tracing::error!(
            file = damage.file,
            offset = damage.offset,
            bytes = damage.bytes,
            key = ?damage.key,
            "the journal is damaged: {}",
            damage.what
        );
        self.records.extend(damage.key);
        self.list.push(damage);
    }

    /// Notes that a record cannot be read, unless that is known.
    pub(super) fn add_record(&mut self, damage: Damage) {
        if !damage.key.is_some_and(|key| self.records.contains(&key)) {
            self.add(damage);
        }
    }

    /// Notes damage in a file of the journal's.
    pub(super) fn note(
        &mut self,
        file: FileName,
        offset: u64,
        bytes: u64,
        key: Option<Key>,
        what: impl Into<String>,
    ) {
        self.add(Damage { file: file.to_string(), offset, bytes, key, what: what.into() });
    }
}
