//! What is wrong with a configuration: every problem at once, each with its place.

use std::fmt;
use std::ops::Range;

/// One thing that is wrong with a configuration file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The line, counted from 1; 0 where the problem is about the whole file.
    pub line: usize,
    /// The column in characters, counted from 1; 0 where the problem is about the whole file.
    pub column: usize,
    /// The key, `port[orders].primary.url` say; empty where there is none.
    pub key: String,
    /// What is wrong and what to do.
    pub what: String,
}

/// Everything that is wrong with a configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problems {
    /// The file, as it was named.
    pub file: String,
    /// The problems, in order of place.
    pub list: Vec<Problem>,
}

impl Problems {
    /// A single problem about the whole file.
    #[must_use]
    pub fn about_file(file: impl Into<String>, what: impl Into<String>) -> Self {
        let problem = Problem { line: 0, column: 0, key: String::new(), what: what.into() };
        Self { file: file.into(), list: vec![problem] }
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.list.iter().enumerate() {
            if index > 0 {
                writeln!(f)?;
            }
            f.write_str(&self.file)?;
            if problem.line > 0 {
                write!(f, ":{}:{}", problem.line, problem.column)?;
            }
            f.write_str(": ")?;
            if !problem.key.is_empty() {
                write!(f, "{}: ", problem.key)?;
            }
            f.write_str(&problem.what)?;
        }
        Ok(())
    }
}

impl std::error::Error for Problems {}

/// Collects problems while a text is read, turning byte positions into lines and columns.
#[derive(Debug)]
pub(crate) struct Collector<'t> {
    text: &'t str,
    list: Vec<Problem>,
}

impl<'t> Collector<'t> {
    pub(crate) fn new(text: &'t str) -> Self {
        Self { text, list: Vec::new() }
    }

    /// Notes a problem at a place of the text.
    pub(crate) fn push(&mut self, at: &Range<usize>, key: impl Into<String>, what: impl Into<String>) {
        let (line, column) = place(self.text, at.start);
        self.list.push(Problem { line, column, key: key.into(), what: what.into() });
    }

    /// The outcome: `value` where nothing is wrong.
    pub(crate) fn finish<T>(mut self, file: &str, value: Option<T>) -> Result<T, Problems> {
        self.list.sort_by_key(|problem| (problem.line, problem.column));
        self.list.dedup();
        match value {
            Some(value) if self.list.is_empty() => Ok(value),
            _ => Err(Problems { file: file.to_owned(), list: self.list }),
        }
    }
}

/// The line and the column (in characters) of a byte position, both counted from 1.
fn place(text: &str, offset: usize) -> (usize, usize) {
    let before = text.get(..text.floor_char_boundary(offset)).unwrap_or(text);
    let line = before.matches('\n').count() + 1;
    let start = before.rfind('\n').map_or(0, |newline| newline + 1);
    (line, before.get(start..).map_or(0, |rest| rest.chars().count()) + 1)
}
