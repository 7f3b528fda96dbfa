//! The server's clock, which jumps without the host's: `libfaketime` answers the server's questions for the time of
//! day, and asks a file by how much it is ahead. The time that waits are measured by stays the host's.

use std::path::{Path, PathBuf};

use pillarbox_tests::server::Place;
use tokio::process::Command;

/// The loader puts in the folder that the system has for libraries.
const LIBRARY: &str = "/usr/$LIB/faketime/libfaketime.so.1";

/// Has the clock of a place's servers told by a file of the place.
pub(crate) fn fake(place: &mut Place) -> Result<PathBuf, String> {
    let clock = place.path("clock");
    set(&clock, 0)?;
    place.set_env("LD_PRELOAD", LIBRARY);
    place.set_env("FAKETIME_TIMESTAMP_FILE", &clock.to_string_lossy());
    // Read at each question: a jump is seen at once.
    place.set_env("FAKETIME_NO_CACHE", "1");
    place.set_env("FAKETIME_DONT_FAKE_MONOTONIC", "1");
    place.set_env("NO_FAKE_STAT", "1");
    Ok(clock)
}

/// Sets the clock. In one step: half a file would be no time at all.
pub(crate) fn set(clock: &Path, ahead: i64) -> Result<(), String> {
    let new = clock.with_extension("new");
    std::fs::write(&new, format!("{ahead:+}\n"))
        .and_then(|()| std::fs::rename(&new, clock))
        .map_err(|error| format!("{}: {error}", clock.display()))
}

/// Makes sure that a clock can jump here: a library that is not there is passed over in silence.
pub(crate) async fn check() -> Result<(), String> {
    let mut date = Command::new("date");
    date.arg("+%Y").env("LD_PRELOAD", LIBRARY).env("FAKETIME", "@2099-06-01 00:00:00");
    let output = date.output().await.map_err(|error| format!("date: {error}"))?;
    if String::from_utf8_lossy(&output.stdout).trim() == "2099" {
        return Ok(());
    }
    Err(format!(
        "error: {LIBRARY} does not answer for the clock, so no clock can jump\n  \
         $ sudo apt-get install --yes libfaketime"
    ))
}
