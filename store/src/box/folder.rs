//! The data folder: locked against a second opener, and marked with the engine and format it belongs to.

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, Write};
use std::path::Path;

use rustix::fs::{FlockOperation, flock};

use crate::{EngineKind, Error, ErrorKind};

const LOCK: &str = "lock";
const MARK: &str = "box";
/// Persisted: the version of everything in the folder.
const FORMAT: &str = "1";

/// Held while the box is open. The system lets go of it when the process ends, however it ends.
#[derive(Debug)]
pub(super) struct FolderLock {
    _file: File,
}

/// Creates the folder where missing, locks it, and checks that it belongs to `engine`.
pub(super) fn claim(folder: &Path, engine: EngineKind) -> Result<FolderLock, Error> {
    create(folder)?;
    let lock = lock(folder)?;
    check_mark(folder, engine)?;
    Ok(lock)
}

fn create(folder: &Path) -> Result<(), Error> {
    if folder.is_dir() {
        return Ok(());
    }
    let failed = |cause| about(Error::io("create the data folder", cause), folder);
    std::fs::create_dir_all(folder).map_err(failed)?;
    // A new name lasts once the folder above it is flushed.
    let parent = folder.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(parent).and_then(|parent| parent.sync_all()).map_err(failed)
}

fn lock(folder: &Path) -> Result<FolderLock, Error> {
    let failed = |cause| about(Error::io("lock the data folder", cause), folder);
    let path = folder.join(LOCK);
    let mut file =
        OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path).map_err(failed)?;
    if let Err(cause) = flock(&file, FlockOperation::NonBlockingLockExclusive) {
        let mut holder = String::new();
        let _unreadable = file.read_to_string(&mut holder);
        let holder = if holder.trim().is_empty() { "another process" } else { holder.trim() };
        return Err(about(Error::new(ErrorKind::Locked, "open the data folder"), folder)
            .with("holder", holder)
            .caused_by(std::io::Error::from(cause)));
    }
    let program = std::env::current_exe().ok();
    let program = program.as_deref().and_then(Path::file_name).and_then(|name| name.to_str()).unwrap_or("?");
    let holder = format!("process {} ({program})\n", std::process::id());
    file.set_len(0)
        .and_then(|()| file.rewind())
        .and_then(|()| file.write_all(holder.as_bytes()))
        .map_err(failed)?;
    Ok(FolderLock { _file: file })
}

fn check_mark(folder: &Path, engine: EngineKind) -> Result<(), Error> {
    let path = folder.join(MARK);
    let want = format!("format={FORMAT} engine={}\n", engine.as_str());
    match std::fs::read_to_string(&path) {
        Ok(have) if have == want => Ok(()),
        // A crash between creating the mark and filling it leaves an empty one, and no engine was opened yet.
        Ok(have) if have.is_empty() => write_mark(folder, &path, &want),
        Ok(have) => Err(about(Error::new(ErrorKind::Incompatible, "open the data folder"), folder)
            .with("reason", "it belongs to another engine or format")
            .with("found", have.trim())
            .with("wanted", want.trim())),
        Err(cause) if cause.kind() == std::io::ErrorKind::NotFound => write_mark(folder, &path, &want),
        Err(cause) => Err(about(Error::io("read the data folder's mark", cause), folder)),
    }
}

fn write_mark(folder: &Path, path: &Path, mark: &str) -> Result<(), Error> {
    let write = || {
        let mut file = File::create(path)?;
        file.write_all(mark.as_bytes())?;
        file.sync_all()?;
        File::open(folder)?.sync_all()
    };
    write().map_err(|cause| about(Error::io("mark the data folder", cause), folder))
}

fn about(error: Error, folder: &Path) -> Error {
    error.with("folder", folder.display())
}
