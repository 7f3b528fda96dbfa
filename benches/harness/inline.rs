//! A box on the caller's thread, over memory or over a journal on a disk in memory: nothing waits, nothing else runs.
//! What the micro-benchmarks time and what the instruction budgets count.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use pillarbox_store::engine::journal::{Journal, JournalConfig};
use pillarbox_store::engine::memory::Memory;
use pillarbox_store::engine::{Engine, Key, WriteSet};
use pillarbox_store::{
    AttemptNote, Batch, BoxConfig, Clock, Committing, Durability, Error, IdSource, Leased, Message,
    MessageBox, PortName, PortSpec, Route, Store, SystemClock, Timestamp, Want,
};
use tokio::runtime::Runtime;

use crate::{Bodies, MemoryDisk};

const LEASE: Duration = Duration::from_secs(3_600);
const SEED: u64 = 7;

/// A box with one port.
#[derive(Debug)]
pub struct Inline {
    runtime: Runtime,
    store: MessageBox,
    ids: IdSource,
    port: PortName,
    bodies: Bodies,
    next: u64,
}

/// Why it cannot go on.
pub type Fault = Box<dyn std::error::Error + Send + Sync>;

impl Inline {
    /// Over the engine in memory: what the box itself costs.
    ///
    /// # Errors
    /// What the box says.
    pub fn memory() -> Result<Self, Fault> {
        Self::over(Arc::new(Memory::default()))
    }

    /// Over a journal whose disk is memory.
    ///
    /// # Errors
    /// What the box says.
    pub fn journal() -> Result<Self, Fault> {
        Self::over(Arc::new(journal()?))
    }

    fn over(engine: Arc<dyn Engine>) -> Result<Self, Fault> {
        let ids = IdSource::seeded(Arc::new(SystemClock), SEED);
        let config = BoxConfig { committing: Committing::Inline, ids: ids.clone(), ..BoxConfig::in_memory() };
        let store = MessageBox::with_engine(engine, config)?;
        let runtime = tokio::runtime::Builder::new_current_thread().build()?;
        let port = PortName::new("out")?;
        let define = Batch::new(ids.batch()).define_port(&port, PortSpec::default());
        runtime.block_on(store.commit(&define))?;
        Ok(Self { runtime, store, ids, port, bodies: Bodies::new(1024), next: 0 })
    }

    /// A batch that submits `count` messages of 1 KiB with a header.
    ///
    /// # Errors
    /// What the box says.
    pub fn batch(&mut self, count: usize) -> Result<Batch, Fault> {
        let mut batch = Batch::new(self.ids.batch());
        for _ in 0..count {
            let body = self.bodies.get(self.next);
            self.next += 1;
            let message = Message::new(self.ids.message(), body);
            batch = batch.submit(&self.port, message.header("content-type", "application/octet-stream")?);
        }
        Ok(batch)
    }

    /// Commits a batch.
    ///
    /// # Errors
    /// What the box says, or that it refused an operation.
    pub fn commit(&self, batch: &Batch) -> Result<(), Fault> {
        let committed = self.runtime.block_on(self.store.commit(batch))?;
        match committed.results().iter().find(|result| !result.is_applied()) {
            Some(refused) => Err(format!("the box refused: {refused:?}").into()),
            None => Ok(()),
        }
    }

    /// Leases up to `limit` messages.
    ///
    /// # Errors
    /// What the box says.
    pub fn lease(&self, limit: usize) -> Result<Vec<Leased>, Fault> {
        let want = Want {
            port: self.port.clone(),
            route: Route::Primary,
            limit,
            bytes_max: u64::MAX,
            lease_for: LEASE,
        };
        Ok(self.runtime.block_on(self.store.lease(&want))?)
    }

    /// A batch that completes what was leased, with a noted attempt.
    pub fn completion(&self, leased: &[Leased]) -> Batch {
        let now: Timestamp = SystemClock.now();
        leased.iter().fold(Batch::new(self.ids.batch()), |batch, delivery| {
            let attempt = AttemptNote { started: now, took: Duration::from_micros(5), failure: None };
            batch.delete(delivery.lease, Some(attempt))
        })
    }

    /// Submits, leases and completes `count` messages.
    ///
    /// # Errors
    /// What the box says.
    pub fn turn(&mut self, count: usize) -> Result<(), Fault> {
        let batch = self.batch(count)?;
        self.commit(&batch)?;
        let leased = self.lease(count)?;
        self.commit(&self.completion(&leased))
    }
}

/// A journal whose disk is memory.
///
/// # Errors
/// What the journal says.
pub fn journal() -> Result<Journal, Error> {
    Journal::open(Arc::new(MemoryDisk::default()), JournalConfig::default())
}

/// A journal's group: `count` records of 1 KiB under new numbers, over those before `keep` that are deleted.
#[derive(Debug)]
pub struct Groups {
    journal: Journal,
    writes: WriteSet,
    bodies: Bodies,
    next: u64,
}

impl Groups {
    /// Over a journal whose disk is memory.
    ///
    /// # Errors
    /// What the journal says.
    pub fn new() -> Result<Self, Error> {
        Ok(Self { journal: journal()?, writes: WriteSet::default(), bodies: Bodies::new(1024), next: 1 })
    }

    /// Writes a group of `count` records and deletes those of the group before.
    ///
    /// # Errors
    /// What the journal says.
    pub fn write(&mut self, count: u64) -> Result<(), Error> {
        const FAMILY: u8 = 200;
        self.writes.clear();
        for number in self.next..self.next + count {
            self.writes
                .put(Key::new(FAMILY, number, 0), self.bodies.get(number), |head| head.extend([7; 40]));
        }
        for number in self.next.saturating_sub(count).max(1)..self.next {
            self.writes.delete(Key::new(FAMILY, number, 0));
        }
        self.next += count;
        self.journal.apply(&self.writes, Durability::Flushed)
    }
}

/// The checksum that every record carries, over `body`.
#[must_use]
pub fn checksum(body: &Bytes) -> u32 {
    crc32c::crc32c(body)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_turn_leaves_nothing() {
        for mut inline in [Inline::memory().unwrap(), Inline::journal().unwrap()] {
            inline.turn(100).unwrap();
            inline.turn(1).unwrap();
            assert!(inline.lease(10).unwrap().is_empty());
        }
    }

    #[test]
    fn groups_follow_each_other() {
        let mut groups = Groups::new().unwrap();
        (0..5).for_each(|_| groups.write(10).unwrap());
        assert_eq!(groups.journal.stats().records, 10);
    }
}
