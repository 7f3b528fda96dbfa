//! An engine that breaks its promise, to prove that the harness would notice: nothing it applies is flushed.

use pillarbox_store::engine::{Damage, Engine, EngineStats, Key, Record, Visit, WriteSet};
use pillarbox_store::{Durability, Error};

/// The engine below, asked for [`Durability::Written`] whatever was asked for.
#[derive(Debug)]
pub(super) struct Unflushed<E>(pub(super) E);

impl<E: Engine> Engine for Unflushed<E> {
    fn name(&self) -> &'static str {
        self.0.name()
    }

    fn recover(&self, visit: &mut Visit<'_>) -> Result<(), Error> {
        self.0.recover(visit)
    }

    fn get(&self, key: Key) -> Result<Option<Record>, Error> {
        self.0.get(key)
    }

    fn reserve(&self, bytes: u64, promised: u64) -> Result<(), Error> {
        self.0.reserve(bytes, promised)
    }

    fn apply(&self, writes: &WriteSet, _asked_for: Durability) -> Result<(), Error> {
        self.0.apply(writes, Durability::Written)
    }

    fn stats(&self) -> EngineStats {
        self.0.stats()
    }

    fn damage(&self) -> Vec<Damage> {
        self.0.damage()
    }

    fn close(&self) -> Result<(), Error> {
        self.0.close()
    }
}
