//! What a check finds, and the lines in which it tells.

use std::fmt;

/// What was found wrong, and how much was looked at.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Findings {
    /// Deliveries looked at.
    pub checked: u64,
    /// Batches of unknown outcome that were committed again.
    pub unknown: u64,
    /// Acknowledged and not there.
    pub lost: u64,
    /// Batches applied by half.
    pub torn: u64,
    /// Ended, and waiting again.
    pub came_back: u64,
    /// Bodies that are others.
    pub wrong_body: u64,
    /// Whether the box did not open.
    pub did_not_open: u64,
    /// Anything else.
    pub other: u64,
    /// What was found, as far as it fits.
    pub notes: Vec<String>,
}

impl Findings {
    const NOTES_MAX: usize = 20;

    pub(super) fn note(&mut self, what: String) {
        if self.notes.len() < Self::NOTES_MAX {
            self.notes.push(what);
        }
    }

    /// Whether nothing is wrong.
    #[must_use]
    pub fn are_none(&self) -> bool {
        self.lost + self.torn + self.came_back + self.wrong_body + self.did_not_open + self.other == 0
    }

    /// Adds what was found elsewhere, without its notes.
    pub fn add(&mut self, other: &Self) {
        self.checked += other.checked;
        self.unknown += other.unknown;
        self.lost += other.lost;
        self.torn += other.torn;
        self.came_back += other.came_back;
        self.wrong_body += other.wrong_body;
        self.did_not_open += other.did_not_open;
        self.other += other.other;
    }
}

/// What is wrong with a line that tells no findings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Unreadable;

impl Findings {
    /// What the lines of a [`Findings`] shown as text tell.
    pub(super) fn parse(text: &str) -> Result<Self, Unreadable> {
        let mut lines = text.lines();
        let first = lines.next().and_then(|line| line.strip_prefix("found ")).ok_or(Unreadable)?;
        let numbers: Vec<u64> =
            first.split(' ').map(str::parse).collect::<Result<_, _>>().map_err(|_no_number| Unreadable)?;
        let [checked, unknown, lost, torn, came_back, wrong_body, did_not_open, other] = numbers[..] else {
            return Err(Unreadable);
        };
        let notes = lines.map(str::to_owned).collect();
        Ok(Self { checked, unknown, lost, torn, came_back, wrong_body, did_not_open, other, notes })
    }
}

impl fmt::Display for Findings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { checked, unknown, lost, torn, came_back, wrong_body, did_not_open, other, notes } = self;
        writeln!(
            f,
            "found {checked} {unknown} {lost} {torn} {came_back} {wrong_body} {did_not_open} {other}"
        )?;
        notes.iter().try_for_each(|note| writeln!(f, "{}", note.replace('\n', " ")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn findings_are_read_as_they_were_told() {
        let mut findings = Findings { checked: 1, unknown: 2, lost: 3, torn: 4, ..Findings::default() };
        findings = Findings { came_back: 5, wrong_body: 6, did_not_open: 7, other: 8, ..findings };
        findings.note("this and".to_owned());
        findings.note("that".to_owned());
        assert_eq!(Findings::parse(&findings.to_string()), Ok(findings));
        assert_eq!(Findings::parse("found 1 2"), Err(Unreadable));
        assert_eq!(Findings::parse(""), Err(Unreadable));
    }
}
