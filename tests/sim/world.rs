//! What everything in one simulated life shares: chance, time, the history, and the marks of what was reached.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use pillarbox_runtime::adapter::TransactionId;
use pillarbox_sim::disk::SimDisk;
use pillarbox_sim::history::{History, What};
use pillarbox_store::{Clock, Lease, MessageId, Timestamp};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tokio::time::Instant;

/// A life that takes more than this goes in circles.
const EVENTS_MAX: usize = 100_000;

/// How often each mark was reached.
pub(crate) type Marks = BTreeMap<&'static str, u64>;

/// tokio's virtual time as the world's.
#[derive(Debug)]
pub(crate) struct VirtualClock(Instant);

impl VirtualClock {
    pub(crate) fn start() -> Self {
        Self(Instant::now())
    }
}

impl Clock for VirtualClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_micros(1_767_225_600_000_000).plus(self.0.elapsed())
    }
}

/// What ends with the process.
struct Mortal(Box<dyn FnOnce() + Send>);

impl fmt::Debug for Mortal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Mortal")
    }
}

#[derive(Debug)]
struct State {
    random: StdRng,
    history: History,
    marks: Marks,
    bodies: BTreeMap<MessageId, u64>,
    leases: HashMap<Lease, u64>,
    /// What destinations hold prepared, by their names.
    held: BTreeMap<String, BTreeSet<TransactionId>>,
    disk: Option<SimDisk>,
    is_calm: bool,
    is_slow: bool,
    trace: bool,
    mortals: Vec<Mortal>,
}

/// See the module. Clones are the same world.
#[derive(Debug, Clone)]
pub(crate) struct World {
    state: Arc<Mutex<State>>,
    pub(crate) clock: Arc<dyn Clock>,
}

impl World {
    pub(crate) fn new(seed: u64, trace: bool) -> Self {
        let state = State {
            random: StdRng::seed_from_u64(seed),
            history: History::default(),
            marks: Marks::new(),
            bodies: BTreeMap::new(),
            leases: HashMap::new(),
            held: BTreeMap::new(),
            disk: None,
            is_calm: false,
            is_slow: false,
            trace,
            mortals: Vec::new(),
        };
        Self { state: Arc::new(Mutex::new(state)), clock: Arc::new(VirtualClock::start()) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Draws by chance.
    pub(crate) fn draw<T>(&self, draw: impl FnOnce(&mut StdRng) -> T) -> T {
        draw(&mut self.state().random)
    }

    /// True in so many of a hundred cases.
    pub(crate) fn percent(&self, percent: u32) -> bool {
        self.draw(|random| random.random_range(0..100) < percent)
    }

    /// Writes down what was seen.
    pub(crate) fn record(&self, what: What) {
        let now = self.clock.now();
        let mut state = self.state();
        if state.trace {
            println!(
                "{:>14} {:>5} {what:?}",
                now.as_micros() % 1_000_000_000_000,
                state.history.events().len()
            );
        }
        state.history.record(now, what);
    }

    /// Notes that something was reached.
    pub(crate) fn mark(&self, mark: &'static str) {
        *self.state().marks.entry(mark).or_default() += 1;
    }

    pub(crate) fn take(&self) -> (History, Marks) {
        let mut state = self.state();
        (std::mem::take(&mut state.history), std::mem::take(&mut state.marks))
    }

    /// A new process works on this disk.
    pub(crate) fn on(&self, disk: &SimDisk) {
        let mut state = self.state();
        if let Some(before) = state.disk.replace(disk.clone()) {
            let figures = before.figures();
            state.history.stir(figures.operations);
            state.history.stir(figures.flushes);
        }
    }

    /// Whether the process has died already and only its memory does not know.
    pub(crate) fn is_dead(&self) -> bool {
        self.state().disk.as_ref().is_some_and(SimDisk::has_stopped)
    }

    /// Nobody outside sees what a dead process does. One that goes in circles is as good as dead.
    pub(crate) async fn end_if_dead(&self) {
        if self.is_dead() || self.state().history.events().len() > EVENTS_MAX {
            std::future::pending::<()>().await;
        }
    }

    pub(crate) fn expect_body(&self, message: MessageId, hash: u64) {
        self.state().bodies.insert(message, hash);
    }

    pub(crate) fn body(&self, message: MessageId) -> u64 {
        self.state().bodies.get(&message).copied().unwrap_or_default()
    }

    /// The number of a lease in the history. Leases of one process differ from those of another.
    pub(crate) fn lease_number(&self, lease: Lease) -> u64 {
        self.state().leases.get(&lease).copied().unwrap_or_default()
    }

    pub(crate) fn new_lease(&self, lease: Lease) -> u64 {
        let mut state = self.state();
        let number = state.history.events().len() as u64 + 1;
        state.leases.insert(lease, number);
        number
    }

    /// A destination holds this prepared from now on.
    pub(crate) fn hold(&self, holder: &str, id: &TransactionId) {
        self.state().held.entry(holder.to_owned()).or_default().insert(id.clone());
    }

    /// It does so no longer. Whether it did.
    pub(crate) fn let_go(&self, holder: &str, id: &TransactionId) -> bool {
        self.state().held.get_mut(holder).is_some_and(|held| held.remove(id))
    }

    pub(crate) fn held(&self, holder: &str) -> Vec<TransactionId> {
        self.state().held.get(holder).into_iter().flatten().cloned().collect()
    }

    pub(crate) fn holds_something(&self) -> bool {
        self.state().held.values().any(|held| !held.is_empty())
    }

    /// Does something when the process dies.
    pub(crate) fn at_death(&self, act: impl FnOnce() + Send + 'static) {
        self.state().mortals.push(Mortal(Box::new(act)));
    }

    /// The process dies. A new one knows no lease of it.
    pub(crate) fn die(&self) {
        let mortals = {
            let mut state = self.state();
            state.leases.clear();
            std::mem::take(&mut state.mortals)
        };
        for mortal in mortals {
            (mortal.0)();
        }
    }

    pub(crate) fn set_calm(&self) {
        let mut state = self.state();
        state.is_calm = true;
        state.is_slow = false;
    }

    pub(crate) fn is_calm(&self) -> bool {
        self.state().is_calm
    }

    pub(crate) fn set_slow(&self, slow: bool) {
        self.state().is_slow = slow;
    }

    /// The disk takes its time, where it is slow.
    pub(crate) async fn lag(&self) {
        if self.state().is_slow {
            self.nap(Duration::from_millis(400)).await;
        }
    }

    /// Lets up to so much time pass, often none.
    pub(crate) async fn nap(&self, most: Duration) {
        let span = self.draw(|random| match random.random_range(0..4) {
            0 => Duration::ZERO,
            1 => most.mul_f64(random.random::<f64>() * 0.01),
            _ => most.mul_f64(random.random()),
        });
        if !span.is_zero() {
            tokio::time::sleep(span).await;
        }
    }
}
