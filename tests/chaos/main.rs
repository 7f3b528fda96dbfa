//! Chaos: a real server under load, killed, stopped, starved and lied to by a seeded plan, with a ledger outside of it
//! that judges what became of every message. `cargo xtask chaos` runs it; `docs/proof.md` tells what it does.
//!
//! The plan is the same for the same seed. What happens between the threads of a real process is not: a failure's line
//! runs the same plan again, and may need a few runs to fail again.

#![expect(clippy::print_stdout, reason = "this program is read in a terminal")]

mod calm;
mod clock;
mod destination;
mod life;
mod load;
mod plan;
mod round;
mod shown;
mod table;

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::Parser;
use pillarbox_tests::program::{self, Engine};
use pillarbox_tests::proof;
use tokio::time::{Instant, interval};

use crate::round::Outcome;
use crate::shown::Shown;
use crate::table::Total;

/// How often it is shown how far it is.
const SHOWN_EVERY: Duration = Duration::from_secs(5);

/// Runs rounds of chaos.
#[derive(Debug, Parser)]
#[command(name = "chaos", bin_name = "cargo xtask chaos")]
pub(crate) struct Setup {
    /// The server's program
    #[arg(long)]
    server: PathBuf,
    /// Begin no further round after so many minutes; for each engine
    #[arg(long, default_value_t = 5.0)]
    minutes: f64,
    /// At most so many rounds; for each engine
    #[arg(long)]
    rounds: Option<u32>,
    /// The first round
    #[arg(long, default_value_t = 0)]
    round: u32,
    /// Lives of the server in a round
    #[arg(long, default_value_t = 30)]
    lives: u32,
    /// What everything is drawn from
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Which engines, one after the other
    #[arg(long, value_enum, default_values_t = [Engine::Journal])]
    engine: Vec<Engine>,
    /// Keep nothing of a round that fails
    #[arg(long)]
    forget: bool,
    /// The page that takes the figures
    #[arg(long)]
    proof: Option<PathBuf>,
}

/// How an engine gets on with a disk.
pub(crate) trait OnDisk {
    /// A small disk: more than the box needs for what waits, and filled within a moment. Sled leaves 64 MiB free,
    /// and gives nothing back.
    fn disk(self) -> &'static str;

    /// Whether a box opens on a disk without any room. Sled writes when it opens one.
    fn opens_on_a_full_disk(self) -> bool;

    /// Whether a full disk that is met in the middle of a write stops the box until it is opened again.
    fn stops_on_a_full_disk(self) -> bool;

    /// The most that the files may take when so many traces and bytes of bodies are left.
    fn bytes_max(self, deliveries: u64, body_bytes: u64) -> u64;
}

impl OnDisk for Engine {
    fn disk(self) -> &'static str {
        match self {
            Self::Journal | Self::Memory => "size=96m",
            Self::Sled => "size=768m",
        }
    }

    fn opens_on_a_full_disk(self) -> bool {
        self != Self::Sled
    }

    fn stops_on_a_full_disk(self) -> bool {
        self == Self::Sled
    }

    fn bytes_max(self, deliveries: u64, body_bytes: u64) -> u64 {
        const MIB: u64 = 1024 * 1024;
        let kept = deliveries * 1024 + body_bytes;
        match self {
            // At least half of every segment lives, but for the latest; and four that are free.
            Self::Journal => 2 * kept + 8 * MIB,
            Self::Memory => 0,
            // It never gives a segment of 16 MiB back, and keeps as many as it needed when it was busiest.
            Self::Sled => 4 * kept + 16 * 16 * MIB,
        }
    }
}

fn main() -> ExitCode {
    let setup = Setup::parse();
    program::main(run(&setup))
}

/// Runs rounds of each engine; whether all of them were fine.
async fn run(setup: &Setup) -> Result<bool, String> {
    clock::check().await?;
    let mut totals = Vec::new();
    let mut is_fine = true;
    for engine in &setup.engine {
        let total = run_engine(setup, *engine).await?;
        is_fine &= total.failed == 0;
        totals.push(total);
    }
    for total in &totals {
        let figures = total.figures(setup.seed);
        println!("\n{total}\n\n{figures}");
        let section = format!("chaos on {}", total.engine.text());
        if let Some(Err(error)) = setup.proof.as_deref().map(|page| proof::write(page, &section, &figures)) {
            println!("the figures were not written down: {error}");
        }
    }
    Ok(is_fine)
}

async fn run_engine(setup: &Setup, engine: Engine) -> Result<Total, String> {
    let shown = Arc::new(Shown::default());
    let begun = Instant::now();
    let limit = Duration::from_secs_f64(setup.minutes * 60.0);
    let mut total = Total::new(engine, Arc::clone(&shown));
    let mut every = interval(SHOWN_EVERY);
    for round in setup.round.. {
        if begun.elapsed() >= limit || setup.rounds.is_some_and(|rounds| round - setup.round >= rounds) {
            break;
        }
        let mut living = Box::pin(round::run(setup, engine, round, &shown));
        let outcome = loop {
            tokio::select! {
                outcome = &mut living => break outcome?,
                _ = every.tick() => {
                    println!("{:>5.0} s  {} round {round}: {shown}", begun.elapsed().as_secs_f64(), engine.text());
                }
            }
        };
        report(setup, engine, round, &outcome);
        total.add(&outcome);
    }
    total.took = begun.elapsed();
    Ok(total)
}

fn report(setup: &Setup, engine: Engine, round: u32, outcome: &Outcome) {
    if outcome.is_fine() {
        return;
    }
    println!("round {round} FAILED");
    for line in outcome
        .failed
        .iter()
        .cloned()
        .chain(outcome.findings.violations.iter().take(12).map(ToString::to_string))
    {
        println!("  {line}");
    }
    println!(
        "  {} violations; the same plan again: cargo xtask chaos --engine {} --seed {} --round {round} --rounds 1",
        outcome.findings.violations.len(),
        engine.text(),
        setup.seed
    );
    if let Some(folder) = &outcome.kept {
        println!("  kept: {} (facts.txt has everything that was seen)", folder.display());
    }
}
