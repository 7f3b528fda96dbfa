//! What CI runs: seeds, the same seeds twice, and the marks that they have to reach. For more: `cargo xtask sim`.

use crate::run::{Outcome, Total, run, run_many};

/// Marks that the seeds of one test have to reach: each state, each fault.
const MARKS: [&str; 50] = [
    "batch: all or none",
    "batch: committed again",
    "box: stopped",
    "commit: full",
    "commit: outcome unknown",
    "crash: everything kept",
    "crash: in an operation",
    "crash: only the flushed kept",
    "crash: process only",
    "crash: some sectors kept",
    "crash: while closing",
    "crash: while opening",
    "destination: asks for the backup",
    "destination: asks to resubmit",
    "destination: asks to suspend",
    "destination: cannot be opened",
    "destination: completes twice",
    "destination: does not end",
    "destination: fails a whole batch",
    "destination: fine",
    "destination: gives back",
    "destination: hangs",
    "destination: late",
    "destination: lets go",
    "destination: panics",
    "destination: permanent error",
    "destination: retry after",
    "destination: sent, then an error",
    "destination: temporary error",
    "disk: an I/O error",
    "disk: full",
    "disk: full at one operation",
    "disk: slow",
    "lease: given back",
    "long body",
    "long body: given up",
    "opening: torn tail",
    "refusal: not owned",
    "refusal: voided",
    "reply: given",
    "reply: none",
    "route: for once not in two phases",
    "second completion: refused",
    "shutdown: an adapter hung",
    "shutdown: something was cut off",
    "transaction: a commit went wrong",
    "transaction: a rollback went wrong",
    "transaction: left prepared and found",
    "transaction: not listed",
    "transaction: there is nothing of it",
];

/// Seeds of one test. Two of them take both cores.
const SEEDS: u64 = 1_050;

fn tell(outcome: &Outcome) -> String {
    let mut text = format!("seed {}, replay with: cargo xtask sim --seed {0} --trace", outcome.seed);
    for violation in outcome.violations.iter().take(3) {
        text.push_str(&format!("\n  {violation}"));
    }
    text.push_str(outcome.panic.as_deref().unwrap_or_default());
    text
}

fn assert_fine(total: &Total) {
    let told: Vec<String> = total.failed.iter().map(tell).collect();
    assert!(told.is_empty(), "\n{}\n", told.join("\n"));
    let missed: Vec<_> = MARKS.iter().filter(|mark| !total.marks.contains_key(*mark)).collect();
    assert!(missed.is_empty(), "never reached: {missed:?}");
}

fn run_seeds(first: u64) {
    let total = run_many(first, 1, |total| total.seeds < SEEDS && total.failed.len() < 3);
    println!("{} seeds, {:.1} simulated days", total.seeds, total.simulated.as_secs_f64() / 86_400.0);
    assert_fine(&total);
}

#[test]
fn the_first_thousand_seeds_break_no_invariant() {
    run_seeds(0);
}

#[test]
fn the_second_thousand_seeds_break_no_invariant() {
    run_seeds(SEEDS);
}

/// Also after another life on the same thread, and on another thread.
#[test]
fn the_same_seed_goes_the_same_way() {
    for seed in 5_000..5_050 {
        let first = run(seed, false);
        let again = std::thread::scope(|scope| scope.spawn(|| run(seed, false)).join());
        let again = again.expect("the second run ended");
        assert_eq!((first.hash, first.events), (again.hash, again.events), "seed {seed}");
    }
}

/// Seeds that once found something, and what it was.
#[test]
fn seeds_of_defects_that_were_mended_stay_fine() {
    // An ended delivery came back after its trace; a full disk ended leases; half a closing mark was damage; a mark
    // that was never flushed left a hole; a rename that said "full" had happened; uncharged attempts had no pauses; a
    // destination that answered neither a prepare nor a rollback outlasted the lease, and its attempt was never charged; the
    // history did not allow for a power cut that takes back what was forgotten and not flushed.
    for seed in [2, 93, 187, 1155, 1705, 1780, 2014, 2665, 5008, 12_546, 14_691, 22_504] {
        let outcome = run(seed, false);
        assert!(outcome.is_fine(), "{}", tell(&outcome));
    }
}
