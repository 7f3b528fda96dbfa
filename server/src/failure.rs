//! Why a command failed: what was wrong, what to do next, and the exit code.

use std::fmt;

use crate::config::Problems;
use crate::problem::Problem;

/// How a command ended badly.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// What was wrong, and where.
    pub what: String,
    /// What to do next.
    pub next: Option<String>,
    /// The exit code: 1 for a failure, 2 for wrong use or configuration.
    pub code: u8,
}

impl Failure {
    /// The command failed.
    #[must_use]
    pub fn new(what: impl Into<String>) -> Self {
        Self { what: what.into(), next: None, code: 1 }
    }

    /// The command was used wrongly, or the configuration is wrong.
    #[must_use]
    pub fn usage(what: impl Into<String>) -> Self {
        Self { what: what.into(), next: None, code: 2 }
    }

    /// Adds what to do next.
    #[must_use]
    pub fn next(mut self, next: impl Into<String>) -> Self {
        self.next = Some(next.into());
        self
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "error: {}", self.what)?;
        match &self.next {
            Some(next) => write!(f, "\n  next: {next}"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for Failure {}

impl From<Problem> for Failure {
    fn from(problem: Problem) -> Self {
        let next = match problem.name() {
            "unknown-port" => Some("pillarbox ports"),
            "unauthorized" => Some("give the token's place with --token env:NAME or --token file:PATH"),
            "no-such-delivery" | "no-such-message" | "wrong-state" => Some("pillarbox ls"),
            _ => None,
        };
        let failure = Self::new(problem.to_string());
        match next {
            Some(next) => failure.next(next),
            None => failure,
        }
    }
}

impl From<Problems> for Failure {
    fn from(problems: Problems) -> Self {
        let count = problems.list.len();
        let plural = if count == 1 { "" } else { "s" };
        Self::usage(format!("the configuration has {count} problem{plural}:\n{problems}"))
            .next("correct the file, then: pillarbox check-config")
    }
}
