//! The file operations that the journal needs, behind a trait, and the host's own files behind it.
//!
//! Everything the journal does to a disk goes through [`Disk`] and [`DiskFile`], so that a disk that fails, stops or
//! forgets at its n-th operation can stand in for the host's.

use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{self, IoSlice};
use std::num::NonZeroU64;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

#[cfg(target_os = "linux")]
use super::host_blocks::HostBlocks;

/// One folder of files. Names are plain file names without any `/`.
pub trait Disk: fmt::Debug + Send + Sync + 'static {
    /// Creates the folder where it is missing and makes its name last through a power cut.
    ///
    /// # Errors
    /// Any: the folder may or may not be there.
    fn create_folder(&self) -> io::Result<()>;

    /// The names in the folder, in no particular order.
    ///
    /// # Errors
    /// Any: nothing was changed.
    fn list(&self) -> io::Result<Vec<String>>;

    /// Creates an empty file, or empties the one of this name. The name lasts after [`Disk::sync_folder`].
    ///
    /// # Errors
    /// Any: the file may or may not be there, and is empty if it is.
    fn create(&self, name: &str) -> io::Result<Arc<dyn DiskFile>>;

    /// Opens a file that exists, for reading and writing.
    ///
    /// # Errors
    /// Any: nothing was changed.
    fn open(&self, name: &str) -> io::Result<Arc<dyn DiskFile>>;

    /// Another way into a file that is open: whole blocks are written past the host's cache. `None` where the host has no
    /// such way.
    fn open_blocks(&self, name: &str) -> Option<Arc<dyn BlockFile>> {
        let _none = name;
        None
    }

    /// Gives a file another name, over the file of that name if there is one. Open handles stay good. It lasts
    /// after [`Disk::sync_folder`].
    ///
    /// # Errors
    /// Any: the file has the old name or the new one.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;

    /// Removes a file's name. Open handles stay good. It lasts after [`Disk::sync_folder`].
    ///
    /// # Errors
    /// Any: the file may or may not be there.
    fn remove(&self, name: &str) -> io::Result<()>;

    /// Makes every name made, changed or removed so far last through a power cut.
    ///
    /// # Errors
    /// Any: unknown which of them will last.
    fn sync_folder(&self) -> io::Result<()>;

    /// Bytes that the file system still offers to this process.
    ///
    /// # Errors
    /// Any: it cannot be told.
    fn free_bytes(&self) -> io::Result<u64>;
}

/// An open file. Any number of threads may read while one writes elsewhere in it.
pub trait DiskFile: fmt::Debug + Send + Sync + 'static {
    /// Its length in bytes.
    ///
    /// # Errors
    /// Any: it cannot be told.
    fn file_bytes(&self) -> io::Result<u64>;

    /// Fills `buffer` from `offset` on and returns how much of it was filled: less than asked for only at the
    /// file's end.
    ///
    /// # Errors
    /// Any: the buffer's content is unknown.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize>;

    /// Writes all of the slices one after the other from `offset` on, and makes the file longer where needed. It
    /// lasts after [`DiskFile::sync_data`].
    ///
    /// # Errors
    /// Any: some bytes from the front may have been written.
    fn write_all_at(&self, slices: &mut [IoSlice<'_>], offset: u64) -> io::Result<()>;

    /// Hints that these bytes are about to be synced: the disk may begin with them now. Promises nothing, and what goes
    /// wrong is told by [`DiskFile::sync_data`].
    fn start_sync(&self, bytes: Range<u64>) {
        let _hint = bytes;
    }

    /// Makes what was written last through a power cut, with the length of the file.
    ///
    /// # Errors
    /// Any: unknown what will last, and asking again tells nothing.
    fn sync_data(&self) -> io::Result<()>;
}

/// A file whose blocks are written without a copy in the host's cache: the disk takes them from the memory that they are
/// in. What is read through [`DiskFile`] is what was written here, and [`DiskFile::sync_data`] makes it last.
pub trait BlockFile: fmt::Debug + Send + Sync + 'static {
    /// The size of a block, a power of two. Blocks begin at its multiples, in the file and in memory.
    fn block_bytes(&self) -> usize;

    /// Writes whole blocks from `offset` on, and makes the file longer where needed.
    ///
    /// # Errors
    /// - [`io::ErrorKind::Unsupported`]: the host does not write like this after all; nothing was written.
    /// - Any other: some blocks, not only those in front, may have been written.
    fn write_blocks_at(&self, blocks: &[u8], offset: u64) -> io::Result<()>;

    /// The same, and makes these blocks last through a power cut; nothing that was written before them.
    ///
    /// # Errors
    /// As [`BlockFile::write_blocks_at`]; unknown what will last, and asking again tells nothing.
    fn write_blocks_synced_at(&self, blocks: &[u8], offset: u64) -> io::Result<()>;
}

/// A folder of the host's file system.
#[derive(Debug)]
pub struct HostDisk {
    folder: PathBuf,
    is_for_reading: bool,
}

impl HostDisk {
    /// The disk whose files are in `folder`. Nothing is touched yet.
    #[must_use]
    pub fn new(folder: impl Into<PathBuf>) -> Self {
        Self { folder: folder.into(), is_for_reading: false }
    }

    /// The same for looking only: files are opened for reading, so that a folder without the right to write will do.
    #[must_use]
    pub fn for_reading(folder: impl Into<PathBuf>) -> Self {
        Self { folder: folder.into(), is_for_reading: true }
    }
}

impl Disk for HostDisk {
    fn create_folder(&self) -> io::Result<()> {
        create_folder_synced(&self.folder)
    }

    fn list(&self) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(&self.folder)? {
            // A name that is no UTF-8 is none of ours.
            if let Ok(name) = entry?.file_name().into_string() {
                names.push(name);
            }
        }
        Ok(names)
    }

    fn create(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        let path = self.folder.join(name);
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(true).open(path)?;
        Ok(Arc::new(HostFile(file)))
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        let file = OpenOptions::new().read(true).write(!self.is_for_reading).open(self.folder.join(name))?;
        Ok(Arc::new(HostFile(file)))
    }

    #[cfg(target_os = "linux")]
    fn open_blocks(&self, name: &str) -> Option<Arc<dyn BlockFile>> {
        Some(Arc::new(HostBlocks::open(&self.folder.join(name))?))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        fs::rename(self.folder.join(from), self.folder.join(to))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        fs::remove_file(self.folder.join(name))
    }

    fn sync_folder(&self) -> io::Result<()> {
        File::open(&self.folder)?.sync_all()
    }

    fn free_bytes(&self) -> io::Result<u64> {
        free_bytes(&self.folder)
    }
}

/// Bytes that the file system below `path` still offers to this process.
pub(crate) fn free_bytes(path: &Path) -> io::Result<u64> {
    let figures = rustix::fs::statvfs(path)?;
    Ok(figures.f_bavail.saturating_mul(figures.f_frsize))
}

/// Creates `folder` and what is missing above it, and syncs every folder that holds one of these names.
pub(crate) fn create_folder_synced(folder: &Path) -> io::Result<()> {
    let mut missing = Vec::new();
    let mut at = Some(folder);
    while let Some(path) = at.filter(|path| !path.as_os_str().is_empty() && !path.exists()) {
        missing.push(path);
        at = path.parent();
    }
    for path in missing.iter().rev() {
        match fs::create_dir(path) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
    }
    // The folder itself and the two above it even where nothing was missing: the one who made them need not have
    // synced them, and it costs three flushes at an opening.
    let mut at = Some(folder);
    for _ in 0..missing.len() + 3 {
        let Some(path) = at else { break };
        let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
        match File::open(path).and_then(|folder| folder.sync_all()) {
            // Folders above ours may be closed to us; then their names are none of our making.
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied && path != folder => break,
            other => other?,
        }
        at = path.parent();
    }
    Ok(())
}

#[derive(Debug)]
struct HostFile(File);

impl DiskFile for HostFile {
    fn file_bytes(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }

    fn read_at(&self, mut buffer: &mut [u8], mut offset: u64) -> io::Result<usize> {
        let mut filled = 0;
        while !buffer.is_empty() {
            match self.0.read_at(buffer, offset) {
                Ok(0) => break,
                Ok(bytes) => {
                    filled += bytes;
                    offset += bytes as u64;
                    buffer = buffer.get_mut(bytes..).unwrap_or_default();
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(filled)
    }

    fn write_all_at(&self, mut slices: &mut [IoSlice<'_>], mut offset: u64) -> io::Result<()> {
        // The kernel takes at most so many slices at once.
        const SLICES_MAX: usize = 1024;
        IoSlice::advance_slices(&mut slices, 0);
        while !slices.is_empty() {
            let now = slices.get(..slices.len().min(SLICES_MAX)).unwrap_or_default();
            match rustix::io::pwritev(&self.0, now, offset) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(bytes) => {
                    offset += bytes as u64;
                    IoSlice::advance_slices(&mut slices, bytes);
                }
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    fn start_sync(&self, bytes: Range<u64>) {
        // Advised that a range is not needed, Linux begins to write back what is changed in it and drops only what is
        // not; all of this range was just written.
        if let Some(len) = NonZeroU64::new(bytes.end - bytes.start) {
            let _hint = rustix::fs::fadvise(&self.0, bytes.start, Some(len), rustix::fs::Advice::DontNeed);
        }
    }

    fn sync_data(&self) -> io::Result<()> {
        self.0.sync_data()
    }
}
