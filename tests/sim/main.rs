//! A seeded simulation: a box over a journal on a simulated disk, a runtime, and simulated destinations, on one
//! thread in virtual time, everything drawn from one seed. `cargo xtask sim` runs it.

#![expect(clippy::print_stdout, reason = "this program is read in a terminal")]

mod destination;
mod drive;
mod life;
#[cfg(pillarbox_mutants)]
mod mutants;
mod plan;
#[expect(unreachable_pub, reason = "it is a part of the tests' kit as well")]
#[path = "../kit/proof.rs"]
mod proof;
mod recorder;
mod run;
mod world;

#[cfg(test)]
mod tests;

use std::path::PathBuf;
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
    /// Let every mutant loose and see whether it is caught; `--seeds` is each one's budget
    #[cfg(pillarbox_mutants)]
    #[arg(long)]
    mutants: bool,
    /// Only this mutant
    #[cfg(pillarbox_mutants)]
    #[arg(long)]
    mutant: Option<String>,
    /// The page that takes the figures
    #[arg(long)]
    proof: Option<PathBuf>,
    /// Seeds run at the same time
    #[arg(long, default_value_t = 2)]
    threads: usize,
}

fn main() -> ExitCode {
    let args = Args::parse();
    #[cfg(pillarbox_mutants)]
    if args.mutants {
        return run_mutants(&args);
    }
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
    let shown = std::sync::Mutex::new((Duration::ZERO, 0));
    let limit = args.minutes.map(|minutes| Duration::from_secs_f64(minutes * 60.0));
    let total = run_many(args.seed.unwrap_or(0), args.threads, |total| {
        let passed = start.elapsed();
        if let Ok(mut shown) = shown.lock()
            && (passed.saturating_sub(shown.0) > Duration::from_secs(5) || total.failed.len() > shown.1)
        {
            for outcome in total.failed.iter().skip(shown.1) {
                report(outcome);
            }
            *shown = (passed, total.failed.len());
            show(total, passed);
        }
        // Two that run already come on top.
        let enough = total.seeds + (args.threads as u64 - 1) >= args.seeds;
        !enough && limit.is_none_or(|limit| passed < limit) && total.failed.len() < 5
    });
    let reported = shown.into_inner().map_or(0, |(_, failed)| failed);
    for outcome in total.failed.iter().skip(reported) {
        report(outcome);
    }
    show(&total, start.elapsed());
    let figures = figures(&total, args.seed.unwrap_or(0), start.elapsed());
    record(args, "simulation", &figures);
    for (mark, times) in &total.marks {
        println!("  {times:>9}  {mark}");
    }
    total
}

fn figures(total: &Total, first: u64, passed: Duration) -> String {
    let per_second = total.seeds as f64 / passed.as_secs_f64().max(0.001);
    let days = total.simulated.as_secs_f64() / 86_400.0;
    let faults = total.marks.iter().filter(|(mark, _)| mark.starts_with("disk") || mark.starts_with("crash"));
    let faults: u64 = faults.map(|(_, times)| times).sum();
    format!(
        "| seeds | from | a second | simulated days | events | crashes and disk faults | failed |\n\
         |---|---|---|---|---|---|---|\n\
         | {} | {first} | {per_second:.0} | {days:.1} | {} | {faults} | {} |\n",
        total.seeds,
        total.events,
        total.failed.len()
    )
}

fn record(args: &Args, section: &str, figures: &str) {
    if let Some(Err(error)) = args.proof.as_deref().map(|page| proof::write(page, section, figures)) {
        println!("the figures were not written down: {error}");
    }
}

#[cfg(pillarbox_mutants)]
fn run_mutants(args: &Args) -> ExitCode {
    // What a mutant breaks may panic; the table tells.
    std::panic::set_hook(Box::new(|_| {}));
    println!("{:27} {:>6}  {:22} what it does", "mutant", "seeds", "caught by");
    let fates = mutants::run_mutants(
        args.seed.unwrap_or(0),
        args.seeds,
        args.threads,
        args.mutant.as_deref(),
        |fate| {
            let by = fate.caught.as_ref().map_or_else(|| "SURVIVED".to_owned(), caught_by);
            println!("{:27} {:>6}  {by:22} {}", fate.name, fate.seeds, fate.about);
        },
    );
    let survived = fates.iter().filter(|fate| fate.caught.is_none()).count();
    println!("{} mutants, {survived} survived", fates.len());
    let mut table = format!(
        "{} of {} caught.\n\n| mutant | what it does | seeds | caught by |\n|---|---|---|---|\n",
        fates.len() - survived,
        fates.len()
    );
    for fate in &fates {
        let by = fate.caught.as_ref().map_or_else(|| "SURVIVED".to_owned(), caught_by);
        table.push_str(&format!("| {} | {} | {} | {by} |\n", fate.name, fate.about, fate.seeds));
    }
    if args.mutant.is_none() {
        record(args, "mutants", &table);
    }
    if survived == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

#[cfg(pillarbox_mutants)]
fn caught_by(outcome: &Outcome) -> String {
    let mut by: Vec<_> = outcome.violations.iter().map(|violation| violation.invariant).collect();
    by.sort_unstable();
    by.dedup();
    let mut by: Vec<String> = by.iter().map(ToString::to_string).collect();
    by.extend(outcome.panic.as_ref().map(|_| "panic".to_owned()));
    by.join(" ")
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
