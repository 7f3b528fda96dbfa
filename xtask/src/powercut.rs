//! `cargo xtask powercut`: takes the power away from a working box at random moments and looks at what is left.
//!
//! The program that does it is `powercut` of the package `pillarbox-tests`; `docs/power-cuts.md` tells what it does.

use std::fs::OpenOptions;

use crate::error::Error;
use crate::workspace::Workspace;

/// How many rounds of what.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// journal or sled
    #[arg(long)]
    engine: String,
    /// How many rounds
    #[arg(long, default_value_t = 30)]
    rounds: u32,
    /// The first round; those before it on the same database are run as well
    #[arg(long, default_value_t = 0)]
    first: u32,
    /// What the rounds draw from
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Ask the engine for no flush: losses must be found, or the rounds prove nothing
    #[arg(long)]
    unflushed: bool,
}

const DEVICE: &str = "/dev/fuse";
const HELPER: &str = "fusermount3";

/// Runs the rounds.
pub(crate) fn run(args: &Args, workspace: &Workspace) -> Result<(), Error> {
    ensure_fuse(workspace)?;
    let folder = workspace.target().join("powercut");
    let (rounds, first, seed) = (args.rounds.to_string(), args.first.to_string(), args.seed.to_string());
    let folder = folder.to_string_lossy();
    let mut run = workspace
        .cargo([
            "run",
            "--quiet",
            "--locked",
            "--package",
            "pillarbox-tests",
            "--bin",
            "powercut",
            "--",
            "run",
        ])
        .args(["--engine", &args.engine, "--rounds", &rounds, "--first", &first, "--seed", &seed])
        .args(["--folder", &folder]);
    let proof = workspace.root().join("docs/proof.md");
    run = if args.unflushed {
        run.args(["--unflushed"])
    } else {
        run.args(["--proof", &proof.to_string_lossy()])
    };
    run.run()
}

/// Makes sure that a file system of our own can be mounted: as root there is nothing to it, anybody else needs the
/// helper that comes with FUSE.
pub(crate) fn ensure_fuse(workspace: &Workspace) -> Result<(), Error> {
    if let Err(error) = OpenOptions::new().read(true).write(true).open(DEVICE) {
        let what = format!("{DEVICE} cannot be opened ({error}): the power cuts need FUSE");
        return Err(Error::new(what).hint("$ sudo modprobe fuse"));
    }
    if is_root(workspace) || workspace.program(HELPER).args(["--version"]).succeeds() {
        println!("FUSE is there");
        return Ok(());
    }
    Err(Error::new(format!("{HELPER} is missing, without which only root may mount"))
        .hint("$ sudo apt-get install --yes fuse3"))
}

/// Whether this user may mount without the helper: whoever owns the top folder.
fn is_root(workspace: &Workspace) -> bool {
    workspace.program("test").args(["-O", "/"]).succeeds()
}
