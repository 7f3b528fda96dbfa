//! A whole file system in memory, of which a power cut leaves what was flushed and, by chance, some of the rest.

use std::collections::{BTreeMap, HashMap};
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use fuser::Errno;
use rand::rngs::StdRng;

use super::content::Content;
use super::names::{Folders, Names, ROOT};
use super::{Keeps, NameRule};

/// What happened on a disk, for the reports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Seen {
    /// Bytes written.
    pub bytes: u64,
    /// Flushes of files and folders.
    pub syncs: u64,
    /// Journal segments begun.
    pub segments: u64,
    /// Journal segments begun in a freed one.
    pub recycled: u64,
    /// Journal segments freed.
    pub freed: u64,
    /// Groups of moved records written to a journal.
    pub moved: u64,
}

/// A file system in memory.
#[derive(Debug)]
pub struct Disk {
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    nodes: HashMap<u64, Node>,
    names: Names,
    next: u64,
    is_cut: bool,
    seen: Seen,
}

#[derive(Debug)]
enum Node {
    Folder,
    File { content: Content, open: u32 },
}

/// A file or folder, as the mount tells of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) number: u64,
    pub(super) is_folder: bool,
    pub(super) bytes: u64,
}

type Answer<T> = Result<T, Errno>;

impl Disk {
    /// An empty one.
    #[must_use]
    pub fn new(rule: NameRule) -> Self {
        Self::with(rule, HashMap::new(), Folders::from([(ROOT, BTreeMap::new())]), ROOT + 1)
    }

    fn with(rule: NameRule, mut nodes: HashMap<u64, Node>, folders: Folders, next: u64) -> Self {
        nodes.extend(folders.keys().map(|number| (*number, Node::Folder)));
        let names = Names::new(rule, folders);
        Self { state: Mutex::new(State { nodes, names, next, is_cut: false, seen: Seen::default() }) }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins a round: names follow this rule from now on, and what happens is counted anew.
    pub fn begin(&self, rule: NameRule) {
        let mut state = self.lock();
        state.names.follow(rule);
        state.seen = Seen::default();
    }

    /// Takes the power away: from now on every call fails.
    pub fn cut(&self) {
        self.lock().is_cut = true;
    }

    /// Whether the power is gone.
    #[must_use]
    pub fn is_cut(&self) -> bool {
        self.lock().is_cut
    }

    /// What happened so far.
    #[must_use]
    pub fn seen(&self) -> Seen {
        self.lock().seen
    }

    /// The disk that is found when the power is back, with this rule from then on.
    #[must_use]
    pub fn after_cut(&self, keeps: Keeps, rule: NameRule, random: &mut StdRng) -> Self {
        let state = self.lock();
        let folders = state.names.after_cut(keeps, random);
        let mut nodes = HashMap::new();
        for number in folders.values().flat_map(BTreeMap::values) {
            if let Some(Node::File { content, .. }) = state.nodes.get(number) {
                let content = Content::on_disk(content.after_cut(keeps, random));
                nodes.insert(*number, Node::File { content, open: 0 });
            }
        }
        Self::with(rule, nodes, folders, state.next)
    }

    /// Every file's path below the top and its bytes.
    #[must_use]
    pub fn files(&self) -> Vec<(PathBuf, Vec<u8>)> {
        let state = self.lock();
        let mut files = Vec::new();
        let mut folders = vec![(ROOT, PathBuf::new())];
        while let Some((folder, path)) = folders.pop() {
            for (name, number) in state.names.list(folder) {
                let path = path.join(name);
                match state.nodes.get(&number) {
                    Some(Node::Folder) => folders.push((number, path)),
                    Some(Node::File { content, .. }) => files.push((path, content.bytes().to_vec())),
                    None => {}
                }
            }
        }
        files
    }
}

impl State {
    fn powered(&mut self) -> Answer<&mut Self> {
        if self.is_cut { Err(Errno::EIO) } else { Ok(self) }
    }

    fn entry(&self, number: u64) -> Answer<Entry> {
        let (is_folder, bytes) = match self.nodes.get(&number).ok_or(Errno::ENOENT)? {
            Node::Folder => (true, 0),
            Node::File { content, .. } => (false, content.len() as u64),
        };
        Ok(Entry { number, is_folder, bytes })
    }

    fn find(&self, folder: u64, name: &OsStr) -> Answer<Entry> {
        self.entry(self.names.get(folder, name).ok_or(Errno::ENOENT)?)
    }

    fn file(&mut self, number: u64) -> Answer<(&mut Content, &mut u32)> {
        match self.nodes.get_mut(&number).ok_or(Errno::ENOENT)? {
            Node::Folder => Err(Errno::EISDIR),
            Node::File { content, open } => Ok((content, open)),
        }
    }

    fn make(&mut self, folder: u64, name: &OsStr, node: Node) -> Answer<Entry> {
        self.entry(folder)?;
        if self.names.get(folder, name).is_some() {
            return Err(Errno::EEXIST);
        }
        let number = self.next;
        self.next += 1;
        if matches!(node, Node::Folder) {
            self.names.add_folder(number);
        }
        self.nodes.insert(number, node);
        self.names.set(folder, name, Some(number));
        self.entry(number)
    }

    fn is_empty(&self, folder: u64) -> bool {
        self.names.list(folder).next().is_none()
    }

    fn check_replaceable(&self, from: Entry, to: Answer<Entry>, must_be_new: bool) -> Answer<()> {
        match to {
            Err(_nothing_there) => Ok(()),
            Ok(_) if must_be_new => Err(Errno::EEXIST),
            Ok(to) if to.is_folder && !from.is_folder => Err(Errno::EISDIR),
            Ok(to) if !to.is_folder && from.is_folder => Err(Errno::ENOTDIR),
            Ok(to) if to.is_folder && !self.is_empty(to.number) => Err(Errno::ENOTEMPTY),
            Ok(_) => Ok(()),
        }
    }
}

/// What the kernel asks for. After a cut all of it fails.
impl Disk {
    pub(super) fn lookup(&self, folder: u64, name: &OsStr) -> Answer<Entry> {
        self.lock().powered()?.find(folder, name)
    }

    pub(super) fn entry(&self, number: u64) -> Answer<Entry> {
        self.lock().powered()?.entry(number)
    }

    pub(super) fn set_len(&self, number: u64, len: usize) -> Answer<()> {
        self.lock().powered()?.file(number)?.0.set_len(len);
        Ok(())
    }

    /// Makes a file longer, never shorter.
    pub(super) fn allocate(&self, number: u64, len: usize) -> Answer<()> {
        let mut state = self.lock();
        let (content, _) = state.powered()?.file(number)?;
        if len > content.len() {
            content.set_len(len);
        }
        Ok(())
    }

    /// Creates a file and opens it.
    pub(super) fn create(&self, folder: u64, name: &OsStr) -> Answer<Entry> {
        let node = Node::File { content: Content::default(), open: 1 };
        self.lock().powered()?.make(folder, name, node)
    }

    pub(super) fn create_folder(&self, folder: u64, name: &OsStr) -> Answer<Entry> {
        self.lock().powered()?.make(folder, name, Node::Folder)
    }

    pub(super) fn open(&self, number: u64) -> Answer<()> {
        *self.lock().powered()?.file(number)?.1 += 1;
        Ok(())
    }

    /// Closes a file; one that no name can lead to any more is gone.
    pub(super) fn close(&self, number: u64) {
        let mut state = self.lock();
        let Ok((_, open)) = state.file(number) else { return };
        *open = open.saturating_sub(1);
        if *open == 0 && !state.names.may_lead_to(number) {
            state.nodes.remove(&number);
        }
    }

    pub(super) fn remove_file(&self, folder: u64, name: &OsStr) -> Answer<()> {
        let mut state = self.lock();
        let state = state.powered()?;
        if state.find(folder, name)?.is_folder {
            return Err(Errno::EISDIR);
        }
        if name.as_encoded_bytes().ends_with(b".seg") {
            state.seen.freed += 1;
        }
        state.names.set(folder, name, None);
        Ok(())
    }

    pub(super) fn remove_folder(&self, folder: u64, name: &OsStr) -> Answer<()> {
        let mut state = self.lock();
        let state = state.powered()?;
        let found = state.find(folder, name)?;
        if !found.is_folder {
            return Err(Errno::ENOTDIR);
        }
        if !state.is_empty(found.number) {
            return Err(Errno::ENOTEMPTY);
        }
        state.names.set(folder, name, None);
        Ok(())
    }

    pub(super) fn rename(&self, from: (u64, &OsStr), to: (u64, &OsStr), must_be_new: bool) -> Answer<()> {
        let mut state = self.lock();
        let state = state.powered()?;
        let found = state.find(from.0, from.1)?;
        state.check_replaceable(found, state.find(to.0, to.1), must_be_new)?;
        if from != to {
            state.names.rename(from, to, found.number);
            state.seen.count_rename(from.1, to.1);
        }
        Ok(())
    }

    pub(super) fn read(&self, number: u64, offset: usize, bytes: usize) -> Answer<Vec<u8>> {
        Ok(self.lock().powered()?.file(number)?.0.read(offset, bytes).to_vec())
    }

    pub(super) fn write(&self, number: u64, offset: usize, bytes: &[u8]) -> Answer<()> {
        let mut state = self.lock();
        let state = state.powered()?;
        state.file(number)?.0.write(offset, bytes);
        state.seen.count_write(bytes);
        Ok(())
    }

    pub(super) fn sync_file(&self, number: u64) -> Answer<()> {
        let mut state = self.lock();
        let state = state.powered()?;
        state.file(number)?.0.sync();
        state.names.file_synced();
        state.seen.syncs += 1;
        Ok(())
    }

    pub(super) fn sync_folder(&self, number: u64) -> Answer<()> {
        let mut state = self.lock();
        let state = state.powered()?;
        state.names.folder_synced(number);
        state.seen.syncs += 1;
        Ok(())
    }

    pub(super) fn list(&self, folder: u64) -> Answer<Vec<(OsString, Entry)>> {
        let mut state = self.lock();
        let state = state.powered()?;
        state.names.list(folder).map(|(name, number)| Ok((name.clone(), state.entry(number)?))).collect()
    }
}

impl Seen {
    /// Counts what the names of a journal's files tell; `docs/journal-format.md` has them.
    fn count_rename(&mut self, from: &OsStr, to: &OsStr) {
        let kind = |name: &OsStr| Path::new(name).extension().and_then(OsStr::to_str).map(str::to_owned);
        match (kind(from).as_deref(), kind(to).as_deref()) {
            (Some("new"), Some("seg")) => self.segments += 1,
            (Some("spare"), Some("seg")) => {
                self.segments += 1;
                self.recycled += 1;
            }
            (Some("seg"), _) => self.freed += 1,
            _ => {}
        }
    }

    /// Counts the groups of moved records, by their header.
    fn count_write(&mut self, bytes: &[u8]) {
        const KIND_AT: usize = 52;
        const MOVED: u8 = 2;
        self.bytes += bytes.len() as u64;
        if bytes.starts_with(b"PBXGROUP") && bytes.get(KIND_AT) == Some(&MOVED) {
            self.moved += 1;
        }
    }

    /// Adds what happened on another disk.
    pub fn add(&mut self, other: Self) {
        let Self { bytes, syncs, segments, recycled, freed, moved } = other;
        self.bytes += bytes;
        self.syncs += syncs;
        self.segments += segments;
        self.recycled += recycled;
        self.freed += freed;
        self.moved += moved;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng;

    fn name(text: &str) -> &OsStr {
        OsStr::new(text)
    }

    fn cut(disk: &Disk, keeps: Keeps) -> Vec<(PathBuf, Vec<u8>)> {
        disk.cut();
        disk.after_cut(keeps, NameRule::AnySync, &mut StdRng::seed_from_u64(5)).files()
    }

    #[test]
    fn a_synced_file_with_a_lasting_name_survives_and_nothing_else() {
        let disk = Disk::new(NameRule::AnySync);
        let a = disk.create(ROOT, name("a")).unwrap().number;
        let b = disk.create(ROOT, name("b")).unwrap().number;
        disk.write(a, 0, b"kept").unwrap();
        disk.write(b, 0, b"lost").unwrap();
        disk.sync_file(a).unwrap();
        disk.write(a, 4, b" and lost").unwrap();
        disk.create(ROOT, name("c")).unwrap();
        let after = cut(&disk, Keeps::Nothing);
        assert_eq!(after, [("a".into(), b"kept".to_vec()), ("b".into(), Vec::new())]);
    }

    #[test]
    fn strictly_a_synced_file_without_its_folder_is_gone() {
        let disk = Disk::new(NameRule::FolderSync);
        let a = disk.create(ROOT, name("a")).unwrap().number;
        disk.write(a, 0, b"lost").unwrap();
        disk.sync_file(a).unwrap();
        assert_eq!(cut(&disk, Keeps::Nothing), []);
    }

    #[test]
    fn an_empty_folder_survives_as_a_folder() {
        let disk = Disk::new(NameRule::FolderSync);
        let folder = disk.create_folder(ROOT, name("folder")).unwrap().number;
        disk.create(folder, name("a")).unwrap();
        disk.sync_folder(ROOT).unwrap();
        disk.cut();
        let after = disk.after_cut(Keeps::Nothing, NameRule::FolderSync, &mut StdRng::seed_from_u64(1));
        let found = after.lookup(ROOT, name("folder")).unwrap();
        assert!(found.is_folder);
        assert_eq!(after.list(found.number), Ok(Vec::new()));
        after.create(found.number, name("b")).unwrap();
    }

    #[test]
    fn after_a_cut_everything_fails() {
        let disk = Disk::new(NameRule::AnySync);
        let a = disk.create(ROOT, name("a")).unwrap().number;
        disk.cut();
        assert_eq!(disk.write(a, 0, b"x"), Err(Errno::EIO));
        assert_eq!(disk.sync_file(a), Err(Errno::EIO));
        assert_eq!(disk.read(a, 0, 1), Err(Errno::EIO));
        assert_eq!(disk.lookup(ROOT, name("a")), Err(Errno::EIO));
        disk.close(a);
    }

    #[test]
    fn names_follow_the_rules_of_the_host() {
        let disk = Disk::new(NameRule::AnySync);
        let folder = disk.create_folder(ROOT, name("folder")).unwrap().number;
        let a = disk.create(folder, name("a")).unwrap().number;
        assert_eq!(disk.create(folder, name("a")), Err(Errno::EEXIST));
        assert_eq!(disk.remove_folder(ROOT, name("folder")), Err(Errno::ENOTEMPTY));
        assert_eq!(disk.remove_file(ROOT, name("folder")), Err(Errno::EISDIR));
        disk.create(folder, name("b")).unwrap();
        assert_eq!(disk.rename((folder, name("a")), (folder, name("b")), true), Err(Errno::EEXIST));
        disk.rename((folder, name("a")), (folder, name("b")), false).unwrap();
        assert_eq!(disk.lookup(folder, name("b")).unwrap().number, a);
        assert_eq!(disk.lookup(folder, name("a")), Err(Errno::ENOENT));
        disk.remove_file(folder, name("b")).unwrap();
        disk.write(a, 0, b"still open").unwrap();
        disk.remove_folder(ROOT, name("folder")).unwrap();
    }
}
