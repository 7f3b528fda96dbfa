//! The engine for tests and for messages that may die with the process: a map in memory, nothing on disk.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use bytes::Bytes;

use super::{Damage, Engine, EngineStats, Key, Record, Visit, Write, WriteSet};
use crate::{Durability, Error, ErrorKind};

/// A map of records in memory. Nothing survives it; no write fails for want of room until the process does.
#[derive(Debug, Default)]
pub struct Memory {
    state: RwLock<State>,
}

#[derive(Debug, Default)]
struct State {
    records: BTreeMap<Key, Record>,
    is_closed: bool,
}

impl Memory {
    /// An empty map.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    fn read(&self) -> RwLockReadGuard<'_, State> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, State> {
        self.state.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn check(&self) -> Result<(), Error> {
        if self.is_closed { Err(Error::new(ErrorKind::Closed, "write to memory")) } else { Ok(()) }
    }

    fn remove(&mut self, family: u8, numbers: Range<u64>) {
        let keys = Key::new(family, numbers.start, 0)..Key::new(family, numbers.end, 0);
        self.records.extract_if(keys, |_, _| true).for_each(drop);
    }

    fn apply(&mut self, write: Write<'_>) {
        match write {
            Write::Put { key, head, body } => {
                let record = Record { head: Bytes::copy_from_slice(head), body: body.clone() };
                self.records.insert(key, record);
            }
            Write::Delete { key } => {
                self.records.remove(&key);
            }
            Write::DeleteNumbers { family, first, count } => {
                self.remove(family, first..first.saturating_add(u64::from(count)));
            }
            Write::DeleteBelow { family, number } => self.remove(family, 0..number),
        }
    }
}

impl Engine for Memory {
    fn name(&self) -> &'static str {
        "memory"
    }

    fn recover(&self, visit: &mut Visit<'_>) -> Result<(), Error> {
        self.read().records.iter().try_for_each(|(key, record)| visit(*key, &record.head))
    }

    fn get(&self, key: Key) -> Result<Option<Record>, Error> {
        Ok(self.read().records.get(&key).cloned())
    }

    fn reserve(&self, _bytes: u64, _promised: u64) -> Result<(), Error> {
        self.read().check()
    }

    fn apply(&self, writes: &WriteSet, _durability: Durability) -> Result<(), Error> {
        super::check_sizes(writes)?;
        let mut state = self.write();
        state.check()?;
        writes.iter().for_each(|write| state.apply(write));
        Ok(())
    }

    fn stats(&self) -> EngineStats {
        EngineStats { records: self.read().records.len() as u64, ..EngineStats::default() }
    }

    fn damage(&self) -> Vec<Damage> {
        Vec::new()
    }

    fn close(&self) -> Result<(), Error> {
        self.write().is_closed = true;
        Ok(())
    }
}
