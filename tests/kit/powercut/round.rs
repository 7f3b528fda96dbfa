//! One round: a worker on a mount, a cut at a random moment, and the check of what is found.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread::JoinHandle;
use std::time::Duration;
use std::{fs, io};

use super::NameRule;
use super::disk::{Disk, Seen};
use super::findings::Findings;
use super::mount::Mount;
use super::plan::{Engine, Plan, random};
use super::record::Line;
use super::work::Work;

/// A worker that has not begun by then never will.
const BEGIN_MAX: Duration = Duration::from_secs(60);
/// A check takes seconds; one that takes so long hangs.
const CHECK_MAX: Duration = Duration::from_secs(180);
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
    /// What was told of it.
    record: Vec<Line>,
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

    fn log(&self, round: u32, of: &str) -> PathBuf {
        self.folder.join(format!("{round}-{of}.log"))
    }
}

impl Database {
    pub(super) fn new() -> Self {
        let disk = Arc::new(Disk::new(NameRule::AnySync));
        Self { disk, record: Vec::new(), image: Vec::new() }
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
        take(&mut self.record, told, &mut findings);
        self.disk = Arc::new(self.disk.after_cut(plan.keeps, plan.names, &mut random));
        self.image = self.disk.files();
        if let Some(after) = plan.cut_again_after {
            let told = self.cut_worker(place, &plan, after, true)?;
            take(&mut self.record, told, &mut findings);
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

    /// Has the box opened again and checked by a process of its own.
    fn check(&mut self, place: &Place, plan: &Plan, findings: &mut Findings) -> io::Result<()> {
        let mount = place.mount(&self.disk, &format!("{}-check", plan.round))?;
        let work = Work { is_flushed: true, ..place.work(plan, mount.folder()) };
        let log = fs::File::create(place.log(plan.round, "check"))?;
        let mut checker = Command::new(&place.worker)
            .arg("check")
            .args(work.to_args())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()?;
        let mut input = checker.stdin.take().ok_or_else(|| io::Error::other("the checker has no input"))?;
        let mut output =
            checker.stdout.take().ok_or_else(|| io::Error::other("the checker has no output"))?;
        let record: String = self.record.iter().map(|line| format!("{line}\n")).collect();
        // Whatever it does not take, it says nothing of in the end.
        let _ = input.write_all(record.as_bytes());
        drop(input);
        let (done, waits) = mpsc::channel();
        let listener = start("powercut-listen", move || {
            let mut text = String::new();
            let read = output.read_to_string(&mut text);
            // The one who waits may have given up.
            let _ = done.send(read.map(|_| text));
        })?;
        let told = waits.recv_timeout(CHECK_MAX);
        checker.kill()?;
        checker.wait()?;
        // Its output has ended with it.
        let _ = listener.join();
        match told.map(|text| text.map(|text| Findings::parse(&text))) {
            Ok(Ok(Ok(found))) => {
                findings.add(&found);
                found.notes.into_iter().for_each(|note| findings.note(note));
                self.acknowledge_all();
            }
            Ok(_) => {
                findings.did_not_open += 1;
                findings.note("the check ended without a word: it panicked".to_owned());
            }
            Err(_) => {
                findings.did_not_open += 1;
                findings.note("opening or reading the box hangs".to_owned());
            }
        }
        Ok(())
    }

    /// What was unknown was committed again by the check.
    fn acknowledge_all(&mut self) {
        let mut unknown = BTreeSet::new();
        for line in &self.record {
            match line {
                Line::Intent { batch, .. } => unknown.insert(*batch),
                Line::Acknowledged { batch } => unknown.remove(batch),
                _ => false,
            };
        }
        self.record.extend(unknown.into_iter().map(|batch| Line::Acknowledged { batch }));
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
        for of in ["work", "check"] {
            if place.log(plan.round, of).exists() {
                fs::copy(place.log(plan.round, of), folder.join(of))?;
            }
        }
        let record: String = self.record.iter().map(|line| format!("{line}\n")).collect();
        fs::write(folder.join("record"), record)?;
        Ok(folder)
    }
}

/// Adds a worker's lines to the record.
fn take(record: &mut Vec<Line>, told: Vec<Told>, findings: &mut Findings) {
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
            _ => record.push(line),
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
        let log = fs::File::create(place.log(round, "work"))?;
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

    #[test]
    fn a_line_cut_short_was_not_told() {
        let (begin, begun) = mpsc::channel();
        let disk = Disk::new(NameRule::AnySync);
        let told = listen(&b"begin\nack 12\nack 3"[..], &begin, &disk);
        assert_eq!(told.len(), 2);
        assert!(begun.try_recv().is_ok());
    }
}
