//! Many rounds, and the table at their end.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::{fs, io};

use super::findings::Findings;
use super::plan::{Engine, Plan, ROUNDS_A_DATABASE};
use super::round::{Database, Outcome, Place};
use super::{Keeps, NameRule, Seen};

/// Which rounds to run.
#[derive(Debug, Clone)]
pub struct Rounds {
    /// The engine.
    pub engine: Engine,
    /// How many.
    pub rounds: u32,
    /// The first one. Rounds before it on the same database are run too.
    pub first: u32,
    /// What all of them draw from.
    pub seed: u64,
    /// Whether the engine is asked to flush. Without, the harness must find losses.
    pub is_flushed: bool,
    /// The program that works, given `work` and the orders.
    pub worker: PathBuf,
    /// A folder for mount points, logs, and what is kept of failed rounds.
    pub folder: PathBuf,
}

/// What many rounds came to.
#[derive(Debug, Clone, Default)]
pub struct Totals {
    rows: BTreeMap<(Keeps, NameRule), Row>,
    /// Rounds in which a segment was begun behind another, in a freed one, freed, had its rest moved.
    reached: [u32; 4],
    opening: u32,
    seen: Seen,
    /// One line for each failed round, which runs it again.
    pub failed: Vec<String>,
}

#[derive(Debug, Clone, Default)]
struct Row {
    rounds: u32,
    acknowledged: u64,
    findings: Findings,
}

impl Totals {
    /// Rounds run.
    #[must_use]
    pub fn rounds(&self) -> u32 {
        self.rows.values().map(|row| row.rounds).sum()
    }

    /// Batches acknowledged.
    #[must_use]
    pub fn acknowledged(&self) -> u64 {
        self.rows.values().map(|row| row.acknowledged).sum()
    }

    /// Everything that was found.
    #[must_use]
    pub fn findings(&self) -> Findings {
        let mut sum = Findings::default();
        self.rows.values().for_each(|row| sum.add(&row.findings));
        sum
    }

    /// Rounds in which the journal rolled, wrote over a freed segment, freed one, moved a live rest.
    #[must_use]
    pub fn reached(&self) -> [u32; 4] {
        self.reached
    }

    fn add(&mut self, outcome: &Outcome) {
        let row = self.rows.entry((outcome.plan.keeps, outcome.plan.names)).or_default();
        row.rounds += 1;
        row.acknowledged += outcome.acknowledged;
        row.findings.add(&outcome.findings);
        let seen = outcome.seen;
        // The first segment of an opening is no roll.
        let met = [seen.segments > 1, seen.recycled > 0, seen.freed > 0, seen.moved > 0];
        for (rounds, met) in self.reached.iter_mut().zip(met) {
            *rounds += u32::from(met);
        }
        self.opening += u32::from(!outcome.was_open);
        self.seen.add(seen);
    }
}

impl fmt::Display for Totals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "| kept | names | rounds | acked batches | deliveries checked | settled again | lost | torn | came back | wrong body | did not open | other |"
        )?;
        writeln!(f, "|---|---|---|---|---|---|---|---|---|---|---|---|")?;
        for ((keeps, names), row) in &self.rows {
            write_row(f, keeps.as_str(), names.as_str(), row)?;
        }
        let (rounds, acknowledged, findings) = (self.rounds(), self.acknowledged(), self.findings());
        write_row(f, "all", "", &Row { rounds, acknowledged, findings })?;
        let [rolls, recycled, freed, moved] = self.reached;
        write!(
            f,
            "\nRounds with: a roll {rolls}, a recycled segment {recycled}, a freed one {freed}, a moved rest {moved}, a cut before the box was open {}; {:.1} MB written, {} flushes",
            self.opening,
            self.seen.bytes as f64 / 1e6,
            self.seen.syncs,
        )
    }
}

fn write_row(f: &mut fmt::Formatter<'_>, keeps: &str, names: &str, row: &Row) -> fmt::Result {
    let Row { rounds, acknowledged, findings } = row;
    let Findings { checked, unknown, lost, torn, came_back, wrong_body, did_not_open, other, .. } = findings;
    writeln!(
        f,
        "| {keeps} | {names} | {rounds} | {acknowledged} | {checked} | {unknown} | {lost} | {torn} | {came_back} | {wrong_body} | {did_not_open} | {other} |"
    )
}

/// Runs them, telling `progress` a line for each. A round that finds something keeps its files and ends its
/// database; the next ones go on with a new one.
///
/// # Errors
/// There is no FUSE, or the worker does not run: nothing was tested.
pub fn run(rounds: &Rounds, progress: &mut dyn FnMut(&str)) -> io::Result<Totals> {
    let Rounds { engine, first, seed, is_flushed, .. } = *rounds;
    let name = format!("{}-{seed}-{}", engine.as_str(), std::process::id());
    let folder = std::path::absolute(&rounds.folder)?.join(name);
    fs::create_dir_all(&folder)?;
    let place = Place { folder, worker: rounds.worker.clone(), engine, seed, is_flushed };
    let mut totals = Totals::default();
    let mut database = Database::new();
    let mut must_be_new = false;
    let begin = first - first % ROUNDS_A_DATABASE;
    for round in begin..first.saturating_add(rounds.rounds) {
        let mut plan = Plan::new(seed, round);
        plan.is_new |= must_be_new;
        let outcome = database.round(&place, plan)?;
        must_be_new = !outcome.findings.are_none();
        progress(&line(&outcome));
        totals.add(&outcome);
        if must_be_new {
            let kept = database.keep_image(&place, &outcome.plan, &outcome.findings)?;
            outcome.findings.notes.iter().for_each(|note| progress(&format!("    {note}")));
            let replay = replay(rounds, &outcome.plan);
            progress(&format!("    again: {replay}   kept: {}", kept.display()));
            totals.failed.push(replay);
        }
    }
    if totals.failed.is_empty() {
        // Only mount points and logs are left; a leftover does no harm.
        let _ = fs::remove_dir_all(&place.folder);
    }
    Ok(totals)
}

fn replay(rounds: &Rounds, plan: &Plan) -> String {
    let Rounds { engine, seed, .. } = rounds;
    let Plan { round, keeps, names, .. } = plan;
    let (engine, keeps, names) = (engine.as_str(), keeps.as_str(), names.as_str());
    format!(
        "cargo xtask powercut --engine {engine} --seed {seed} --first {round} --rounds 1   # keeps {keeps}, names {names}"
    )
}

fn line(outcome: &Outcome) -> String {
    let Outcome { plan, findings, acknowledged, was_open, seen } = outcome;
    let verdict = if findings.are_none() { "fine" } else { "FAILED" };
    format!(
        "round {:4}: {verdict}; keeps {:7} names {:6} {} cut after {:3} ms{}{}; {acknowledged} batches acknowledged, {} deliveries checked, {} batches settled again; segments {} KiB: {} begun, {} recycled, {} freed, {} moves",
        plan.round,
        plan.keeps.as_str(),
        plan.names.as_str(),
        if plan.is_new { "new" } else { "old" },
        plan.cut_after.as_millis(),
        plan.cut_again_after
            .map_or_else(String::new, |after| format!(" and again after {}", after.as_millis())),
        if *was_open { "" } else { " while opening" },
        findings.checked,
        findings.unknown,
        plan.segment_bytes / 1024,
        seen.segments,
        seen.recycled,
        seen.freed,
        seen.moved,
    )
}
