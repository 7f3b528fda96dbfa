//! `cargo xtask bench instructions`: counts what hot functions execute, and fails where it has become a tenth more than
//! the budget. Unlike a time the count is the same on a busy machine.

use std::fmt::Write as _;
use std::fs;
use std::path::PathBuf;

use crate::error::Error;
use crate::tools;
use crate::workspace::Workspace;

const BUDGETS: &str = "benches/instructions/budgets.txt";
/// How much more than its budget a scenario may take.
const TOLERANCE: f64 = 1.10;
/// A scenario runs so often, and then so often: the difference has no start of the program in it.
const TIMES: (u64, u64) = (20, 60);

/// A scenario and the instructions of doing it once.
type Count = (String, u64);

/// Counts, and holds the counts against the budgets; with `update` it writes them down instead.
pub(crate) fn run(update: bool, workspace: &Workspace) -> Result<(), Error> {
    tools::ensure_valgrind(workspace)?;
    let build =
        ["build", "--quiet", "--release", "--locked", "-p", "pillarbox-benches", "--bin", "instructions"];
    workspace.cargo(build).run()?;
    let program = workspace.target().join("release/instructions");
    let program = program.to_string_lossy();
    let names = workspace.program(&program).stdout()?;
    let counts: Vec<Count> = names
        .lines()
        .map(|name| Ok((name.to_owned(), count(workspace, &program, name)?)))
        .collect::<Result<_, Error>>()?;
    let path = workspace.root().join(BUDGETS);
    if update {
        return write(&path, &counts);
    }
    let budgets = read(&path)?;
    let (table, over) = compare(&counts, &budgets);
    println!("{table}");
    if over.is_empty() {
        return Ok(());
    }
    Err(Error::new(format!("more instructions than the budget allows: {}", over.join(", ")))
        .hint("make them fewer, or, where the work is worth it: cargo xtask bench instructions --update"))
}

/// What doing it once executes.
fn count(workspace: &Workspace, program: &str, name: &str) -> Result<u64, Error> {
    let total = |times: u64| {
        let times = times.to_string();
        let valgrind = workspace.program("valgrind").args([
            "--tool=callgrind",
            "--callgrind-out-file=/dev/null",
            program,
            name,
            &times,
        ]);
        let said = valgrind.stderr()?;
        collected(&said).ok_or_else(|| Error::new(format!("callgrind told no count for {name}: {said}")))
    };
    Ok(total(TIMES.1)?.saturating_sub(total(TIMES.0)?) / (TIMES.1 - TIMES.0))
}

/// The count in what callgrind says at the end: `==12== Collected : 345`.
fn collected(said: &str) -> Option<u64> {
    let line = said.lines().find_map(|line| line.split_once("Collected : "))?.1;
    line.split_whitespace().next()?.parse().ok()
}

fn read(path: &PathBuf) -> Result<Vec<Count>, Error> {
    let text = fs::read_to_string(path).map_err(|error| {
        Error::new(format!("cannot read {}: {error}", path.display()))
            .hint("$ cargo xtask bench instructions --update")
    })?;
    let lines = text.lines().filter(|line| !line.starts_with('#') && !line.is_empty());
    let budget = |line: &str| {
        let (name, count) = line.split_once(' ')?;
        Some((name.to_owned(), count.trim().parse().ok()?))
    };
    lines
        .map(|line| {
            budget(line).ok_or_else(|| Error::new(format!("{}: not understood: {line}", path.display())))
        })
        .collect()
}

fn write(path: &PathBuf, counts: &[Count]) -> Result<(), Error> {
    let mut text =
        "# Instructions of doing it once. `cargo xtask bench instructions --update` writes this file.\n"
            .to_owned();
    for (name, count) in counts {
        let _ = writeln!(text, "{name} {count}");
    }
    print!("{text}");
    fs::write(path, text).map_err(|error| Error::new(format!("cannot write {}: {error}", path.display())))
}

/// The table, and the names of those that are over their budget or have none.
fn compare(counts: &[Count], budgets: &[Count]) -> (String, Vec<String>) {
    let mut table = format!("{:24} {:>12} {:>12} {:>7}\n", "scenario", "instructions", "budget", "ratio");
    let mut over = Vec::new();
    for (name, count) in counts {
        let Some((_, budget)) = budgets.iter().find(|(known, _)| known == name) else {
            let _ = writeln!(table, "{name:24} {count:>12} {:>12} {:>7}", "none", "");
            over.push(name.clone());
            continue;
        };
        let ratio = *count as f64 / *budget as f64;
        let _ = writeln!(table, "{name:24} {count:>12} {budget:>12} {ratio:>7.2}");
        if ratio > TOLERANCE {
            over.push(name.clone());
        }
    }
    (table, over)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(counts: &[(&str, u64)]) -> Vec<Count> {
        counts.iter().map(|(name, count)| ((*name).to_owned(), *count)).collect()
    }

    #[test]
    fn a_tenth_more_is_too_much_and_so_is_a_scenario_without_a_budget() {
        let measured = counts(&[("fine", 109), ("over", 111), ("new", 1), ("less", 50)]);
        let (table, over) = compare(&measured, &counts(&[("fine", 100), ("over", 100), ("less", 100)]));
        assert_eq!(over, ["over", "new"]);
        assert!(table.contains("1.11"), "{table}");
    }

    #[test]
    fn what_callgrind_says_is_understood() {
        let said = "==7== Events    : Ir\n==7== Collected : 123456\n==7== \n";
        assert_eq!(collected(said), Some(123_456));
        assert_eq!(collected("==7== nothing"), None);
    }
}
