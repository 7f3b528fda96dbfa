//! Damages the files of a box in every way that can be thought of, opens, checks and salvages it, and counts what was
//! noticed. `cargo xtask damage` runs it.

#![expect(clippy::print_stdout, reason = "this program is read in a terminal")]
#![expect(
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a box that is whole and fails is a fault of this program; so is a range beyond a file"
)]

mod harm;
mod judge;
mod life;
mod run;

#[cfg(test)]
mod tests;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;

use crate::run::Total;

/// Damages boxes.
#[derive(Debug, Parser)]
#[command(name = "damage", bin_name = "cargo xtask damage")]
struct Args {
    /// How many times a box is damaged
    #[arg(long, default_value_t = 1_000)]
    flips: u64,
    /// What the damage is drawn from: the first seed of as many
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// The page that takes the figures
    #[arg(long)]
    proof: Option<PathBuf>,
}

fn main() -> ExitCode {
    let args = Args::parse();
    let mut total = Total::default();
    let mut shown = 0;
    run::random(args.seed, args.flips, &mut total, |total| {
        total.problems.iter().skip(shown).for_each(|problem| println!("{problem}"));
        shown = total.problems.len();
        if total.rounds.is_multiple_of(100) {
            println!("{}", total.line());
        }
    });
    println!("{}", total.line());
    if args.flips == 1 {
        total.findings.iter().for_each(|finding| println!("{finding:?}"));
    }
    if let Some(page) = &args.proof {
        let written = pillarbox_tests::proof::write(page, "damage", &total.table(args.seed));
        if let Err(error) = written {
            println!("{}: {error}", page.display());
            return ExitCode::FAILURE;
        }
    }
    if total.problems.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
