//! `cargo xtask kit`: runs the adapters against their real destinations and checks every claim of their records.

use crate::error::Error;
use crate::tools;
use crate::workspace::Workspace;

/// Which adapters, and how thoroughly.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The adapters to check, by their kind or by the name in the table; all unless told otherwise
    adapters: Vec<String>,
    /// At how many places of an exchange a connection is cut, each way
    #[arg(long, default_value_t = 24)]
    rounds: usize,
    /// Only these claims
    #[arg(long)]
    claim: Vec<String>,
}

/// Builds the program and runs it. A run of all of it leaves its table in the page of the adapters.
pub(crate) fn run(args: &Args, workspace: &Workspace) -> Result<(), Error> {
    tools::ensure_peers(workspace)?;
    let mut options = vec![format!("--rounds={}", args.rounds)];
    options.push(format!("--page={}", workspace.root().join("docs/adapters/README.md").display()));
    options.extend(args.claim.iter().map(|claim| format!("--claim={claim}")));
    options.extend(args.adapters.iter().cloned());
    let words = ["run", "--quiet", "--locked", "-p", "pillarbox-tests", "--bin", "kit", "--"];
    workspace.cargo(words.into_iter().chain(options.iter().map(String::as_str))).run()
}

/// What `cargo xtask test` has time for; the page stays as it is.
pub(crate) fn run_short(workspace: &Workspace) -> Result<(), Error> {
    workspace.built_with_tests("kit")?.args(["--rounds=6"]).run()
}
