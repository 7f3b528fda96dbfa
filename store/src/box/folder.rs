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
/// What the mark says while a salvage is being written.
const UNFINISHED: &str = "unfinished salvage\n";

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

/// Locks the folder without writing anything into it, so that nobody opens the box meanwhile. `None` where nobody ever
/// has locked it.
pub(super) fn lock_for_reading(folder: &Path) -> Result<Option<File>, Error> {
    let file = match File::open(folder.join(LOCK)) {
        Ok(file) => file,
        Err(cause) if cause.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(cause) => return Err(about(Error::io("lock the data folder", cause), folder)),
    };
    try_lock(file, folder).map(Some)
}

fn try_lock(mut file: File, folder: &Path) -> Result<File, Error> {
    if let Err(cause) = flock(&file, FlockOperation::NonBlockingLockExclusive) {
        let mut holder = String::new();
        let _unreadable = file.read_to_string(&mut holder);
        let holder = if holder.trim().is_empty() { "another process" } else { holder.trim() };
        return Err(about(Error::new(ErrorKind::Locked, "open the data folder"), folder)
            .with("holder", holder)
            .caused_by(std::io::Error::from(cause)));
    }
    Ok(file)
}

/// Locks the folder and writes down who has it.
pub(super) fn lock(folder: &Path) -> Result<FolderLock, Error> {
    let failed = |cause| about(Error::io("lock the data folder", cause), folder);
    let path = folder.join(LOCK);
    let file =
        OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path).map_err(failed)?;
    let mut file = try_lock(file, folder)?;
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
    let want = text(engine);
    match std::fs::read_to_string(&path) {
        Ok(have) if have == want => Ok(()),
        // A crash between creating the mark and filling it leaves an empty one, and no engine was opened yet.
        Ok(have) if have.is_empty() => write_mark(folder, &path, &want),
        Ok(have) if have == UNFINISHED => Err(unfinished(folder)),
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

/// What the folder's mark says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Mark {
    /// It is a box of this engine.
    Engine(EngineKind),
    /// A salvage into it was not finished.
    Unfinished,
    /// Nothing that makes sense, or nothing at all.
    Other(String),
}

/// Reads the folder's mark.
pub(super) fn read_mark(folder: &Path) -> Result<Mark, Error> {
    let have = match std::fs::read(folder.join(MARK)) {
        Ok(have) => String::from_utf8_lossy(&have).into_owned(),
        Err(cause) if cause.kind() == std::io::ErrorKind::NotFound => String::new(),
        Err(cause) => return Err(about(Error::io("read the data folder's mark", cause), folder)),
    };
    if have == UNFINISHED {
        return Ok(Mark::Unfinished);
    }
    let kind = have
        .strip_prefix("format=")
        .and_then(|rest| rest.trim_end().split_once(" engine="))
        .filter(|(format, _)| *format == FORMAT)
        .and_then(|(_, engine)| EngineKind::parse(engine));
    Ok(kind.map_or(Mark::Other(have), Mark::Engine))
}

/// The refusal of a folder that a salvage did not finish.
pub(super) fn unfinished(folder: &Path) -> Error {
    about(Error::new(ErrorKind::Incompatible, "open the data folder"), folder)
        .with("reason", "a salvage into it was not finished; remove it and salvage again")
}

/// Creates the folder that a salvage writes to, with a mark that keeps it from being opened.
pub(super) fn begin_salvage(folder: &Path) -> Result<(), Error> {
    let failed = |cause| about(Error::io("create the data folder", cause), folder);
    create(folder)?;
    if folder.read_dir().map_err(failed)?.next().is_some() {
        if read_mark(folder)? == Mark::Unfinished {
            return Err(unfinished(folder));
        }
        return Err(about(Error::new(ErrorKind::Invalid, "create a new box"), folder)
            .with("reason", "the folder is not empty"));
    }
    write_mark(folder, &folder.join(MARK), UNFINISHED)
}

/// Marks the folder as the whole box that it now is, in one step.
pub(super) fn end_salvage(folder: &Path, engine: EngineKind) -> Result<(), Error> {
    let made = folder.join("box.new");
    write_mark(folder, &made, &text(engine))?;
    std::fs::rename(&made, folder.join(MARK))
        .and_then(|()| File::open(folder)?.sync_all())
        .map_err(|cause| about(Error::io("mark the data folder", cause), folder))
}

fn text(engine: EngineKind) -> String {
    format!("format={FORMAT} engine={}\n", engine.as_str())
}

fn about(error: Error, folder: &Path) -> Error {
    error.with("folder", folder.display())
}
