//! The stages in order: a later one goes on with what an earlier one left.

use std::fs;
use std::path::Path;

use crate::client::Fault;
use crate::figures::Figures;
use crate::rounds::{self, Kind, Measured, Subject};

const MILLION: u64 = 1_000_000;
const STORM: u64 = 100_000;
const ATTEMPTS: u64 = 100_000;

struct Stage {
    row: String,
    target: &'static str,
    count: u64,
    /// Goes on with the files of the stage before.
    goes_on: bool,
    /// Leaves its files for the next.
    leaves: bool,
}

fn stages(full: bool) -> Vec<Stage> {
    let mut stages = vec![alone("empty box", "journal", 0)];
    let sizes = if full { vec![MILLION, 10 * MILLION] } else { vec![MILLION] };
    for count in sizes {
        let row = |what: &str| format!("{} million waiting: {what}", count / MILLION);
        stages.push(Stage { row: row("fill"), target: "backlog-fill", count, goes_on: false, leaves: true });
        stages.push(Stage { row: row("use"), target: "backlog-use", count, goes_on: true, leaves: false });
    }
    stages.push(alone("1 million suspended", "backlog-suspended", MILLION));
    stages.push(alone("retry storm", "backlog-storm", STORM));
    stages.push(alone("body of 1 GiB", "backlog-body", 1));
    stages.push(alone("history", "backlog-history", ATTEMPTS));
    stages
}

fn alone(row: &str, target: &'static str, count: u64) -> Stage {
    Stage { row: row.to_owned(), target, count, goes_on: false, leaves: false }
}

/// Runs every stage, `rounds` times. One that fails is told and the others go on.
pub(crate) fn run(full: bool, rounds: usize, folder: &Path) -> Result<Vec<Measured>, Fault> {
    let stages = stages(full);
    let mut rows: Vec<Measured> = stages.iter().map(row).collect();
    for round in 0..rounds {
        let mut empty = None;
        for (stage, row) in stages.iter().zip(&mut rows) {
            eprintln!("round {} of {rounds} backlog {}", round + 1, stage.row);
            match rounds::measure(&subject(stage), folder) {
                Ok(mut figures) => {
                    compare(&mut empty, &mut figures);
                    let told: Vec<String> =
                        figures.iter().map(|(name, value)| format!("{name} {value:.2}")).collect();
                    eprintln!("  {}", told.join(", "));
                    row.rounds.push(figures);
                }
                Err(fault) => {
                    eprintln!("  FAILED: {fault}");
                    row.fault = Some(fault.to_string());
                }
            }
        }
    }
    let data = folder.join("data");
    if data.exists() {
        fs::remove_dir_all(data)?;
    }
    Ok(rows)
}

fn row(stage: &Stage) -> Measured {
    Measured {
        workload: stage.row.clone(),
        mode: "backlog".to_owned(),
        clients: None,
        kind: Kind::Engine,
        name: "journal".to_owned(),
        rounds: Vec::new(),
        fault: None,
    }
}

/// Holds a rate against that of the empty box, which is measured first.
fn compare(empty: &mut Option<f64>, figures: &mut Figures) {
    let Some(rate) = figures.get("messages_per_second") else { return };
    match empty {
        None => *empty = Some(rate),
        Some(empty) => figures.set("rate_of_empty_box", rate / *empty),
    }
}

fn subject(stage: &Stage) -> Subject {
    let mut args: Vec<String> =
        ["one", "--target", stage.target, "--workload", "c", "--mode", "both", "--seconds", "3", "--count"]
            .map(str::to_owned)
            .to_vec();
    args.push(stage.count.to_string());
    if stage.goes_on {
        args.push("--goes-on".to_owned());
    }
    if stage.leaves {
        args.push("--leaves".to_owned());
    }
    Subject { kind: Kind::Engine, name: "journal".to_owned(), args }
}
