//! The benchmarks: `cargo xtask bench`.

#![expect(
    clippy::disallowed_methods,
    reason = "a measurement reads the real clock and starts threads as a user does"
)]
#![expect(clippy::print_stdout, reason = "a measurement's process tells its figures there")]
#![expect(clippy::print_stderr, reason = "progress and errors are read in a terminal")]

/// The one that the server has.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

mod backlog;
mod client;
mod device;
mod figures;
mod flush;
mod front;
mod group;
mod machine;
mod meter;
mod one;
#[cfg(feature = "peers")]
mod peers;
#[cfg(not(feature = "peers"))]
#[path = "without_peers.rs"]
mod peers;
mod progress;
mod report;
mod rounds;
mod run;
mod runtime;
mod store;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Measures Pillarbox.
#[derive(Debug, Parser)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Take all measurements of a group, in rounds, and write them into the documents
    Run(run::Args),
    /// Take one measurement and print its figures: what the rounds start, each as a process of its own
    One(one::Args),
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let outcome = match &cli.command {
        Command::Run(args) => run::run(args),
        Command::One(args) => one::run(args),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(fault) => {
            eprintln!("error: {fault}");
            ExitCode::FAILURE
        }
    }
}
