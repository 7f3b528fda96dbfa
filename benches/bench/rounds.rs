//! Rounds: every measurement is a process of its own, and those that are compared run one after the other in every
//! round, so that what the machine does at the time is the same for all.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::client::Fault;
use crate::figures::{Figures, Spread};

/// What a row is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// The box over this engine.
    Engine,
    /// Another system.
    Peer,
    /// What the others are held against.
    Floor,
    /// Something that is measured alone.
    Case,
}

impl Kind {
    /// The field that holds its name in JSON.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Engine => "engine",
            Self::Peer => "peer",
            Self::Floor => "floor",
            Self::Case => "case",
        }
    }
}

/// One measurement of a round.
#[derive(Debug, Clone)]
pub(crate) struct Subject {
    pub(crate) kind: Kind,
    pub(crate) name: String,
    /// The arguments of the process that takes it.
    pub(crate) args: Vec<String>,
}

/// Measurements that are compared with each other.
#[derive(Debug, Clone)]
pub(crate) struct Block {
    pub(crate) workload: String,
    pub(crate) mode: String,
    pub(crate) clients: Option<usize>,
    pub(crate) subjects: Vec<Subject>,
}

/// One subject's figures of all rounds.
#[derive(Debug, Clone)]
pub(crate) struct Measured {
    pub(crate) workload: String,
    pub(crate) mode: String,
    pub(crate) clients: Option<usize>,
    pub(crate) kind: Kind,
    pub(crate) name: String,
    pub(crate) rounds: Vec<Figures>,
    /// Why it has no figures, where it could not be measured.
    pub(crate) fault: Option<String>,
}

impl Measured {
    /// What the rounds say of one figure.
    pub(crate) fn spread(&self, name: &str) -> Option<Spread> {
        Spread::of(self.rounds.iter().filter_map(|figures| figures.get(name)).collect())
    }
}

/// Takes all measurements of `blocks`, `rounds` times. A subject that fails is told at once and left out of the later
/// rounds.
pub(crate) fn run(bench: &str, blocks: &[Block], rounds: usize, folder: &Path) -> Vec<Measured> {
    let mut rows: Vec<Vec<Measured>> = blocks.iter().map(rows_of).collect();
    let total = rounds * blocks.iter().map(|block| block.subjects.len()).sum::<usize>();
    let mut done = 0;
    for round in 0..rounds {
        for (block, rows) in blocks.iter().zip(&mut rows) {
            // Whoever comes first in a block is another one each time.
            let mut order: Vec<usize> = (0..block.subjects.len()).collect();
            order.rotate_left(round % block.subjects.len().max(1));
            let mut of_round: Vec<Option<Figures>> = vec![None; block.subjects.len()];
            for place in order {
                let (Some(subject), Some(row)) = (block.subjects.get(place), rows.get_mut(place)) else {
                    continue;
                };
                done += 1;
                eprint!(
                    "[{done:>3}/{total}] round {} of {rounds} {bench} {:14} ",
                    round + 1,
                    [block.workload.as_str(), block.mode.as_str(), subject.name.as_str()].join(" ")
                );
                if row.fault.is_some() {
                    eprintln!("left out");
                    continue;
                }
                match measure(subject, folder) {
                    Ok(figures) => {
                        eprintln!("{}", headline(&figures));
                        if let Some(slot) = of_round.get_mut(place) {
                            *slot = Some(figures);
                        }
                    }
                    Err(fault) => {
                        eprintln!("FAILED: {fault}");
                        row.fault = Some(fault.to_string());
                    }
                }
            }
            compare(&block.subjects, &mut of_round);
            for (row, figures) in rows.iter_mut().zip(of_round) {
                row.rounds.extend(figures);
            }
        }
    }
    rows.into_iter().flatten().collect()
}

fn rows_of(block: &Block) -> Vec<Measured> {
    let row = |subject: &Subject| Measured {
        workload: block.workload.clone(),
        mode: block.mode.clone(),
        clients: block.clients,
        kind: subject.kind,
        name: subject.name.clone(),
        rounds: Vec::new(),
        fault: None,
    };
    block.subjects.iter().map(row).collect()
}

fn headline(figures: &Figures) -> String {
    if let Some(rate) = figures.get("messages_per_second") {
        return format!("{rate:>9.0}/s");
    }
    let words: Vec<_> = figures.iter().take(3).map(|(name, value)| format!("{name} {value:.2}")).collect();
    words.join(", ")
}

/// Puts beside each figure what the floors of the same round make of it.
fn compare(subjects: &[Subject], figures: &mut [Option<Figures>]) {
    let of = |figures: &[Option<Figures>], name: &str, what: &str| {
        let place = subjects.iter().position(|subject| subject.name == name)?;
        figures.get(place)?.as_ref()?.get(what)
    };
    let rate = "messages_per_second";
    let ring = of(figures, "ring", rate);
    let appended = of(figures, "appended", rate);
    let bare = of(figures, "sled-bare", rate);
    let flush = of(figures, "flush", "flush_p50_us");
    for (subject, figures) in subjects.iter().zip(figures) {
        let Some(figures) = figures else { continue };
        let Some(own) = figures.get(rate) else { continue };
        let mut ratio = |name: &str, floor: Option<f64>| {
            if let Some(floor) = floor {
                figures.set(name, own / floor);
            }
        };
        ratio("ratio_ring", ring);
        ratio("ratio_appended", appended);
        if subject.name == "sled" {
            ratio("ratio_bare", bare);
        }
        if let (Some(flush), None) = (flush, figures.get("flush_p50_us")) {
            figures.set("flush_p50_us", flush);
        }
        if let (Some(flush), Some(p99)) = (flush, figures.get("submit_p99_us")) {
            figures.set("submit_p99_in_flushes", p99 / flush);
        }
    }
}

/// Takes one measurement in a process of its own, which tells its progress on standard error.
pub(crate) fn measure(subject: &Subject, folder: &Path) -> Result<Figures, Fault> {
    let output = Command::new(own_program()?)
        .args(&subject.args)
        .arg("--folder")
        .arg(folder.join("data"))
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()?;
    if !output.status.success() {
        return Err(format!("the measurement ended with {}", output.status).into());
    }
    let text = String::from_utf8(output.stdout)?;
    let line = text.lines().next_back().ok_or("the measurement told no figures")?;
    Ok(serde_json::from_str(line)?)
}

fn own_program() -> Result<PathBuf, Fault> {
    Ok(std::env::current_exe()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn subject(name: &str) -> Subject {
        Subject { kind: Kind::Floor, name: name.to_owned(), args: Vec::new() }
    }

    fn rate(rate: f64) -> Option<Figures> {
        let mut figures = Figures::default();
        figures.set("messages_per_second", rate);
        Some(figures)
    }

    #[test]
    fn everything_is_compared_with_the_floors_of_its_round() {
        let subjects = ["ring", "appended", "journal", "sled", "sled-bare"].map(subject);
        let mut figures = [rate(100.0), rate(50.0), rate(80.0), rate(20.0), rate(40.0)];
        compare(&subjects, &mut figures);
        let get = |place: usize, name: &str| figures[place].as_ref().unwrap().get(name);
        assert_eq!(get(2, "ratio_ring"), Some(0.8));
        assert_eq!(get(2, "ratio_appended"), Some(1.6));
        assert_eq!(get(2, "ratio_bare"), None);
        assert_eq!(get(3, "ratio_bare"), Some(0.5));
    }

    #[test]
    fn what_failed_in_a_round_compares_with_nothing() {
        let subjects = ["ring", "journal"].map(subject);
        let mut figures = [None, rate(80.0)];
        compare(&subjects, &mut figures);
        assert_eq!(figures[1].as_ref().unwrap().get("ratio_ring"), None);
    }
}
