//! What all rounds came to.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use pillarbox_tests::program::Engine;
use pillarbox_tests::witness::{Cause, Findings};

use crate::round::Outcome;
use crate::shown::{Shown, count};

/// The sum of many rounds.
pub(crate) struct Total {
    pub(crate) engine: Engine,
    shown: Arc<Shown>,
    rounds: u32,
    pub(crate) failed: u32,
    pub(crate) took: Duration,
    sum: Findings,
    violations: usize,
    fates: BTreeMap<&'static str, u64>,
}

impl Total {
    pub(crate) fn new(engine: Engine, shown: Arc<Shown>) -> Self {
        Self {
            engine,
            shown,
            rounds: 0,
            failed: 0,
            took: Duration::ZERO,
            sum: Findings::default(),
            violations: 0,
            fates: BTreeMap::new(),
        }
    }

    pub(crate) fn add(&mut self, outcome: &Outcome) {
        let (sum, found) = (&mut self.sum, &outcome.findings);
        self.rounds += 1;
        self.failed += u32::from(!outcome.is_fine());
        self.violations += found.violations.len();
        sum.accepted += found.accepted;
        sum.delivered += found.delivered;
        sum.suspended += found.suspended;
        sum.refused += found.refused;
        sum.unanswered += found.unanswered;
        sum.lost += found.lost;
        sum.size = sum.size.max(found.size);
        sum.calm = sum.calm.max(found.calm);
        for (cause, times) in &found.doubles {
            *sum.doubles.entry(*cause).or_default() += times;
        }
        for (fate, times) in &outcome.fates {
            *self.fates.entry(fate).or_default() += times;
        }
    }

    /// The table for `docs/proof.md`.
    pub(crate) fn figures(&self, seed: u64) -> String {
        let Self { shown, sum, .. } = self;
        let minutes = format!("{:.0}", self.took.as_secs_f64() / 60.0);
        let rows = [
            ("engine", self.engine.text().to_owned()),
            ("seed", seed.to_string()),
            ("minutes", minutes),
            ("lives", count(&shown.lives).to_string()),
            ("SIGKILL", count(&shown.kills).to_string()),
            ("SIGSTOP", count(&shown.stops).to_string()),
            ("full disks", count(&shown.fulls).to_string()),
            ("clock jumps", count(&shown.jumps).to_string()),
            ("accepted", sum.accepted.to_string()),
            ("lost", sum.lost.to_string()),
            ("repeats", self.doubles().to_string()),
            ("of these without a doubt", self.undoubted().to_string()),
            ("violations", self.violations.to_string()),
        ];
        let line = |cells: Vec<&str>| format!("| {} |\n", cells.join(" | "));
        let mut text = line(rows.iter().map(|(name, _)| *name).collect());
        text.push_str(&line(vec!["---"; rows.len()]).replace(' ', ""));
        text.push_str(&line(rows.iter().map(|(_, value)| value.as_str()).collect()));
        text
    }

    fn doubles(&self) -> u64 {
        self.sum.doubles.values().sum()
    }

    fn undoubted(&self) -> u64 {
        self.sum.doubles.get(&Cause::Nothing).copied().unwrap_or(0)
    }
}

impl fmt::Display for Total {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { shown, sum, .. } = self;
        let mut row = |value: u64, what: &str| writeln!(f, "{value:>9}  {what}");
        row(u64::from(self.rounds), &format!("rounds on {}", self.engine.text()))?;
        row(u64::from(self.failed), "rounds failed")?;
        row(self.violations as u64, "violations")?;
        row(count(&shown.lives), "lives of the server")?;
        row(count(&shown.kills), "SIGKILL")?;
        row(count(&shown.kills_at_start), "of these while it started")?;
        row(count(&shown.stops), "SIGSTOP for longer than every timeout")?;
        row(count(&shown.drains), "SIGTERM without a SIGKILL after it")?;
        row(count(&shown.fulls), "full disks")?;
        row(count(&shown.jumps), "clock jumps")?;
        row(count(&shown.downs), "times the destination refused connections")?;
        row(sum.accepted, "messages accepted")?;
        row(sum.delivered, "delivered")?;
        row(sum.suspended, "suspended, as bad ones are")?;
        row(sum.lost, "LOST")?;
        row(sum.refused, "refused, and never seen again")?;
        row(sum.unanswered, "submissions without an answer")?;
        row(self.doubles(), "repeats of what the destination had, put in doubt by:")?;
        for (cause, times) in &sum.doubles {
            row(*times, &format!("  {}", cause.text()))?;
        }
        for (fate, times) in &self.fates {
            row(*times, &format!("at the destination: {fate}"))?;
        }
        let (bytes, most) = sum.size;
        row(
            bytes / 1024,
            &format!("KiB in the largest box at its end, of {} that it might take", most / 1024),
        )?;
        write!(
            f,
            "{:>9.1}  s from the end of the faults to the last outcome, at most",
            sum.calm.as_secs_f64()
        )
    }
}
