//! The folder, and the steps on files in it. Nothing here follows a symbolic link at a file's own name.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use pillarbox_runtime::adapter::SendError;
use rustix::fs::{Access, AtFlags, FileType, FlockOperation, Mode, OFlags, RenameFlags};
use rustix::io::Errno;

/// How often a leftover temporary file is cleared away before another attempt is taken to be at work.
const CLAIMS_MAX: usize = 4;

/// An open folder. Opened anew for each message, so that one that was replaced is not written to any more.
#[derive(Debug)]
pub(super) struct Folder {
    path: PathBuf,
    fd: OwnedFd,
}

/// A file step that failed, before it is put into words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Blocked {
    /// Another attempt of the same delivery is writing the temporary file now.
    Busy,
    /// The system said no.
    System(Errno),
}

impl From<Errno> for Blocked {
    fn from(error: Errno) -> Self {
        Self::System(error)
    }
}

impl From<io::Error> for Blocked {
    fn from(error: io::Error) -> Self {
        Self::System(Errno::from_io_error(&error).unwrap_or(Errno::IO))
    }
}

impl Folder {
    /// Opens the folder.
    ///
    /// # Errors
    /// As [`failed`].
    pub(super) fn open(path: &Path) -> Result<Self, SendError> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let fd = rustix::fs::open(path, flags, Mode::empty())
            .map_err(|error| failed("open the folder", path, error.into()))?;
        Ok(Self { path: path.to_owned(), fd })
    }

    /// Opens the folder, first making it if `create`, and checks that files can be made in it.
    ///
    /// # Errors
    /// As [`failed`].
    pub(super) fn prepare(path: &Path, create: bool) -> Result<Self, SendError> {
        if create {
            create_durably(path).map_err(|error| failed("create the folder", path, error))?;
        }
        let folder = Self::open(path)?;
        rustix::fs::accessat(&folder.fd, ".", Access::WRITE_OK | Access::EXEC_OK, AtFlags::empty())
            .map_err(|error| failed("write to the folder", path, error.into()))?;
        Ok(folder)
    }

    /// The path of a file in it, for people.
    pub(super) fn path_of(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// A new, empty temporary file of ours, locked so that no other attempt of the same delivery writes it too.
    /// One that an attempt of old left behind is cleared away.
    pub(super) fn claim(&self, name: &str, permissions: Option<u32>) -> Result<File, Blocked> {
        let create = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        for _ in 0..CLAIMS_MAX {
            match rustix::fs::openat(&self.fd, name, create, Mode::from_raw_mode(0o666)) {
                Ok(fd) => {
                    lock_ours(&fd)?;
                    if self.is_at(&fd, name)? {
                        set_permissions(&fd, permissions)?;
                        return Ok(fd.into());
                    }
                }
                Err(Errno::EXIST) => self.clear_away(name)?,
                Err(error) => return Err(error.into()),
            }
        }
        Err(Blocked::Busy)
    }

    /// Removes a leftover of ours, unless its lock says that it is being written. It is never written again itself:
    /// a reader may hold a link to it.
    fn clear_away(&self, name: &str) -> Result<(), Blocked> {
        let flags = OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        match rustix::fs::openat(&self.fd, name, flags, Mode::empty()) {
            Ok(fd) => {
                lock_ours(&fd)?;
                if !self.is_at(&fd, name)? {
                    return Ok(());
                }
                self.remove(name)
            }
            Err(Errno::NOENT) => Ok(()),
            // A link, or a file of other permissions: not one that is being written by us.
            Err(_) => self.remove(name),
        }
    }

    /// Makes a folder in it, for ourselves alone.
    pub(super) fn make(&self, name: &str) -> Result<(), Blocked> {
        Ok(rustix::fs::mkdirat(&self.fd, name, Mode::from_raw_mode(0o700))?)
    }

    /// Opens a folder in it.
    pub(super) fn inner(&self, name: &str) -> Result<Self, Blocked> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        Ok(Self { path: self.path.join(name), fd: rustix::fs::openat(&self.fd, name, flags, Mode::empty())? })
    }

    /// Removes an empty folder in it, if there is one.
    pub(super) fn remove_folder(&self, name: &str) -> Result<(), Blocked> {
        match rustix::fs::unlinkat(&self.fd, name, AtFlags::REMOVEDIR) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// The names in it that are text, as ours are.
    pub(super) fn names(&self) -> Result<Vec<String>, Blocked> {
        let mut names = Vec::new();
        for entry in rustix::fs::Dir::read_from(&self.fd)? {
            if let Ok(name) = entry?.file_name().to_str()
                && name != "."
                && name != ".."
            {
                names.push(name.to_owned());
            }
        }
        names.sort_unstable();
        Ok(names)
    }

    /// Moves a file into another folder under the same name, replacing what is there.
    pub(super) fn move_replacing(&self, name: &str, to: &Self) -> Result<(), Blocked> {
        Ok(rustix::fs::renameat(&self.fd, name, &to.fd, name)?)
    }

    /// Moves a file into another folder under the same name. `false` where that name is taken there: it stays.
    pub(super) fn move_to(&self, name: &str, to: &Self) -> Result<bool, Blocked> {
        match rustix::fs::renameat_with(&self.fd, name, &to.fd, name, RenameFlags::NOREPLACE) {
            Ok(()) => Ok(true),
            Err(Errno::EXIST) => Ok(false),
            Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => {
                match rustix::fs::linkat(&self.fd, name, &to.fd, name, AtFlags::empty()) {
                    Ok(()) => self.remove(name).map(|()| true),
                    Err(Errno::EXIST) => Ok(false),
                    Err(error) => Err(error.into()),
                }
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Removes a file of this name, if there is one.
    pub(super) fn remove(&self, name: &str) -> Result<(), Blocked> {
        match rustix::fs::unlinkat(&self.fd, name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// The file of this name for reading; `None` where there is none.
    pub(super) fn existing(&self, name: &str) -> Result<Option<File>, Blocked> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        match rustix::fs::openat(&self.fd, name, flags, Mode::empty()) {
            Ok(fd) => Ok(Some(fd.into())),
            Err(Errno::NOENT) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// The file of this name for appending, made if need be, locked against everybody else who locks.
    pub(super) fn appendable(&self, name: &str, permissions: Option<u32>) -> Result<File, Blocked> {
        let flags = OFlags::WRONLY | OFlags::APPEND | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let exclusive = flags | OFlags::CREATE | OFlags::EXCL;
        let fd = match rustix::fs::openat(&self.fd, name, flags, Mode::empty()) {
            Err(Errno::NOENT) => {
                match rustix::fs::openat(&self.fd, name, exclusive, Mode::from_raw_mode(0o666)) {
                    Ok(fd) => {
                        set_permissions(&fd, permissions)?;
                        fd
                    }
                    Err(Errno::EXIST) => rustix::fs::openat(&self.fd, name, flags, Mode::empty())?,
                    Err(error) => return Err(error.into()),
                }
            }
            other => other?,
        };
        if !is_regular(&fd)? {
            return Err(Errno::INVAL.into());
        }
        rustix::fs::flock(&fd, FlockOperation::LockExclusive)?;
        Ok(fd.into())
    }

    /// Gives the file its final name, replacing what is there.
    pub(super) fn replace(&self, from: &str, to: &str) -> Result<(), Blocked> {
        Ok(rustix::fs::renameat(&self.fd, from, &self.fd, to)?)
    }

    /// Gives the file its final name. `false` where that name is taken: the file then keeps its temporary one.
    pub(super) fn publish(&self, from: &str, to: &str) -> Result<bool, Blocked> {
        match rustix::fs::renameat_with(&self.fd, from, &self.fd, to, RenameFlags::NOREPLACE) {
            Ok(()) => Ok(true),
            Err(Errno::EXIST) => Ok(false),
            Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => self.publish_by_link(from, to),
            Err(error) => Err(error.into()),
        }
    }

    /// The same on a file system that cannot rename without replacing.
    pub(super) fn publish_by_link(&self, from: &str, to: &str) -> Result<bool, Blocked> {
        match rustix::fs::linkat(&self.fd, from, &self.fd, to, AtFlags::empty()) {
            Ok(()) => self.remove(from).map(|()| true),
            Err(Errno::EXIST) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// Makes the names in the folder durable.
    pub(super) fn sync(&self) -> Result<(), Blocked> {
        Ok(rustix::fs::fsync(&self.fd)?)
    }

    fn is_at(&self, fd: &OwnedFd, name: &str) -> Result<bool, Blocked> {
        let ours = rustix::fs::fstat(fd)?;
        match rustix::fs::statat(&self.fd, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(there) => Ok((there.st_dev, there.st_ino) == (ours.st_dev, ours.st_ino)),
            Err(Errno::NOENT) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }
}

/// Makes the folder and those above it, and makes their names durable: a file in a folder that is gone after a
/// power cut is gone as well.
fn create_durably(path: &Path) -> Result<(), Blocked> {
    let above = || {
        let named = path.ancestors().skip(1);
        named.map(|folder| if folder.as_os_str().is_empty() { Path::new(".") } else { folder })
    };
    let new = above().take_while(|folder| !folder.exists()).count();
    std::fs::create_dir_all(path)?;
    for folder in above().take(new + 1) {
        match File::open(folder).and_then(|folder| folder.sync_all()) {
            // A folder above that we may pass but not read was not made by us.
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {}
            other => other?,
        }
    }
    Ok(())
}

/// Whether an open file is an ordinary one.
pub(super) fn is_regular(fd: &impl AsFd) -> Result<bool, Blocked> {
    Ok(FileType::from_raw_mode(rustix::fs::fstat(fd)?.st_mode) == FileType::RegularFile)
}

fn lock_ours(fd: &OwnedFd) -> Result<(), Blocked> {
    match rustix::fs::flock(fd, FlockOperation::NonBlockingLockExclusive) {
        // A file system without locks: then only the engine keeps two attempts apart.
        Ok(()) | Err(Errno::NOSYS | Errno::OPNOTSUPP | Errno::NOLCK | Errno::INVAL) => Ok(()),
        Err(Errno::WOULDBLOCK) => Err(Blocked::Busy),
        Err(error) => Err(error.into()),
    }
}

fn set_permissions(fd: &OwnedFd, permissions: Option<u32>) -> Result<(), Blocked> {
    match permissions {
        Some(bits) => Ok(rustix::fs::fchmod(fd, Mode::from_raw_mode(bits))?),
        None => Ok(()),
    }
}

/// A failed step in words: what, where, what to do; permanent only where no other attempt of this message can help.
pub(super) fn failed(doing: &str, path: &Path, blocked: Blocked) -> SendError {
    let path = path.display();
    let error = match blocked {
        Blocked::Busy => {
            return SendError::temporary(format!(
                "cannot {doing} {path}: an earlier attempt of this delivery is still writing"
            ));
        }
        Blocked::System(error) => error,
    };
    let (permanent, hint) = match error {
        Errno::NOSPC => (false, "the disk is full; make room"),
        Errno::DQUOT => (false, "the disk quota is used up; make room or raise it"),
        Errno::ACCESS | Errno::PERM => {
            (false, "not allowed; give the process's user permission to write there")
        }
        Errno::ROFS => (false, "the file system is mounted read-only; mount it writable"),
        Errno::NOENT => (false, "the folder is not there; create it or mount it"),
        Errno::NOTDIR => {
            (false, "a part of the path is a file and no folder; name another folder or remove it")
        }
        Errno::MFILE | Errno::NFILE => (false, "too many files are open; raise the limit"),
        Errno::NAMETOOLONG => (true, "the name is longer than the file system takes; shorten it"),
        Errno::FBIG => (true, "the body is longer than the file system or the process's limit takes"),
        Errno::LOOP => (true, "there is a symbolic link of that name, which is not followed; remove it"),
        Errno::ISDIR => (true, "there is a folder of that name; move it away or choose another name"),
        Errno::NXIO => (true, "there is something of that name that is no file; move it away"),
        Errno::INVAL => (true, "the file system does not take this name, or it is no ordinary file"),
        _ => (false, "the file system does not do it"),
    };
    let text = format!("cannot {doing} {path}: {hint}");
    if permanent { SendError::permanent(text) } else { SendError::temporary(text) }
        .caused_by(io::Error::from(error))
}
