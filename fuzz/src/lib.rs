//! Fuzzing of what reads bytes that others wrote: the journal's files, records, configuration, requests.
//!
//! Every target is a function from bytes to nothing that panics where a promise is broken. `cargo xtask fuzz` drives
//! them with libFuzzer, which looks for inputs that reach new code; the tests of this crate run them over the corpus
//! and over a fixed number of seeded changes of it, without libFuzzer.

pub mod api;
pub mod codec;
pub mod config;
pub mod disk;
pub mod input;
pub mod journal;
pub mod records;
pub mod seal;
pub mod segments;
pub mod settings;

#[cfg(test)]
mod tests;

/// A target's name, as its program, its corpus and its dictionary have it, and what it does.
pub type Target = (&'static str, fn(&[u8]));

/// All targets.
pub const TARGETS: [Target; 7] = [
    ("segments", segments::run),
    ("journal", journal::run),
    ("codec", codec::run),
    ("records", records::run),
    ("config", config::run),
    ("settings", settings::run),
    ("api", api::run),
];
