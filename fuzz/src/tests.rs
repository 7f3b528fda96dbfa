//! The targets over the corpus and over seeded changes of it, without libFuzzer; and what once was found.

use std::collections::BTreeSet;
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::*;
use crate::disk::MemoryDisk;
use crate::segments::{folder, input_of};

/// What the changes are drawn from: the same ones on every machine and every run, unless `FUZZ_SEED` asks for others.
const SEED: u64 = 20_261_123;
/// Changed inputs for each target, unless `FUZZ_CHANGES` asks for more.
const CHANGED: u64 = 400;
const LENGTH_MAX: usize = 8 * 1024;

fn home() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// A target's corpus, in order of name.
fn corpus(target: &str) -> Vec<(PathBuf, Vec<u8>)> {
    let folder = home().join("corpus").join(target);
    let mut files: Vec<PathBuf> = fs::read_dir(&folder)
        .expect("it has a corpus")
        .map(|entry| entry.expect("an entry").path())
        .collect();
    files.sort();
    assert!(!files.is_empty(), "{} is empty", folder.display());
    files.into_iter().map(|path| (path.clone(), fs::read(&path).expect("it can be read"))).collect()
}

/// The words of a target's dictionary, as libFuzzer reads it: `"WORD"` a line, with `\xHH`, `\\` and `\"`.
fn dictionary(target: &str) -> Vec<Vec<u8>> {
    let text =
        fs::read_to_string(home().join("dictionaries").join(format!("{target}.dict"))).unwrap_or_default();
    let lines = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines.map(|line| word(line).unwrap_or_else(|| panic!("{target}.dict: {line}"))).collect()
}

fn word(line: &str) -> Option<Vec<u8>> {
    let mut rest = line.strip_prefix('"')?.strip_suffix('"')?.bytes();
    let mut word = Vec::new();
    while let Some(byte) = rest.next() {
        word.push(match byte {
            b'\\' => match rest.next()? {
                b'x' => {
                    let digits = [rest.next()?, rest.next()?];
                    u8::from_str_radix(std::str::from_utf8(&digits).ok()?, 16).ok()?
                }
                plain @ (b'\\' | b'"') => plain,
                _ => return None,
            },
            b'"' => return None,
            plain => plain,
        });
    }
    Some(word)
}

/// Runs a target; where it panics, keeps the input and tells how to run it again.
fn run_kept(target: &str, run: fn(&[u8]), data: &[u8], what: &str) {
    if catch_unwind(AssertUnwindSafe(|| run(data))).is_ok() {
        return;
    }
    let mut kept = tempfile::Builder::new().prefix(&format!("{target}-")).tempfile().expect("a file");
    std::io::Write::write_all(&mut kept, data).expect("it is written");
    let (_, path) = kept.keep().expect("it is kept");
    panic!("{target}, {what}; again: cargo xtask fuzz --target {target} --input {}", path.display());
}

/// One change of an input.
fn change(data: &mut Vec<u8>, random: &mut StdRng, words: &[Vec<u8>], other: &[u8]) {
    let at = random.random_range(0..=data.len());
    match random.random_range(0..7) {
        0 if at < data.len() => data[at] ^= 1 << random.random_range(0..8),
        1 if at < data.len() => data[at] = random.random(),
        2 => data.insert(at, random.random()),
        3 => {
            let end = (at + random.random_range(0..16)).min(data.len());
            data.drain(at..end);
        }
        4 if !words.is_empty() => {
            let word = &words[random.random_range(0..words.len())];
            data.splice(at..at, word.iter().copied());
        }
        5 if at < data.len() => {
            let wide: u32 = [0, 1, u32::MAX, 1 << 20, 1 << 30][random.random_range(0..5)];
            data.iter_mut().skip(at).zip(wide.to_le_bytes()).for_each(|(to, from)| *to = from);
        }
        _ => {
            let from = random.random_range(0..=other.len());
            let piece: Vec<u8> = other[from..].iter().take(random.random_range(0..64)).copied().collect();
            data.splice(at..at, piece);
        }
    }
    data.truncate(LENGTH_MAX);
}

fn asked(name: &str, otherwise: u64) -> u64 {
    std::env::var(name).map_or(otherwise, |text| text.parse().expect("a number"))
}

fn run_corpus_and_changes(target: &str) {
    let (_, run) = TARGETS.into_iter().find(|(name, _)| *name == target).expect("a target");
    let (files, words) = (corpus(target), dictionary(target));
    for (path, data) in &files {
        run_kept(target, run, data, &path.display().to_string());
    }
    let (seed, changes) = (asked("FUZZ_SEED", SEED), asked("FUZZ_CHANGES", CHANGED));
    for number in 0..changes {
        let mut random = StdRng::seed_from_u64(seed ^ number << 32);
        let (_, from) = &files[random.random_range(0..files.len())];
        let (_, other) = &files[random.random_range(0..files.len())];
        let mut data = from.clone();
        for _ in 0..random.random_range(1..8) {
            change(&mut data, &mut random, &words, other);
        }
        run_kept(target, run, &data, &format!("change {number} from seed {seed}"));
    }
}

#[test]
fn segments_of_any_content_do_no_harm() {
    run_corpus_and_changes("segments");
}

#[test]
fn a_damaged_journal_keeps_whole_groups() {
    run_corpus_and_changes("journal");
}

#[test]
fn what_is_decoded_is_encoded_the_same() {
    run_corpus_and_changes("codec");
}

#[test]
fn records_of_any_content_do_no_harm() {
    run_corpus_and_changes("records");
}

#[test]
fn a_configuration_of_any_content_is_checked() {
    run_corpus_and_changes("config");
}

#[test]
fn settings_of_any_content_are_checked() {
    run_corpus_and_changes("settings");
}

#[test]
fn a_request_of_any_content_is_answered() {
    run_corpus_and_changes("api");
}

#[test]
fn every_target_has_a_corpus_and_a_program() {
    let names: BTreeSet<String> = TARGETS.iter().map(|(name, _)| (*name).to_owned()).collect();
    for (folder, ending) in [("corpus", ""), ("targets", ".rs")] {
        let found = fs::read_dir(home().join(folder)).expect("a folder");
        let found = found.map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned());
        let found: BTreeSet<String> = found.map(|name| name.trim_end_matches(ending).to_owned()).collect();
        assert_eq!(found, names, "{folder}");
    }
    for entry in fs::read_dir(home().join("dictionaries")).expect("a folder") {
        let name = entry.expect("an entry").file_name().to_string_lossy().into_owned();
        let target = name.strip_suffix(".dict").expect("a dictionary");
        assert!(names.contains(target) && !dictionary(target).is_empty(), "{name}");
    }
}

/// The rule about whole groups is worth what it is applied to.
#[test]
fn the_corpus_leads_to_every_verdict() {
    use crate::journal::{Verdict, verdict};
    let of = |name: &str| {
        let data = fs::read(home().join("corpus/journal").join(name)).expect("it is there");
        verdict(&data)
    };
    let found = ["written-and-closed", "several-segments", "cut", "zeros", "renamed"].map(of);
    let expected =
        [Verdict::Undamaged, Verdict::Undamaged, Verdict::Whole, Verdict::Reported, Verdict::Untold];
    assert_eq!(found, expected);
}

#[test]
fn an_input_of_segments_describes_the_folder() {
    for (path, data) in corpus("segments") {
        let disk = folder(&data);
        let again = folder(&input_of(&disk));
        assert_eq!(contents(&again), contents(&disk), "{}", path.display());
    }
}

fn contents(disk: &MemoryDisk) -> Vec<(String, Vec<u8>)> {
    disk.names().into_iter().map(|name| (name.clone(), disk.bytes(&name))).collect()
}
