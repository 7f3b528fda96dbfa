//! What the test runner says it ran, from the report it leaves behind.

use std::fmt;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use crate::error::Error;
use crate::workspace::Workspace;

/// How many tests ran and how they ended.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Counts {
    passed: u64,
    failed: u64,
}

/// The report of the last run; see `.config/nextest.toml`. It is here whatever the target folder is.
fn path(workspace: &Workspace) -> PathBuf {
    workspace.root().join("target/nextest/ci/junit.xml")
}

/// Removes the report of an earlier run, so that none is taken for that of the next.
pub(crate) fn clear(workspace: &Workspace) -> Result<(), Error> {
    let path = path(workspace);
    match fs::remove_file(&path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(unreadable(&path, &error)),
        _ => Ok(()),
    }
}

/// Reads the report.
pub(crate) fn read(workspace: &Workspace) -> Result<Counts, Error> {
    let path = path(workspace);
    let text = fs::read_to_string(&path).map_err(|error| unreadable(&path, &error))?;
    parse(&text).ok_or_else(|| unreadable(&path, &"it has no counts"))
}

fn unreadable(path: &Path, why: &dyn fmt::Display) -> Error {
    Error::new(format!("the test runner's report {}: {why}", path.display()))
}

fn parse(text: &str) -> Option<Counts> {
    let (_, rest) = text.split_once("<testsuites ")?;
    let (attributes, _) = rest.split_once('>')?;
    let number = |name: &str| -> Option<u64> {
        let (_, rest) = attributes.split_once(&format!("{name}=\""))?;
        rest.split_once('"')?.0.parse().ok()
    };
    let failed = number("failures")? + number("errors")?;
    Some(Counts { passed: number("tests")?.checked_sub(failed)?, failed })
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "tests: {} passed, {} failed", self.passed, self.failed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_is_counted() {
        let text = r#"<?xml version="1.0" encoding="UTF-8"?>
<testsuites name="nextest-run" tests="15" failures="2" errors="1" uuid="u" time="0.9">
    <testsuite name="store" tests="9" disabled="0" errors="0" failures="0">"#;
        let counts = parse(text).unwrap();
        assert_eq!(counts, Counts { passed: 12, failed: 3 });
        assert_eq!(counts.to_string(), "tests: 12 passed, 3 failed");
    }

    #[test]
    fn what_is_no_report_is_not_counted() {
        assert_eq!(parse(""), None);
        assert_eq!(parse(r#"<testsuites tests="x" failures="0" errors="0">"#), None);
        assert_eq!(parse(r#"<testsuites tests="1" failures="2" errors="0">"#), None);
    }
}
