//! A data folder, opened without changing anything in it.

#[cfg(feature = "sled")]
use std::fs;
use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use super::report::{Finding, Loses};
use crate::engine::Engine;
use crate::engine::journal::{HostDisk, Journal};
use crate::message_box::folder;
use crate::{EngineKind, Error, ErrorKind};

/// What is looked at.
#[derive(Debug)]
pub(super) struct Source {
    pub(super) engine: Arc<dyn Engine>,
    pub(super) kind: EngineKind,
    /// What is wrong with the folder itself.
    pub(super) findings: Vec<Finding>,
    /// Keeps the box from being opened meanwhile.
    _lock: Option<File>,
}

impl Source {
    /// Opens the box in `at` for reading.
    pub(super) fn open(at: &Path, scratch: &Path) -> Result<Self, Error> {
        let no_box = |reason: &str| {
            Error::new(ErrorKind::Invalid, "find a box").with("folder", at.display()).with("reason", reason)
        };
        if !at.is_dir() {
            return Err(no_box("there is no such folder"));
        }
        let lock = folder::lock_for_reading(at)?;
        let (kind, findings) = match folder::read_mark(at)? {
            folder::Mark::Engine(kind) => (kind, Vec::new()),
            folder::Mark::Unfinished => return Err(folder::unfinished(at)),
            folder::Mark::Other(text) => {
                let kind = by_content(at).ok_or_else(|| no_box("it holds the files of no engine"))?;
                (kind, vec![bad_mark(&text)])
            }
        };
        Ok(Self { engine: open(at, kind, scratch)?, kind, findings, _lock: lock })
    }
}

/// The engine whose files are there.
fn by_content(at: &Path) -> Option<EngineKind> {
    let kinds = [
        EngineKind::Journal,
        #[cfg(feature = "sled")]
        EngineKind::Sled,
    ];
    kinds.into_iter().find(|kind| at.join(kind.as_str()).is_dir())
}

fn bad_mark(text: &str) -> Finding {
    Finding {
        file: "box".to_owned(),
        offset: 0,
        bytes: text.len() as u64,
        key: None,
        what: format!("the folder's mark is {:?}, which keeps the box from being opened", text.trim_end()),
        loses: Loses::Nothing,
        message: None,
        is_message_sure: false,
        deliveries: Vec::new(),
    }
}

fn open(at: &Path, kind: EngineKind, scratch: &Path) -> Result<Arc<dyn Engine>, Error> {
    let files = at.join(kind.as_str());
    #[cfg(not(feature = "sled"))]
    let _no_copy = scratch;
    match kind {
        EngineKind::Journal => Ok(Arc::new(Journal::look(Arc::new(HostDisk::for_reading(files)))?)),
        #[cfg(feature = "sled")]
        EngineKind::Sled => {
            let copy = scratch.join(kind.as_str());
            copy_folder(&files, &copy).map_err(|error| {
                Error::io("copy the sled database, which is written to when it is opened", error)
                    .with("from", files.display())
                    .with("to", copy.display())
            })?;
            Ok(Arc::new(crate::engine::sled::Sled::open_folder(&copy)?))
        }
        EngineKind::Memory => Err(Error::new(ErrorKind::Invalid, "look at a box in memory")),
    }
}

#[cfg(feature = "sled")]
fn copy_folder(from: &Path, to: &Path) -> std::io::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy_folder(&entry.path(), &target)?;
        } else {
            fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}
