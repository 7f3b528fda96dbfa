//! An engine for tests: another one, with what a test wants to happen before each write. It outlives its box.

use std::fmt;
use std::sync::Arc;

use super::memory::Memory;
use super::{Damage, Engine, EngineStats, Key, Record, Visit, WriteSet};
use crate::{Durability, Error};

type BeforeApply = dyn Fn(&WriteSet, Durability) -> Result<Durability, Error> + Send + Sync;

/// The engine below, which a closing box does not close.
#[derive(Clone)]
pub struct Hooked {
    below: Arc<dyn Engine>,
    before_apply: Option<Arc<BeforeApply>>,
    damage: Vec<Damage>,
}

impl Hooked {
    /// In front of this one.
    #[must_use]
    pub fn new(below: Arc<dyn Engine>) -> Self {
        Self { below, before_apply: None, damage: Vec::new() }
    }

    /// In front of an empty one in memory.
    #[must_use]
    pub fn in_memory() -> Self {
        Self::new(Arc::new(Memory::new()))
    }

    /// Calls `hook` before each write: it may fail instead, or say with what durability it is written.
    #[must_use]
    pub fn before_apply(
        mut self,
        hook: impl Fn(&WriteSet, Durability) -> Result<Durability, Error> + Send + Sync + 'static,
    ) -> Self {
        self.before_apply = Some(Arc::new(hook));
        self
    }

    /// Says that it found this damage as well.
    #[must_use]
    pub fn damaged(mut self, damage: Damage) -> Self {
        self.damage.push(damage);
        self
    }
}

impl fmt::Debug for Hooked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hooked").field("below", &self.below).finish_non_exhaustive()
    }
}

impl Engine for Hooked {
    fn name(&self) -> &'static str {
        self.below.name()
    }

    fn recover(&self, visit: &mut Visit<'_>) -> Result<(), Error> {
        self.below.recover(visit)
    }

    fn get(&self, key: Key) -> Result<Option<Record>, Error> {
        self.below.get(key)
    }

    fn reserve(&self, bytes: u64, promised: u64) -> Result<(), Error> {
        self.below.reserve(bytes, promised)
    }

    fn apply(&self, writes: &WriteSet, durability: Durability) -> Result<(), Error> {
        let durability = match &self.before_apply {
            Some(hook) => hook(writes, durability)?,
            None => durability,
        };
        self.below.apply(writes, durability)
    }

    fn stats(&self) -> EngineStats {
        self.below.stats()
    }

    fn damage(&self) -> Vec<Damage> {
        self.below.damage().into_iter().chain(self.damage.iter().cloned()).collect()
    }

    fn close(&self) -> Result<(), Error> {
        Ok(())
    }
}
