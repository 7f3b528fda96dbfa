//! The file system of the power cuts as programs meet it, through the kernel.

use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use pillarbox_tests::powercut::{Disk, Keeps, Mount, NameRule};
use rand::SeedableRng;
use rand::rngs::StdRng;
use rustix::fs::{FallocateFlags, FlockOperation, RenameFlags, fallocate, flock, renameat_with};

fn mounted(rule: NameRule) -> (Arc<Disk>, Mount, tempfile::TempDir) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let disk = Arc::new(Disk::new(rule));
    let mount = Mount::new(disk.clone(), folder.path()).expect("FUSE, and a user who may mount");
    (disk, mount, folder)
}

fn files_after_cut(disk: &Disk) -> Vec<(PathBuf, Vec<u8>)> {
    disk.cut();
    let after = disk.after_cut(Keeps::Nothing, NameRule::AnySync, &mut StdRng::seed_from_u64(1));
    let mut files = after.files();
    files.sort();
    files
}

#[test]
fn files_and_folders_work_as_on_the_host() {
    let (_disk, mount, _folder) = mounted(NameRule::AnySync);
    let top = mount.folder();
    fs::create_dir_all(top.join("a/b")).unwrap();
    let path = top.join("a/b/file");
    // Larger than the kernel hands over at once.
    let long: Vec<u8> = (0..5_000_000u32).map(|at| (at % 251) as u8).collect();
    fs::write(&path, &long).unwrap();
    assert_eq!(fs::read(&path).unwrap(), long);
    let file = OpenOptions::new().read(true).write(true).open(&path).unwrap();
    file.write_all_at(b"here", 4_999_998).unwrap();
    assert_eq!(file.metadata().unwrap().len(), 5_000_002);
    file.set_len(3).unwrap();
    fallocate(&file, FallocateFlags::empty(), 0, 10).unwrap();
    assert_eq!(fs::read(&path).unwrap(), [0, 1, 2, 0, 0, 0, 0, 0, 0, 0]);
    let emptied = File::create(&path).unwrap();
    assert_eq!(emptied.metadata().unwrap().len(), 0);

    for number in 0..300 {
        fs::write(top.join(format!("a/{number}")), "x").unwrap();
    }
    assert_eq!(fs::read_dir(top.join("a")).unwrap().count(), 301);
    assert_eq!(fs::remove_dir(top.join("a")).unwrap_err().kind(), ErrorKind::DirectoryNotEmpty);
    assert!(rustix::fs::statvfs(top).unwrap().f_bavail > 1_000_000);
}

#[test]
fn names_and_locks_work_as_on_the_host() {
    let (_disk, mount, _folder) = mounted(NameRule::AnySync);
    let path = |name: &str| mount.folder().join(name);
    fs::write(path("a"), "1").unwrap();
    fs::write(path("b"), "2").unwrap();
    let folder = File::open(mount.folder()).unwrap();
    let taken = renameat_with(&folder, "a", &folder, "b", RenameFlags::NOREPLACE).unwrap_err();
    assert_eq!(taken, rustix::io::Errno::EXIST);
    let mut held = File::open(path("b")).unwrap();
    fs::rename(path("a"), path("b")).unwrap();
    assert_eq!(fs::read_to_string(path("b")).unwrap(), "1");
    let mut old = String::new();
    held.read_to_string(&mut old).unwrap();
    assert_eq!(old, "2", "an open file stays what it was");
    fs::remove_file(path("b")).unwrap();
    assert_eq!(fs::read(path("b")).unwrap_err().kind(), ErrorKind::NotFound);

    let [first, second] = ["lock", "lock"]
        .map(|name| OpenOptions::new().write(true).create(true).truncate(false).open(path(name)).unwrap());
    flock(&first, FlockOperation::NonBlockingLockExclusive).unwrap();
    assert!(flock(&second, FlockOperation::NonBlockingLockExclusive).is_err());
}

#[test]
fn a_write_is_seen_at_once_and_lasts_once_it_is_flushed() {
    let (disk, mount, _folder) = mounted(NameRule::AnySync);
    let mut file = File::create(mount.folder().join("file")).unwrap();
    file.write_all(b"flushed").unwrap();
    file.sync_data().unwrap();
    file.write_all(b" and not").unwrap();
    assert_eq!(disk.files(), [("file".into(), b"flushed and not".to_vec())]);
    assert_eq!(files_after_cut(&disk), [("file".into(), b"flushed".to_vec())]);
    assert!(file.write_all(b"x").is_err() && file.sync_all().is_err(), "the power is gone");
    assert!(fs::read_dir(mount.folder()).is_err());
}

#[test]
fn strictly_a_name_lasts_once_its_folder_is_flushed() {
    let (disk, mount, _folder) = mounted(NameRule::FolderSync);
    let create = |name: &str| {
        let file = File::create(mount.folder().join(name)).unwrap();
        file.sync_all().unwrap();
    };
    create("a");
    File::open(mount.folder()).unwrap().sync_all().unwrap();
    create("b");
    assert_eq!(files_after_cut(&disk), [(Path::new("a").to_owned(), Vec::new())]);
}
