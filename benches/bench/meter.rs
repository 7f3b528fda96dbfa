//! What a measurement cost: processor time, bytes and flushes at the disk, memory.

use std::fs;
use std::path::Path;
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

use crate::client::Fault;
use crate::device::{Device, Done};

/// Reads the counters before and after.
#[derive(Debug)]
pub(crate) struct Meter {
    device: Device,
    others: Option<i32>,
    cpu: Duration,
    disk: Done,
}

/// What lay between two readings.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Cost {
    pub(crate) cpu: Duration,
    pub(crate) disk: Done,
}

impl Meter {
    /// Starts. `others` is the first process of a server whose processor time counts as well.
    pub(crate) fn start(folder: &Path, others: Option<i32>) -> Result<Self, Fault> {
        let device = Device::below(folder)?;
        let disk = device.done()?;
        Ok(Self { cpu: cpu(others), device, others, disk })
    }

    /// What it cost since the start.
    pub(crate) fn cost(&self) -> Result<Cost, Fault> {
        let now = self.device.done()?;
        let disk = Done {
            bytes_written: now.bytes_written.saturating_sub(self.disk.bytes_written),
            flushes: now.flushes.saturating_sub(self.disk.flushes),
        };
        Ok(Cost { cpu: cpu(self.others).saturating_sub(self.cpu), disk })
    }
}

/// Processor time of this process, and of a server.
fn cpu(others: Option<i32>) -> Duration {
    own_cpu() + others.map_or(Duration::ZERO, server_cpu)
}

/// Processor time of this process so far: the finest clock of `getrusage`'s figures.
pub(crate) fn own_cpu() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(u64::try_from(time.tv_sec).unwrap_or(0), u32::try_from(time.tv_nsec).unwrap_or(0))
}

/// Processor time of a server so far, with all of its processes.
fn server_cpu(server: i32) -> Duration {
    let ticks: u64 =
        processes_of(server).iter().map(|process| process.word(UTIME) + process.word(STIME)).sum();
    Duration::from_secs_f64(ticks as f64 / rustix::param::clock_ticks_per_second() as f64)
}

/// Memory of a server now, with all of its processes, in bytes.
pub(crate) fn server_rss(server: i32) -> u64 {
    let pages: u64 = processes_of(server).iter().map(|process| process.word(RSS)).sum();
    pages * rustix::param::page_size() as u64
}

/// Places in `/proc/PID/stat`, counted from the word after the program's name.
const PARENT: usize = 1;
const UTIME: usize = 11;
const STIME: usize = 12;
const RSS: usize = 21;

/// A process as the kernel tells of it.
#[derive(Debug)]
pub(crate) struct Process {
    pub(crate) pid: u64,
    words: Vec<String>,
}

impl Process {
    fn read(pid: u64) -> Option<Self> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        let (_name, rest) = stat.rsplit_once(')')?;
        Some(Self { pid, words: rest.split_whitespace().map(str::to_owned).collect() })
    }

    fn word(&self, place: usize) -> u64 {
        self.words.get(place).and_then(|word| word.parse().ok()).unwrap_or(0)
    }
}

/// A server's first process and every one below it. (PostgreSQL gives each a process group of its own.)
pub(crate) fn processes_of(server: i32) -> Vec<Process> {
    let folders = fs::read_dir("/proc").into_iter().flatten().filter_map(Result::ok);
    let pids = folders.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let mut others: Vec<Process> = pids.filter_map(Process::read).collect();
    let mut found: Vec<Process> = Vec::new();
    let first = u64::from(server.cast_unsigned());
    found.extend(others.extract_if(.., |process| process.pid == first));
    let mut place = 0;
    while let Some(parent) = found.get(place).map(|process| process.pid) {
        found.extend(others.extract_if(.., |process| process.word(PARENT) == parent));
        place += 1;
    }
    found
}

/// A line of `/proc/self/status` that counts KiB, in bytes.
fn status_bytes(name: &str) -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    let kib = line.and_then(|rest| rest.split_whitespace().next()).and_then(|word| word.parse::<u64>().ok());
    kib.unwrap_or(0) * 1024
}

/// The most memory this process ever had, in bytes.
pub(crate) fn peak_rss() -> u64 {
    status_bytes("VmHWM")
}

/// The memory this process has now, in bytes.
pub(crate) fn rss() -> u64 {
    status_bytes("VmRSS")
}

/// Forgets the peak, so that the next one is that of what follows. Does nothing where the kernel does not let us.
pub(crate) fn forget_peak() {
    let _not_allowed = fs::write("/proc/self/clear_refs", "5");
}
