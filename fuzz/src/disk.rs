//! A disk in memory whose files can be changed behind the journal's back, and that does not let itself be read
//! without end.

use std::collections::BTreeMap;
use std::io::{self, IoSlice};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use pillarbox_store::engine::journal::{Disk, DiskFile};

/// The most that is read at once: two heads or bodies of the greatest length.
const READ_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Reads that any journal may cost.
const READS_FREE: u64 = 10_000;

type Content = Arc<Mutex<Vec<u8>>>;

/// See the module. Clones are the same disk.
#[derive(Debug, Clone, Default)]
pub struct MemoryDisk(Arc<State>);

#[derive(Debug, Default)]
struct State {
    files: Mutex<BTreeMap<String, Content>>,
    reads: AtomicU64,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl MemoryDisk {
    /// The files' names, in order.
    #[must_use]
    pub fn names(&self) -> Vec<String> {
        lock(&self.0.files).keys().cloned().collect()
    }

    /// Puts a file there, over the one of this name.
    pub fn put(&self, name: &str, bytes: Vec<u8>) {
        lock(&self.0.files).insert(name.to_owned(), Arc::new(Mutex::new(bytes)));
    }

    /// Changes a file's bytes; nothing happens where there is none of this name.
    pub fn change(&self, name: &str, change: impl FnOnce(&mut Vec<u8>)) {
        let content = lock(&self.0.files).get(name).cloned();
        if let Some(content) = content {
            change(&mut lock(&content));
        }
    }

    /// A file's bytes; none where there is no such file.
    #[must_use]
    pub fn bytes(&self, name: &str) -> Vec<u8> {
        lock(&self.0.files).get(name).map(|content| lock(content).clone()).unwrap_or_default()
    }

    /// Bytes in all files.
    #[must_use]
    pub fn total_bytes(&self) -> u64 {
        lock(&self.0.files).values().map(|content| lock(content).len() as u64).sum()
    }

    /// Another disk with the same content.
    #[must_use]
    pub fn copy(&self) -> Self {
        let copy = Self::default();
        self.names().iter().for_each(|name| copy.put(name, self.bytes(name)));
        copy
    }

    fn file(&self, content: Content) -> Arc<dyn DiskFile> {
        Arc::new(MemoryFile { disk: self.clone(), content })
    }
}

impl Disk for MemoryDisk {
    fn create_folder(&self) -> io::Result<()> {
        Ok(())
    }

    fn list(&self) -> io::Result<Vec<String>> {
        Ok(self.names())
    }

    fn create(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        let content = Content::default();
        lock(&self.0.files).insert(name.to_owned(), Arc::clone(&content));
        Ok(self.file(content))
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        let content = lock(&self.0.files).get(name).cloned().ok_or(io::ErrorKind::NotFound)?;
        Ok(self.file(content))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut files = lock(&self.0.files);
        let content = files.remove(from).ok_or(io::ErrorKind::NotFound)?;
        files.insert(to.to_owned(), content);
        Ok(())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        lock(&self.0.files).remove(name).map(drop).ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn sync_folder(&self) -> io::Result<()> {
        Ok(())
    }

    fn free_bytes(&self) -> io::Result<u64> {
        Ok(u64::MAX)
    }
}

#[derive(Debug)]
struct MemoryFile {
    disk: MemoryDisk,
    content: Content,
}

impl DiskFile for MemoryFile {
    fn file_bytes(&self) -> io::Result<u64> {
        Ok(lock(&self.content).len() as u64)
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        assert!(buffer.len() <= READ_BYTES_MAX, "{} bytes are read at once", buffer.len());
        let reads = self.disk.0.reads.fetch_add(1, Ordering::Relaxed);
        let most = READS_FREE + self.disk.total_bytes();
        assert!(reads < most, "{reads} reads of {} bytes", self.disk.total_bytes());
        let content = lock(&self.content);
        let rest = usize::try_from(offset).ok().and_then(|at| content.get(at..)).unwrap_or_default();
        let filled = rest.len().min(buffer.len());
        buffer.iter_mut().zip(rest).for_each(|(to, from)| *to = *from);
        Ok(filled)
    }

    fn write_all_at(&self, slices: &mut [IoSlice<'_>], offset: u64) -> io::Result<()> {
        let mut content = lock(&self.content);
        let mut at = usize::try_from(offset).map_err(|_| io::ErrorKind::FileTooLarge)?;
        for slice in slices {
            let end = at + slice.len();
            if content.len() < end {
                content.resize(end, 0);
            }
            if let Some(place) = content.get_mut(at..end) {
                place.copy_from_slice(slice);
            }
            at = end;
        }
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }
}
