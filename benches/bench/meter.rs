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
    /// Starts. `others` is the process group of a server whose processor time counts as well.
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

/// Processor time of this process, and of a group of others.
fn cpu(others: Option<i32>) -> Duration {
    own_cpu() + others.map_or(Duration::ZERO, group_cpu)
}

/// Processor time of this process so far: the finest clock of `getrusage`'s figures.
pub(crate) fn own_cpu() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(u64::try_from(time.tv_sec).unwrap_or(0), u32::try_from(time.tv_nsec).unwrap_or(0))
}

/// Processor time of every process of a group so far.
fn group_cpu(group: i32) -> Duration {
    let ticks: u64 = stats_of_group(group).map(|words| number(&words, UTIME) + number(&words, STIME)).sum();
    Duration::from_secs_f64(ticks as f64 / rustix::param::clock_ticks_per_second() as f64)
}

/// Memory of every process of a group now, in bytes.
pub(crate) fn group_rss(group: i32) -> u64 {
    let pages: u64 = stats_of_group(group).map(|words| number(&words, RSS)).sum();
    pages * rustix::param::page_size() as u64
}

/// Places in `/proc/PID/stat`, counted from the word after the program's name.
const GROUP: usize = 2;
const UTIME: usize = 11;
const STIME: usize = 12;
const RSS: usize = 21;

fn number(words: &[String], place: usize) -> u64 {
    words.get(place).and_then(|word| word.parse().ok()).unwrap_or(0)
}

fn stats_of_group(group: i32) -> impl Iterator<Item = Vec<String>> {
    let processes = fs::read_dir("/proc").into_iter().flatten().filter_map(Result::ok);
    let stats = processes.filter_map(|entry| fs::read_to_string(entry.path().join("stat")).ok());
    let words = stats.filter_map(|stat| {
        let (_name, rest) = stat.rsplit_once(')')?;
        Some(rest.split_whitespace().map(str::to_owned).collect::<Vec<_>>())
    });
    words.filter(move |words| words.get(GROUP).is_some_and(|word| *word == group.to_string()))
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
