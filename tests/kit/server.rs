//! The program in a folder of its own: as a server that can be killed and started again, and as commands.

use std::fs::{File, OpenOptions};
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::process::{Child, ChildStdout, Command};
use tokio::time::timeout;

use crate::client::Client;

/// How long a command may take: it hangs otherwise.
const COMMAND_MAX: Duration = Duration::from_secs(240);
/// How long a server may take to start or to end.
const SERVER_MAX: Duration = Duration::from_secs(120);
/// How much of a log is shown.
const TAIL_LINES: usize = 40;

/// A folder with a configuration, in which the program runs. What servers log there is shown where a test fails.
#[derive(Debug)]
pub struct Place {
    program: PathBuf,
    env: Vec<(String, String)>,
    folder: TempDir,
}

impl Place {
    /// A new folder for `program` with this `pillarbox.toml`.
    ///
    /// # Panics
    /// It cannot be made.
    #[must_use]
    pub fn new(program: &Path, config: &str) -> Self {
        let folder = tempfile::Builder::new().prefix("pillarbox-flow-").tempdir().expect("a new folder");
        let place = Self { program: program.to_owned(), env: Vec::new(), folder };
        place.configure(config);
        place
    }

    /// Changes the configuration.
    ///
    /// # Panics
    /// It cannot be written.
    pub fn configure(&self, config: &str) {
        self.write("pillarbox.toml", config);
    }

    /// Sets an environment variable for what runs from now on.
    pub fn set_env(&mut self, name: &str, value: &str) {
        self.env.push((name.to_owned(), value.to_owned()));
    }

    /// A path in the folder.
    #[must_use]
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Writes a file in the folder.
    ///
    /// # Panics
    /// It cannot be written.
    pub fn write(&self, name: &str, content: impl AsRef<[u8]>) {
        std::fs::write(self.path(name), content).expect("the folder is writable");
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command.args(args).current_dir(self.folder.path()).kill_on_drop(true);
        for name in ["PILLARBOX_CONFIG", "PILLARBOX_SERVER", "PILLARBOX_LOG"] {
            command.env_remove(name);
        }
        command.envs(self.env.iter().map(|(name, value)| (name, value)));
        command
    }

    /// Runs a command to its end.
    pub async fn run(&self, args: &[&str]) -> Ran {
        self.run_with_input(args, b"").await
    }

    /// Runs a command to its end, with this on its standard input.
    ///
    /// # Panics
    /// It cannot be started, or hangs.
    pub async fn run_with_input(&self, args: &[&str], input: &[u8]) -> Ran {
        let mut command = self.command(args);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("the program is there");
        let mut stdin = child.stdin.take().expect("it is piped");
        let feed = async {
            // A command that does not read it may have ended by now.
            let _not_read = stdin.write_all(input).await;
            drop(stdin);
        };
        let done = async { tokio::join!(feed, child.wait_with_output()).1 };
        let output = timeout(COMMAND_MAX, done).await.expect("the command ends").expect("its output");
        Ran {
            command: args.join(" "),
            code: output.status.code(),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// Starts a server and waits until it listens.
    ///
    /// # Panics
    /// It does not.
    pub async fn serve(&self) -> Server {
        match self.try_serve(&[]).await {
            Ok(server) => server,
            Err(ran) => did_not_start(&ran),
        }
    }

    /// Starts a server with more arguments and waits until it listens; what it said where it ended instead.
    ///
    /// # Errors
    /// It ended instead.
    ///
    /// # Panics
    /// It hangs.
    pub async fn try_serve(&self, args: &[&str]) -> Result<Server, Ran> {
        self.start(args).listening().await
    }

    /// Starts a server with more arguments and waits for nothing.
    ///
    /// # Panics
    /// There is no such program.
    #[must_use]
    pub fn start(&self, args: &[&str]) -> Starting {
        let args = [&["serve"], args].concat();
        let already = self.log_bytes();
        let mut command = self.command(&args);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(self.open_log());
        let mut child = command.spawn().expect("the program is there");
        let stdout = BufReader::new(child.stdout.take().expect("it is piped"));
        Starting { child, stdout, command: args.join(" "), log: self.path("server.log"), already }
    }

    /// Lets the folder be there after the test, for a person to look at it.
    pub fn keep(&mut self) -> &Path {
        self.folder.disable_cleanup(true);
        self.folder.path()
    }

    fn log_bytes(&self) -> u64 {
        std::fs::metadata(self.path("server.log")).map_or(0, |log| log.len())
    }

    /// What all servers here have logged.
    #[must_use]
    pub fn log(&self) -> String {
        std::fs::read(self.path("server.log"))
            .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
            .unwrap_or_default()
    }

    fn open_log(&self) -> File {
        let path = self.path("server.log");
        OpenOptions::new().create(true).append(true).open(path).expect("the folder is writable")
    }
}

#[expect(clippy::panic, reason = "this is a failed assertion")]
fn did_not_start(ran: &Ran) -> ! {
    panic!("the server did not start: {ran:?}")
}

impl Drop for Place {
    #[expect(clippy::print_stderr, reason = "the test's runner shows it with the failure")]
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = self.log();
            let lines: Vec<&str> = log.lines().collect();
            let tail = lines[lines.len().saturating_sub(TAIL_LINES)..].join("\n");
            eprintln!("the end of the server's log:\n{tail}");
        }
    }
}

/// A server that was started and need not listen yet. Killed when dropped.
#[derive(Debug)]
pub struct Starting {
    child: Child,
    stdout: BufReader<ChildStdout>,
    command: String,
    log: PathBuf,
    /// What was in the log before.
    already: u64,
}

impl Starting {
    /// Waits until it listens; what it said where it ended instead.
    ///
    /// # Errors
    /// It ended instead.
    ///
    /// # Panics
    /// It hangs.
    pub async fn listening(mut self) -> Result<Server, Ran> {
        let (mut said, mut seen) = (String::new(), 0);
        while timeout(SERVER_MAX, self.stdout.read_line(&mut said))
            .await
            .expect("it starts")
            .expect("its output")
            > 0
        {
            // As text or, on a line of its own, within JSON.
            if let Some(at) = said[seen..].find("http://") {
                let base = said[seen + at..].trim_end_matches(['"', '\n']);
                return Ok(Server {
                    child: self.child,
                    _stdout: self.stdout,
                    base: base.to_owned(),
                    client: Client::new(base),
                });
            }
            seen = said.len();
        }
        let status = timeout(SERVER_MAX, self.child.wait()).await.expect("it ends").expect("its status");
        let log = std::fs::read(&self.log).unwrap_or_default();
        let log = log.get(usize::try_from(self.already).unwrap_or(0)..).unwrap_or_default();
        let stderr = String::from_utf8_lossy(log).into_owned();
        Err(Ran { command: self.command, code: status.code(), stdout: said, stderr })
    }

    /// Kills it with SIGKILL. False where it had ended by itself.
    ///
    /// # Panics
    /// It cannot be killed.
    pub async fn kill(mut self) -> bool {
        let ran = self.child.try_wait().expect("its status").is_none();
        self.child.kill().await.expect("it can be killed");
        ran
    }
}

/// A running server. Killed when dropped.
#[derive(Debug)]
pub struct Server {
    child: Child,
    /// Held open: a server must not fail for want of a reader.
    _stdout: BufReader<ChildStdout>,
    /// Its address, `http://127.0.0.1:7420` say.
    pub base: String,
    /// A client of it.
    pub client: Client,
}

impl Server {
    /// Its process.
    ///
    /// # Panics
    /// It has ended.
    #[must_use]
    pub fn pid(&self) -> i32 {
        let pid = self.child.id().expect("the server runs");
        i32::try_from(pid).expect("a process id")
    }

    /// Kills it with SIGKILL.
    ///
    /// # Panics
    /// It had ended by itself.
    pub async fn kill(mut self) {
        assert!(self.child.try_wait().expect("its status").is_none(), "the server ended by itself");
        self.child.kill().await.expect("it can be killed");
    }

    /// Asks it to end, with SIGTERM.
    ///
    /// # Panics
    /// It has ended.
    pub fn ask_to_end(&self) {
        self.signal(Signal::TERM);
    }

    /// Lets it stand still, with SIGSTOP.
    ///
    /// # Panics
    /// It has ended.
    pub fn stop(&self) {
        self.signal(Signal::STOP);
    }

    /// Lets it go on, with SIGCONT.
    ///
    /// # Panics
    /// It has ended.
    pub fn go_on(&self) {
        self.signal(Signal::CONT);
    }

    fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(self.pid()).expect("a process id");
        kill_process(pid, signal).expect("it can be told");
    }

    /// How it ended, where it has.
    ///
    /// # Panics
    /// That cannot be told.
    pub fn has_ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("its status")
    }

    /// Waits until it has ended by itself.
    ///
    /// # Panics
    /// It does not.
    pub async fn ended(mut self) -> ExitStatus {
        timeout(SERVER_MAX, self.child.wait()).await.expect("the server ends").expect("its status")
    }

    /// Ends it with SIGTERM and checks that it leaves in order.
    ///
    /// # Panics
    /// It does not.
    pub async fn end(self) {
        self.ask_to_end();
        let status = self.ended().await;
        assert_eq!(status.code(), Some(0), "the server left with {status}");
    }
}

/// What a command said.
#[derive(Debug, Clone)]
pub struct Ran {
    /// Its arguments.
    pub command: String,
    /// Its exit code.
    pub code: Option<i32>,
    /// What it printed.
    pub stdout: String,
    /// What it said beside that.
    pub stderr: String,
}

impl Ran {
    /// What it printed, of a command that did what it was asked.
    ///
    /// # Panics
    /// It did not.
    pub fn ok(&self) -> &str {
        assert_eq!(self.code, Some(0), "{self:?}");
        &self.stdout
    }

    /// What it printed as JSON, of a command that did what it was asked.
    ///
    /// # Panics
    /// It did not, or this is no JSON.
    pub fn json(&self) -> Value {
        assert_eq!(self.code, Some(0), "{self:?}");
        self.any_json()
    }

    /// What it printed as JSON, however it ended.
    ///
    /// # Panics
    /// This is no JSON.
    pub fn any_json(&self) -> Value {
        let parsed = serde_json::from_str(&self.stdout);
        assert!(parsed.is_ok(), "the output is JSON: {self:?}");
        parsed.unwrap_or_default()
    }

    /// What it said, of a command that failed with this code: what is wrong and all of these words.
    ///
    /// # Panics
    /// It did not, or said something else.
    pub fn failed(&self, code: i32, words: &[&str]) -> &str {
        assert_eq!(self.code, Some(code), "{self:?}");
        assert!(self.stderr.contains("error"), "{self:?}");
        for word in words {
            assert!(self.stderr.contains(word), "it says {word:?}: {self:?}");
        }
        &self.stderr
    }
}
