//! `cargo xtask NAME`: what the project does to itself.
//!
//! One command a file. A new one is a module with an `Args` and a `run`, a variant of [`Command`] and an arm in
//! [`main`]; [`steps`] gives it progress and a table, [`workspace`] runs the programs it needs.

#![expect(clippy::print_stdout, reason = "these commands are read in a terminal")]
#![expect(clippy::print_stderr, reason = "and so are their errors")]

mod bench;
mod chaos;
mod damage;
mod error;
mod fuzz;
mod instructions;
mod kills;
mod kit;
mod mutants;
mod powercut;
#[expect(unreachable_pub, reason = "it is a part of the tests' kit as well")]
#[path = "../../tests/kit/proof.rs"]
mod proof;
mod report;
mod sim;
mod steps;
mod test;
mod tools;
mod workspace;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::workspace::Workspace;

/// What the project does to itself.
#[derive(Debug, Parser)]
#[command(bin_name = "cargo xtask")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run every check, in order, up to the first that fails. CI runs this and nothing else
    Test(test::Args),
    /// Take the power away from a working box at random moments and look at what is left
    Powercut(powercut::Args),
    /// Kill, stop and starve a real server under load and look at what becomes of every message
    Chaos(chaos::Args),
    /// Kill a real server and its destination, again and again, and look at what the destination really holds
    Kills(kills::Args),
    /// Simulate the whole system on one thread in virtual time, seed by seed
    Sim(sim::Args),
    /// Damage boxes at random, then open, check and salvage each
    Damage(damage::Args),
    /// Run the adapters against their real destinations and check every claim of their records
    Kit(kit::Args),
    /// Look for bytes that do harm where bytes of others are read, with libFuzzer
    Fuzz(fuzz::Args),
    /// Change the ledger and the journal one small thing at a time and look whether a test notices
    Mutants(mutants::Args),
    /// Measure: the box beside two bare log files, the runtime, backlogs, other systems
    Bench(bench::Args),
    #[command(flatten)]
    Check(test::Check),
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let outcome = Workspace::find().and_then(|workspace| match &cli.command {
        Command::Test(args) => test::run(args, &workspace),
        Command::Powercut(args) => powercut::run(args, &workspace),
        Command::Chaos(args) => chaos::run(args, &workspace),
        Command::Kills(args) => kills::run(args, &workspace),
        Command::Sim(args) => sim::run(args, &workspace),
        Command::Damage(args) => damage::run(args, &workspace),
        Command::Kit(args) => kit::run(args, &workspace),
        Command::Fuzz(args) => fuzz::run(args, &workspace),
        Command::Mutants(args) => mutants::run(args, &workspace),
        Command::Bench(args) => bench::run(args, &workspace),
        Command::Check(check) => test::run_one(*check, &workspace),
    });
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("\n{error}");
            ExitCode::FAILURE
        }
    }
}
