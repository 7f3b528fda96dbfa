//! Looking into a box that is not open: what is there, what is damaged, and saving what is whole.
//!
//! [`check`] reads everything and changes nothing; [`salvage`] copies what is whole into a new box. Both work on any
//! engine through [`check_engine`] and [`salvage_engine`].
//!
//! `survey` reads every record and finds out what is damaged and what that means, `report` is what is told of it,
//! `source` opens a folder without changing it, `salvage` copies.

mod report;
mod salvage;
mod source;
mod survey;

#[cfg(test)]
mod tests;

use std::path::Path;

use crate::engine::Engine;
use crate::{BoxConfig, Error};

pub(super) use report::told_ranges;
pub use report::{Contents, Finding, Loses, Report};
pub use salvage::{LEFT_BEHIND, Left, Naming, Salvaged, salvage, salvage_engine};

/// How far a check or a salvage has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// What is being done: "reading" or "copying".
    pub doing: &'static str,
    /// Records done.
    pub records: u64,
    /// Records in all.
    pub of: u64,
    /// Bytes of their heads and bodies so far.
    pub bytes: u64,
}

/// Called now and then; anything slow in it slows the work down.
pub type Watcher<'a> = dyn FnMut(Progress) + 'a;

/// Reads everything in the config's data folder and tells what is there and what is damaged. Not one byte of the
/// folder is changed. The engine is the one that the folder says, whatever the config says. A sled database, which
/// cannot be opened without being written to, is copied into `scratch` first and looked at there.
///
/// # Errors
/// - [`crate::ErrorKind::Locked`]: a process has it open; the error names it.
/// - [`crate::ErrorKind::Invalid`]: there is no box.
/// - [`crate::ErrorKind::Incompatible`]: another version wrote it, or it is an unfinished salvage.
/// - [`crate::ErrorKind::Unavailable`], [`crate::ErrorKind::Corrupt`], [`crate::ErrorKind::Full`]: it cannot be read,
///   or the copy cannot be made.
pub fn check(config: &BoxConfig, scratch: &Path, watch: &mut Watcher<'_>) -> Result<Report, Error> {
    let source = source::Source::open(&config.folder, scratch)?;
    let mut report = check_engine(&*source.engine, watch)?;
    report.findings.extend(source.findings);
    Ok(report)
}

/// The same for an engine that is open, best one opened only to be read.
///
/// # Errors
/// As [`check`].
pub fn check_engine(engine: &dyn Engine, watch: &mut Watcher<'_>) -> Result<Report, Error> {
    survey::Survey::of(engine, watch).map(|survey| survey.report)
}
