//! What the programs among the tests have in common that drive a real server: how they end, and the engines they know.

use std::future::Future;
use std::process::ExitCode;

/// An engine of the box.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Engine {
    /// The journal.
    Journal,
    /// The sled database.
    Sled,
    /// Keeps nothing over a kill: losses must be found, or nothing is proven
    Memory,
}

impl Engine {
    /// Its name in configuration.
    #[must_use]
    pub fn text(self) -> &'static str {
        match self {
            Self::Journal => "journal",
            Self::Sled => "sled",
            Self::Memory => "memory",
        }
    }
}

/// Runs the program on several threads. It succeeds where all was fine; why it could not run is printed.
#[expect(clippy::print_stdout, reason = "the programs are read in a terminal")]
pub fn main(run: impl Future<Output = Result<bool, String>>) -> ExitCode {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let outcome = match runtime {
        Ok(runtime) => runtime.block_on(run),
        Err(error) => Err(format!("no threads: {error}")),
    };
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            println!("{error}");
            ExitCode::FAILURE
        }
    }
}
