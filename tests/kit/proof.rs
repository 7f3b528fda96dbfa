//! The figures of the last run, put into their place in `docs/proof.md`.

use std::path::Path;

/// Replaces what stands between the marks of `section`; the rest of the page is a person's. Nothing happens to a page
/// without these marks.
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
    Some(format!("{before}{begin}{figures}{end}{after}"))
}

#[test]
fn only_what_is_between_the_marks_changes() {
    let page = "a\n<!-- x -->\nold\n<!-- end of x -->\nb\n";
    assert_eq!(replaced(page, "x", "new\n").unwrap(), "a\n<!-- x -->\nnew\n<!-- end of x -->\nb\n");
    assert_eq!(replaced(page, "y", "new\n"), None);
}
