//! `cargo xtask sim`: the seeded simulation of the whole system, and the mutants that it has to notice.

use crate::error::Error;
use crate::workspace::Workspace;

/// Seeds that each mutant gets, where nothing else is asked for.
const MUTANT_SEEDS: u64 = 600;
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

/// Builds the simulation and runs it.
pub(crate) fn run(args: &Args, workspace: &Workspace) -> Result<(), Error> {
    // Mutants are caught within a few seeds: what counts there is how soon they are built.
    let profile = if args.mutants { "dev" } else { "sim" };
    let mut words = vec!["run", "--quiet", "--profile", profile, "-p", "pillarbox-tests", "--bin", "sim"];
    // A folder of its own: the flag below is for every crate, and would have all of them built again each time.
    let folder = workspace.folder("mutants");
    if args.mutants {
        words.extend(["--target-dir", folder.as_str()]);
    }
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
    options.extend(args.mutants.then(|| "--mutants".to_owned()));
    words.push("--");
    words.extend(options.iter().map(String::as_str));
    let simulation = workspace.cargo(words);
    let simulation =
        if args.mutants { simulation.env("RUSTFLAGS", "--cfg pillarbox_mutants") } else { simulation };
    simulation.run()
}
