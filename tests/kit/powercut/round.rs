//! One round: a worker on a mount, a cut at a random moment, and the check of what is found.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread::JoinHandle;
use std::time::Duration;
use std::{fs, io};

use pillarbox_store::EngineKind;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::check::check;
use super::disk::{Disk, Seen};
use super::history::History;
use super::mount::Mount;
use super::record::Line;
use super::work::Work;
use super::{Keeps, NameRule};

/// A worker that has not begun by then never will.
const BEGIN_MAX: Duration = Duration::from_secs(60);
/// A check takes seconds; one that takes so long hangs.
const CHECK_MAX: Duration = Duration::from_secs(180);
/// Rounds on one database.
pub(super) const ROUNDS_A_DATABASE: u32 = 5;

/// The engines that survive a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Engine {
    /// The journal.
    Journal,
    /// sled.
    Sled,
}

impl Engine {
    /// Its name in configuration.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        self.kind().as_str()
    }

    /// The engine of this name.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        [Self::Journal, Self::Sled].into_iter().find(|engine| engine.as_str() == name)
    }

    pub(super) const fn kind(self) -> EngineKind {
        match self {
            Self::Journal => EngineKind::Journal,
            Self::Sled => EngineKind::Sled,
        }
    }
}

/// What a round does, as it follows from the seed and the round's number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// Its number.
    pub round: u32,
    /// Whether it begins a database.
    pub is_new: bool,
    /// What the cut keeps.
    pub keeps: Keeps,
    /// What makes names last.
    pub names: NameRule,
    /// How long a journal's segments are.
    pub segment_bytes: u64,
    /// How many traces are kept.
    pub traces: u64,
    /// How long after its beginning the worker loses power.
    pub cut_after: Duration,
    /// And then once more while the box is opened.
    pub cut_again_after: Option<Duration>,
}

impl Plan {
    /// The plan of a round. Every six rounds each way to cut comes with each rule for names, and every thirty each
    /// of these with each age of a database.
    #[must_use]
    pub fn new(seed: u64, round: u32) -> Self {
        let random = &mut random(seed, round, 0);
        let database = (round / ROUNDS_A_DATABASE) as usize;
        Self {
            round,
            is_new: round.is_multiple_of(ROUNDS_A_DATABASE),
            keeps: Keeps::ALL[round as usize % Keeps::ALL.len()],
            names: NameRule::ALL[round as usize / Keeps::ALL.len() % NameRule::ALL.len()],
            segment_bytes: [64 * 1024, 256 * 1024, 64 * 1024 * 1024, 1024 * 1024][database % 4],
            traces: [300, 3_000][database % 2],
            cut_after: Duration::from_millis(if random.random_bool(0.25) {
                // While the box is opened, or a new one is young.
                random.random_range(5..60)
            } else {
                random.random_range(5..900)
            }),
            cut_again_after: random
                .random_bool(0.3)
                .then(|| Duration::from_millis(random.random_range(0..60))),
        }
    }
}

/// What a generator of a round begins with.
fn random(seed: u64, round: u32, purpose: u64) -> StdRng {
    StdRng::seed_from_u64(seed.rotate_left(17) ^ u64::from(round) << 4 ^ purpose)
}

/// What was found wrong, and how much was looked at.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Findings {
    /// Deliveries looked at.
    pub checked: u64,
    /// Batches of unknown outcome that were committed again.
    pub unknown: u64,
    /// Acknowledged and not there.
    pub lost: u64,
    /// Batches applied by half.
    pub torn: u64,
    /// Ended, and waiting again.
    pub came_back: u64,
    /// Bodies that are others.
    pub wrong_body: u64,
    /// Whether the box did not open.
    pub did_not_open: u64,
    /// Anything else.
    pub other: u64,
    /// What was found, as far as it fits.
    pub notes: Vec<String>,
}

impl Findings {
    const NOTES_MAX: usize = 20;

    pub(super) fn note(&mut self, what: String) {
        if self.notes.len() < Self::NOTES_MAX {
            self.notes.push(what);
        }
    }

    /// Whether nothing is wrong.
    #[must_use]
    pub fn are_none(&self) -> bool {
        self.lost + self.torn + self.came_back + self.wrong_body + self.did_not_open + self.other == 0
    }

    /// Adds what was found elsewhere, without its notes.
    pub fn add(&mut self, other: &Self) {
        self.checked += other.checked;
        self.unknown += other.unknown;
        self.lost += other.lost;
        self.torn += other.torn;
        self.came_back += other.came_back;
        self.wrong_body += other.wrong_body;
        self.did_not_open += other.did_not_open;
        self.other += other.other;
    }
}

/// What a round came to.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// What it did.
    pub plan: Plan,
    /// What was found.
    pub findings: Findings,
    /// Batches acknowledged in it.
    pub acknowledged: u64,
    /// Whether the box had been opened when the power went.
    pub was_open: bool,
    /// What happened on the disk up to the cut.
    pub seen: Seen,
}

/// The database that rounds go on with.
#[derive(Debug)]
pub(super) struct Database {
    disk: Arc<Disk>,
    history: History,
    /// The files as the last cut left them.
    image: Vec<(PathBuf, Vec<u8>)>,
}

/// Where rounds run, and how.
#[derive(Debug, Clone)]
pub(super) struct Place {
    /// A folder of the host's for mount points and logs.
    pub(super) folder: PathBuf,
    pub(super) worker: PathBuf,
    pub(super) engine: Engine,
    pub(super) seed: u64,
    pub(super) is_flushed: bool,
}

impl Place {
    fn work(&self, plan: &Plan, mount: &Path) -> Work {
        Work {
            folder: mount.join("box"),
            engine: self.engine,
            segment_bytes: plan.segment_bytes,
            traces: plan.traces,
            seed: self.seed,
            round: plan.round,
            clients: 4,
            is_flushed: self.is_flushed,
        }
    }

    fn mount(&self, disk: &Arc<Disk>, name: &str) -> io::Result<Mount> {
        let folder = self.folder.join(name);
        fs::create_dir_all(&folder)?;
        Mount::new(disk.clone(), &folder)
    }

    fn log(&self, round: u32) -> PathBuf {
        self.folder.join(format!("{round}-worker.log"))
    }
}

impl Database {
    pub(super) fn new() -> Self {
        let disk = Arc::new(Disk::new(NameRule::AnySync));
        Self { disk, history: History::default(), image: Vec::new() }
    }

    /// Runs one round.
    ///
    /// # Errors
    /// The mount or the worker could not be made: nothing was tested.
    pub(super) fn round(&mut self, place: &Place, plan: Plan) -> io::Result<Outcome> {
        let mut random = random(place.seed, plan.round, 1);
        if plan.is_new {
            *self = Self::new();
        }
        // What the last check left unflushed still is: the machine has gone on running.
        self.disk.begin(plan.names);
        let mut findings = Findings::default();
        let told = self.cut_worker(place, &plan, plan.cut_after, false)?;
        let seen = self.disk.seen();
        let was_open = told.iter().any(|told| told.line == Line::Opened);
        let acknowledged =
            told.iter().filter(|told| matches!(told.line, Line::Acknowledged { .. })).count() as u64;
        take(&mut self.history, told, &mut findings);
        self.disk = Arc::new(self.disk.after_cut(plan.keeps, plan.names, &mut random));
        self.image = self.disk.files();
        if let Some(after) = plan.cut_again_after {
            let told = self.cut_worker(place, &plan, after, true)?;
            take(&mut self.history, told, &mut findings);
            self.disk = Arc::new(self.disk.after_cut(plan.keeps, plan.names, &mut random));
        }
        self.check(place, &plan, &mut findings)?;
        Ok(Outcome { plan, findings, acknowledged, was_open, seen })
    }

    /// Starts a worker and takes the power away from it.
    fn cut_worker(
        &self,
        place: &Place,
        plan: &Plan,
        after: Duration,
        only_opens: bool,
    ) -> io::Result<Vec<Told>> {
        let name = format!("{}-{}", plan.round, if only_opens { "reopen" } else { "work" });
        let mount = place.mount(&self.disk, &name)?;
        let mut work = place.work(plan, mount.folder());
        if only_opens {
            work.clients = 0;
        }
        let worker = Worker::start(place, plan.round, &work, self.disk.clone())?;
        let began = worker.begun.recv_timeout(BEGIN_MAX).is_ok();
        if began {
            pause(after);
        }
        self.disk.cut();
        let told = worker.end()?;
        drop(mount);
        if began { Ok(told) } else { Err(io::Error::other("the worker did not begin")) }
    }

    /// Opens the box again on its own thread, as it might hang.
    fn check(&mut self, place: &Place, plan: &Plan, findings: &mut Findings) -> io::Result<()> {
        let mount = place.mount(&self.disk, &format!("{}-check", plan.round))?;
        let work = Work { is_flushed: true, ..place.work(plan, mount.folder()) };
        let (done, waits) = mpsc::channel();
        let mut history = std::mem::take(&mut self.history);
        let thread = start("powercut-check", move || {
            let findings = check(&work, &mut history);
            // Nobody waits any more for one that took too long.
            let _ = done.send((history, findings));
        })?;
        match waits.recv_timeout(CHECK_MAX) {
            Ok((history, found)) => {
                self.history = history;
                findings.add(&found);
                found.notes.into_iter().for_each(|note| findings.note(note));
                // It has sent its result: joining waits for nothing.
                let _ = thread.join();
            }
            Err(_) => {
                findings.did_not_open += 1;
                findings.note("opening or reading the box hangs, or panicked".to_owned());
            }
        }
        Ok(())
    }

    /// Keeps what is needed to look into a failed round.
    pub(super) fn keep_image(&self, place: &Place, plan: &Plan, findings: &Findings) -> io::Result<PathBuf> {
        let folder = place.folder.join(format!("failed-{}", plan.round));
        for (path, bytes) in &self.image {
            let path = folder.join("image").join(path);
            fs::create_dir_all(path.parent().unwrap_or(&folder))?;
            fs::write(path, bytes)?;
        }
        fs::create_dir_all(&folder)?;
        fs::write(folder.join("findings.txt"), format!("{plan:#?}\n{findings:#?}\n"))?;
        if place.log(plan.round).exists() {
            fs::copy(place.log(plan.round), folder.join("worker.log"))?;
        }
        Ok(folder)
    }
}

/// Adds a worker's lines to the history.
fn take(history: &mut History, told: Vec<Told>, findings: &mut Findings) {
    for Told { line, was_cut } in told {
        match &line {
            Line::WrongBody { message } => {
                findings.wrong_body += 1;
                findings.note(format!("message {message}: a wrong body was leased"));
            }
            Line::Failed(text) if !was_cut || text.starts_with("batch ") => {
                findings.other += 1;
                findings.note(format!("before the cut: {text}"));
            }
            _ => history.note(&line),
        }
    }
}

/// A line, and whether the power was gone when it came.
#[derive(Debug)]
struct Told {
    line: Line,
    was_cut: bool,
}

/// A worker process and the one who listens to it.
#[derive(Debug)]
struct Worker {
    process: Child,
    begun: Receiver<()>,
    listener: JoinHandle<Vec<Told>>,
}

impl Worker {
    fn start(place: &Place, round: u32, work: &Work, disk: Arc<Disk>) -> io::Result<Self> {
        let log = fs::File::create(place.log(round))?;
        let mut process = Command::new(&place.worker)
            .arg("work")
            .args(work.to_args())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()?;
        let output = process.stdout.take().ok_or_else(|| io::Error::other("the worker has no output"))?;
        let (begin, begun) = mpsc::channel();
        let listener = start("powercut-listen", move || listen(BufReader::new(output), &begin, &disk))?;
        Ok(Self { process, begun, listener })
    }

    /// Kills it and returns all that it had told.
    fn end(mut self) -> io::Result<Vec<Told>> {
        self.process.kill()?;
        self.process.wait()?;
        self.listener.join().map_err(|_panicked| io::Error::other("the listener panicked"))
    }
}

fn listen(mut output: impl BufRead, begin: &Sender<()>, disk: &Disk) -> Vec<Told> {
    let mut told = Vec::new();
    let mut text = String::new();
    // The last line may be cut short: then it was not told.
    while output.read_line(&mut text).is_ok_and(|bytes| bytes > 0) && text.ends_with('\n') {
        if let Ok(line) = text.trim_end().parse::<Line>() {
            if line == Line::Begin {
                // The one who waits may have given up.
                let _ = begin.send(());
            }
            let was_cut = matches!(line, Line::Failed(_)) && disk.is_cut();
            told.push(Told { line, was_cut });
        }
        text.clear();
    }
    told
}

#[expect(clippy::disallowed_methods, reason = "real processes on a real mount: nothing here is simulated")]
fn start<T: Send + 'static>(
    name: &str,
    run: impl FnOnce() -> T + Send + 'static,
) -> io::Result<JoinHandle<T>> {
    std::thread::Builder::new().name(name.to_owned()).spawn(run)
}

#[expect(clippy::disallowed_methods, reason = "the moment of the cut is real time")]
fn pause(time: Duration) {
    std::thread::sleep(time);
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn thirty_rounds_meet_every_way_to_cut_at_every_age() {
        let plans: Vec<Plan> = (0..30).map(|round| Plan::new(1, round)).collect();
        let met: BTreeSet<_> =
            plans.iter().map(|plan| (plan.round % ROUNDS_A_DATABASE, plan.keeps, plan.names)).collect();
        assert_eq!(met.len(), 30);
        assert!(plans.iter().any(|plan| plan.cut_again_after.is_some()));
        assert_eq!(plans, (0..30).map(|round| Plan::new(1, round)).collect::<Vec<_>>());
    }

    #[test]
    fn a_line_cut_short_was_not_told() {
        let (begin, begun) = mpsc::channel();
        let disk = Disk::new(NameRule::AnySync);
        let told = listen(&b"begin\nack 12\nack 3"[..], &begin, &disk);
        assert_eq!(told.len(), 2);
        assert!(begun.try_recv().is_ok());
    }
}
