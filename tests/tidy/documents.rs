//! Rules for what is said: paths and tests that are named exist, and nothing of anybody's machine is told.

use std::ops::Range;

use crate::Finding;
use crate::lexer::{Code, has_word, is_word_start};
use crate::sources::is_unit_test_file;
use crate::tree::Tree;

/// The text of a document that must be there.
fn required<'a>(tree: &'a Tree, path: &str) -> Result<&'a str, Vec<Finding>> {
    tree.text(path).ok_or_else(|| vec![Finding::new(path, 1, "missing")])
}

/// What stands in single backticks outside fenced blocks, with its line.
fn code_spans(text: &str) -> Vec<(usize, &str)> {
    let mut spans = Vec::new();
    let mut fenced = false;
    for (number, line) in (1..).zip(text.lines()) {
        if line.trim_start().starts_with("```") {
            fenced = !fenced;
        } else if !fenced {
            spans.extend(line.split('`').skip(1).step_by(2).map(|span| (number, span)));
        }
    }
    spans
}

/// Paths named in `ARCHITECTURE.md` that lead nowhere.
fn lost_paths(tree: &Tree) -> Vec<Finding> {
    let document = "ARCHITECTURE.md";
    let text = match required(tree, document) {
        Ok(text) => text,
        Err(findings) => return findings,
    };
    let paths = code_spans(text)
        .into_iter()
        .flat_map(|(line, span)| expand(span).into_iter().map(move |p| (line, p)));
    paths
        .filter(|(_, path)| is_lost(tree, path))
        .map(|(line, path)| Finding::new(document, line, format!("`{path}` does not exist")))
        .collect()
}

/// `a/{b,c}.rs` as `a/b.rs` and `a/c.rs`.
fn expand(span: &str) -> Vec<String> {
    let group = span.split_once('{').and_then(|(before, rest)| Some((before, rest.split_once('}')?)));
    match group {
        Some((before, (inside, after))) => {
            inside.split(',').flat_map(|one| expand(&format!("{before}{}{after}", one.trim()))).collect()
        }
        None => vec![span.to_owned()],
    }
}

/// Whether `span` looks like a path of this workspace and is none. One below a folder of the root is looked up
/// from there; any other is a path if it ends like a source or a document, and may be the end of a longer one.
fn is_lost(tree: &Tree, span: &str) -> bool {
    let path = span.split("::").next().unwrap_or(span);
    let plain = |c: char| c.is_ascii_alphanumeric() || "._-/".contains(c);
    if path.is_empty() || path.starts_with('/') || !path.chars().all(plain) {
        return false;
    }
    if path.split_once('/').is_some_and(|(first, _)| tree.has_folder(first)) {
        return !tree.has_file(path) && !tree.has_folder(path);
    }
    let tail = format!("/{path}");
    let exists = || tree.has_file(path) || tree.paths().any(|known| known.ends_with(&tail));
    [".rs", ".md"].iter().any(|ending| path.ends_with(ending)) && !exists()
}

/// A test named as `PATH.rs::NAME`.
#[derive(Debug, PartialEq, Eq)]
struct TestName<'a> {
    path: &'a str,
    name: &'a str,
}

fn test_names(line: &str) -> Vec<TestName<'_>> {
    let in_path = |c: char| c.is_ascii_alphanumeric() || "._-/".contains(c);
    let in_name = |c: char| c.is_ascii_alphanumeric() || "_:".contains(c);
    line.match_indices(".rs::")
        .filter_map(|(at, mark)| {
            let path_start = line[..at].rfind(|c| !in_path(c)).map_or(0, |before| before + 1);
            let rest = &line[at + mark.len()..];
            let names = &rest[..rest.find(|c| !in_name(c)).unwrap_or(rest.len())];
            let name = names.trim_end_matches(':').rsplit("::").next()?;
            // Without a name, or with a placeholder for one, it is no test.
            (path_start < at && !name.is_empty()).then(|| TestName { path: &line[path_start..at + 3], name })
        })
        .collect()
}

/// Tests that a document or a comment names and that are not there.
fn lost_tests(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    let texts =
        tree.texts(".md").chain(tree.texts(".rs")).filter(|(path, _)| !path.starts_with("tests/tidy/"));
    for (path, text) in texts {
        for (number, line) in (1..).zip(text.lines()) {
            let lost = test_names(line).into_iter().filter(|test| !exists(tree, test));
            findings.extend(lost.map(|TestName { path: file, name }| {
                Finding::new(path, number, format!("`{file}` has no test `{name}`"))
            }));
        }
    }
    findings
}

fn exists(tree: &Tree, test: &TestName<'_>) -> bool {
    let defined =
        |text| Code::new(text).lines().any(|(_, line)| has_word(line, &format!("fn {}", test.name)));
    tree.text(test.path).is_some_and(defined)
}

/// Rows of the README's table of promises that name no test in their last column.
fn unproven_promises(tree: &Tree) -> Vec<Finding> {
    let document = "README.md";
    let text = match required(tree, document) {
        Ok(text) => text,
        Err(findings) => return findings,
    };
    let lines = (1..).zip(text.lines());
    let section =
        lines.skip_while(|(_, line)| !(line.starts_with('#') && line.to_lowercase().contains("promise")));
    let section = section.enumerate().take_while(|(index, (_, line))| *index == 0 || !line.starts_with('#'));
    // The first two rows of a table are its head and a rule.
    let rows: Vec<_> =
        section.map(|(_, line)| line).filter(|(_, line)| line.starts_with('|')).skip(2).collect();
    if rows.is_empty() {
        return vec![Finding::new(document, 1, "no table of promises under a heading that says so")];
    }
    let last = |row: &str| {
        row.trim().trim_end_matches('|').rsplit('|').next().map(str::to_owned).unwrap_or_default()
    };
    rows.into_iter()
        .filter(|(_, row)| test_names(&last(row)).is_empty())
        .map(|(number, _)| Finding::new(document, number, "the promise names no test in its last column"))
        .collect()
}

/// Lines of all texts but tests, in which what `find` sees is not allowed.
fn told(tree: &Tree, find: impl Fn(&str) -> Option<Range<usize>>) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (path, text) in tree.texts("").filter(|(path, _)| !is_exempt(path)) {
        let tests = if path.ends_with(".rs") { Code::new(text).test_modules() } else { Vec::new() };
        for (number, line) in (1..).zip(text.lines()) {
            let found = find(line).filter(|_| !tests.iter().any(|module| module.contains(&number)));
            findings
                .extend(found.map(|range| Finding::new(path, number, format!("names `{}`", &line[range]))));
        }
    }
    findings
}

/// Tests may need a real path; what Cargo locked is not ours to word.
fn is_exempt(path: &str) -> bool {
    path.starts_with("tests/") || is_unit_test_file(path) || path == "Cargo.lock"
}

/// A path that only one machine has.
fn machine_path(line: &str) -> Option<Range<usize>> {
    ["/work/", "/tmp/", "/root/", "/home/"].iter().find_map(|folder| {
        let mut places = line.match_indices(folder).map(|(at, _)| at);
        let inside_longer =
            |at: usize| line[..at].ends_with(|c: char| c.is_alphanumeric() || "._-}~".contains(c));
        places.find(|at| !inside_longer(*at)).map(|at| at..at + folder.len())
    })
}

/// The address of a registry or of a mirror, told by the first label of its host.
fn registry_host(line: &str) -> Option<Range<usize>> {
    let labels =
        ["registry", "index", "static", "crates", "mirror", "mirrors", "proxy", "pypi", "npm", "deb"];
    line.match_indices("://").find_map(|(at, mark)| {
        let start = at + mark.len();
        let (label, _) = line[start..].split_once('.')?;
        labels.contains(&label).then(|| start..start + label.len() + 1)
    })
}

/// A path that leaves the repository.
fn outside_path(line: &str) -> Option<Range<usize>> {
    let outside = concat!("../", "shared");
    let at = line.find(outside)?;
    is_word_start(line, at).then(|| at..at + outside.len())
}

mod rules {
    //! Each rule about this workspace, then about samples that break it.

    use super::*;
    use crate::tree::WORKSPACE;
    use crate::{assert_lines, assert_none};

    #[test]
    fn every_path_in_the_architecture_exists() {
        assert_none(&lost_paths(&WORKSPACE));
    }

    #[test]
    fn a_lost_path_is_found() {
        let text = "\
`store/src/lib.rs`, `store/src/`, `src/lib.rs` and `lib.rs` exist, `store/src/gone.rs`
does not; `gone.rs` neither; `store/src/{lib,gone}.rs` by half, `store/gone/` not at all.
`/v1/ports`, `text/plain`, `Store::commit`, `{box}/{port}`, `store / runtime` are no paths.
```
store/src/gone.rs `store/src/gone.rs`
```
";
        let tree = Tree::of([("ARCHITECTURE.md", text), ("store/src/lib.rs", "")]);
        assert_lines(&lost_paths(&tree), "ARCHITECTURE.md", &[1, 2, 2, 2]);
        assert_lines(&lost_paths(&Tree::of([])), "ARCHITECTURE.md", &[1]);
    }

    #[test]
    fn every_named_test_exists() {
        assert_none(&lost_tests(&WORKSPACE));
    }

    #[test]
    fn a_lost_test_is_found() {
        let test = "#[test]\nfn there() {}\n// fn in_a_comment() {}\n";
        let text = "\
`tests/a.rs::there`, (tests/a.rs::inner::there)
`tests/a.rs::ther`
`tests/b.rs::there`
`tests/a.rs::in_a_comment`
";
        let tree = Tree::of([("README.md", text), ("tests/a.rs", test)]);
        assert_lines(&lost_tests(&tree), "README.md", &[2, 3, 4]);
    }

    #[test]
    fn every_promise_names_its_test() {
        assert_none(&unproven_promises(&WORKSPACE));
    }

    #[test]
    fn a_promise_without_a_test_is_found() {
        let text = "\
# A
| x |
|---|
| y |
## Promises
| what | test |
|---|---|
| a | `tests/a.rs::b` |
| `tests/a.rs::b` | soon |
## B
| z |
";
        assert_lines(&unproven_promises(&Tree::of([("README.md", text)])), "README.md", &[9]);
        assert_lines(
            &unproven_promises(&Tree::of([(
                "README.md",
                "\
# A
## Promises
",
            )])),
            "README.md",
            &[1],
        );
        assert_lines(&unproven_promises(&Tree::of([])), "README.md", &[1]);
    }

    #[test]
    fn no_machine_is_told_of() {
        assert_none(&told(&WORKSPACE, machine_path));
    }

    #[test]
    fn a_path_of_a_machine_is_found() {
        let text = "\
see /work/notes
target/tmp/a, {dir}/tmp/b
\"/root/.x\"
#[cfg(test)]
mod tests {
 // /tmp/c
}
";
        assert_lines(
            &told(&Tree::of([("a/src/a.rs", text), ("tests/b.rs", text)]), machine_path),
            "a/src/a.rs",
            &[1, 3],
        );
    }

    #[test]
    fn no_registry_is_told_of() {
        assert_none(&told(&WORKSPACE, registry_host));
    }

    #[test]
    fn the_address_of_a_registry_is_found() {
        let text = "\
https://example.org/index.html
sparse+https://index.example.org/
http://mirror.example.org
";
        assert_lines(&told(&Tree::of([("a.toml", text)]), registry_host), "a.toml", &[2, 3]);
    }

    #[test]
    fn nothing_outside_the_repository_is_told_of() {
        assert_none(&told(&WORKSPACE, outside_path));
    }

    #[test]
    fn a_path_out_of_the_repository_is_found() {
        let text = concat!("see ../", "shared/NOTES.md\nsee shared/NOTES.md\n");
        assert_lines(&told(&Tree::of([("a.md", text)]), outside_path), "a.md", &[1]);
    }
}
