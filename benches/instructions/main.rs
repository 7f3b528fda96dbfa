//! A scenario of one thread, to be run under a tool that counts instructions: `cargo xtask bench instructions`.
//!
//! `instructions NAME TIMES` does one thing TIMES times. Counted with two numbers of times, the difference is what it
//! costs, without the start of the program.

#![expect(clippy::print_stdout, reason = "the list of names is asked for in a terminal")]

use std::process::ExitCode;

use pillarbox_benches::{Bodies, Fault, Groups, Inline, checksum};

/// What one run does: a name, and so many times.
type Scenario = (&'static str, fn(u64) -> Result<(), Fault>);

const BATCH: usize = 100;

const SCENARIOS: [Scenario; 9] = [
    ("batch_of_100_built", |times| {
        let mut inline = Inline::memory()?;
        (0..times).try_for_each(|_| inline.batch(BATCH).map(drop))
    }),
    ("submit_100_memory", |times| {
        let mut inline = Inline::memory()?;
        (0..times).try_for_each(|_| {
            let batch = inline.batch(BATCH)?;
            inline.commit(&batch)
        })
    }),
    ("turn_100_memory", |times| {
        let mut inline = Inline::memory()?;
        (0..times).try_for_each(|_| inline.turn(BATCH))
    }),
    ("turn_1_memory", |times| {
        let mut inline = Inline::memory()?;
        (0..times).try_for_each(|_| inline.turn(1))
    }),
    ("turn_100_journal", |times| {
        let mut inline = Inline::journal()?;
        (0..times).try_for_each(|_| inline.turn(BATCH))
    }),
    ("turn_1_journal", |times| {
        let mut inline = Inline::journal()?;
        (0..times).try_for_each(|_| inline.turn(1))
    }),
    ("journal_group_of_100", |times| {
        let mut groups = Groups::new()?;
        (0..times).try_for_each(|_| Ok(groups.write(BATCH as u64)?))
    }),
    ("journal_group_of_1", |times| {
        let mut groups = Groups::new()?;
        (0..times).try_for_each(|_| Ok(groups.write(1)?))
    }),
    ("checksum_of_1_kib", |times| {
        let body = Bodies::new(1024).get(3);
        let sum = (0..times).fold(0_u32, |sum, _| sum.wrapping_add(std::hint::black_box(checksum(&body))));
        std::hint::black_box(sum);
        Ok(())
    }),
];

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let [name, times] = words.as_slice() else {
        SCENARIOS.iter().for_each(|(name, _)| println!("{name}"));
        return ExitCode::SUCCESS;
    };
    let scenario = SCENARIOS.iter().find(|(known, _)| known == name);
    let outcome = match (scenario, times.parse()) {
        (Some((_, run)), Ok(times)) => run(times),
        (None, _) => Err(format!("there is no scenario {name}").into()),
        (_, Err(error)) => Err(format!("{times} is no number: {error}").into()),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(fault) => {
            println!("error: {fault}");
            ExitCode::FAILURE
        }
    }
}
