//! Kills: a real server under load, ended by SIGKILL at moments drawn from a seed, again and again, with a real
//! destination that is killed as well; then what the destination really holds is held against what was acknowledged.
//! `cargo xtask kills` runs it; `docs/proof.md` tells what it does.
//!
//! The moments are the same for the same seed. What happens between the threads of real processes is not.

#![expect(clippy::print_stdout, reason = "this program is read in a terminal")]
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a destination that cannot be started or looked into ends the run"
)]

mod judge;
mod load;
mod plan;
mod reader;
mod round;
mod subjects;
mod table;

// The destinations are those against which `cargo xtask kit` runs the adapters.
#[path = "../adapters/amqp.rs"]
mod amqp;
#[path = "../adapters/file.rs"]
mod file;
#[path = "../adapters/http.rs"]
mod http_peer;
#[path = "../adapters/nats.rs"]
mod nats;
#[path = "../adapters/postgres.rs"]
mod postgres;
#[path = "../adapters/redis.rs"]
mod redis_peer;
#[path = "../adapters/s3.rs"]
mod s3;
#[path = "../adapters/sftp.rs"]
mod sftp;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Parser;
use pillarbox_tests::program::{self, Engine};
use pillarbox_tests::proof;

use crate::round::Outcome;
use crate::subjects::{Row, kind};

/// Kills a server under load and looks at what its destination has.
#[derive(Debug, Parser)]
#[command(name = "kills", bin_name = "cargo xtask kills")]
pub(crate) struct Setup {
    /// The destinations, one after the other; all unless told otherwise
    subjects: Vec<String>,
    /// The server's program
    #[arg(long)]
    server: PathBuf,
    /// How often the server is killed; for each destination
    #[arg(long, default_value_t = 200)]
    kills: u32,
    /// What everything is drawn from
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// The engine of the box
    #[arg(long, value_enum, default_value_t = Engine::Journal)]
    engine: Engine,
    /// Judge every destination as if it took each message once only, files that somebody takes away included: those that
    /// do not must be found
    #[arg(long)]
    once: bool,
    /// Keep nothing of a run that fails
    #[arg(long)]
    forget: bool,
    /// The page that takes the figures
    #[arg(long)]
    page: Option<PathBuf>,
}

fn main() -> ExitCode {
    let setup = Setup::parse();
    program::main(run(&setup))
}

/// Runs each subject; whether all of them were fine.
async fn run(setup: &Setup) -> Result<bool, String> {
    let known = || subjects::ALL.iter();
    if let Some(unknown) = setup.subjects.iter().find(|name| known().all(|row| row.name != name.as_str())) {
        let names: Vec<_> = known().map(|row| row.name).collect();
        return Err(format!("there is no {unknown:?}; there are: {}", names.join(", ")));
    }
    let wanted = |row: &&Row| setup.subjects.is_empty() || setup.subjects.iter().any(|name| name == row.name);
    let (mut rows, mut is_fine) = (Vec::new(), true);
    for row in known().filter(wanted) {
        let outcome = round::run(setup, row).await.map_err(|error| format!("{}: {error}", row.name))?;
        is_fine &= outcome.findings.violations == 0;
        report(setup, row, &outcome);
        rows.push(table::cells(row, setup.seed, &outcome));
    }
    println!("\n{}", table::figures(&rows, ""));
    if let Some(page) = &setup.page
        && let Err(error) = write(page, &rows)
    {
        println!("the figures were not written down: {error}");
    }
    Ok(is_fine)
}

fn write(page: &Path, rows: &[Vec<String>]) -> std::io::Result<()> {
    let text = std::fs::read_to_string(page)?;
    proof::write(page, "kills", &table::figures(rows, &text))
}

fn report(setup: &Setup, row: &Row, outcome: &Outcome) {
    let Outcome { findings, kills, took, .. } = outcome;
    let (name, seconds) = (row.name, took.as_secs_f64());
    println!("{seconds:>5.0} s  {name}: {kills} kills, {} violations", findings.violations);
    if findings.violations == 0 {
        return;
    }
    findings.told.iter().take(12).for_each(|line| println!("  {line}"));
    println!("  the same moments again: cargo xtask kills {name} --kills {kills} --seed {}", setup.seed);
    if let Some(folder) = &outcome.kept {
        println!("  kept: {}", folder.display());
    }
}
