//! What a run was made on and with: told beside its figures.

use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::{Map, Value, json};

use crate::client::Fault;

/// Reads off the machine, the kernel, the file system below `folder`, and the versions.
pub(crate) fn describe(folder: &Path) -> Result<Map<String, Value>, Fault> {
    let cpu = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model =
        cpu.lines().find_map(|line| line.strip_prefix("model name")?.split_once(':')).map(|(_, name)| name);
    let memory = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let memory_kib =
        memory.lines().find_map(|line| line.strip_prefix("MemTotal:")?.split_whitespace().next());
    let memory_gib = memory_kib.and_then(|kib| kib.parse::<f64>().ok()).map(|kib| kib / 1024.0 / 1024.0);
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let facts = json!({
        "cpus": std::thread::available_parallelism()?.get(),
        "cpu": model.unwrap_or("unknown").trim(),
        "memory_gib": memory_gib.map(f64::round),
        "kernel": kernel.trim(),
        "file_system": file_system(folder),
        "rustc": said("rustc", &["--version"]),
        "version": env!("CARGO_PKG_VERSION"),
        "commit": said("git", &["rev-parse", "--short", "HEAD"]),
    });
    match facts {
        Value::Object(facts) => Ok(facts),
        _ => Err("the machine could not be described".into()),
    }
}

/// The first line a program says; `None` where it cannot be asked.
pub(crate) fn said(program: &str, args: &[&str]) -> Option<String> {
    let output = Command::new(program).args(args).output().ok().filter(|output| output.status.success())?;
    String::from_utf8(output.stdout).ok()?.lines().next().map(str::to_owned)
}

/// Refuses a folder in memory, where a flush costs nothing.
pub(crate) fn refuse_memory(folder: &Path) -> Result<(), Fault> {
    match file_system(folder).as_deref() {
        Some(kind @ ("tmpfs" | "ramfs")) => {
            let folder = folder.display();
            Err(format!("{folder} is on {kind}, where nothing is flushed; set CARGO_TARGET_DIR to a disk")
                .into())
        }
        _ => Ok(()),
    }
}

/// The kind of file system that holds `folder`.
fn file_system(folder: &Path) -> Option<String> {
    let folder = folder.canonicalize().ok()?;
    let mounts = fs::read_to_string("/proc/self/mounts").ok()?;
    let held = mounts.lines().filter_map(|line| {
        let mut words = line.split(' ');
        let (at, kind) = (words.nth(1)?, words.next()?);
        folder.starts_with(at).then_some((at.len(), kind))
    });
    held.max_by_key(|(length, _)| *length).map(|(_, kind)| kind.to_owned())
}
