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

/// Makes sure that instructions can be counted. Installs what does it where the system's packages may be changed.
pub(crate) fn ensure_valgrind(workspace: &Workspace) -> Result<(), Error> {
    let is_there = || workspace.program("valgrind").args(["--version"]).succeeds();
    if is_there() {
        println!("valgrind is there");
        return Ok(());
    }
    println!("valgrind is missing: installing it");
    // Without a password, as root or not at all.
    let install = ["apt-get", "install", "--yes", "--no-install-recommends", "valgrind"];
    let [apt, args @ ..] = install;
    let installed = workspace.program(apt).args(args).succeeds()
        || workspace.program("sudo").args(["-n"]).args(install).succeeds();
    if installed && is_there() {
        return Ok(());
    }
    Err(Error::new("valgrind is missing, which counts instructions")
        .hint(format!("$ sudo {}", install.join(" "))))
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
