//! Crashes of whole processes: the power goes while a box is worked with, and everything acknowledged is there after.

#![expect(clippy::print_stdout, reason = "a failed test shows every round")]

mod chaos;
mod kills;
mod mount;

use std::path::PathBuf;

use pillarbox_tests::powercut::{Engine, Rounds, Totals, run};

const SEED: u64 = 20_261_123;

fn rounds(engine: Engine, rounds: u32, is_flushed: bool) -> Totals {
    rounds_from(engine, 0, rounds, is_flushed)
}

fn rounds_from(engine: Engine, first: u32, rounds: u32, is_flushed: bool) -> Totals {
    let worker = PathBuf::from(env!("CARGO_BIN_EXE_powercut"));
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("powercut");
    let rounds = Rounds { engine, rounds, first, seed: SEED, is_flushed, worker, folder };
    let totals = run(&rounds, &mut |line| println!("{line}")).expect("FUSE, and a user who may mount");
    println!("\n{totals}");
    totals
}

fn assert_nothing_is_wrong(totals: &Totals) {
    assert!(totals.failed.is_empty(), "{:#?}", totals.failed);
    assert_eq!(totals.rounds(), 30);
    // Little on a busy machine, thousands on an idle one.
    assert!(totals.acknowledged() > 100, "too little was done to prove anything");
}

#[test]
fn a_journal_survives_power_cuts() {
    let totals = rounds(Engine::Journal, 30, true);
    assert_nothing_is_wrong(&totals);
    let reached = totals.reached();
    assert!(reached.iter().all(|rounds| *rounds > 0), "rolls, recycling, freeing, moving: {reached:?}");
}

#[test]
fn a_sled_database_survives_power_cuts() {
    assert_nothing_is_wrong(&rounds(Engine::Sled, 30, true));
}

#[test]
fn an_engine_that_does_not_flush_is_found_out() {
    for engine in [Engine::Journal, Engine::Sled] {
        let lost = rounds_from(engine, 0, 6, false).findings().lost;
        assert!(lost > 0, "{}: nothing was lost without a flush", engine.as_str());
    }
}
