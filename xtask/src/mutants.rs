//! `cargo xtask mutants`: changes the ledger and the journal one small thing at a time and looks whether a test notices.
//!
//! What is changed and how it is tested stands in `.cargo/mutants.toml`. Outcomes are kept in the build folder from run
//! to run: a later one tries what was not tried yet, what was missed and what changed, so that a long work can be done
//! in pieces.

mod mutant;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use self::mutant::Mutant;
use crate::error::Error;
use crate::proof;
use crate::tools;
use crate::workspace::Workspace;

/// The place of the figures in `docs/proof.md`.
const SECTION: &str = "cargo-mutants";
const PACKAGE: &str = "pillarbox-store";
/// A mutant's tests that take longer hang, in seconds.
const TEST_SECONDS_MAX: u32 = 120;
/// A mutant may ask for memory without end. This is far more than a compiler takes here, in KiB.
const MEMORY_KIB_MAX: u32 = 12_000_000;
/// The lists that cargo-mutants leaves, and what being in them means.
const LISTS: [(&str, Outcome); 4] = [
    ("caught.txt", Outcome::Caught),
    ("timeout.txt", Outcome::Timeout),
    ("missed.txt", Outcome::Missed),
    ("unviable.txt", Outcome::Unviable),
];

/// Which mutants.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Only every N-th mutant, beginning with number K: as `K/N`
    #[arg(long, value_parser = shard)]
    shard: Option<(usize, usize)>,
    /// Stop after so many minutes: mutants are taken in random order, so what was tried then is a sample
    #[arg(long)]
    minutes: Option<f64>,
    /// Only mutants of this file
    #[arg(long)]
    file: Option<String>,
    /// Only those that were missed before
    #[arg(long)]
    missed: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    /// A test failed.
    Caught,
    /// A test did not end.
    Timeout,
    /// No test noticed.
    Missed,
    /// It does not compile.
    Unviable,
}

/// By the mutant's key.
type Outcomes = BTreeMap<String, Outcome>;

fn shard(text: &str) -> Result<(usize, usize), String> {
    let parts = text.split_once('/').and_then(|(k, n)| Some((k.parse().ok()?, n.parse().ok()?)));
    parts.filter(|(k, n)| k < n).ok_or_else(|| "a shard is K/N with K from 0 to N - 1, 0/3 say".to_owned())
}

/// Tries the mutants and writes the figures down.
pub(crate) fn run(args: &Args, workspace: &Workspace) -> Result<(), Error> {
    tools::ensure_mutants(workspace)?;
    let folder = workspace.target().join("mutation");
    let all = list(workspace)?;
    let known = all.iter().map(|mutant| mutant.key.as_str()).collect();
    let mut outcomes = read(&folder, &known);
    let wanted = select(&all, args, &outcomes);
    println!("{} mutants, {} of them to be tried now", all.len(), wanted.len());
    if !wanted.is_empty() {
        begin(&folder, &outcomes, &wanted)?;
        let names: Vec<&str> = wanted.iter().map(|mutant| mutant.name.as_str()).collect();
        // Exits with an error where one is missed, which is what the figures are for.
        let tried = command(&names, args, &folder, workspace).run();
        outcomes = read(&folder, &known);
        if wanted.iter().all(|mutant| !outcomes.contains_key(&mutant.key)) {
            return Err(tried.err().unwrap_or_else(|| Error::new("no mutant was tried")));
        }
    }
    write(&folder, &outcomes)?;
    let figures = figures(all.len(), &outcomes);
    println!("\n{figures}");
    let page = workspace.root().join("docs/proof.md");
    proof::write(&page, SECTION, &figures)
        .map_err(|error| Error::new(format!("cannot write {}: {error}", page.display())))
}

fn list(workspace: &Workspace) -> Result<Vec<Mutant>, Error> {
    let json = workspace.cargo(["mutants", "--package", PACKAGE, "--list", "--json"]).stdout()?;
    mutant::read_all(&json, |file| {
        fs::read_to_string(workspace.root().join(file))
            .map_err(|error| Error::new(format!("cannot read {file}: {error}")))
    })
}

/// Those asked for that are not caught yet and can be compiled.
fn select<'a>(all: &'a [Mutant], args: &Args, outcomes: &Outcomes) -> Vec<&'a Mutant> {
    let (k, n) = args.shard.unwrap_or((0, 1));
    let is_open = |mutant: &&Mutant| match outcomes.get(&mutant.key) {
        None => !args.missed,
        Some(outcome) => *outcome == Outcome::Missed,
    };
    let of_shard = all.iter().enumerate().filter(|(index, _)| index % n == k).map(|(_, mutant)| mutant);
    let of_file = |mutant: &&Mutant| args.file.as_ref().is_none_or(|file| mutant.file == *file);
    of_shard.filter(of_file).filter(is_open).collect()
}

fn command(wanted: &[&str], args: &Args, folder: &Path, workspace: &Workspace) -> crate::workspace::Run {
    let limit = format!("ulimit -v {MEMORY_KIB_MAX}; exec \"$@\"");
    let seconds = args.minutes.map_or(0.0, |minutes| (minutes * 60.0).ceil());
    let output = folder.to_string_lossy();
    let build = folder.join("build");
    let (seconds, test_seconds) = (format!("{seconds}"), TEST_SECONDS_MAX.to_string());
    let names: Vec<String> = wanted.iter().map(|name| format!("--re=^{}$", escaped(name))).collect();
    workspace
        .program("sh")
        .args(["-c", &limit, "sh", "timeout", "--signal=INT", &seconds])
        .args(["cargo", "mutants", "--package", PACKAGE, "--jobs=1", "--shuffle"])
        .args(["--timeout", &test_seconds, "--build-timeout", "600", "--output", &output])
        .args(names.iter().map(String::as_str))
        .env("CARGO_TARGET_DIR", &build.to_string_lossy())
        .shown_as(&format!("cargo mutants --package {PACKAGE} --output {output}"))
}

/// A regular expression for this very text.
fn escaped(text: &str) -> String {
    let mut escaped = String::new();
    for c in text.chars() {
        if r"\.+*?()|[]{}^$".contains(c) {
            escaped.push('\\');
        }
        escaped.push(c);
    }
    escaped
}

fn kept(folder: &Path) -> PathBuf {
    folder.join("outcomes.txt")
}

/// The keys of the mutants that the last run tried, by the names that its lists have them under.
fn keys(folder: &Path) -> PathBuf {
    folder.join("keys.txt")
}

/// Keeps what is known so far, and makes room for the lists of a run of `wanted`. One that is broken off leaves them to
/// the next one, whatever lines the sources have by then.
fn begin(folder: &Path, outcomes: &Outcomes, wanted: &[&Mutant]) -> Result<(), Error> {
    let failed = |path: &Path, error| Error::new(format!("cannot write {}: {error}", path.display()));
    fs::create_dir_all(folder).map_err(|error| failed(folder, error))?;
    write(folder, outcomes)?;
    for (list, _) in LISTS {
        let _ = fs::remove_file(folder.join("mutants.out").join(list));
    }
    let lines: String = wanted.iter().map(|mutant| format!("{}\t{}\n", mutant.name, mutant.key)).collect();
    fs::write(keys(folder), lines).map_err(|error| failed(&keys(folder), error))
}

/// What earlier runs and the last one found, of the mutants that there still are.
fn read(folder: &Path, known: &BTreeSet<&str>) -> Outcomes {
    let mut outcomes = Outcomes::new();
    for line in fs::read_to_string(kept(folder)).unwrap_or_default().lines() {
        if let Some((outcome, key)) = line.split_once('\t')
            && let Some((_, outcome)) = LISTS.iter().find(|(list, _)| *list == outcome)
        {
            outcomes.insert(key.to_owned(), *outcome);
        }
    }
    let keys = fs::read_to_string(keys(folder)).unwrap_or_default();
    let keys: BTreeMap<&str, &str> = keys.lines().filter_map(|line| line.split_once('\t')).collect();
    for (list, outcome) in LISTS {
        let last = fs::read_to_string(folder.join("mutants.out").join(list)).unwrap_or_default();
        let tried = last.lines().filter_map(|name| keys.get(name));
        outcomes.extend(tried.map(|key| ((*key).to_owned(), outcome)));
    }
    outcomes.retain(|key, _| known.contains(key.as_str()));
    outcomes
}

fn write(folder: &Path, outcomes: &Outcomes) -> Result<(), Error> {
    let mut text = String::new();
    for (key, outcome) in outcomes {
        let list = LISTS.iter().find(|(_, known)| known == outcome).map_or("", |(list, _)| list);
        let _ = writeln!(text, "{list}\t{key}");
    }
    fs::write(kept(folder), text)
        .map_err(|error| Error::new(format!("cannot write {}: {error}", kept(folder).display())))
}

fn figures(all: usize, outcomes: &Outcomes) -> String {
    let count = |wanted| outcomes.values().filter(|outcome| **outcome == wanted).count();
    let (caught, timeouts, missed) =
        (count(Outcome::Caught), count(Outcome::Timeout), count(Outcome::Missed));
    let noticed = caught + timeouts;
    let share = 100.0 * noticed as f64 / (noticed + missed).max(1) as f64;
    let of_all = 100.0 * outcomes.len() as f64 / all.max(1) as f64;
    let unviable = count(Outcome::Unviable);
    format!(
        "\
| mutants | tried | caught | caught by hanging | missed | do not compile | share caught |
|---|---|---|---|---|---|---|
| {all} | {} ({of_all:.0} %) | {caught} | {timeouts} | {missed} | {unviable} | {share:.1} % |
",
        outcomes.len()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(shard: Option<(usize, usize)>, file: Option<&str>, missed: bool) -> Args {
        Args { shard, minutes: None, file: file.map(str::to_owned), missed }
    }

    fn mutant(file: &str, line: u32) -> Mutant {
        Mutant {
            name: format!("{file}:{line}: x"),
            file: file.to_owned(),
            key: format!("key of {file} {line}"),
        }
    }

    #[test]
    fn what_is_caught_is_not_tried_again() {
        let all = [mutant("a.rs", 1), mutant("b.rs", 1), mutant("b.rs", 2), mutant("b.rs", 3)];
        let outcomes = Outcomes::from([
            (all[1].key.clone(), Outcome::Caught),
            (all[2].key.clone(), Outcome::Missed),
            (all[3].key.clone(), Outcome::Unviable),
        ]);
        assert_eq!(select(&all, &args(None, None, false), &outcomes), [&all[0], &all[2]]);
        assert_eq!(select(&all, &args(Some((0, 2)), None, false), &outcomes), [&all[0], &all[2]]);
        assert!(select(&all, &args(Some((1, 2)), None, false), &outcomes).is_empty());
        assert_eq!(select(&all, &args(None, Some("b.rs"), false), &outcomes), [&all[2]]);
        assert_eq!(select(&all, &args(None, None, true), &outcomes), [&all[2]]);
    }

    #[test]
    fn outcomes_are_kept_and_counted() {
        let folder = std::env::temp_dir().join(format!("pillarbox-mutants-{}", std::process::id()));
        fs::create_dir_all(folder.join("mutants.out")).unwrap();
        let (a, b, c, d) = (mutant("a", 1), mutant("b", 1), mutant("c", 1), mutant("d", 1));
        let known = [&a, &b, &c, &d].map(|mutant| mutant.key.as_str()).into();
        begin(&folder, &Outcomes::new(), &[&a, &mutant("gone", 1)]).unwrap();
        fs::write(folder.join("mutants.out/missed.txt"), "a:1: x\ngone:1: x\nnever:1: x\n").unwrap();
        let first = read(&folder, &known);
        assert_eq!(first, Outcomes::from([(a.key.clone(), Outcome::Missed)]));
        // By now another one has the name that `a` had.
        let moved = Mutant { name: a.name.clone(), ..b.clone() };
        begin(&folder, &first, &[&moved, &Mutant { name: "a:2: x".to_owned(), ..a.clone() }, &c, &d])
            .unwrap();
        assert_eq!(read(&folder, &known), first, "the lists of the run before are not read as this one's");
        fs::write(folder.join("mutants.out/missed.txt"), "a:1: x\n").unwrap();
        fs::write(folder.join("mutants.out/caught.txt"), "a:2: x\nc:1: x\n").unwrap();
        fs::write(folder.join("mutants.out/unviable.txt"), "d:1: x\n").unwrap();
        let second = read(&folder, &known);
        assert_eq!(second.get(&a.key), Some(&Outcome::Caught));
        assert_eq!(second.get(&b.key), Some(&Outcome::Missed));
        assert!(
            figures(8, &second).contains("| 8 | 4 (50 %) | 2 | 0 | 1 | 1 | 66.7 % |"),
            "{}",
            figures(8, &second)
        );
        fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn a_name_is_matched_as_it_is() {
        assert_eq!(escaped("a/b.rs:1: replace + with * in f<T>"), r"a/b\.rs:1: replace \+ with \* in f<T>");
    }

    #[test]
    fn a_shard_is_one_of_several() {
        assert_eq!(shard("1/3"), Ok((1, 3)));
        assert!(shard("3/3").is_err() && shard("x").is_err() && shard("0/0").is_err());
    }
}
