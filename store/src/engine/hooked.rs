//! An engine for tests: another one, with what a test wants to happen before each write. It outlives its box.

use std::fmt;
use std::sync::Arc;

use super::memory::Memory;
use super::{Damage, Engine, EngineStats, Key, Record, Visit, WriteSet};
use crate::{Durability, Error};

type BeforeReserve = dyn Fn() + Send + Sync;
type BeforeApply = dyn Fn(&WriteSet, Durability) -> Result<Durability, Error> + Send + Sync;

/// The engine below, which a closing box does not close.
#[derive(Clone)]
pub struct Hooked {
    below: Arc<dyn Engine>,
    before_apply: Option<Arc<BeforeApply>>,
    before_reserve: Option<Arc<BeforeReserve>>,
    has_room: bool,
    damage: Vec<Damage>,
}

impl Hooked {
    /// In front of this one.
    #[must_use]
    pub fn new(below: Arc<dyn Engine>) -> Self {
        Self { below, before_apply: None, before_reserve: None, has_room: true, damage: Vec::new() }
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

    /// Calls `hook` before room is promised. Without `has_room` that never goes without waiting.
    #[must_use]
    pub fn before_reserve(mut self, has_room: bool, hook: impl Fn() + Send + Sync + 'static) -> Self {
        self.has_room = has_room;
        self.before_reserve = Some(Arc::new(hook));
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
        if let Some(hook) = &self.before_reserve {
            hook();
        }
        self.below.reserve(bytes, promised)
    }

    fn has_room(&self, bytes: u64) -> bool {
        self.has_room && self.below.has_room(bytes)
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
