//! What the sources and documents promise about themselves.
//!
//! One test a rule, in the file of its subject. A rule is a function from the [`tree::Tree`] to [`Finding`]s;
//! beside the test that asks it about this workspace stands one that shows it can fail.

mod documents;
mod lexer;
mod manifests;
mod sources;
mod tree;

use std::fmt;

/// Where a rule is broken, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Finding {
    path: String,
    line: usize,
    what: String,
}

impl Finding {
    /// A finding in line `line`, counted from 1.
    fn new(path: &str, line: usize, what: impl Into<String>) -> Self {
        Self { path: path.to_owned(), line, what: what.into() }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.path, self.line, self.what)
    }
}

/// Fails with a line for each finding.
#[track_caller]
fn assert_none(findings: &[Finding]) {
    let lines: Vec<_> = findings.iter().map(ToString::to_string).collect();
    assert!(lines.is_empty(), "\n{}\n", lines.join("\n"));
}

/// Fails unless the findings are in exactly these lines of `path`.
#[track_caller]
fn assert_lines(findings: &[Finding], path: &str, lines: &[usize]) {
    let found: Vec<_> = findings.iter().map(|finding| (finding.path.as_str(), finding.line)).collect();
    let expected: Vec<_> = lines.iter().map(|line| (path, *line)).collect();
    assert_eq!(found, expected, "{findings:#?}");
}
