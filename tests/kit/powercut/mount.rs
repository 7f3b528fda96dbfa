//! Shows a [`Disk`] to the kernel through FUSE.
//!
//! Nothing is cached on the way: no names or lengths (their time to live is zero) and no bytes (`FOPEN_DIRECT_IO`), so
//! that every write is here before the call that made it returns. Locks are the kernel's own, and memory maps are not
//! offered.

use std::ffi::OsStr;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use fuser::{
    BackgroundSession, BsdFileFlags, Config, Errno, FileAttr, FileHandle, FileType, Filesystem, FopenFlags,
    Generation, INodeNo, LockOwner, MountOption, OpenFlags, RenameFlags, ReplyAttr, ReplyCreate, ReplyData,
    ReplyDirectory, ReplyEmpty, ReplyEntry, ReplyOpen, ReplyStatfs, ReplyWrite, Request, TimeOrNow,
    WriteFlags,
};
use rustix::mount::UnmountFlags;

use super::disk::{Disk, Entry};

/// Nothing the kernel is told stays true.
const TTL: Duration = Duration::ZERO;
const GENERATION: Generation = Generation(0);
const HANDLE: FileHandle = FileHandle(0);
/// What the file system says it has room for.
const BLOCKS: u64 = 16 * 1024 * 1024;
const BLOCK_BYTES: u32 = 4096;

/// A mounted disk. Dropping it unmounts.
#[derive(Debug)]
pub struct Mount {
    session: Option<BackgroundSession>,
    folder: PathBuf,
}

impl Mount {
    /// Mounts `disk` on `folder`, which is there and used for nothing else, before or after.
    ///
    /// # Errors
    /// There is no FUSE here, or this user may not mount.
    pub fn new(disk: Arc<Disk>, folder: &Path) -> io::Result<Self> {
        let mut config = Config::default();
        config.mount_options = vec![MountOption::FSName("powercut".to_owned())];
        let session = fuser::spawn_mount(Served(disk), folder, &config)?;
        Ok(Self { session: Some(session), folder: folder.to_owned() })
    }

    /// Where it is.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        // Also where somebody still holds a file open or waits for an answer: that fails from now on. Where only root
        // may do this, the session asks `fusermount3` to.
        let _ = rustix::mount::unmount(&self.folder, UnmountFlags::FORCE | UnmountFlags::DETACH);
        self.session.take();
    }
}

/// What answers the kernel.
#[derive(Debug)]
struct Served(Arc<Disk>);

fn attributes(entry: Entry) -> FileAttr {
    let (kind, perm) =
        if entry.is_folder { (FileType::Directory, 0o755) } else { (FileType::RegularFile, 0o644) };
    let time = SystemTime::UNIX_EPOCH;
    FileAttr {
        ino: INodeNo(entry.number),
        size: entry.bytes,
        blocks: entry.bytes.div_ceil(512),
        atime: time,
        mtime: time,
        ctime: time,
        crtime: time,
        kind,
        perm,
        nlink: 1,
        uid: rustix::process::getuid().as_raw(),
        gid: rustix::process::getgid().as_raw(),
        rdev: 0,
        blksize: BLOCK_BYTES,
        flags: 0,
    }
}

fn length(bytes: u64) -> Result<usize, Errno> {
    usize::try_from(bytes).map_err(|_too_long| Errno::EFBIG)
}

fn answer_entry(answer: Result<Entry, Errno>, reply: ReplyEntry) {
    match answer {
        Ok(entry) => reply.entry(&TTL, &attributes(entry), GENERATION),
        Err(error) => reply.error(error),
    }
}

fn answer_attributes(answer: Result<Entry, Errno>, reply: ReplyAttr) {
    match answer {
        Ok(entry) => reply.attr(&TTL, &attributes(entry)),
        Err(error) => reply.error(error),
    }
}

fn answer_empty(answer: Result<(), Errno>, reply: ReplyEmpty) {
    match answer {
        Ok(()) => reply.ok(),
        Err(error) => reply.error(error),
    }
}

impl Filesystem for Served {
    fn lookup(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        answer_entry(self.0.lookup(parent.0, name), reply);
    }

    fn getattr(&self, _: &Request, ino: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        answer_attributes(self.0.entry(ino.0), reply);
    }

    fn setattr(
        &self,
        _: &Request,
        ino: INodeNo,
        _mode: Option<u32>,
        _uid: Option<u32>,
        _gid: Option<u32>,
        size: Option<u64>,
        _atime: Option<TimeOrNow>,
        _mtime: Option<TimeOrNow>,
        _ctime: Option<SystemTime>,
        _fh: Option<FileHandle>,
        _crtime: Option<SystemTime>,
        _chgtime: Option<SystemTime>,
        _bkuptime: Option<SystemTime>,
        _flags: Option<BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        let sized = size.map_or(Ok(()), |size| self.0.set_len(ino.0, length(size)?));
        answer_attributes(sized.and_then(|()| self.0.entry(ino.0)), reply);
    }

    fn mkdir(&self, _: &Request, parent: INodeNo, name: &OsStr, _: u32, _: u32, reply: ReplyEntry) {
        answer_entry(self.0.create_folder(parent.0, name), reply);
    }

    fn unlink(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        answer_empty(self.0.remove_file(parent.0, name), reply);
    }

    fn rmdir(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        answer_empty(self.0.remove_folder(parent.0, name), reply);
    }

    fn rename(
        &self,
        _: &Request,
        parent: INodeNo,
        name: &OsStr,
        newparent: INodeNo,
        newname: &OsStr,
        flags: RenameFlags,
        reply: ReplyEmpty,
    ) {
        let must_be_new = flags.contains(RenameFlags::RENAME_NOREPLACE);
        if !(flags - RenameFlags::RENAME_NOREPLACE).is_empty() {
            return reply.error(Errno::EINVAL);
        }
        answer_empty(self.0.rename((parent.0, name), (newparent.0, newname), must_be_new), reply);
    }

    fn open(&self, _: &Request, ino: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        match self.0.open(ino.0) {
            Ok(()) => reply.opened(HANDLE, FopenFlags::FOPEN_DIRECT_IO),
            Err(error) => reply.error(error),
        }
    }

    fn create(
        &self,
        _: &Request,
        parent: INodeNo,
        name: &OsStr,
        _mode: u32,
        _umask: u32,
        _flags: i32,
        reply: ReplyCreate,
    ) {
        match self.0.create(parent.0, name) {
            Ok(entry) => {
                reply.created(&TTL, &attributes(entry), GENERATION, HANDLE, FopenFlags::FOPEN_DIRECT_IO);
            }
            Err(error) => reply.error(error),
        }
    }

    fn release(
        &self,
        _: &Request,
        ino: INodeNo,
        _fh: FileHandle,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        _flush: bool,
        reply: ReplyEmpty,
    ) {
        self.0.close(ino.0);
        reply.ok();
    }

    fn flush(&self, _: &Request, _: INodeNo, _: FileHandle, _: LockOwner, reply: ReplyEmpty) {
        // A close flushes nothing, and the kernel need not ask again: a process that serves a mount of its own and is
        // killed with a file open would wait for this answer for ever.
        reply.error(Errno::ENOSYS);
    }

    fn read(
        &self,
        _: &Request,
        ino: INodeNo,
        _fh: FileHandle,
        offset: u64,
        size: u32,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        reply: ReplyData,
    ) {
        match length(offset).and_then(|offset| self.0.read(ino.0, offset, size as usize)) {
            Ok(bytes) => reply.data(&bytes),
            Err(error) => reply.error(error),
        }
    }

    fn write(
        &self,
        _: &Request,
        ino: INodeNo,
        _fh: FileHandle,
        offset: u64,
        data: &[u8],
        _write_flags: WriteFlags,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        match length(offset).and_then(|offset| self.0.write(ino.0, offset, data)) {
            // The kernel never sends more than 16 MiB at once.
            Ok(()) => reply.written(data.len() as u32),
            Err(error) => reply.error(error),
        }
    }

    fn fsync(&self, _: &Request, ino: INodeNo, _: FileHandle, _datasync: bool, reply: ReplyEmpty) {
        answer_empty(self.0.sync_file(ino.0), reply);
    }

    fn fsyncdir(&self, _: &Request, ino: INodeNo, _: FileHandle, _datasync: bool, reply: ReplyEmpty) {
        answer_empty(self.0.sync_folder(ino.0), reply);
    }

    fn readdir(&self, _: &Request, ino: INodeNo, _: FileHandle, offset: u64, mut reply: ReplyDirectory) {
        let entries = match self.0.list(ino.0) {
            Ok(entries) => entries,
            Err(error) => return reply.error(error),
        };
        for (next, (name, entry)) in (1..).zip(entries).skip(usize::try_from(offset).unwrap_or(usize::MAX)) {
            let kind = attributes(entry).kind;
            if reply.add(INodeNo(entry.number), next, kind, name) {
                break;
            }
        }
        reply.ok();
    }

    fn fallocate(
        &self,
        _: &Request,
        ino: INodeNo,
        _fh: FileHandle,
        offset: u64,
        length_bytes: u64,
        mode: i32,
        reply: ReplyEmpty,
    ) {
        if mode != 0 {
            return reply.error(Errno::EOPNOTSUPP);
        }
        let end = length(offset.saturating_add(length_bytes));
        answer_empty(end.and_then(|end| self.0.allocate(ino.0, end)), reply);
    }

    fn statfs(&self, _: &Request, _: INodeNo, reply: ReplyStatfs) {
        reply.statfs(BLOCKS, BLOCKS, BLOCKS, BLOCKS, BLOCKS, BLOCK_BYTES, 255, BLOCK_BYTES);
    }
}
