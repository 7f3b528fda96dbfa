//! The binary `pillarbox`.

use std::process::ExitCode;

use clap::Parser as _;
use pillarbox_server::cli::Cli;
use pillarbox_server::commands;

/// Messages come and go between threads all the time: the host's own allocator would cost a tenth of what the box does.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    commands::main(&Cli::parse(), &pillarbox_adapters::registry())
}
