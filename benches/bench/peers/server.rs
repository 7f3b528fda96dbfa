//! A server as a child in a process group of its own, gone when it is dropped.

use std::fs::File;
use std::net::TcpListener;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process_group};

use crate::client::Fault;

const START: Duration = Duration::from_secs(180);
const STOP: Duration = Duration::from_secs(20);

/// A running server.
#[derive(Debug)]
pub(crate) struct Server {
    name: &'static str,
    child: Child,
    /// Programs that it needs beside it; they end after it.
    beside: Vec<Child>,
    /// What asks it to end.
    farewell: Signal,
}

impl Server {
    /// Starts a program; what it says goes to a file in `folder`.
    pub(crate) fn start(name: &'static str, mut command: Command, folder: &Path) -> Result<Self, Fault> {
        let log = File::create(folder.join(format!("{name}.log")))?;
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).process_group(0);
        let child = command.spawn().map_err(|error| format!("cannot start {name}: {error}"))?;
        Ok(Self { name, child, beside: Vec::new(), farewell: Signal::TERM })
    }

    /// Keeps another program for as long as this one.
    pub(crate) fn beside(mut self, mut other: Self) -> Self {
        // The other's group ends with this server, not when the variable goes.
        if let Ok(spare) = Command::new("true").process_group(0).spawn() {
            self.beside.push(std::mem::replace(&mut other.child, spare));
        }
        self
    }

    /// Ends it by another signal than SIGTERM.
    pub(crate) fn ended_by(mut self, signal: Signal) -> Self {
        self.farewell = signal;
        self
    }

    /// Its first process.
    pub(crate) fn process(&self) -> i32 {
        self.child.id().cast_signed()
    }

    /// Tries until `ready` succeeds; an error tells what the server said.
    pub(crate) async fn wait<T, R>(&mut self, folder: &Path, mut ready: impl FnMut() -> R) -> Result<T, Fault>
    where
        R: Future<Output = Result<T, Fault>>,
    {
        let deadline = Instant::now() + START;
        loop {
            let fault = match ready().await {
                Ok(done) => return Ok(done),
                Err(fault) => fault,
            };
            let ended = self.child.try_wait()?;
            if ended.is_some() || Instant::now() > deadline {
                let said =
                    std::fs::read_to_string(folder.join(format!("{}.log", self.name))).unwrap_or_default();
                let last: Vec<&str> = said.lines().rev().take(5).collect();
                let last: Vec<&str> = last.into_iter().rev().collect();
                return Err(format!(
                    "{} does not answer ({fault}); it said: {}",
                    self.name,
                    last.join(" / ")
                )
                .into());
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Asks it to end, waits, and makes it.
    pub(crate) fn stop(mut self) -> Result<(), Fault> {
        self.end()
    }

    fn end(&mut self) -> Result<(), Fault> {
        end(&mut self.child, self.farewell)?;
        self.beside.iter_mut().try_for_each(|child| end(child, Signal::TERM))
    }
}

fn end(child: &mut Child, farewell: Signal) -> Result<(), Fault> {
    let Some(group) = Pid::from_raw(child.id().cast_signed()) else { return Ok(()) };
    if child.try_wait()?.is_some() {
        // Whoever was left in its group.
        let _gone = kill_process_group(group, Signal::KILL);
        return Ok(());
    }
    kill_process_group(group, farewell)?;
    let deadline = Instant::now() + STOP;
    while child.try_wait()?.is_none() {
        if Instant::now() > deadline {
            kill_process_group(group, Signal::KILL)?;
            child.wait()?;
            break;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    let _gone = kill_process_group(group, Signal::KILL);
    Ok(())
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Err(fault) = self.end() {
            eprintln!("{} could not be stopped: {fault}", self.name);
        }
    }
}

/// A port of the loopback that nobody uses.
pub(crate) fn free_port() -> Result<u16, Fault> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}
