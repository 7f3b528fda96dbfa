//! sled without a box: the same group commit, the same settings, and the same fdatasync of its file, but only keys
//! and bodies. What the box on sled is held against.

use std::fs::File;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use bytes::Bytes;
use pillarbox_benches::Bodies;

use crate::client::{Client, Counts, Fault, Target};
use crate::group::{Group, Writer};

/// As the box's engine has them.
const CACHE_BYTES: u64 = 64 * 1024 * 1024;
const SEGMENT_BYTES: usize = 16 * 1024 * 1024;

/// A sled database behind a writer thread.
pub(crate) struct SledBare {
    db: sled::Db,
    group: Arc<Group<Tree>>,
    commits: Arc<AtomicU64>,
    flushes: Arc<AtomicU64>,
    next: Arc<AtomicU64>,
    bodies: Bodies,
}

/// What the writer thread has.
pub(crate) struct Tree {
    db: sled::Db,
    file: File,
    commits: Arc<AtomicU64>,
    flushes: Arc<AtomicU64>,
}

/// What a client hands over: numbers to remove, or bodies to store from a number on.
pub(crate) enum Change {
    Put(u64, Vec<Bytes>),
    Remove(Vec<u64>),
}

impl SledBare {
    pub(crate) fn open(folder: &Path, body_bytes: usize) -> Result<Self, Fault> {
        let folder = folder.join("sled");
        let config = sled::Config::new().path(&folder).flush_every_ms(None).cache_capacity(CACHE_BYTES);
        let db = config.segment_size(SEGMENT_BYTES).open()?;
        let file = File::open(folder.join("db"))?;
        let (commits, flushes) = (Arc::<AtomicU64>::default(), Arc::<AtomicU64>::default());
        let tree = Tree { db: db.clone(), file, commits: commits.clone(), flushes: flushes.clone() };
        Ok(Self {
            db,
            group: Arc::new(Group::start(tree)),
            commits,
            flushes,
            next: Arc::default(),
            bodies: Bodies::new(body_bytes),
        })
    }
}

impl Writer for Tree {
    type Item = Change;
    type Answer = ();

    fn write(&mut self, group: Vec<Change>) -> Result<Vec<()>, Fault> {
        let mut batch = sled::Batch::default();
        for change in &group {
            match change {
                Change::Put(first, bodies) => {
                    for (number, body) in (*first..).zip(bodies) {
                        batch.insert(&number.to_be_bytes(), body.as_ref());
                    }
                }
                Change::Remove(numbers) => {
                    numbers.iter().for_each(|number| batch.remove(&number.to_be_bytes()));
                }
            }
        }
        self.db.apply_batch(batch)?;
        self.db.flush()?;
        self.file.sync_data()?;
        self.flushes.fetch_add(1, Ordering::Relaxed);
        self.commits.fetch_add(group.len() as u64, Ordering::Relaxed);
        Ok(vec![(); group.len()])
    }
}

#[async_trait]
impl Target for SledBare {
    async fn client(&self) -> Result<Box<dyn Client>, Fault> {
        Ok(Box::new(Keeper {
            db: self.db.clone(),
            group: self.group.clone(),
            next: self.next.clone(),
            bodies: self.bodies.clone(),
            open: Vec::new(),
        }))
    }

    fn counts(&self) -> Counts {
        Counts {
            commits: self.commits.load(Ordering::Relaxed),
            flushes: Some(self.flushes.load(Ordering::Relaxed)),
        }
    }

    async fn close(&self) -> Result<(), Fault> {
        self.group.close().map(drop)
    }
}

/// One client.
struct Keeper {
    db: sled::Db,
    group: Arc<Group<Tree>>,
    next: Arc<AtomicU64>,
    bodies: Bodies,
    open: Vec<u64>,
}

#[async_trait]
impl Client for Keeper {
    async fn submit(&mut self, bodies: &[Bytes]) -> Result<(), Fault> {
        let count = bodies.len() as u64;
        let first = self.next.fetch_add(count, Ordering::Relaxed);
        self.open.clear();
        self.open.extend(first..first + count);
        self.group.commit(Change::Put(first, bodies.to_vec())).await
    }

    /// Nobody else takes what this client put in.
    async fn take(&mut self, _count: usize) -> Result<usize, Fault> {
        for number in &self.open {
            let body = self.db.get(number.to_be_bytes())?.ok_or("a body is gone")?;
            if !self.bodies.know(&body) {
                return Err(format!("body {number} came back changed").into());
            }
        }
        Ok(self.open.len())
    }

    async fn complete(&mut self) -> Result<(), Fault> {
        let numbers = std::mem::take(&mut self.open);
        self.group.commit(Change::Remove(numbers)).await
    }
}
