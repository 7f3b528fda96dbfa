//! Runs one target over the files that are named: `replay TARGET FILE...`.

use std::process::ExitCode;

use pillarbox_fuzz::TARGETS;

#[expect(clippy::print_stderr, reason = "it is run in a terminal")]
fn main() -> ExitCode {
    let mut words = std::env::args().skip(1);
    let name = words.next().unwrap_or_default();
    let Some((_, run)) = TARGETS.iter().find(|(known, _)| *known == name) else {
        eprintln!("there is no target '{name}'; take one of {}", TARGETS.map(|(name, _)| name).join(", "));
        return ExitCode::FAILURE;
    };
    for file in words {
        match std::fs::read(&file) {
            Ok(data) => run(&data),
            Err(error) => {
                eprintln!("{file} cannot be read: {error}");
                return ExitCode::FAILURE;
            }
        }
        eprintln!("{name}: nothing wrong with {file}");
    }
    ExitCode::SUCCESS
}
