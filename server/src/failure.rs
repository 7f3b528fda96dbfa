//! Why a command failed: what was wrong, what to do next, and the exit code.

use std::fmt;

use pillarbox_store::{DeliveryState, DoubtVerdict};

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
        let in_doubt =
            problem.fields.get("state").is_some_and(|state| state == DeliveryState::InDoubt.as_str());
        let next = match problem.name() {
            "unknown-port" => Some("pillarbox ports".to_owned()),
            "unauthorized" => {
                Some("give the token's place with --token env:NAME or --token file:PATH".to_owned())
            }
            "wrong-state" if in_doubt => {
                let id =
                    problem.fields.get("delivery_id").map_or_else(|| "ID".to_owned(), ToString::to_string);
                let verdicts = DoubtVerdict::ALL.map(DoubtVerdict::as_str).join("|");
                Some(format!("pillarbox indoubt settle {id} --as {verdicts}"))
            }
            "not-stranded" => Some("pillarbox ports".to_owned()),
            "not-in-doubt" => Some("pillarbox indoubt ls".to_owned()),
            "no-such-delivery" | "no-such-message" | "wrong-state" => Some("pillarbox ls".to_owned()),
            _ => None,
        };
        Self { next, ..Self::new(problem.to_string()) }
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
