//! A disk in memory that keeps of what was not flushed what a seed says, fills up, fails and stops.
//!
//! Unflushed bytes are known by the 512-byte sector, names that were made, changed or removed by their order. After
//! [`SimDisk::cut`] the old disk is dead for whoever still holds it, and a new one has what the cut left.

mod file;

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use pillarbox_store::engine::journal::{BlockFile, Disk, DiskFile};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use file::{Content, OpenBlocks, OpenFile};

/// What is left of what was not flushed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cut {
    /// The process died, the machine did not: everything, and it is still not flushed.
    Process,
    /// The power failed and everything had been written by chance.
    All,
    /// The power failed and nothing was written that was not flushed.
    Nothing,
    /// The power failed, and each sector was written or not.
    Sectors,
}

/// What goes wrong at one operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// It is cut short, and nothing works from there on: the process is about to die.
    Stop,
    /// It is cut short with an I/O error.
    Error,
    /// It is cut short for want of room.
    Full,
}

/// Operations and faults so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct DiskFigures {
    /// Operations that change something or flush.
    pub operations: u64,
    /// Of these, flushes of a file.
    pub flushes: u64,
    /// Of these, renames.
    pub renames: u64,
    /// Faults that were planned and happened.
    pub faults: u64,
    /// Writes that found no room.
    pub refused: u64,
}

type Names = BTreeMap<String, Arc<Mutex<Content>>>;

#[derive(Debug)]
struct State {
    names: Names,
    /// What the names last were known to be on the disk, and every state of them since.
    lasting: Vec<Names>,
    plan: BTreeMap<u64, Fault>,
    figures: DiskFigures,
    has_stopped: bool,
    capacity: u64,
    random: StdRng,
}

/// See the module. Clones are the same disk.
#[derive(Debug, Clone)]
pub struct SimDisk(Arc<Mutex<State>>);

impl SimDisk {
    /// An empty disk, whose chances are drawn from `seed`.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self::with(Names::new(), StdRng::seed_from_u64(seed))
    }

    /// A disk with these files, all of them flushed.
    #[must_use]
    pub fn holding(files: &BTreeMap<String, Vec<u8>>) -> Self {
        let names = files.iter().map(|(name, bytes)| {
            let mut content = Content::new(0);
            content.fill(bytes);
            (name.clone(), Arc::new(Mutex::new(content)))
        });
        Self::with(names.collect(), StdRng::seed_from_u64(0))
    }

    /// Every file with its bytes.
    #[must_use]
    pub fn files(&self) -> BTreeMap<String, Vec<u8>> {
        let state = self.state();
        state.names.iter().map(|(name, content)| (name.clone(), file::lock(content).now.clone())).collect()
    }

    fn with(names: Names, random: StdRng) -> Self {
        let lasting = vec![names.clone()];
        Self(Arc::new(Mutex::new(State {
            names,
            lasting,
            plan: BTreeMap::new(),
            figures: DiskFigures::default(),
            has_stopped: false,
            capacity: u64::MAX,
            random,
        })))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets an operation go wrong: the next one for 0, the one after it for 1.
    pub fn plan(&self, operations_from_now: u64, fault: Fault) {
        let mut state = self.state();
        let at = state.figures.operations + operations_from_now;
        state.plan.insert(at, fault);
    }

    /// Forgets what was planned and has not happened.
    pub fn calm(&self) {
        let mut state = self.state();
        state.plan.clear();
        state.capacity = u64::MAX;
    }

    /// From now on there is room for so many bytes more.
    pub fn leave_room(&self, bytes: u64) {
        let used = self.used_bytes();
        self.state().capacity = used.saturating_add(bytes);
    }

    /// Bytes in all files.
    #[must_use]
    pub fn used_bytes(&self) -> u64 {
        let state = self.state();
        state.names.values().map(|content| file::lock(content).now.len() as u64).sum()
    }

    /// Whether a planned stop has come: the world has to end now.
    #[must_use]
    pub fn has_stopped(&self) -> bool {
        self.state().has_stopped
    }

    /// Operations and faults so far.
    #[must_use]
    pub fn figures(&self) -> DiskFigures {
        self.state().figures
    }

    /// What the next process finds. The old disk does nothing any more.
    #[must_use]
    pub fn cut(&self, cut: Cut) -> Self {
        let mut state = self.state();
        state.has_stopped = true;
        let mut random = StdRng::seed_from_u64(state.random.random());
        let names = match cut {
            Cut::Process | Cut::All => state.names.clone(),
            Cut::Nothing => state.lasting.first().cloned().unwrap_or_default(),
            // Changes of names reach the disk in their order.
            Cut::Sectors => {
                let kept = random.random_range(0..state.lasting.len());
                state.lasting.get(kept).cloned().unwrap_or_default()
            }
        };
        let mut copied = Names::new();
        for (name, content) in &names {
            let content = file::lock(content).after(cut, &mut random);
            copied.insert(name.clone(), Arc::new(Mutex::new(content)));
        }
        let next = Self::with(copied, random);
        if cut == Cut::Process {
            // Names that were not flushed stay so. Their files are the same ones as far as both know them.
            let now = next.state().names.clone();
            let mut random = next.state().random.clone();
            let lasting = state.lasting.iter().map(|names| survivors(names, &now, &mut random)).collect();
            next.state().lasting = lasting;
        }
        next
    }

    /// Counts an operation and says what becomes of it.
    fn operate(&self, kind: Kind) -> Result<(), Failing> {
        let mut state = self.state();
        if state.has_stopped {
            return Err(Failing { error: stopped(), is_partial: false });
        }
        let figures = &mut state.figures;
        let number = figures.operations;
        figures.operations += 1;
        match kind {
            Kind::Flush => figures.flushes += 1,
            Kind::Rename => figures.renames += 1,
            Kind::Other => {}
        }
        let Some(fault) = state.plan.remove(&number) else { return Ok(()) };
        state.figures.faults += 1;
        let error = match fault {
            Fault::Stop => {
                state.has_stopped = true;
                stopped()
            }
            Fault::Error => io::Error::other("input/output error (simulated)"),
            Fault::Full => io::ErrorKind::StorageFull.into(),
        };
        Err(Failing { error, is_partial: true })
    }

    fn change_names(&self, kind: Kind, change: impl FnOnce(&mut Names) -> io::Result<()>) -> io::Result<()> {
        let failing = self.operate(kind).err();
        let mut state = self.state();
        // A change that fails may have happened all the same.
        let happens = match &failing {
            None => true,
            Some(failing) => failing.is_partial && state.random.random(),
        };
        if happens {
            change(&mut state.names)?;
            let names = state.names.clone();
            state.lasting.push(names);
        }
        failing.map_or(Ok(()), |failing| Err(failing.error))
    }

    fn free(&self) -> u64 {
        let used = self.used_bytes();
        self.state().capacity.saturating_sub(used)
    }

    fn open_file(&self, content: Arc<Mutex<Content>>) -> Arc<dyn DiskFile> {
        Arc::new(OpenFile { disk: self.clone(), content })
    }
}

/// An older state of the names, over the files that a process crash left.
fn survivors(names: &Names, now: &Names, random: &mut StdRng) -> Names {
    let mut survivors = Names::new();
    for (name, content) in names {
        let content = file::lock(content).clone();
        let known = now.values().find(|known| file::lock(known).number == content.number).cloned();
        let content = known.unwrap_or_else(|| Arc::new(Mutex::new(content.after(Cut::Sectors, random))));
        survivors.insert(name.clone(), content);
    }
    survivors
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Flush,
    Rename,
    Other,
}

struct Failing {
    error: io::Error,
    /// It was cut short; else nothing of it happened.
    is_partial: bool,
}

fn stopped() -> io::Error {
    io::Error::other("the disk has stopped (simulated)")
}

impl Disk for SimDisk {
    fn create_folder(&self) -> io::Result<()> {
        self.sync_folder()
    }

    fn list(&self) -> io::Result<Vec<String>> {
        let state = self.state();
        if state.has_stopped {
            return Err(stopped());
        }
        Ok(state.names.keys().cloned().collect())
    }

    fn create(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        let number = self.state().random.random();
        let content = Arc::new(Mutex::new(Content::new(number)));
        let made = content.clone();
        self.change_names(Kind::Other, |names| {
            names.insert(name.to_owned(), made);
            Ok(())
        })?;
        Ok(self.open_file(content))
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        let state = self.state();
        if state.has_stopped {
            return Err(stopped());
        }
        let content = state.names.get(name).cloned().ok_or(io::ErrorKind::NotFound)?;
        drop(state);
        Ok(self.open_file(content))
    }

    fn open_blocks(&self, name: &str) -> Option<Arc<dyn BlockFile>> {
        let content = self.state().names.get(name).cloned()?;
        Some(Arc::new(OpenBlocks(OpenFile { disk: self.clone(), content })))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.change_names(Kind::Rename, |names| {
            let file = names.remove(from).ok_or(io::ErrorKind::NotFound)?;
            names.insert(to.to_owned(), file);
            Ok(())
        })
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.change_names(Kind::Other, |names| {
            names.remove(name).map(drop).ok_or_else(|| io::ErrorKind::NotFound.into())
        })
    }

    fn sync_folder(&self) -> io::Result<()> {
        self.operate(Kind::Other).map_err(|failing| failing.error)?;
        let mut state = self.state();
        let names = state.names.clone();
        state.lasting = vec![names];
        Ok(())
    }

    fn free_bytes(&self) -> io::Result<u64> {
        Ok(self.free())
    }
}
