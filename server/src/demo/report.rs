//! The table at the end, and the verdict.

use std::time::Duration;

use serde::Serialize;

use super::show::Paint;
use super::submit::Submissions;
use super::verify::Findings;

/// The ids of a flaw that are told.
const TOLD: usize = 3;

/// What a run came to.
#[derive(Debug, Clone, Default)]
pub(super) struct Run {
    /// The seed.
    pub(super) seed: u64,
    /// The engine.
    pub(super) engine: &'static str,
    /// The files that were sent.
    pub(super) files: usize,
    /// What it took to submit them.
    pub(super) submissions: Submissions,
    /// Deliveries that were suspended before the destination was repaired.
    pub(super) suspended: u64,
    /// Those that still were at the end.
    pub(super) still_suspended: u64,
    /// Deliveries that the box itself says it has done.
    pub(super) done: u64,
    /// Kills.
    pub(super) kills: usize,
    /// How the last server ended, unless in order.
    pub(super) bad_end: Option<String>,
    /// From the first server's start to the last one's end.
    pub(super) took: Duration,
    /// What the comparison found.
    pub(super) findings: Findings,
}

/// The report, with the field names of `--json`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Report {
    seed: u64,
    engine: &'static str,
    files: usize,
    submitted: usize,
    submitted_again: usize,
    recognised: usize,
    delivered: usize,
    retried: usize,
    backup: usize,
    suspended: u64,
    still_suspended: u64,
    lost: usize,
    twice: usize,
    twice_without_same_key: usize,
    kills: usize,
    seconds: f64,
    messages_per_second: f64,
    flaws: Vec<String>,
}

impl Report {
    /// The report of a run.
    pub(super) fn new(run: &Run) -> Self {
        let seconds = run.took.as_secs_f64();
        let submitted = run.submissions.acknowledged;
        let rounded = |number: f64| (number * 100.0).round() / 100.0;
        Self {
            seed: run.seed,
            engine: run.engine,
            files: run.files,
            submitted,
            submitted_again: run.submissions.repeated,
            recognised: run.submissions.recognised,
            delivered: run.findings.delivered,
            retried: run.findings.retried,
            backup: run.findings.backup,
            suspended: run.suspended,
            still_suspended: run.still_suspended,
            lost: run.findings.lost.len(),
            twice: run.findings.twice,
            twice_without_same_key: run.findings.other_key.len(),
            kills: run.kills,
            seconds: rounded(seconds),
            messages_per_second: rounded(submitted as f64 / seconds.max(0.001)),
            flaws: flaws(run),
        }
    }

    /// What was not as promised; empty after a good run.
    pub(super) fn flaws(&self) -> &[String] {
        &self.flaws
    }

    /// The table and the verdict, for people.
    pub(super) fn text(&self, paint: Paint) -> String {
        let number = |number: u64| thousands(number);
        let count = |count: usize| thousands(count as u64);
        let rows = [
            ("submitted", count(self.submitted), self.about_submitted()),
            ("delivered", count(self.delivered), "byte for byte at the destination".to_owned()),
            ("retried", count(self.retried), "came to the destination more than once".to_owned()),
            ("taken by the backup", count(self.backup), "byte for byte in the backup's folder".to_owned()),
            ("suspended", number(self.suspended), self.about_suspended()),
            ("lost", count(self.lost), String::new()),
            ("twice", count(self.twice), self.about_twice()),
            ("kills", count(self.kills), "SIGKILL, then started again on the same folder".to_owned()),
            ("seconds", format!("{:.1}", self.seconds), String::new()),
            ("messages/s", format!("{:.0}", self.messages_per_second), String::new()),
        ];
        let mut text = String::from("\n");
        for (name, value, about) in &rows {
            let value = format!("{value:>9}");
            let value = match *name {
                "lost" if self.lost == 0 => paint.good(&value),
                "lost" => paint.bad(&value),
                _ => paint.strong(&value),
            };
            let line = format!("  {name:<20}{value}   {}", paint.faint(about));
            text.push_str(if about.is_empty() { format!("  {name:<20}{value}") } else { line }.as_str());
            text.push('\n');
        }
        text.push('\n');
        text.push_str(&self.verdict(paint));
        text
    }

    fn verdict(&self, paint: Paint) -> String {
        if self.flaws.is_empty() {
            let good = paint.good("Nothing was lost.");
            return format!("{good} Every repeat carried its message's key, and nothing else arrived.");
        }
        let mut text = paint.bad("This is not as promised:");
        for flaw in &self.flaws {
            text.push_str(&format!("\n  {flaw}"));
        }
        text
    }

    fn about_submitted(&self) -> String {
        format!(
            "all acknowledged; {} submitted again after a lost answer, {} of those recognised by the box",
            self.submitted_again, self.recognised
        )
    }

    fn about_suspended(&self) -> String {
        format!(
            "rejected for good; resumed once the destination was repaired, still suspended: {}",
            self.still_suspended
        )
    }

    fn about_twice(&self) -> String {
        format!("taken more than once; without the same key: {}", self.twice_without_same_key)
    }
}

fn flaws(run: &Run) -> Vec<String> {
    let findings = &run.findings;
    let mut flaws = Vec::new();
    let mut told = |what: &str, ids: &[String]| {
        if ids.is_empty() {
            return;
        }
        let more = if ids.len() > TOLD { ", ..." } else { "" };
        let first: Vec<&str> = ids.iter().take(TOLD).map(String::as_str).collect();
        flaws.push(format!("{what}: {} ({}{more})", ids.len(), first.join(", ")));
    };
    told("messages lost", &findings.lost);
    told("messages of which other bytes arrived", &findings.torn);
    told("messages that arrived and were never submitted", &findings.strays);
    told("messages that came again without their first key", &findings.other_key);
    told("keys that more than one message carried", &findings.shared_key);
    if run.still_suspended > 0 {
        flaws.push(format!("deliveries still suspended: {}", run.still_suspended));
    }
    let submitted = run.submissions.acknowledged as u64;
    if run.done != submitted {
        flaws.push(format!("the box says that {} of {submitted} deliveries are done", run.done));
    }
    flaws.extend(run.bad_end.as_ref().map(|end| format!("the server did not end in order: {end}")));
    flaws
}

fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run() -> Run {
        let submissions = Submissions { acknowledged: 1_234, repeated: 5, recognised: 3 };
        let findings = Findings { delivered: 1_200, backup: 34, ..Findings::default() };
        let took = Duration::from_millis(2_500);
        Run { submissions, done: 1_234, took, findings, engine: "journal", ..Run::default() }
    }

    #[test]
    fn a_good_run_has_no_flaws() {
        let report = Report::new(&run());
        assert_eq!(report.flaws(), [""; 0]);
        let text = report.text(Paint::none());
        assert!(
            text.contains("  submitted               1,234   all acknowledged; 5 submitted again"),
            "{text}"
        );
        assert!(text.contains("  lost                        0\n"), "{text}");
        assert!(text.contains("  messages/s                494\n"), "{text}");
        assert!(text.ends_with(
            "Nothing was lost. Every repeat carried its message's key, and nothing else arrived."
        ));
    }

    #[test]
    fn every_flaw_is_told() {
        let ids = || vec!["x".to_owned()];
        let flaws: [fn(&mut Run, Vec<String>); 8] = [
            |run, ids| run.findings.lost = ids,
            |run, ids| run.findings.torn = ids,
            |run, ids| run.findings.strays = ids,
            |run, ids| run.findings.other_key = ids,
            |run, ids| run.findings.shared_key = ids,
            |run, _| run.still_suspended = 1,
            |run, _| run.done = 1_233,
            |run, _| run.bad_end = Some("exit status: 1".to_owned()),
        ];
        for flaw in flaws {
            let mut run = run();
            flaw(&mut run, ids());
            let report = Report::new(&run);
            assert_eq!(report.flaws().len(), 1, "{report:?}");
            assert!(report.text(Paint::none()).contains("This is not as promised:\n  "));
        }
    }

    #[test]
    fn long_numbers_are_grouped() {
        assert_eq!([0, 999, 1_000, 1_234_567].map(thousands), ["0", "999", "1,000", "1,234,567"]);
    }
}
