//! The figures, a row for each subject: what the last run of each came to.

use crate::round::Outcome;
use crate::subjects::Row;

/// What the columns are.
const HEAD: [&str; 15] = [
    "subject",
    "class",
    "seed",
    "kills",
    "of the destination",
    "accepted",
    "refused",
    "submissions without an answer",
    "in doubt on the way",
    "suspended, as bad ones are",
    "at the destination",
    "lost",
    "twice",
    "doubles with a label",
    "in doubt at the end",
];
/// Where the sums begin.
const SUMS_FROM: usize = 3;

/// The cells of a subject.
pub(crate) fn cells(row: &Row, seed: u64, outcome: &Outcome) -> Vec<String> {
    let Outcome { findings, kills, downs, unanswered, doubts_seen, .. } = outcome;
    let numbers = [
        seed,
        u64::from(*kills),
        u64::from(*downs),
        findings.accepted,
        findings.refused,
        *unanswered,
        *doubts_seen,
        findings.suspended,
        findings.copies,
        findings.lost,
        findings.twice + findings.unlabelled,
        findings.labelled,
        findings.in_doubt,
    ];
    let words = [row.name, row.class].map(str::to_owned);
    words.into_iter().chain(numbers.map(|number| number.to_string())).collect()
}

/// The table with these rows, and with those of `page` whose subjects are not among them; a sum at its end.
pub(crate) fn figures(rows: &[Vec<String>], page: &str) -> String {
    let is_new = |old: &Vec<String>| rows.iter().all(|row| row.first() != old.first());
    let mut all: Vec<Vec<String>> = known(page).into_iter().filter(is_new).collect();
    all.extend_from_slice(rows);
    let place = |row: &Vec<String>| {
        crate::subjects::ALL.iter().position(|known| row.first().is_some_and(|name| name == known.name))
    };
    all.sort_by_key(place);
    let mut sum = vec![String::new(); HEAD.len()];
    "all".clone_into(&mut sum[0]);
    for (column, cell) in sum.iter_mut().enumerate().skip(SUMS_FROM) {
        let numbers = all.iter().filter_map(|row| row.get(column)?.parse::<u64>().ok());
        *cell = numbers.sum::<u64>().to_string();
    }
    all.push(sum);
    let line = |cells: &[&str]| format!("| {} |\n", cells.join(" | "));
    let mut text = line(&HEAD);
    text.push_str(&line(&["---"; HEAD.len()]).replace(' ', ""));
    for row in &all {
        text.push_str(&line(&row.iter().map(String::as_str).collect::<Vec<_>>()));
    }
    text
}

/// The rows that a page has between the marks, without the sum.
fn known(page: &str) -> Vec<Vec<String>> {
    let between =
        page.split_once("<!-- kills -->\n").and_then(|(_, rest)| rest.split_once("<!-- end of kills -->"));
    let Some((table, _)) = between else { return Vec::new() };
    let cells =
        |line: &str| line.trim().trim_matches('|').split('|').map(|cell| cell.trim().to_owned()).collect();
    let rows = table.lines().skip(2).map(cells);
    rows.filter(|row: &Vec<String>| row.len() == HEAD.len() && row[0] != "all").collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(name: &str, number: u64) -> Vec<String> {
        let words = [name, "class"].map(str::to_owned);
        words.into_iter().chain((2..HEAD.len()).map(|_| number.to_string())).collect()
    }

    #[test]
    fn a_run_of_some_leaves_the_rows_of_the_others() {
        let first = figures(&[row("postgres", 1), row("http", 2)], "");
        let page = format!("a\n<!-- kills -->\n{first}<!-- end of kills -->\nb\n");
        assert_eq!(known(&page), [row("postgres", 1), row("http", 2)]);
        let second = figures(&[row("postgres", 5)], &page);
        let lines: Vec<&str> = second.lines().collect();
        assert!(lines[2].starts_with("| postgres | class | 5 |"), "{second}");
        assert!(lines[3].starts_with("| http | class | 2 |"), "{second}");
        assert!(lines[4].starts_with("| all |  |  | 7 | 7 |"), "{second}");
        assert_eq!(lines.len(), 5);
    }
}
