//! The figures of the last run, put into their place in `docs/proof.md`.

use std::path::Path;

/// Replaces what stands between the marks of `section`, and its summary in the table of promises; the rest of the page
/// is a person's. Nothing happens to a page without these marks.
///
/// # Errors
/// The page cannot be read or written.
pub fn write(page: &Path, section: &str, figures: &str) -> std::io::Result<()> {
    let text = std::fs::read_to_string(page)?;
    match replaced(&text, section, figures) {
        Some(text) => std::fs::write(page, text),
        None => Ok(()),
    }
}

fn replaced(text: &str, section: &str, figures: &str) -> Option<String> {
    let (begin, end) = (format!("<!-- {section} -->\n"), format!("<!-- end of {section} -->"));
    let (before, rest) = text.split_once(&begin)?;
    let (_old, after) = rest.split_once(&end)?;
    let text = format!("{before}{begin}{figures}{end}{after}");
    let (mark, stop) = (format!("<!-- {section}: -->"), "<!-- . -->");
    let Some((before, rest)) = text.split_once(&mark) else { return Some(text) };
    let (_old, after) = rest.split_once(stop)?;
    Some(format!("{before}{mark}{}{stop}{after}", summary(figures)))
}

/// A sentence at the beginning, or else the row of a table that sums up: that of `all`, or the last one.
fn summary(figures: &str) -> String {
    let first = figures.lines().next().unwrap_or_default();
    if !first.starts_with('|') {
        return first.to_owned();
    }
    let cells = |row: &str| row.trim_matches('|').split('|').map(|cell| cell.trim().to_owned()).collect();
    let rows: Vec<Vec<String>> =
        figures.lines().take_while(|line| line.starts_with('|')).map(cells).collect();
    let [names, _line, rows @ ..] = rows.as_slice() else { return String::new() };
    let is_sum = |row: &&Vec<String>| row.first().is_some_and(|cell| cell == "all");
    let row = rows.iter().find(is_sum).or(rows.last());
    let shown = |(name, value): (&String, &String)| {
        (!value.is_empty() && value != "all").then(|| format!("{name} {value}"))
    };
    let told: Vec<String> =
        row.map_or_else(Vec::new, |row| names.iter().zip(row).filter_map(shown).collect());
    told.join(", ")
}

#[test]
fn only_what_is_between_the_marks_changes() {
    let page = "a\n<!-- x -->\nold\n<!-- end of x -->\nb\n";
    assert_eq!(replaced(page, "x", "new\n").unwrap(), "a\n<!-- x -->\nnew\n<!-- end of x -->\nb\n");
    assert_eq!(replaced(page, "y", "new\n"), None);
}

#[test]
fn the_table_of_promises_gets_a_summary() {
    let page = "| p | <!-- x: -->old<!-- . --> |\n<!-- x -->\n<!-- end of x -->\n";
    let figures = "| kind | rounds | lost |\n|---|---|---|\n| all | 12 | 0 |\n| some | 3 | 0 |\n\nText.\n";
    let told = replaced(page, "x", figures).unwrap();
    assert!(told.starts_with("| p | <!-- x: -->rounds 12, lost 0<!-- . --> |\n<!-- x -->\n| kind"), "{told}");
    let told = replaced(page, "x", "3 of 3 caught.\n\n| a |\n|---|\n| 1 |\n").unwrap();
    assert!(told.contains("<!-- x: -->3 of 3 caught.<!-- . -->"), "{told}");
    assert_eq!(summary("| a | b |\n|---|---|\n| 1 | 2 |\n| 3 | 4 |\n"), "a 3, b 4");
}
