//! The binary `pillarbox`.

use std::process::ExitCode;

use clap::Parser as _;
use pillarbox_server::cli::Cli;
use pillarbox_server::commands;

fn main() -> ExitCode {
    commands::main(&Cli::parse(), &pillarbox_adapters::registry())
}
