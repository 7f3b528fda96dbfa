//! `cargo xtask sim`: the seeded simulation of the whole system, and the mutants that it has to notice.

use crate::error::Error;
use crate::workspace::{Run, Workspace};

/// Seeds that each mutant gets, where nothing else is asked for.
const MUTANT_SEEDS: u64 = 1_500;
/// Seeds of a run, where nothing else is asked for.
const SEEDS: u64 = 10_000;

/// What to simulate.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// How many seeds; with `--mutants`, for each of them
    #[arg(long)]
    seeds: Option<u64>,
    /// The first seed
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Stop after so many minutes
    #[arg(long)]
    minutes: Option<f64>,
    /// Run only the first seed and show every event
    #[arg(long)]
    trace: bool,
    /// Seeds run at the same time
    #[arg(long, default_value_t = 2)]
    threads: usize,
    /// Put faults in on purpose, one after the other, and fail if one of them is not noticed
    #[arg(long)]
    mutants: bool,
}

/// Builds the simulation and runs it. The figures go into `docs/proof.md`.
pub(crate) fn run(args: &Args, workspace: &Workspace) -> Result<(), Error> {
    let mut options = vec![
        format!("--seeds={}", args.seeds.unwrap_or(if args.mutants { MUTANT_SEEDS } else { SEEDS })),
        format!("--seed={}", args.seed),
        format!("--threads={}", args.threads),
    ];
    if !args.trace {
        options.push(format!("--proof={}", workspace.root().join("docs/proof.md").display()));
    }
    options.extend(args.minutes.map(|minutes| format!("--minutes={minutes}")));
    options.extend(args.trace.then(|| "--trace".to_owned()));
    if args.mutants {
        return with_mutants(workspace, &options);
    }
    program(workspace, "sim", &[], &options).run()
}

/// Lets every mutant loose, as CI does it.
pub(crate) fn run_mutants(workspace: &Workspace) -> Result<(), Error> {
    with_mutants(workspace, &[format!("--seeds={MUTANT_SEEDS}")])
}

fn with_mutants(workspace: &Workspace, options: &[String]) -> Result<(), Error> {
    // A folder of its own: the flag below is for every crate, and would have all of them built again each time.
    let folder = workspace.target().join("mutants").to_string_lossy().into_owned();
    let mut options = options.to_vec();
    options.push("--mutants".to_owned());
    // Mutants are caught within a few seeds: what counts here is how soon they are built.
    program(workspace, "dev", &["--target-dir", &folder], &options)
        .env("RUSTFLAGS", "--cfg pillarbox_mutants")
        .run()
}

fn program(workspace: &Workspace, profile: &str, building: &[&str], options: &[String]) -> Run {
    let words = ["run", "--quiet", "--locked", "--profile", profile, "-p", "pillarbox-sim", "--bin", "sim"];
    let options = options.iter().map(String::as_str);
    workspace.cargo(words.into_iter().chain(building.iter().copied()).chain(["--"]).chain(options))
}
