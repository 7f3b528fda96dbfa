//! `cargo xtask bench`: measures, beside floors of our own and beside other systems, and writes the pages.
//!
//! The program that does it is `bench` of the package `pillarbox-benches`; `docs/benchmarks.md` tells what it does.

use std::path::PathBuf;

use crate::error::Error;
use crate::instructions;
use crate::workspace::Workspace;

/// What to measure.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// store, runtime, backlog or peers; all of these where it is left out; or instructions
    name: Option<String>,
    /// How often each measurement is taken
    #[arg(long, default_value_t = 3)]
    rounds: u32,
    /// How many seconds each measurement of a rate takes
    #[arg(long, default_value_t = 3.0)]
    seconds: f64,
    /// Where to write the figures as JSON, one object a line
    #[arg(long)]
    json: Option<PathBuf>,
    /// Also measure a backlog of ten million: 24 GB of memory and 40 GB of disk will do
    #[arg(long)]
    full: bool,
    /// With `instructions`: take what is counted as the new budgets
    #[arg(long)]
    update: bool,
    /// Threads that the clients run on; 0 for one that does nothing else
    #[arg(long, default_value_t = 0)]
    threads: u32,
}

/// Builds the program and lets it measure.
pub(crate) fn run(args: &Args, workspace: &Workspace) -> Result<(), Error> {
    if args.name.as_deref() == Some("instructions") {
        return instructions::run(args.update, workspace);
    }
    if args.update {
        return Err(Error::new("--update goes with `cargo xtask bench instructions`"));
    }
    let mut words: Vec<String> =
        ["run", "--quiet", "--release", "--locked", "--package", "pillarbox-benches", "--bin", "bench"]
            .map(str::to_owned)
            .to_vec();
    if args.name.as_deref().is_none_or(|name| name == "peers") {
        words.push("--features=peers".to_owned());
    }
    words.extend(["--".to_owned(), "run".to_owned()]);
    words.extend(args.name.clone());
    words.push(format!("--rounds={}", args.rounds));
    words.push(format!("--seconds={}", args.seconds));
    words.push(format!("--threads={}", args.threads));
    words.push(format!("--folder={}", workspace.target().join("bench").display()));
    words.push(format!("--root={}", workspace.root().display()));
    if let Some(file) = &args.json {
        // Relative to where the caller stands, while the program runs in the root.
        let file = std::path::absolute(file)
            .map_err(|error| Error::new(format!("--json is {}: {error}", file.display())))?;
        words.push(format!("--json={}", file.display()));
    }
    if args.full {
        words.push("--full".to_owned());
    }
    workspace.cargo(words.iter().map(String::as_str)).run()
}
