//! What commands print: lines and JSON on standard output, notes and failures on standard error.
//!
//! A reader that goes away (`pillarbox ls | head`) is no failure: what is left is not printed.

use std::io::{self, Write as _};

use serde::Serialize;

use crate::failure::Failure;

/// Where a command's results go.
#[derive(Debug, Clone, Copy)]
pub struct Output {
    json: bool,
}

impl Output {
    /// Prints for people, or as JSON.
    #[must_use]
    pub fn new(json: bool) -> Self {
        Self { json }
    }

    /// Whether JSON is asked for.
    #[must_use]
    pub fn is_json(self) -> bool {
        self.json
    }

    /// Prints a result: `text` for people, `value` as JSON.
    ///
    /// # Errors
    /// Standard output does not take it.
    pub fn result(self, value: &impl Serialize, text: impl FnOnce() -> String) -> Result<(), Failure> {
        if !self.json {
            return self.line(&text());
        }
        let text = serde_json::to_string_pretty(value)
            .map_err(|error| Failure::new(format!("the result cannot be written as JSON: {error}")))?;
        self.line(&text)
    }

    /// Prints a line on standard output.
    ///
    /// # Errors
    /// Standard output does not take it.
    pub fn line(self, text: &str) -> Result<(), Failure> {
        let mut out = io::stdout().lock();
        let done = writeln!(out, "{}", text.trim_end_matches('\n')).and_then(|()| out.flush());
        match done {
            Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
                Err(Failure::new(format!("standard output takes no more: {error}")))
            }
            _ => Ok(()),
        }
    }

    /// Prints a note on standard error.
    pub fn note(self, text: &str) {
        // Nobody is left to tell where standard error is gone.
        let _gone = writeln!(io::stderr().lock(), "{text}");
    }
}

/// Lines up rows below headings; a column whose every value is a number lines up on the right.
#[must_use]
pub fn table(headings: &[&str], rows: &[Vec<String>]) -> String {
    let cell = |row: &Vec<String>, column: usize| row.get(column).map_or(0, |cell| cell.chars().count());
    let width = |(column, heading): (usize, &&str)| {
        rows.iter().map(|row| cell(row, column)).max().unwrap_or(0).max(heading.len())
    };
    let widths: Vec<usize> = headings.iter().enumerate().map(width).collect();
    let is_number = |cell: &String| !cell.is_empty() && cell.bytes().all(|byte| byte.is_ascii_digit());
    let right: Vec<bool> = (0..headings.len())
        .map(|column| !rows.is_empty() && rows.iter().all(|row| row.get(column).is_some_and(is_number)))
        .collect();
    let line = |cells: &mut dyn Iterator<Item = &str>| {
        let mut line = String::new();
        for ((cell, width), right) in cells.zip(&widths).zip(&right) {
            let pad = " ".repeat(width.saturating_sub(cell.chars().count()));
            let (before, after) = if *right { (pad.as_str(), "") } else { ("", pad.as_str()) };
            line.push_str(before);
            line.push_str(cell);
            line.push_str(after);
            line.push_str("  ");
        }
        line.truncate(line.trim_end().len());
        line.push('\n');
        line
    };
    let mut text = line(&mut headings.iter().copied());
    for row in rows {
        text.push_str(&line(&mut row.iter().map(String::as_str)));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_line_up() {
        let rows = [["a", "1"], ["long", "200"]].map(|row| row.map(str::to_owned).to_vec());
        assert_eq!(table(&["NAME", "N"], &rows), "NAME    N\na       1\nlong  200\n");
        assert_eq!(table(&["NAME"], &[]), "NAME\n");
    }
}
