//! Rules for the Rust sources.

use crate::Finding;
use crate::lexer::{Code, has_word};
use crate::tree::Tree;

const FILE_LINES_MAX: usize = 600;
const FUNCTION_LINES_MAX: usize = 70;

/// Names that say nothing of what is inside.
const EMPTY_NAMES: [&str; 6] = ["util", "utils", "common", "helper", "helpers", "misc"];

/// Tests of one crate in files of their own.
pub(crate) fn is_unit_test_file(path: &str) -> bool {
    path.ends_with("/tests.rs") || path.split('/').skip(1).any(|folder| folder == "tests")
}

/// Tests of any kind; the kit they use is held to the rules for code.
fn is_test_file(path: &str) -> bool {
    is_unit_test_file(path) || path.starts_with("tests/") && !path.starts_with("tests/kit/")
}

/// Every source, with its code.
fn codes(tree: &Tree) -> impl Iterator<Item = (&str, Code)> {
    tree.texts(".rs").map(|(path, text)| (path, Code::new(text)))
}

fn modules_without_doc(tree: &Tree) -> Vec<Finding> {
    // A page that is the module's documentation is included instead.
    let is_doc = |line: &str| line.starts_with("//!") || line.starts_with("#![doc = include_str!(");
    let opens = |text: &str| text.lines().find(|line| !line.trim().is_empty()).is_some_and(is_doc);
    tree.texts(".rs")
        .filter(|(_, text)| !opens(text))
        .map(|(path, _)| Finding::new(path, 1, "the module does not open with `//!`"))
        .collect()
}

fn long_files(tree: &Tree) -> Vec<Finding> {
    let lines = |code: &Code| {
        code.lines().count() - code.test_modules().into_iter().map(Iterator::count).sum::<usize>()
    };
    codes(tree)
        .filter(|(path, _)| !is_unit_test_file(path))
        .map(|(path, code)| (path, lines(&code)))
        .filter(|(_, lines)| *lines > FILE_LINES_MAX)
        .map(|(path, lines)| {
            let what = format!("{lines} lines without tests; at most {FILE_LINES_MAX}");
            Finding::new(path, FILE_LINES_MAX + 1, what)
        })
        .collect()
}

fn long_functions(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (path, code) in codes(tree).filter(|(path, _)| !is_test_file(path)) {
        let tests = code.test_modules();
        for function in code.functions() {
            let lines = code.count(&function.lines);
            let start = *function.lines.start();
            if lines > FUNCTION_LINES_MAX && !tests.iter().any(|module| module.contains(&start)) {
                let name = function.name;
                let what = format!("`{name}` has {lines} lines of code; at most {FUNCTION_LINES_MAX}");
                findings.push(Finding::new(path, start, what));
            }
        }
    }
    findings
}

fn unfinished(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (path, code) in codes(tree) {
        for (number, line) in code.lines() {
            let found = ["todo", "unimplemented", "dbg"].into_iter().filter(|name| has_macro(line, name));
            findings.extend(found.map(|name| Finding::new(path, number, format!("`{name}!`"))));
        }
    }
    findings
}

fn has_macro(line: &str, name: &str) -> bool {
    has_word(line, name) && line.contains(&format!("{name}!"))
}

/// Tests that are there and do not run: an attribute of a test, or of an example in a comment.
fn ignored_tests(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (path, text) in tree.texts(".rs") {
        let code = Code::new(text);
        let attributes = code.lines().filter(|(_, line)| line.contains("#[") && has_word(line, "ignore"));
        findings.extend(attributes.map(|(number, _)| Finding::new(path, number, "an ignored test")));
        let fences = (1..).zip(text.lines()).filter(|(_, line)| {
            let comment = line.trim_start();
            let doc = comment.strip_prefix("//!").or_else(|| comment.strip_prefix("///"));
            doc.and_then(|doc| doc.trim_start().strip_prefix("```"))
                .is_some_and(|info| has_word(info, "ignore"))
        });
        findings.extend(fences.map(|(number, _)| Finding::new(path, number, "an ignored example")));
    }
    findings
}

fn empty_names(tree: &Tree) -> Vec<Finding> {
    let says_nothing = |path: &&str| {
        path.split('/').any(|part| EMPTY_NAMES.contains(&part.split_once('.').map_or(part, |(stem, _)| stem)))
    };
    let what = "the name says nothing of what is inside";
    tree.paths().filter(says_nothing).map(|path| Finding::new(path, 1, what)).collect()
}

mod rules {
    //! Each rule about this workspace, then about samples that break it.

    use super::*;
    use crate::tree::WORKSPACE;
    use crate::{assert_lines, assert_none};

    #[test]
    fn every_module_opens_with_its_doc() {
        assert_none(&modules_without_doc(&WORKSPACE));
    }

    #[test]
    fn a_module_without_doc_is_found() {
        let tree = Tree::of([
            ("a.rs", "\n//! Doc.\n"),
            ("b.rs", "// No doc.\n//! Late.\n"),
            ("c.rs", ""),
            ("d.md", ""),
            ("e.rs", "#![doc = include_str!(\"docs.md\")]\n"),
        ]);
        let found: Vec<_> = modules_without_doc(&tree).into_iter().map(|finding| finding.path).collect();
        assert_eq!(found, ["b.rs", "c.rs"]);
    }

    #[test]
    fn no_file_is_longer_than_its_limit() {
        assert_none(&long_files(&WORKSPACE));
    }

    #[test]
    fn a_long_file_is_found_and_its_tests_do_not_count() {
        let (most, tests) = ("//!\n".repeat(FILE_LINES_MAX), "#[cfg(test)]\nmod tests {\n\n}\n");
        let (fits, long) = (format!("{most}{tests}"), format!("{most}// One more.\n{tests}"));
        let tree =
            Tree::of([("a/src/fits.rs", &fits), ("a/src/long.rs", &long), ("a/src/long/tests.rs", &long)]);
        assert_lines(&long_files(&tree), "a/src/long.rs", &[FILE_LINES_MAX + 1]);
    }

    #[test]
    fn no_function_is_longer_than_its_limit() {
        assert_none(&long_functions(&WORKSPACE));
    }

    #[test]
    fn a_long_function_is_found_and_tests_may_be_long() {
        let body = "    x();\n    // Why.\n\n".repeat(FUNCTION_LINES_MAX - 2);
        let (fits, long) =
            (format!("fn fits() {{\n{body}}}\n"), format!("fn long() {{\n    x();\n{body}}}\n"));
        let text = format!("\n{long}{fits}#[cfg(test)]\nmod tests {{\n{long}}}\n");
        let tree =
            Tree::of([("a/src/a.rs", &text), ("tests/flows/a.rs", &text), ("a/src/a/tests.rs", &text)]);
        assert_lines(&long_functions(&tree), "a/src/a.rs", &[2]);
    }

    #[test]
    fn nothing_is_left_unfinished() {
        assert_none(&unfinished(&WORKSPACE));
    }

    #[test]
    fn what_is_unfinished_is_found() {
        let text = "\
fn a() {
    todo!()
}
// todo!()
let b = \"dbg!\";
std::unimplemented!(\"c\");
dbg!(d); not_todo!();
";
        assert_lines(&unfinished(&Tree::of([("a.rs", text)])), "a.rs", &[2, 6, 7]);
    }

    #[test]
    fn every_test_and_example_runs() {
        assert_none(&ignored_tests(&WORKSPACE));
    }

    #[test]
    fn an_ignored_test_or_example_is_found() {
        let attributes = "#[ignore = \"slow\"]\n#[cfg_attr(b, ignore)]\n// #[ignore]\n#[serde(ignored)]\n";
        let example = "/// ```rust,ignore\n/// ```\n//! ```ignore\n";
        let text = format!("{attributes}{example}");
        assert_lines(&ignored_tests(&Tree::of([("a.rs", &text)])), "a.rs", &[1, 2, 5, 7]);
    }

    #[test]
    fn every_name_says_what_is_inside() {
        assert_none(&empty_names(&WORKSPACE));
    }

    #[test]
    fn a_name_that_says_nothing_is_found() {
        let tree = Tree::of([("a/commonly.rs", ""), ("a/src/utils.rs", ""), ("b/src/helpers/mod.rs", "")]);
        let found: Vec<_> = empty_names(&tree).into_iter().map(|finding| finding.path).collect();
        assert_eq!(found, ["a/src/utils.rs", "b/src/helpers/mod.rs"]);
    }
}
