//! Power cuts: a file system that knows what was flushed, a process that drives a box on it, and a checker.
//!
//! `content` and `names` say what a cut leaves of a file and of a folder, `disk` puts them together and `mount` shows
//! them to the kernel through FUSE. `work` is what the worker process does, `client` one of its clients, `record` the
//! lines in which it tells what it is about to do and what was acknowledged. `history` holds those lines against the
//! box that `check` opened again, in a process of its own; `findings` is what that one tells. `round` is one cut, `run`
//! many of them with a table at the end.
//! `docs/power-cuts.md` tells what is promised to whom.

mod check;
mod client;
mod content;
mod disk;
mod findings;
mod history;
mod mount;
mod names;
mod numbers;
mod plan;
mod record;
mod round;
mod run;
mod work;

pub use check::check;
pub use disk::{Disk, Seen};
pub use findings::Findings;
pub use mount::Mount;
pub use plan::{Engine, Plan};
pub use round::Outcome;
pub use run::{Rounds, Totals, run};
pub use work::{Work, work};

/// What a power cut keeps of what was written and not flushed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Keeps {
    /// Nothing, no name and no length either.
    Nothing,
    /// Each page of 4 KiB with probability one half; lengths and names of some moment since the flush.
    Pages,
    /// Each sector of 512 bytes with probability one half; lengths and names of some moment since the flush.
    Sectors,
}

impl Keeps {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Nothing, Self::Pages, Self::Sectors];

    /// Its name in tables.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Nothing => "nothing",
            Self::Pages => "pages",
            Self::Sectors => "sectors",
        }
    }
}

/// What makes a name last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum NameRule {
    /// Any flush makes every earlier name last, as on ext4 and xfs.
    AnySync,
    /// Only a flush of the folder, as the standard has it.
    FolderSync,
}

impl NameRule {
    /// Both.
    pub const ALL: [Self; 2] = [Self::AnySync, Self::FolderSync];

    /// Its name in tables.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::AnySync => "any",
            Self::FolderSync => "strict",
        }
    }
}
