//! Whether a system really flushes before it answers: one client submits and completes messages one by one while
//! `strace` counts the calls that flush. Fewer calls than answers, and the system is not measured.

use std::fs;
use std::io::Read as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use bytes::Bytes;
use pillarbox_benches::Bodies;
use rustix::process::{Pid, Signal, kill_process};

use super::install;
use crate::client::{Fault, Shared};
use crate::front::Plan;
use crate::meter;

const MESSAGES: u64 = 50;
const CALLS: &str = "trace=fsync,fdatasync,sync_file_range,msync,sync";
/// How long it takes to attach to the threads of a server.
const ATTACH: Duration = Duration::from_secs(10);

/// Counts the flushes of a server, or of this process.
pub(crate) async fn flushes(
    target: &Shared,
    plan: &Plan,
    folder: &Path,
    server: Option<i32>,
) -> Result<Vec<(&'static str, f64)>, Fault> {
    let bodies = Bodies::new(plan.workload.body_bytes);
    let mut client = target.client().await?;
    // Connections and tables are made now, not while it is counted.
    client.submit(&[bodies.get(0)]).await?;
    take_one(client.as_mut()).await?;
    let mut submits = 0;
    let mut completes = 0;
    for complete in [false, true] {
        let counter = Counter::attach(folder, server)?;
        for number in 0..MESSAGES {
            if complete {
                take_one(client.as_mut()).await?;
            } else {
                let body: [Bytes; 1] = [bodies.get(number)];
                client.submit(&body).await?;
            }
        }
        *(if complete { &mut completes } else { &mut submits }) = counter.count()?;
    }
    if submits < MESSAGES {
        return Err(format!(
            "it does not flush before it answers: {submits} flushes for {MESSAGES} submissions"
        )
        .into());
    }
    Ok(vec![
        ("flush_calls_per_submit", submits as f64 / MESSAGES as f64),
        ("flush_calls_per_complete", completes as f64 / MESSAGES as f64),
    ])
}

async fn take_one(client: &mut dyn crate::client::Client) -> Result<(), Fault> {
    let deadline = Instant::now() + ATTACH;
    while client.take(1).await? == 0 {
        if Instant::now() > deadline {
            return Err("a message that was submitted is not given out".into());
        }
    }
    client.complete().await
}

/// `strace`, attached.
struct Counter {
    strace: Child,
    output: std::path::PathBuf,
}

impl Counter {
    fn attach(folder: &Path, server: Option<i32>) -> Result<Self, Fault> {
        let output = folder.join("flushes");
        let mut command = Command::new(install::find("strace")?);
        command.args(["-f", "-q", "-e", CALLS, "-o"]).arg(&output);
        for process in processes(server) {
            command.args(["-p", &process.to_string()]);
        }
        let mut strace = command.stdin(Stdio::null()).stderr(Stdio::piped()).spawn()?;
        std::thread::sleep(Duration::from_millis(300));
        if let Some(status) = strace.try_wait()? {
            let mut said = String::new();
            strace.stderr.take().map(|mut pipe| pipe.read_to_string(&mut said)).transpose()?;
            return Err(format!("strace cannot attach ({status}): {}", said.trim()).into());
        }
        Ok(Self { strace, output })
    }

    fn count(mut self) -> Result<u64, Fault> {
        // What it saw last is written a moment later.
        std::thread::sleep(Duration::from_millis(100));
        if let Some(pid) = Pid::from_raw(self.strace.id().cast_signed()) {
            kill_process(pid, Signal::INT)?;
        }
        self.strace.wait()?;
        Ok(calls(&fs::read_to_string(&self.output)?))
    }
}

/// Flushes of a trace: calls that are begun, each once, without what only hands data to the system.
fn calls(trace: &str) -> u64 {
    let flushes = |line: &&str| {
        let call = line.split_whitespace().nth(1).unwrap_or_default();
        ["fsync(", "fdatasync(", "msync(", "sync("].iter().any(|name| call.starts_with(name))
    };
    trace.lines().filter(flushes).count() as u64
}

fn processes(server: Option<i32>) -> Vec<u64> {
    let of_server =
        server.map(|server| meter::processes_of(server).iter().map(|process| process.pid).collect());
    of_server.unwrap_or_else(|| vec![u64::from(std::process::id())])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flush_is_counted_once_and_a_hand_over_is_none() {
        let trace = "12 fdatasync(3 <unfinished ...>\n13 sync_file_range(4, 0, 9, 2) = 0\n12 <... fdatasync resumed>) = 0\n13 fsync(4) = 0\n";
        assert_eq!(calls(trace), 2);
    }
}
