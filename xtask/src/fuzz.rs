//! `cargo xtask fuzz`: libFuzzer on everything that reads bytes that others wrote.
//!
//! The targets are in `fuzz/`. New inputs stay in the build folder, findings too, and the figures go to
//! `docs/proof.md`.

use std::fmt::Write as _;
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr};
use std::time::{Duration, Instant};

use crate::error::Error;
use crate::proof;
use crate::tools;
use crate::workspace::Workspace;

/// The targets, and what each gives its bytes to.
const TARGETS: [(&str, &str); 7] = [
    ("segments", "the journal: files of any content in its folder"),
    ("journal", "the journal: files that it wrote, then damaged"),
    ("codec", "every decoder of records, keys and headers"),
    ("records", "the box: records of any content"),
    ("config", "the configuration file"),
    ("settings", "the settings of the adapters `file` and `http`"),
    ("api", "the HTTP API"),
];
/// The place of the figures in `docs/proof.md`.
const SECTION: &str = "fuzz";
/// Longer inputs reach nothing new.
const INPUT_BYTES_MAX: usize = 8 * 1024;
/// An input that takes longer has found something.
const SECONDS_MAX: u32 = 10;
/// So has one that makes the process ask for more at once.
const MIB_AT_ONCE_MAX: u32 = 64;
/// And one that makes it grow beyond this.
const MIB_MAX: u32 = 2048;
const PROGRESS_EVERY: Duration = Duration::from_secs(10);

/// What to run.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Minutes for each target
    #[arg(long, default_value_t = 1.0)]
    minutes: f64,
    /// Only this target
    #[arg(long)]
    target: Option<String>,
    /// What libFuzzer draws from
    #[arg(long, default_value_t = 1)]
    seed: u32,
    /// Run the target over this file and nothing else, without libFuzzer
    #[arg(long, requires = "target")]
    input: Option<PathBuf>,
    /// `address` needs the toolchain's runtime for it, `none` does not and sees less
    #[arg(long, default_value = "address", value_parser = ["address", "none"])]
    sanitizer: String,
}

/// What a target came to.
#[derive(Debug, Default, PartialEq, Eq)]
struct Figures {
    executions: u64,
    coverage: u64,
    seconds: u64,
    findings: u64,
}

/// Builds the targets and runs them one after the other.
pub(crate) fn run(args: &Args, workspace: &Workspace) -> Result<(), Error> {
    let targets: Vec<&str> = TARGETS
        .iter()
        .map(|(name, _)| *name)
        .filter(|name| args.target.as_ref().is_none_or(|only| only == name))
        .collect();
    let Some(first) = targets.first() else {
        let known = TARGETS.map(|(name, _)| name).join(", ");
        return Err(Error::new(format!("there is no such target; take one of {known}")));
    };
    if let Some(input) = &args.input {
        return replay(first, input, workspace);
    }
    tools::ensure_fuzzer(workspace)?;
    let folder = workspace.target().join("fuzz");
    build(args, &folder, workspace)?;
    let mut found = Vec::new();
    for (index, target) in targets.iter().enumerate() {
        let at = format!("[{}/{}] {target}", index + 1, targets.len());
        let (figures, finding) = run_target(target, &at, args, &folder, workspace)?;
        println!("{at}: {}", figures.line());
        keep(target, &figures, &folder)?;
        found.extend(finding.map(|file| again(target, &file)));
    }
    let page = workspace.root().join("docs/proof.md");
    proof::write(&page, SECTION, &table(&folder))
        .map_err(|error| Error::new(format!("cannot write {}: {error}", page.display())))?;
    if found.is_empty() {
        return Ok(());
    }
    let error = Error::new(format!("{} targets have found something", found.len()));
    Err(found.into_iter().fold(error, Error::hint))
}

fn again(target: &str, file: &Path) -> String {
    format!("again: cargo xtask fuzz --target {target} --input {}", file.display())
}

fn replay(target: &str, input: &Path, workspace: &Workspace) -> Result<(), Error> {
    let input = std::path::absolute(input)
        .map_err(|error| Error::new(format!("{} cannot be found: {error}", input.display())))?;
    workspace
        .cargo([
            "run",
            "--quiet",
            "--locked",
            "--package",
            "pillarbox-fuzz",
            "--example",
            "replay",
            "--",
            target,
        ])
        .args([input.to_string_lossy().as_ref()])
        .run()
}

fn build(args: &Args, folder: &Path, workspace: &Workspace) -> Result<(), Error> {
    let folder = folder.to_string_lossy();
    let mut words = vec!["fuzz", "build", "--features", "libfuzzer", "--sanitizer", &args.sanitizer];
    words.extend(["--target-dir", &folder]);
    words.extend(args.target.as_deref());
    // What a sanitizer takes are flags that a stable compiler hides. Nothing else is built with them.
    workspace.cargo(words).env("RUSTC_BOOTSTRAP", "1").run()
}

/// Where the programs are: below a folder named for the system that they are built for.
fn program(folder: &Path, target: &str) -> Result<PathBuf, Error> {
    let systems = fs::read_dir(folder).into_iter().flatten().flatten();
    let mut programs = systems.map(|entry| entry.path().join("release").join(target));
    let wanted = |path: &PathBuf| path.is_file();
    programs.find(wanted).ok_or_else(|| Error::new(format!("{} has no program {target}", folder.display())))
}

fn run_target(
    target: &str,
    at: &str,
    args: &Args,
    folder: &Path,
    workspace: &Workspace,
) -> Result<(Figures, Option<PathBuf>), Error> {
    let home = workspace.root().join("fuzz");
    let grown = folder.join("corpus").join(target);
    let findings = folder.join("findings").join(target);
    for made in [&grown, &findings] {
        fs::create_dir_all(made)
            .map_err(|error| Error::new(format!("cannot create {}: {error}", made.display())))?;
    }
    let seconds = (args.minutes * 60.0).ceil();
    let mut options = vec![
        format!("-max_total_time={seconds}"),
        format!("-seed={}", args.seed),
        format!("-max_len={INPUT_BYTES_MAX}"),
        // The corpus has inputs of the length that is wanted: none has to be arrived at slowly.
        "-len_control=0".to_owned(),
        format!("-timeout={SECONDS_MAX}"),
        format!("-malloc_limit_mb={MIB_AT_ONCE_MAX}"),
        format!("-rss_limit_mb={MIB_MAX}"),
        "-print_final_stats=1".to_owned(),
        format!("-artifact_prefix={}/", findings.display()),
    ];
    let dictionary = home.join("dictionaries").join(format!("{target}.dict"));
    if dictionary.is_file() {
        options.push(format!("-dict={}", dictionary.display()));
    }
    options.push(grown.display().to_string());
    options.push(home.join("corpus").join(target).display().to_string());
    let before = files(&findings);
    let program = program(folder, target)?;
    let run = workspace.program(&program.to_string_lossy()).args(options.iter().map(String::as_str));
    let mut child = run.start()?;
    let output = child.stderr.take();
    let figures = watch(at, output, seconds);
    finish(child, figures, &files(&findings), &before)
}

fn finish(
    mut child: Child,
    (mut figures, tail): (Figures, Vec<String>),
    after: &[PathBuf],
    before: &[PathBuf],
) -> Result<(Figures, Option<PathBuf>), Error> {
    let status = child.wait().map_err(|error| Error::new(format!("cannot wait for it: {error}")))?;
    let finding = after.iter().find(|file| !before.contains(file)).cloned();
    figures.findings = u64::from(!status.success());
    if status.success() {
        return Ok((figures, None));
    }
    tail.iter().for_each(|line| println!("    {line}"));
    match finding {
        Some(file) => Ok((figures, Some(file))),
        None => Err(Error::new(format!("{status}, and no input was kept"))),
    }
}

fn files(folder: &Path) -> Vec<PathBuf> {
    fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path()).collect()
}

/// Reads libFuzzer's report: tells now and then how it goes, and keeps its last lines for a finding.
#[expect(clippy::disallowed_methods, reason = "a fuzzer has no simulated time")]
fn watch(at: &str, output: Option<ChildStderr>, seconds: f64) -> (Figures, Vec<String>) {
    const TAIL: usize = 40;
    let start = Instant::now();
    let (mut figures, mut tail, mut told) = (Figures::default(), Vec::new(), start);
    let lines = output.into_iter().flat_map(|output| BufReader::new(output).split(b'\n'));
    for line in lines.map_while(Result::ok) {
        let line = String::from_utf8_lossy(&line).into_owned();
        figures.take(&line);
        if told.elapsed() >= PROGRESS_EVERY {
            told = Instant::now();
            let elapsed = start.elapsed().as_secs();
            println!(
                "{at}: {elapsed} s of {seconds}, {} runs, coverage {}",
                figures.executions, figures.coverage
            );
        }
        if !line.starts_with('#') {
            tail.push(line);
            let more = tail.len().saturating_sub(TAIL);
            tail.drain(..more);
        }
    }
    figures.seconds = start.elapsed().as_secs();
    (figures, tail)
}

impl Figures {
    /// Takes what a line such as `#123  NEW  cov: 45 ft: 67 ...` or `stat::number_of_executed_units: 123` says.
    fn take(&mut self, line: &str) {
        let mut words = line.split_whitespace();
        let first = words.next().unwrap_or_default();
        let number = |word: Option<&str>| word.and_then(|word| word.parse().ok());
        if let Some(runs) = number(first.strip_prefix('#')) {
            self.executions = runs;
            let covered = number(words.skip_while(|word| *word != "cov:").nth(1));
            self.coverage = covered.unwrap_or(self.coverage);
        } else if first == "stat::number_of_executed_units:" {
            self.executions = number(words.next()).unwrap_or(self.executions);
        }
    }

    fn line(&self) -> String {
        let minutes = self.seconds as f64 / 60.0;
        format!(
            "{} executions, coverage {}, {minutes:.1} minutes, {} findings",
            self.executions, self.coverage, self.findings
        )
    }

    fn row(&self) -> String {
        let minutes = self.seconds as f64 / 60.0;
        format!("{} | {} | {minutes:.1} | {}", self.executions, self.coverage, self.findings)
    }
}

fn kept(folder: &Path, target: &str) -> PathBuf {
    folder.join("figures").join(target)
}

fn keep(target: &str, figures: &Figures, folder: &Path) -> Result<(), Error> {
    let file = kept(folder, target);
    let made = fs::create_dir_all(folder.join("figures")).and_then(|()| fs::write(&file, figures.row()));
    made.map_err(|error| Error::new(format!("cannot write {}: {error}", file.display())))
}

/// The last figures of every target that ever ran.
fn table(folder: &Path) -> String {
    let mut text = "\
| target | bytes are given to | executions | coverage (edges) | minutes | findings |
|---|---|---|---|---|---|
"
    .to_owned();
    let mut rows = Vec::new();
    for (target, what) in TARGETS {
        if let Ok(row) = fs::read_to_string(kept(folder, target)) {
            let _ = writeln!(text, "| {target} | {what} | {row} |");
            rows.push(row);
        }
    }
    let sum = |column: usize| -> f64 {
        rows.iter().filter_map(|row| row.split('|').nth(column)?.trim().parse::<f64>().ok()).sum()
    };
    let _ = writeln!(text, "| all | | {} | | {:.1} | {} |", sum(0), sum(2), sum(3));
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libfuzzers_report_is_read() {
        let mut figures = Figures::default();
        for line in [
            "INFO: Seed: 1",
            "#2\tINITED cov: 12 ft: 13 corp: 1/1b exec/s: 0 rss: 30Mb",
            "#512\tpulse  ft: 13 corp: 1/1b",
            "stat::number_of_executed_units: 600",
        ] {
            figures.take(line);
        }
        assert_eq!((figures.executions, figures.coverage), (600, 12));
        assert_eq!(figures.row(), "600 | 12 | 0.0 | 0");
    }

    #[test]
    fn every_target_is_there() {
        let workspace = Workspace::find().unwrap();
        for (target, _) in TARGETS {
            assert!(workspace.root().join(format!("fuzz/targets/{target}.rs")).is_file(), "{target}");
        }
        assert_eq!(files(&workspace.root().join("fuzz/targets")).len(), TARGETS.len());
    }
}
