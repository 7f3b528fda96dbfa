//! Checking and salvaging folders, and journals on disks that do not answer.

use std::collections::BTreeMap;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};

use super::*;
use crate::engine::Key;
use crate::engine::journal::tests::fault_disk::FaultDisk;
use crate::engine::journal::{Disk, DiskFile, Journal, JournalConfig};
use crate::message_box::keys;
use crate::{
    Batch, Committing, EngineKind, ErrorKind, IdSource, Message, MessageBox, PortName, PortSpec, Route,
    Store, Want,
};
use std::sync::Arc;
use std::time::Duration;

fn port() -> PortName {
    PortName::new("orders").unwrap()
}

fn want() -> Want {
    let lease_for = Duration::from_secs(60);
    Want { port: port(), route: Route::Primary, limit: 100, bytes_max: 1 << 30, lease_for }
}

/// Submits messages with bodies of these lengths.
async fn fill(mailbox: &MessageBox, bodies: &[usize]) {
    let ids = IdSource::system();
    let batch = Batch::new(ids.batch()).define_port(&port(), PortSpec { backup: false });
    mailbox.commit(&batch).await.unwrap();
    for (value, bytes) in (1..).zip(bodies) {
        let batch = Batch::new(ids.batch()).submit(&port(), Message::new(ids.message(), vec![value; *bytes]));
        assert!(mailbox.commit(&batch).await.unwrap().all_applied());
    }
}

/// The lengths of what is leased.
async fn leased(mailbox: &MessageBox) -> Vec<u64> {
    let leased = mailbox.lease(&want()).await.unwrap();
    for leased in &leased {
        let body = leased.message.body.to_bytes().unwrap();
        assert!(body.iter().all(|byte| Some(byte) == body.first()));
    }
    leased.iter().map(|leased| leased.message.body.len()).collect()
}

fn files(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut all = BTreeMap::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            all.extend(files(&path));
        } else {
            all.insert(path.clone(), std::fs::read(&path).unwrap());
        }
    }
    all
}

async fn is_checked_and_salvaged(engine: EngineKind) {
    let place = tempfile::tempdir().unwrap();
    let config = BoxConfig { engine, ..BoxConfig::new(place.path().join("old")) };
    let mailbox = MessageBox::open(config.clone()).unwrap();
    let bodies = [10, 300_000, 0, 700];
    fill(&mailbox, &bodies).await;
    let (id, held) = (mailbox.id(), check(&config, place.path(), &mut |_| {}).unwrap_err());
    assert_eq!(held.kind(), ErrorKind::Locked, "{held}");
    mailbox.close().await.unwrap();
    drop(mailbox);
    let before = files(&config.folder);
    let scratch = tempfile::tempdir().unwrap();
    let mut calls = 0;
    let report = check(&config, scratch.path(), &mut |_| calls += 1).unwrap();
    assert!(report.is_whole() && calls > 0, "{report:?}");
    assert_eq!((report.id, report.contents.messages, report.contents.fragments), (Some(id), 4, 2));
    assert_eq!(report.contents.batches, 5, "the port and each message");
    let (scratch, new) = (tempfile::tempdir().unwrap(), place.path().join("new"));
    let salvaged = salvage(&config, &new, scratch.path(), &[], &mut |_| {}).unwrap();
    assert_eq!((salvaged.messages, salvaged.left.as_slice(), salvaged.told().as_str()), (4, &[][..], ""));
    assert!(before == files(&config.folder), "something was changed");
    let scratch = tempfile::tempdir().unwrap();
    let again = salvage(&config, &new, scratch.path(), &[], &mut |_| {}).unwrap_err();
    assert_eq!(again.kind(), ErrorKind::Invalid, "{again}");
    let mailbox = MessageBox::open(BoxConfig { folder: new, ..config }).unwrap();
    assert_eq!((mailbox.id(), mailbox.damage()), (id, Vec::new()));
    assert_eq!(leased(&mailbox).await, bodies.map(|bytes| bytes as u64));
}

#[tokio::test]
async fn a_journal_is_checked_and_salvaged() {
    is_checked_and_salvaged(EngineKind::Journal).await;
}

#[cfg(feature = "sled")]
#[tokio::test]
async fn a_sled_database_is_checked_and_salvaged_through_a_copy() {
    is_checked_and_salvaged(EngineKind::Sled).await;
}

#[tokio::test]
async fn an_unfinished_salvage_is_not_opened() {
    let place = tempfile::tempdir().unwrap();
    let config = BoxConfig::new(place.path().join("old"));
    fill(&MessageBox::open(config.clone()).unwrap(), &[10]).await;
    let new = place.path().join("new");
    // The watcher's panic ends it in the middle, as a crash would.
    let cut = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        salvage(&config, &new, place.path(), &[], &mut |progress| assert_ne!(progress.doing, "copying"))
    }));
    assert!(cut.is_err());
    let target = BoxConfig { folder: new.clone(), ..config.clone() };
    for error in [
        MessageBox::open(target.clone()).unwrap_err(),
        check(&target, place.path(), &mut |_| {}).unwrap_err(),
        salvage(&config, &new, place.path(), &[], &mut |_| {}).unwrap_err(),
    ] {
        assert_eq!(error.kind(), ErrorKind::Incompatible);
        assert!(error.to_string().contains("not finished; remove it"), "{error}");
    }
    std::fs::remove_dir_all(&new).unwrap();
    salvage(&config, &new, place.path(), &[], &mut |_| {}).unwrap();
    assert_eq!(leased(&MessageBox::open(target).unwrap()).await, [10]);
}

#[test]
fn what_is_no_box_is_not_looked_at() {
    let place = tempfile::tempdir().unwrap();
    for folder in [place.path().join("missing"), place.path().to_owned()] {
        let error = check(&BoxConfig::new(folder), place.path(), &mut |_| {}).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid, "{error}");
    }
}

#[tokio::test]
async fn a_damaged_mark_keeps_nobody_from_looking() {
    let place = tempfile::tempdir().unwrap();
    let config = BoxConfig::new(place.path().join("old"));
    fill(&MessageBox::open(config.clone()).unwrap(), &[10]).await;
    std::fs::write(config.folder.join("box"), "gormat=1 engine=journal\n").unwrap();
    assert_eq!(MessageBox::open(config.clone()).unwrap_err().kind(), ErrorKind::Incompatible);
    let report = check(&config, place.path(), &mut |_| {}).unwrap();
    assert_eq!((report.findings.len(), report.has_losses(), report.contents.messages), (1, false, 1));
    let new = place.path().join("new");
    salvage(&config, &new, place.path(), &[], &mut |_| {}).unwrap();
    assert_eq!(leased(&MessageBox::open(BoxConfig { folder: new, ..config }).unwrap()).await, [10]);
}

fn journal(disk: &Arc<dyn Disk>) -> Arc<Journal> {
    let settings = JournalConfig { segment_bytes: 64 * 1024, ..JournalConfig::default() };
    Arc::new(Journal::open(disk.clone(), settings).unwrap())
}

fn over(engine: Arc<Journal>) -> MessageBox {
    let config = BoxConfig { committing: Committing::Inline, ..BoxConfig::in_memory() };
    MessageBox::with_engine(engine, config).unwrap()
}

/// The name and the bytes of the only segment.
fn segment(disk: &FaultDisk) -> (String, Vec<u8>) {
    let name = disk.list().unwrap().into_iter().find(|name| name.ends_with(".seg")).unwrap();
    let bytes = disk.bytes(&name);
    (name, bytes)
}

#[tokio::test]
async fn a_torn_tail_is_named_and_is_no_damage() {
    let disk = FaultDisk::new();
    let shared: Arc<dyn Disk> = Arc::new(disk.clone());
    let mailbox = over(journal(&shared));
    fill(&mailbox, &[100, 200]).await;
    let (name, bytes) = segment(&disk);
    let crashed = disk.crash(crate::engine::journal::tests::fault_disk::Keep::All);
    crashed.change(&name, |bytes| bytes.truncate(bytes.len() - 70));
    let report = check_engine(&Journal::look(Arc::new(crashed)).unwrap(), &mut |_| {}).unwrap();
    assert!(report.is_whole(), "{:?}", report.findings);
    let torn = report.torn_tail.unwrap();
    assert_eq!(torn.file, name);
    assert!(torn.offset < bytes.len() as u64 - 70 && torn.bytes > 0, "{torn:?}");
    assert_eq!(report.contents.messages, 1);
}

#[tokio::test]
async fn a_port_whose_name_is_lost_gets_it_back_by_salvage() {
    for is_defined_again in [false, true] {
        let disk = FaultDisk::new();
        let shared: Arc<dyn Disk> = Arc::new(disk.clone());
        let engine = journal(&shared);
        let mailbox = over(engine.clone());
        fill(&mailbox, &[100, 200]).await;
        mailbox.close().await.unwrap();
        let (name, _) = segment(&disk);
        for copy in 0..2 {
            let at = engine.locate(Key::new(keys::port::FAMILY, 0, copy)).unwrap().offset as usize;
            let head_at = |bytes: &[u8]| u32::from_le_bytes(bytes[at + 16..at + 20].try_into().unwrap());
            disk.change(&name, |bytes| {
                let head_at = head_at(bytes) as usize;
                bytes[head_at] ^= 0x40;
            });
        }
        if is_defined_again {
            let mailbox = over(journal(&shared));
            let told: Vec<String> = mailbox.damage().into_iter().map(|damage| damage.what).collect();
            assert!(told.iter().any(|what| what.contains("the name of port 0 is lost")), "{told:?}");
            fill(&mailbox, &[300]).await;
            assert_eq!(leased(&mailbox).await, [300], "the others wait under another name");
            mailbox.close().await.unwrap();
        }
        let from = Journal::look(shared).unwrap();
        let report = check_engine(&from, &mut |_| {}).unwrap();
        assert!(report.findings.iter().any(|finding| finding.loses == Loses::Port), "{:?}", report.findings);
        let new: Arc<dyn Disk> = Arc::new(FaultDisk::new());
        let to = journal(&new);
        let ids = IdSource::system();
        let wrong = [Naming { number: 7, name: port() }];
        assert_eq!(
            salvage_engine(&from, &*to, &wrong, &ids, &mut |_| {}).unwrap_err().kind(),
            ErrorKind::Invalid
        );
        let names = [Naming { number: 0, name: port() }];
        salvage_engine(&from, &*to, &names, &ids, &mut |_| {}).unwrap();
        let mailbox = over(to);
        let batch = Batch::new(ids.batch()).define_port(&port(), PortSpec { backup: false });
        mailbox.commit(&batch).await.unwrap();
        let all: &[u64] = if is_defined_again { &[100, 200, 300] } else { &[100, 200] };
        assert_eq!(leased(&mailbox).await, all);
        assert_eq!(mailbox.damage(), []);
    }
}

/// A disk with a place that cannot be read.
#[derive(Debug)]
struct BadDisk(FaultDisk, Range<u64>);

#[derive(Debug)]
struct BadFile(Arc<dyn DiskFile>, Range<u64>);

impl Disk for BadDisk {
    fn create_folder(&self) -> io::Result<()> {
        panic!("it is only looked at")
    }

    fn list(&self) -> io::Result<Vec<String>> {
        self.0.list()
    }

    fn create(&self, _name: &str) -> io::Result<Arc<dyn DiskFile>> {
        panic!("it is only looked at")
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        Ok(Arc::new(BadFile(self.0.open(name)?, self.1.clone())))
    }

    fn rename(&self, _from: &str, _to: &str) -> io::Result<()> {
        panic!("it is only looked at")
    }

    fn remove(&self, _name: &str) -> io::Result<()> {
        panic!("it is only looked at")
    }

    fn sync_folder(&self) -> io::Result<()> {
        panic!("it is only looked at")
    }

    fn free_bytes(&self) -> io::Result<u64> {
        Ok(0)
    }
}

impl DiskFile for BadFile {
    fn file_bytes(&self) -> io::Result<u64> {
        self.0.file_bytes()
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let end = offset + buffer.len() as u64;
        if offset < self.1.end && self.1.start < end {
            return Err(io::Error::other("input/output error"));
        }
        self.0.read_at(buffer, offset)
    }

    fn write_all_at(&self, _slices: &mut [io::IoSlice<'_>], _offset: u64) -> io::Result<()> {
        panic!("it is only looked at")
    }

    fn sync_data(&self) -> io::Result<()> {
        panic!("it is only looked at")
    }
}

#[tokio::test]
async fn a_place_that_cannot_be_read_costs_what_lies_there_and_no_more() {
    let disk = FaultDisk::new();
    let shared: Arc<dyn Disk> = Arc::new(disk.clone());
    let mailbox = over(journal(&shared));
    fill(&mailbox, &[9_000, 9_001, 9_002]).await;
    mailbox.close().await.unwrap();
    let (_, bytes) = segment(&disk);
    let middle = bytes.windows(64).position(|window| window == [2; 64]).unwrap() as u64 + 5_000;
    let bad: Arc<dyn Disk> = Arc::new(BadDisk(disk, middle..middle + 1));
    assert_eq!(
        Journal::open(Arc::new(FaultDisk::new()), JournalConfig::default()).unwrap().damage(),
        [],
        "a healthy one has none"
    );
    let from = Journal::look(bad).unwrap();
    let report = check_engine(&from, &mut |_| {}).unwrap();
    assert!(report.findings.iter().any(|finding| finding.what.contains("does not give")), "{report:?}");
    assert_eq!((report.contents.messages, report.has_losses()), (2, true));
    let to = journal(&(Arc::new(FaultDisk::new()) as Arc<dyn Disk>));
    let salvaged = salvage_engine(&from, &*to, &[], &IdSource::system(), &mut |_| {}).unwrap();
    assert!(matches!(salvaged.left.as_slice(), [Left::Message { .. }]), "{:?}", salvaged.left);
    assert_eq!(leased(&over(to)).await, [9_000, 9_002]);
}
