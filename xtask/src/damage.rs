//! `cargo xtask damage`: damages boxes at random, opens, checks and salvages each, and counts what was noticed.

use crate::error::Error;
use crate::workspace::Workspace;

/// How much damage.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// How many times a box is damaged
    #[arg(long, default_value_t = 10_000)]
    flips: u64,
    /// What the damage is drawn from: the first seed of as many
    #[arg(long, default_value_t = 0)]
    seed: u64,
}

/// Builds the program and runs it. One round alone is a replay, and leaves the page of figures as it is.
pub(crate) fn run(args: &Args, workspace: &Workspace) -> Result<(), Error> {
    let mut options = vec![format!("--flips={}", args.flips), format!("--seed={}", args.seed)];
    if args.flips > 1 {
        options.push(format!("--proof={}", workspace.root().join("docs/proof.md").display()));
    }
    let words = ["run", "--quiet", "--profile", "sim", "-p", "pillarbox-tests", "--bin", "damage", "--"];
    workspace.cargo(words.into_iter().chain(options.iter().map(String::as_str))).run()
}
