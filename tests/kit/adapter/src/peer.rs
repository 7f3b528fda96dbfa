//! Real servers for the tests of adapters: each a child process on the loopback, with its data in a folder of the
//! test's, gone with the test.
//!
//! What cannot be started or stopped ends the test by a panic that says why.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::missing_panics_doc,
    reason = "it works or the test has failed"
)]

use std::env;
use std::fmt;
use std::fs::{self, File};
use std::net::TcpListener;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustix::process::{Pid, Signal, kill_process};
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

/// How long a server may take to answer for the first time.
const START: Duration = Duration::from_secs(60);
/// How long it may take to answer a question, before that is asked anew.
const PROBE: Duration = Duration::from_secs(10);

/// A server that can be killed, stopped and started again.
pub struct Peer {
    name: &'static str,
    command: Box<dyn Fn() -> Command + Send + Sync>,
    log: PathBuf,
    child: Option<Child>,
}

impl Peer {
    /// Starts the server that `command` is, in a process group of its own. What it says goes to a file in `folder`.
    pub fn start(
        name: &'static str,
        folder: &Path,
        command: impl Fn() -> Command + Send + Sync + 'static,
    ) -> Self {
        let log = folder.join(format!("{name}.log"));
        let mut peer = Self { name, command: Box::new(command), log, child: None };
        peer.start_again();
        peer
    }

    /// Starts it once more, with the same command.
    pub fn start_again(&mut self) {
        let log = File::options().create(true).append(true).open(&self.log).unwrap();
        let mut command = (self.command)();
        command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log).process_group(0);
        let started = command.spawn().unwrap_or_else(|error| panic!("cannot start {}: {error}", self.name));
        self.child = Some(started);
    }

    /// Waits until `probe` succeeds.
    pub async fn ready<E: fmt::Debug>(&mut self, probe: impl AsyncFn() -> Result<(), E>) {
        let waiting = async {
            loop {
                // One that lets somebody in while it starts may never answer him.
                let probed = timeout(PROBE, probe()).await;
                if let Ok(Ok(())) = probed {
                    return;
                }
                let ended = self.child.as_mut().and_then(|child| child.try_wait().unwrap());
                assert!(ended.is_none(), "{} has ended ({probed:?}): {}", self.name, said(&self.log));
                sleep(Duration::from_millis(5)).await;
            }
        };
        let waited = timeout(START, waiting).await;
        assert!(waited.is_ok(), "{} does not answer: {}", self.name, said(&self.log));
    }

    /// Ends it as a crash would.
    pub fn kill(&mut self) {
        // Stopped first, so that none is missed that is starting another.
        let all = self.signal(Signal::STOP);
        for process in &all {
            let _gone = kill_process(Pid::from_raw(*process).unwrap(), Signal::KILL);
        }
        if let Some(mut child) = self.child.take() {
            child.wait().unwrap();
        }
        // Those that it started are another's to bury.
        while all.iter().any(|process| is_alive(*process)) {
            std::thread::yield_now();
        }
    }

    /// Keeps it from doing anything, its connections included.
    pub fn pause(&self) {
        let _all = self.signal(Signal::STOP);
    }

    /// Lets it go on.
    pub fn go_on(&self) {
        let _all = self.signal(Signal::CONT);
    }

    /// To it and to all that it started, whatever group they are in.
    fn signal(&self, signal: Signal) -> Vec<i32> {
        let Some(child) = &self.child else { return Vec::new() };
        let mut all = vec![child.id().cast_signed()];
        let mut at = 0;
        while at < all.len() {
            let _gone = kill_process(Pid::from_raw(all[at]).unwrap(), signal);
            all.extend(children(all[at]));
            at += 1;
        }
        all
    }
}

impl fmt::Debug for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Peer").field("name", &self.name).finish_non_exhaustive()
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Runs a task of the test's own.
#[expect(clippy::disallowed_methods, reason = "ends with the test's runtime")]
pub fn run<F>(future: F) -> JoinHandle<F::Output>
where
    F: Future<Output: Send> + Send + 'static,
{
    tokio::spawn(future)
}

/// A certificate for the loopback with its key, and who vouches for it: `server.crt`, `server.key` and `ca.crt`.
pub fn certificates(folder: &Path) {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
    fs::write(folder.join("ca.crt"), issuer.pem()).unwrap();
    fs::write(folder.join("server.crt"), params.signed_by(&key, &issuer).unwrap().pem()).unwrap();
    fs::write(folder.join("server.key"), key.serialize_pem()).unwrap();
}

fn said(log: &Path) -> String {
    let text = fs::read_to_string(log).unwrap_or_default();
    let last: Vec<&str> = text.lines().rev().take(8).collect();
    last.into_iter().rev().collect::<Vec<_>>().join(" / ")
}

/// State and parent of a process.
fn status(process: i32) -> Option<(char, i32)> {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    let mut words = stat.rsplit_once(") ")?.1.split(' ');
    Some((words.next()?.chars().next()?, words.next()?.parse().ok()?))
}

fn is_alive(process: i32) -> bool {
    status(process).is_some_and(|(state, _)| state != 'Z')
}

fn children(process: i32) -> Vec<i32> {
    let all = fs::read_dir("/proc").unwrap().flatten();
    let all = all.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    all.filter(|one| status(*one).is_some_and(|(_, parent)| parent == process)).collect()
}

/// A port of the loopback that nobody uses. Below those that the system gives to clients: a server that is started
/// again must find it free; and from a beginning of this process's own.
pub fn free_port() -> u16 {
    const FIRST: u32 = 10_000;
    const COUNT: u32 = 20_000;
    static NEXT: AtomicU32 = AtomicU32::new(0);
    // Tests of one process may run at once; a port that was given out may not be taken yet.
    let from = std::process::id().wrapping_mul(37).wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed));
    (0..COUNT)
        .map(|step| u16::try_from(FIRST + from.wrapping_add(step) % COUNT).unwrap())
        .find(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok())
        .unwrap()
}

/// A server's program: on PATH, where the system keeps such, or where `cargo xtask prerequisites` puts them.
pub fn program(name: &str) -> PathBuf {
    let mut folders = vec![tools().join("nats-server/bin")];
    // RabbitMQ's on PATH are wrapped, to run as a user of their own.
    for (parent, below) in [("/usr/lib/postgresql", "bin"), ("/usr/lib/rabbitmq/lib", "sbin")] {
        let versions = fs::read_dir(parent).into_iter().flatten().flatten();
        let mut versions: Vec<_> = versions.map(|version| version.path().join(below)).collect();
        // The highest version first.
        versions.sort_unstable_by(|a, b| b.cmp(a));
        folders.extend(versions);
    }
    folders.extend(env::split_paths(&env::var_os("PATH").unwrap_or_default()));
    folders.push(PathBuf::from("/usr/sbin"));
    let found = folders.into_iter().map(|folder| folder.join(name)).find(|path| path.exists());
    found.unwrap_or_else(|| panic!("{name} is missing; `cargo xtask prerequisites` installs it"))
}

/// Where `cargo xtask prerequisites` puts servers that are packages of Python's: beside what Cargo builds.
pub fn tools() -> PathBuf {
    let program = env::current_exe().unwrap();
    let folders = program.ancestors().map(|folder| folder.join("tools/peers"));
    folders.into_iter().find(|folder| folder.is_dir()).unwrap_or_default()
}

/// A user for a server that refuses to run as root; `None` where this process is no root.
pub fn plain_user() -> Option<(u32, u32)> {
    if !rustix::process::getuid().is_root() {
        return None;
    }
    let users = fs::read_to_string("/etc/passwd").unwrap();
    let of = |name: &str| {
        users.lines().find_map(|line| {
            let mut words = line.split(':');
            let matches = words.next()? == name;
            let (uid, gid) = (words.nth(1)?.parse().ok()?, words.next()?.parse().ok()?);
            matches.then_some((uid, gid))
        })
    };
    of("postgres").or_else(|| of("nobody"))
}
