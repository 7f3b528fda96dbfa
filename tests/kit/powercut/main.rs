//! The program behind `cargo xtask powercut`: `run` cuts the power of processes that it starts with `work`,
//! and has others look at what is left with `check`.

#![expect(clippy::print_stdout, reason = "it is read in a terminal")]
#![expect(clippy::print_stderr, reason = "and so are its errors")]

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use pillarbox_tests::powercut::{Engine, Rounds, Work, check, run, work};

/// Cuts the power of a box at random moments and looks at what is left.
#[derive(Debug, Parser)]
#[command(bin_name = "powercut")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run rounds and print a table
    Run {
        /// journal or sled
        #[arg(long, value_parser = |name: &str| Engine::parse(name).ok_or("journal or sled"))]
        engine: Engine,
        /// How many rounds
        #[arg(long, default_value_t = 30)]
        rounds: u32,
        /// The first round
        #[arg(long, default_value_t = 0)]
        first: u32,
        /// What all of them draw from
        #[arg(long, default_value_t = 1)]
        seed: u64,
        /// Ask for no flush: losses must be found
        #[arg(long)]
        unflushed: bool,
        /// Where mount points, logs, and what is kept of failed rounds go
        #[arg(long)]
        folder: PathBuf,
        /// The page that takes the figures
        #[arg(long)]
        proof: Option<PathBuf>,
    },
    /// Drive a box until the power goes; started by `run`
    #[command(hide = true)]
    Work {
        /// The orders
        orders: Vec<String>,
    },
    /// Hold a box against the record on the standard input; started by `run`
    #[command(hide = true)]
    Check {
        /// The orders
        orders: Vec<String>,
    },
}

fn main() -> ExitCode {
    match Cli::parse().command {
        Command::Run { engine, rounds, first, seed, unflushed, folder, proof } => {
            let worker = match std::env::current_exe() {
                Ok(worker) => worker,
                Err(error) => return failed(&error),
            };
            let rounds = Rounds { engine, rounds, first, seed, is_flushed: !unflushed, worker, folder };
            match run(&rounds, &mut |line| println!("{line}")) {
                Ok(totals) => {
                    println!("\n{totals}");
                    let section = format!("power cuts on {}", engine.as_str());
                    let figures = format!("{totals}. Seed {seed}.\n");
                    if let Some(Err(error)) =
                        proof.map(|page| pillarbox_tests::proof::write(&page, &section, &figures))
                    {
                        println!("the figures were not written down: {error}");
                    }
                    if totals.failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
                }
                Err(error) => failed(&error),
            }
        }
        Command::Work { orders } => match Work::parse(&orders).map(|orders| work(&orders)) {
            Some(Ok(())) => ExitCode::SUCCESS,
            Some(Err(error)) => failed(&error),
            None => failed(&"no such orders"),
        },
        Command::Check { orders } => match Work::parse(&orders) {
            Some(orders) => {
                print!("{}", check(&orders, std::io::stdin().lock()));
                ExitCode::SUCCESS
            }
            None => failed(&"no such orders"),
        },
    }
}

fn failed(error: &dyn std::fmt::Display) -> ExitCode {
    eprintln!("error: {error}");
    ExitCode::FAILURE
}
