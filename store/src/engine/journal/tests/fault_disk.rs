//! A disk in memory that fails or stops at a chosen operation, has an end, and forgets what was not flushed.

use std::collections::BTreeMap;
use std::io::{self, IoSlice};
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard};

use crate::engine::journal::{BlockFile, Disk, DiskFile};

const SECTOR: usize = 512;

/// What goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Plan {
    /// Nothing.
    Nothing,
    /// The n-th operation, half done, and all after it.
    StopAt(u64),
    /// The n-th operation, half done, for want of room.
    FullAt(u64),
    /// The n-th operation, done where it is a change of names, for want of room all the same.
    FullYetDoneAt(u64),
    /// The n-th operation, half done, with an I/O error.
    FailAt(u64),
}

/// What a crash leaves.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Keep {
    /// Everything that was written.
    All,
    /// What was flushed.
    Synced,
    /// What was flushed, and of the rest some sectors, and all names.
    Sectors(u64),
}

#[derive(Debug, Default, Clone)]
struct Bytes {
    now: Vec<u8>,
    synced: Vec<u8>,
    /// What was written and not flushed. A flush that fails forgets it, as hosts do: only what is written again
    /// reaches the disk with the next one.
    dirty: Vec<Range<usize>>,
}

impl Bytes {
    fn sync(&mut self) {
        self.synced.resize(self.now.len().max(self.synced.len()), 0);
        for range in self.dirty.drain(..) {
            self.synced[range.clone()].copy_from_slice(&self.now[range]);
        }
    }
}

#[derive(Debug)]
struct State {
    names: BTreeMap<String, Arc<Mutex<Bytes>>>,
    synced_names: BTreeMap<String, Arc<Mutex<Bytes>>>,
    plan: Plan,
    operations: u64,
    renames: u64,
    asked: u64,
    blocks_written: u64,
    refuses_blocks: bool,
    has_no_blocks: bool,
    capacity: usize,
}

/// See the module.
#[derive(Debug, Clone)]
pub(crate) struct FaultDisk(Arc<Mutex<State>>);

impl FaultDisk {
    pub(crate) fn new() -> Self {
        Self::with(BTreeMap::new())
    }

    /// One that is written through the host's cache alone, so that groups take just their own bytes.
    pub(crate) fn without_blocks() -> Self {
        let disk = Self::new();
        disk.state().has_no_blocks = true;
        disk
    }

    fn with(names: BTreeMap<String, Arc<Mutex<Bytes>>>) -> Self {
        let synced_names = names.clone();
        let plan = Plan::Nothing;
        let state = State {
            names,
            synced_names,
            plan,
            operations: 0,
            renames: 0,
            asked: 0,
            blocks_written: 0,
            refuses_blocks: false,
            has_no_blocks: false,
            capacity: 1 << 30,
        };
        Self(Arc::new(Mutex::new(state)))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }

    pub(crate) fn plan(&self, plan: Plan) {
        self.state().plan = plan;
    }

    pub(crate) fn set_capacity(&self, bytes: usize) {
        self.state().capacity = bytes;
    }

    /// Operations that changed something or flushed, so far.
    pub(crate) fn operations(&self) -> u64 {
        self.state().operations
    }

    pub(crate) fn renames(&self) -> u64 {
        self.state().renames
    }

    /// How often anybody asked how much room there is.
    pub(crate) fn asked(&self) -> u64 {
        self.state().asked
    }

    /// How many times whole blocks were written.
    pub(crate) fn blocks_written(&self) -> u64 {
        self.state().blocks_written
    }

    /// From now on whole blocks are not taken.
    pub(crate) fn refuse_blocks(&self) {
        self.state().refuses_blocks = true;
    }

    pub(crate) fn bytes(&self, name: &str) -> Vec<u8> {
        let file = self.state().names[name].clone();
        let bytes = file.lock().unwrap();
        bytes.now.clone()
    }

    /// Changes a file behind the journal's back.
    pub(crate) fn change(&self, name: &str, change: impl FnOnce(&mut Vec<u8>)) {
        let file = self.state().names[name].clone();
        let mut bytes = file.lock().unwrap();
        change(&mut bytes.now);
        bytes.synced = bytes.now.clone();
    }

    /// Another disk, with what a crash leaves of this one.
    pub(crate) fn crash(&self, keep: Keep) -> Self {
        let state = self.state();
        let names = match keep {
            Keep::All | Keep::Sectors(_) => &state.names,
            Keep::Synced => &state.synced_names,
        };
        let mut left = BTreeMap::new();
        for (name, file) in names {
            let file = file.lock().unwrap();
            let bytes = match keep {
                Keep::All => file.now.clone(),
                Keep::Synced => file.synced.clone(),
                Keep::Sectors(seed) => some_sectors(&file, seed),
            };
            let bytes = Bytes { now: bytes.clone(), synced: bytes, dirty: Vec::new() };
            left.insert(name.clone(), Arc::new(Mutex::new(bytes)));
        }
        Self::with(left)
    }

    /// Counts an operation; says whether it fails.
    fn count(&self) -> Result<(), io::Error> {
        let mut state = self.state();
        let n = state.operations;
        state.operations += 1;
        match state.plan {
            Plan::StopAt(at) if n >= at => Err(io::Error::other("the disk has stopped")),
            Plan::FullAt(at) | Plan::FullYetDoneAt(at) if n == at => Err(io::ErrorKind::StorageFull.into()),
            Plan::FailAt(at) if n == at => Err(io::Error::other("input/output error")),
            _ => Ok(()),
        }
    }

    fn has_stopped(&self) -> bool {
        let state = self.state();
        matches!(state.plan, Plan::StopAt(at) if state.operations > at + 1)
    }

    pub(crate) fn used(&self) -> usize {
        self.state().names.values().map(|file| file.lock().unwrap().now.len()).sum()
    }
}

fn some_sectors(file: &Bytes, seed: u64) -> Vec<u8> {
    let mut bytes = file.synced.clone();
    let mut random = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    for (index, sector) in file.now.chunks(SECTOR).enumerate() {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        if random.is_multiple_of(2) {
            let at = index * SECTOR;
            let end = at + sector.len();
            bytes.resize(bytes.len().max(end), 0);
            bytes[at..end].copy_from_slice(sector);
        }
    }
    bytes
}

impl Disk for FaultDisk {
    fn create_folder(&self) -> io::Result<()> {
        self.sync_folder()
    }

    fn list(&self) -> io::Result<Vec<String>> {
        Ok(self.state().names.keys().cloned().collect())
    }

    fn create(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        self.count()?;
        let bytes = Arc::<Mutex<Bytes>>::default();
        self.state().names.insert(name.to_owned(), bytes.clone());
        Ok(Arc::new(FaultFile { disk: self.clone(), bytes }))
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        let bytes = self.state().names.get(name).cloned().ok_or(io::ErrorKind::NotFound)?;
        Ok(Arc::new(FaultFile { disk: self.clone(), bytes }))
    }

    fn open_blocks(&self, name: &str) -> Option<Arc<dyn BlockFile>> {
        let state = self.state();
        let bytes = state.names.get(name).cloned().filter(|_| !state.has_no_blocks)?;
        drop(state);
        Some(Arc::new(FaultBlocks(FaultFile { disk: self.clone(), bytes })))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let fault = self.count().err();
        let mut state = self.state();
        let is_done = matches!(state.plan, Plan::FullYetDoneAt(_));
        let fault = match fault {
            Some(fault) if !is_done => return Err(fault),
            other => other,
        };
        let file = state.names.remove(from).ok_or(io::ErrorKind::NotFound)?;
        state.names.insert(to.to_owned(), file);
        state.renames += 1;
        fault.map_or(Ok(()), Err)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.count()?;
        self.state().names.remove(name).ok_or(io::ErrorKind::NotFound)?;
        Ok(())
    }

    fn sync_folder(&self) -> io::Result<()> {
        self.count()?;
        let mut state = self.state();
        state.synced_names = state.names.clone();
        Ok(())
    }

    fn free_bytes(&self) -> io::Result<u64> {
        let mut state = self.state();
        state.asked += 1;
        let capacity = state.capacity;
        drop(state);
        Ok(capacity.saturating_sub(self.used()) as u64)
    }
}

/// Whole blocks of a [`FaultFile`].
#[derive(Debug)]
struct FaultBlocks(FaultFile);

impl BlockFile for FaultBlocks {
    fn block_bytes(&self) -> usize {
        SECTOR
    }

    fn write_blocks_at(&self, blocks: &[u8], offset: u64) -> io::Result<()> {
        assert_eq!((blocks.len() % SECTOR, offset as usize % SECTOR), (0, 0), "no whole blocks");
        assert_eq!(blocks.as_ptr().align_offset(SECTOR), 0, "the memory is not aligned");
        assert!(offset as usize <= self.0.bytes.lock().unwrap().now.len(), "behind the end");
        if self.0.disk.state().refuses_blocks {
            return Err(io::ErrorKind::Unsupported.into());
        }
        self.0.disk.state().blocks_written += 1;
        self.0.write_all_at(&mut [IoSlice::new(blocks)], offset)
    }

    fn write_blocks_synced_at(&self, blocks: &[u8], offset: u64) -> io::Result<()> {
        self.write_blocks_at(blocks, offset)?;
        self.0.sync_data()
    }
}

#[derive(Debug)]
struct FaultFile {
    disk: FaultDisk,
    bytes: Arc<Mutex<Bytes>>,
}

impl DiskFile for FaultFile {
    fn file_bytes(&self) -> io::Result<u64> {
        Ok(self.bytes.lock().unwrap().now.len() as u64)
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let bytes = self.bytes.lock().unwrap();
        let rest = bytes.now.get(offset as usize..).unwrap_or_default();
        let filled = rest.len().min(buffer.len());
        buffer[..filled].copy_from_slice(&rest[..filled]);
        Ok(filled)
    }

    fn write_all_at(&self, slices: &mut [IoSlice<'_>], offset: u64) -> io::Result<()> {
        let at = offset as usize;
        let mut data = Vec::new();
        slices.iter().for_each(|slice| data.extend_from_slice(slice));
        let mut result = self.disk.count();
        if self.disk.has_stopped() {
            return result;
        }
        if result.is_err() {
            data.truncate(data.len() / 2);
        }
        let now = self.bytes.lock().unwrap().now.len();
        let longer = (at + data.len()).saturating_sub(now);
        let free = self.disk.free_bytes()? as usize;
        if longer > free {
            data.truncate(data.len() - (longer - free));
            result = Err(io::ErrorKind::StorageFull.into());
        }
        let mut bytes = self.bytes.lock().unwrap();
        let end = (at + data.len()).max(bytes.now.len());
        bytes.now.resize(end, 0);
        bytes.now[at..at + data.len()].copy_from_slice(&data);
        bytes.dirty.push(at..at + data.len());
        result
    }

    fn sync_data(&self) -> io::Result<()> {
        let result = self.disk.count();
        let mut bytes = self.bytes.lock().unwrap();
        match &result {
            Ok(()) => bytes.sync(),
            Err(_) => bytes.dirty.clear(),
        }
        result
    }
}
