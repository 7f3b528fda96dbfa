//! The box's server: a process of its own, of this same program, that can be killed and started again.

use std::fs::{self, File};
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tokio::io::{AsyncBufReadExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};

use super::stage::Stage;
use crate::backend::Remote;
use crate::failure::Failure;

/// How long a server may take to open its box and listen.
const START_MAX: Duration = Duration::from_secs(30);
/// How long a server may take to end in order; it gives itself 30 seconds.
const STOP_MAX: Duration = Duration::from_secs(45);
/// What a server says once it listens.
const LISTENING: &str = "listening on ";
/// The lines of its log that a failure shows.
const LOG_LINES: usize = 5;

/// How servers are started.
#[derive(Debug)]
pub(super) struct Launch {
    program: PathBuf,
    config: PathBuf,
    log: PathBuf,
}

/// A running server.
#[derive(Debug)]
pub(super) struct Server {
    child: Child,
    remote: Remote,
    log: PathBuf,
    /// Held open, so that the server can write to it.
    _stdout: Lines<BufReader<ChildStdout>>,
}

impl Launch {
    /// Servers of this program, on this stage.
    ///
    /// # Errors
    /// This program does not know where it is.
    pub(super) fn new(stage: &Stage) -> Result<Self, Failure> {
        let program = std::env::current_exe()
            .map_err(|error| Failure::new(format!("this program does not find itself: {error}")))?;
        Ok(Self { program, config: stage.config(), log: stage.log() })
    }

    /// How this program is called to look at the box of the stage.
    pub(super) fn look(&self) -> String {
        format!("{} --config {} ls --all", self.program.display(), self.config.display())
    }

    /// Starts a server and returns once it listens.
    ///
    /// # Errors
    /// It did not start, with the end of its log.
    pub(super) async fn start(&self) -> Result<Server, Failure> {
        let cannot = |error| Failure::new(format!("the server cannot be started: {error}"));
        let log = File::options().create(true).append(true).open(&self.log).map_err(cannot)?;
        let mut command = Command::new(&self.program);
        command.arg("--config").arg(&self.config).arg("serve");
        // What is set for other servers is not meant for this one.
        for name in ["PILLARBOX_SERVER", "PILLARBOX_CONFIG", "PILLARBOX_LOG"] {
            command.env_remove(name);
        }
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(log).kill_on_drop(true);
        let mut child = command.spawn().map_err(cannot)?;
        let stdout = child.stdout.take().ok_or_else(|| Failure::new("the server has no standard output"))?;
        let mut lines = BufReader::new(stdout).lines();
        let said = tokio::time::timeout(START_MAX, lines.next_line()).await;
        let url = match &said {
            Ok(Ok(Some(line))) => line.strip_prefix(LISTENING).map(str::to_owned),
            _ => None,
        };
        let Some(url) = url else {
            let what = match said {
                Err(_elapsed) => format!("the server does not listen after {START_MAX:?}"),
                Ok(Ok(Some(line))) => {
                    format!("the server should say where it listens, but said: {}", line.escape_debug())
                }
                Ok(_) => "the server ended before it listened".to_owned(),
            };
            return Err(Failure::new(what + &tail(&self.log)));
        };
        let remote = Remote::new(&url, None).map_err(Failure::new)?;
        Ok(Server { child, remote, log: self.log.clone(), _stdout: lines })
    }
}

impl Server {
    /// Its API.
    pub(super) fn remote(&self) -> &Remote {
        &self.remote
    }

    /// Returns once the server has ended without being asked to.
    pub(super) async fn ended(&mut self) -> Failure {
        let how = match self.child.wait().await {
            Ok(status) => status.to_string(),
            Err(error) => error.to_string(),
        };
        Failure::new(format!("the server ended by itself: {how}{}", tail(&self.log)))
    }

    /// SIGKILL: it has no say in it. Returns once it is gone.
    ///
    /// # Errors
    /// It had ended before.
    pub(super) async fn kill(&mut self) -> Result<(), Failure> {
        self.signal(Signal::KILL)?;
        let status = self.wait().await?;
        if std::os::unix::process::ExitStatusExt::signal(&status) == Some(Signal::KILL.as_raw()) {
            return Ok(());
        }
        Err(Failure::new(format!("the server ended before it was killed: {status}{}", tail(&self.log))))
    }

    /// SIGTERM: it ends in order. Returns how it did.
    ///
    /// # Errors
    /// It does not end.
    pub(super) async fn stop(mut self) -> Result<ExitStatus, Failure> {
        self.signal(Signal::TERM)?;
        match tokio::time::timeout(STOP_MAX, self.wait()).await {
            Ok(status) => status,
            Err(_elapsed) => {
                let what = format!("the server does not end, {STOP_MAX:?} after SIGTERM");
                Err(Failure::new(what + &tail(&self.log)))
            }
        }
    }

    async fn wait(&mut self) -> Result<ExitStatus, Failure> {
        let waited = self.child.wait().await;
        waited.map_err(|error| Failure::new(format!("the server's end cannot be waited for: {error}")))
    }

    fn signal(&self, signal: Signal) -> Result<(), Failure> {
        let number = self.child.id().and_then(|id| i32::try_from(id).ok());
        let Some(process) = number.and_then(Pid::from_raw) else {
            return Err(Failure::new(format!("the server had ended by itself{}", tail(&self.log))));
        };
        kill_process(process, signal)
            .map_err(|error| Failure::new(format!("the server cannot be sent a signal: {error}")))
    }
}

/// The end of a server's log.
fn tail(log: &PathBuf) -> String {
    let text = fs::read(log).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<&str> = text.lines().collect();
    let last = lines.len().saturating_sub(LOG_LINES);
    let tail = lines.get(last..).unwrap_or_default();
    if tail.is_empty() { String::new() } else { format!("; the end of its log:\n  {}", tail.join("\n  ")) }
}
