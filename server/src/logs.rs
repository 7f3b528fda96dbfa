//! Logs: to standard error, filtered.

use std::io::IsTerminal as _;

use tracing_subscriber::EnvFilter;

use crate::failure::Failure;

/// Starts logging what `filter` lets through, `info` or `pillarbox_runtime=debug,warn` say. Does nothing where
/// logging has been started before.
///
/// # Errors
/// The filter is not one.
pub(crate) fn start(filter: &str) -> Result<(), Failure> {
    // What lapin says of a message that comes back shows its whole body.
    let filter =
        EnvFilter::builder().parse(format!("{filter},lapin::returned_messages=off")).map_err(|error| {
            Failure::usage(format!("the log filter is not one: {error}"))
                .next("--log info, or for example --log pillarbox_runtime=debug,warn")
        })?;
    let started = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .try_init();
    // Started before, by the one who uses this as a library: theirs stays.
    drop(started);
    Ok(())
}
