//! One mutant, and what it is known by from run to run.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::error::Error;

/// One small change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Mutant {
    /// As cargo-mutants calls it, with its line and column.
    pub(super) name: String,
    pub(super) file: String,
    /// As outcomes are kept: with its place in its function and a hash of that function's text instead. What was found
    /// stays known where a function moves, and is tried again where it changes.
    pub(super) key: String,
}

/// Reads what `cargo mutants --list --json` says. `source` gives a file's text.
pub(super) fn read_all(
    json: &str,
    mut source: impl FnMut(&str) -> Result<String, Error>,
) -> Result<Vec<Mutant>, Error> {
    let list: Vec<Value> = serde_json::from_str(json)
        .map_err(|error| Error::new(format!("cannot read cargo-mutants' list: {error}")))?;
    let mut sources = BTreeMap::new();
    let mut mutants = Vec::new();
    for value in &list {
        let file = value["file"].as_str().unwrap_or_default();
        if !sources.contains_key(file) {
            sources.insert(file.to_owned(), source(file)?);
        }
        let text = sources.get(file).map_or("", String::as_str);
        let mutant = read(value, file, text);
        mutants.push(mutant.ok_or_else(|| Error::new(format!("no mutant that is known here: {value}")))?);
    }
    Ok(mutants)
}

fn read(value: &Value, file: &str, source: &str) -> Option<Mutant> {
    let name = value["name"].as_str()?;
    let (_place, change) = name.split_once(": ")?;
    let line_of = |at: &Value| at["line"].as_u64().and_then(|line| usize::try_from(line).ok());
    let line = line_of(&value["span"]["start"])?;
    let column = value["span"]["start"]["column"].as_u64()?;
    let function = &value["function"]["span"];
    // What is in no function, a constant say, is its line.
    let (first, last) = if function.is_null() {
        (line, line)
    } else {
        (line_of(&function["start"])?, line_of(&function["end"])?)
    };
    let text = source.lines().skip(first.checked_sub(1)?).take((last + 1).checked_sub(first)?);
    let (below, hash) = (line.checked_sub(first)?, hash(text));
    let key = format!("{file}: {change} (+{below}:{column} of {hash:016x})");
    Some(Mutant { name: name.to_owned(), file: file.to_owned(), key })
}

/// FNV-1a: the same with every toolchain.
fn hash<'a>(lines: impl Iterator<Item = &'a str>) -> u64 {
    let bytes = lines.flat_map(|line| line.bytes().chain([b'\n']));
    bytes.fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOURCE: &str = "const A: u64 = 1 << 2;\n\nfn f() -> u64 {\n    A + 1\n}\n";

    fn list(source: &str, line: u64) -> Vec<String> {
        let value = |line: u64, change: &str, function: &str| {
            format!(
                r#"{{"file": "a.rs", "name": "a.rs:{line}:7: {change}", "function": {function},
                     "span": {{"start": {{"line": {line}, "column": 7}}, "end": {{"line": {line}, "column": 8}}}}}}"#
            )
        };
        let span = format!(
            r#"{{"span": {{"start": {{"line": {}, "column": 1}}, "end": {{"line": {}, "column": 2}}}}}}"#,
            line - 1,
            line + 1
        );
        let json = format!(
            "[{}, {}, {}]",
            value(line - 3, "replace << with >>", "null"),
            value(line, "replace + with - in f", &span),
            value(line, "replace + with * in f", &span),
        );
        let mutants = read_all(&json, |file| {
            assert_eq!(file, "a.rs");
            Ok(source.to_owned())
        });
        let mutants = mutants.unwrap();
        assert_eq!(mutants[1].name, format!("a.rs:{line}:7: replace + with - in f"));
        mutants.into_iter().map(|mutant| mutant.key).collect()
    }

    #[test]
    fn a_mutant_is_known_where_its_function_moves_and_not_where_it_changes() {
        let keys = list(SOURCE, 4);
        assert!(keys[1].starts_with("a.rs: replace + with - in f (+1:7 of "), "{}", keys[1]);
        assert_ne!(keys[1], keys[2]);
        assert_eq!(list(&format!("\n// Before it.\n{SOURCE}"), 6), keys, "moved");
        let changed = list(&SOURCE.replace("A + 1", "A + 2"), 4);
        assert_eq!(changed[0], keys[0], "what is outside of the function");
        assert!(changed[1] != keys[1] && changed[2] != keys[2]);
        assert_ne!(list(&SOURCE.replace("1 << 2", "1 << 3"), 4)[0], keys[0]);
    }

    #[test]
    fn a_list_of_another_kind_is_an_error() {
        for json in ["", "{}", "[{}]", r#"[{"file": "a.rs", "name": "a.rs:1:1: x"}]"#] {
            assert!(read_all(json, |_| Ok(String::new())).is_err(), "{json}");
        }
    }
}
