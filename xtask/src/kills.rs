//! `cargo xtask kills`: kills a real server under load, again and again, and looks at what its destination really holds.
//!
//! The program that does it is `kills` of the package `pillarbox-tests`; `docs/proof.md` tells what it does.

use crate::error::Error;
use crate::tools;
use crate::workspace::Workspace;

/// What is killed how often.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The destinations, by their names in the table, one after the other; all unless told otherwise
    subjects: Vec<String>,
    /// How often the server is killed; for each destination
    #[arg(long, default_value_t = 200)]
    kills: u32,
    /// What the moments are drawn from
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// The engine of the box. On `memory` losses must be found, and nothing is written down
    #[arg(long, default_value = "journal")]
    engine: String,
    /// Judge every destination as if it took each message once only, files that somebody takes away included: those that
    /// do not must be found, and nothing is written down
    #[arg(long)]
    once: bool,
}

/// Builds the server and the program, and runs the one with the other.
pub(crate) fn run(args: &Args, workspace: &Workspace) -> Result<(), Error> {
    tools::ensure_peers(workspace)?;
    let build = "build --quiet --locked --package pillarbox-tests --bin pillarbox-under-test --bin kills";
    workspace.cargo(build.split(' ')).run()?;
    let built = |name: &str| workspace.target().join("debug").join(name).to_string_lossy().into_owned();
    let mut options = vec![
        format!("--server={}", built("pillarbox-under-test")),
        format!("--kills={}", args.kills),
        format!("--seed={}", args.seed),
        format!("--engine={}", args.engine),
    ];
    if args.once {
        options.push("--once".to_owned());
    } else if args.engine == "journal" {
        options.push(format!("--page={}", workspace.root().join("docs/proof.md").display()));
    }
    options.extend(args.subjects.iter().cloned());
    workspace.program(&built("kills")).args(options.iter().map(String::as_str)).run()
}
