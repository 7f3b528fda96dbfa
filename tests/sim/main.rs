//! A seeded simulation: a box over a journal on a simulated disk, a runtime, and simulated destinations, on one
//! thread in virtual time, everything drawn from one seed. `cargo xtask sim` runs it.

#![expect(clippy::print_stdout, reason = "this program is read in a terminal")]

mod destination;
mod drive;
mod life;
mod plan;
mod recorder;
mod run;
mod world;

#[cfg(test)]
mod tests;

use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Parser;

use crate::run::{Outcome, Total, run, run_many};

/// Runs seeds of the simulation.
#[derive(Debug, Parser)]
#[command(name = "sim", bin_name = "cargo xtask sim")]
struct Args {
    /// How many seeds
    #[arg(long, default_value_t = 1_000)]
    seeds: u64,
    /// The first one. Alone, without `--seeds`, it is the only one and its trace is shown
    #[arg(long)]
    seed: Option<u64>,
    /// Stop after so many minutes
    #[arg(long)]
    minutes: Option<f64>,
    /// Show every event of the seeds
    #[arg(long)]
    trace: bool,
    /// Seeds run at the same time
    #[arg(long, default_value_t = 2)]
    threads: usize,
}

fn main() -> ExitCode {
    let args = Args::parse();
    if args.trace {
        let outcome = run(args.seed.unwrap_or(0), true);
        report(&outcome);
        return if outcome.is_fine() { ExitCode::SUCCESS } else { ExitCode::FAILURE };
    }
    let total = run_all(&args);
    if total.failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

#[expect(clippy::disallowed_methods, reason = "the speed of the simulation is measured in real time")]
fn run_all(args: &Args) -> Total {
    let start = Instant::now();
    let shown = std::sync::Mutex::new(Duration::ZERO);
    let limit = args.minutes.map(|minutes| Duration::from_secs_f64(minutes * 60.0));
    let total = run_many(args.seed.unwrap_or(0), args.threads, |total| {
        let passed = start.elapsed();
        if let Ok(mut shown) = shown.lock()
            && passed.saturating_sub(*shown) > Duration::from_secs(5)
        {
            *shown = passed;
            show(total, passed);
        }
        // Two that run already come on top.
        let enough = total.seeds + (args.threads as u64 - 1) >= args.seeds;
        !enough && limit.is_none_or(|limit| passed < limit) && total.failed.len() < 5
    });
    for outcome in &total.failed {
        report(outcome);
    }
    show(&total, start.elapsed());
    for (mark, times) in &total.marks {
        println!("  {times:>9}  {mark}");
    }
    total
}

fn show(total: &Total, passed: Duration) {
    let per_second = total.seeds as f64 / passed.as_secs_f64().max(0.001);
    let days = total.simulated.as_secs_f64() / 86_400.0;
    println!(
        "{} seeds, {per_second:.1} a second, {days:.1} simulated days, {} events, {} failed",
        total.seeds,
        total.events,
        total.failed.len()
    );
}

fn report(outcome: &Outcome) {
    println!("seed {}: trace hash {:016x}, {} events", outcome.seed, outcome.hash, outcome.events);
    for violation in outcome.violations.iter().take(5) {
        println!("  {violation}");
    }
    if let Some(panic) = &outcome.panic {
        println!("  panicked: {panic}");
    }
    if !outcome.is_fine() {
        println!("  replay: cargo xtask sim --seed {} --trace", outcome.seed);
    }
}
