//! The file adapter against real folders.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::path::Path;

use pillarbox_runtime::adapter::{
    AdapterKind as _, DoubleSafety, ErrorClass, Reconciled, SendError, Settings, Transport as _,
};
use pillarbox_store::{Body, ErrorKind, FRAGMENT_BYTES};
use rustix::io::Errno;

use super::folder::{Blocked, Folder, failed};
use super::send::FileSender;
use super::settings::FileSettings;
use super::{FileKind, Mode};
use crate::parcel::sample::{ID, KEY, Sample, bytes, stored};
use crate::template::key_hash;

fn settings(folder: &Path) -> Settings {
    Settings::default().with("folder", folder.to_str().unwrap())
}

fn sender(settings: &Settings) -> FileSender {
    FileSender::open(FileSettings::check(settings).unwrap()).unwrap()
}

fn names(folder: &Path) -> BTreeSet<String> {
    fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

fn temporary() -> String {
    format!(".pillarbox-{}.tmp", key_hash(KEY))
}

fn is(error: &SendError, class: ErrorClass, part: &str) {
    assert_eq!(error.class(), class, "{error}");
    assert!(error.to_string().contains(part), "{error}");
}

#[test]
fn a_message_becomes_a_file_and_nothing_else_stays() {
    let folder = tempfile::tempdir().unwrap();
    sender(&settings(folder.path())).deliver(&Sample::new("hello").parcel()).unwrap();
    assert_eq!(names(folder.path()), BTreeSet::from([ID.to_owned()]));
    assert_eq!(fs::read(folder.path().join(ID)).unwrap(), b"hello");
}

#[test]
fn bodies_of_every_length_arrive_in_every_mode() {
    for mode in ["create-new", "overwrite", "append"] {
        for len in [0, 1, FRAGMENT_BYTES - 1, FRAGMENT_BYTES, FRAGMENT_BYTES + 1, 3 * FRAGMENT_BYTES + 5] {
            let folder = tempfile::tempdir().unwrap();
            let sender = sender(&settings(folder.path()).with("mode", mode));
            sender.deliver(&Sample::new(stored(bytes(len), None)).parcel()).unwrap();
            assert_eq!(fs::read(folder.path().join(ID)).unwrap(), bytes(len), "{mode} {len}");
            assert_eq!(names(folder.path()).len(), 1);
        }
    }
}

#[test]
fn asked_it_knows_what_it_has() {
    let folder = tempfile::tempdir().unwrap();
    let create_new = sender(&settings(folder.path()));
    let sample = Sample::new("hello");
    assert!(create_new.describe().capabilities.reconciles);
    assert_eq!(create_new.ask(&sample.parcel()).unwrap(), Reconciled::Unknown);
    create_new.deliver(&sample.parcel()).unwrap();
    assert_eq!(create_new.ask(&sample.parcel()).unwrap(), Reconciled::Landed);
    // Somebody else's file has the name.
    assert_eq!(create_new.ask(&Sample::new("other").parcel()).unwrap(), Reconciled::Unknown);
    for mode in ["overwrite", "append"] {
        let other = sender(&settings(folder.path()).with("mode", mode));
        assert!(!other.describe().capabilities.reconciles);
        assert_eq!(other.ask(&sample.parcel()).unwrap(), Reconciled::Unknown);
    }
    fs::remove_file(folder.path().join(ID)).unwrap();
    assert_eq!(create_new.ask(&sample.parcel()).unwrap(), Reconciled::Unknown);
    fs::remove_dir(folder.path()).unwrap();
    is(&create_new.ask(&sample.parcel()).unwrap_err(), ErrorClass::Temporary, "");
}

#[test]
fn create_new_takes_the_same_content_for_a_repeat() {
    let folder = tempfile::tempdir().unwrap();
    let sender = sender(&settings(folder.path()));
    let sample = Sample::new(stored(bytes(FRAGMENT_BYTES + 9), None));
    sender.deliver(&sample.parcel()).unwrap();
    let first = fs::metadata(folder.path().join(ID)).unwrap().ino();
    // As an attempt leaves it that linked the final name and died before it removed the temporary one.
    fs::hard_link(folder.path().join(ID), folder.path().join(temporary())).unwrap();
    sender.deliver(&sample.attempt(2).parcel()).unwrap();
    assert_eq!(fs::metadata(folder.path().join(ID)).unwrap().ino(), first);
    assert_eq!(names(folder.path()), BTreeSet::from([ID.to_owned()]));
}

#[test]
fn create_new_touches_no_file_of_other_content() {
    let folder = tempfile::tempdir().unwrap();
    let sender = sender(&settings(folder.path()));
    for other in ["hellO", "hello, world", ""] {
        fs::write(folder.path().join(ID), other).unwrap();
        let error = sender.deliver(&Sample::new("hello").parcel()).unwrap_err();
        is(&error, ErrorClass::Permanent, "exists with other content");
        assert_eq!(fs::read_to_string(folder.path().join(ID)).unwrap(), other);
        assert_eq!(names(folder.path()).len(), 1);
    }
}

#[test]
fn overwrite_replaces_in_one_step() {
    let folder = tempfile::tempdir().unwrap();
    let sender = sender(&settings(folder.path()).with("mode", "overwrite").with("name", "latest.txt"));
    sender.deliver(&Sample::new("first").parcel()).unwrap();
    let reader = fs::File::open(folder.path().join("latest.txt")).unwrap();
    sender.deliver(&Sample::new("second").parcel()).unwrap();
    assert_eq!(std::io::read_to_string(reader).unwrap(), "first", "a reader keeps the file that it opened");
    assert_eq!(fs::read_to_string(folder.path().join("latest.txt")).unwrap(), "second");
    assert_eq!(names(folder.path()).len(), 1);
}

#[test]
fn append_adds_whole_messages_from_many_threads() {
    let folder = tempfile::tempdir().unwrap();
    let settings = settings(folder.path()).with("mode", "append").with("name", "all").with("separator", "\n");
    let sender = sender(&settings);
    std::thread::scope(|scope| {
        for letter in b'a'..=b'h' {
            let sender = &sender;
            scope.spawn(move || {
                let body = Body::from(vec![letter; FRAGMENT_BYTES + 100]);
                sender.deliver(&Sample::new(body).parcel()).unwrap();
            });
        }
    });
    let all = fs::read_to_string(folder.path().join("all")).unwrap();
    let lines: BTreeSet<_> = all.lines().collect();
    assert_eq!((all.lines().count(), lines.len()), (8, 8));
    assert!(lines.iter().all(
        |line| line.len() == FRAGMENT_BYTES + 100 && line.bytes().all(|byte| byte == line.as_bytes()[0])
    ));
}

#[test]
fn append_cuts_half_a_message_off() {
    let folder = tempfile::tempdir().unwrap();
    let sender = sender(&settings(folder.path()).with("mode", "append").with("name", "all"));
    sender.deliver(&Sample::new("whole").parcel()).unwrap();
    let broken = stored(bytes(3 * FRAGMENT_BYTES), Some((2, ErrorKind::Unavailable)));
    is(
        &sender.deliver(&Sample::new(broken).parcel()).unwrap_err(),
        ErrorClass::Temporary,
        "could not be read",
    );
    assert_eq!(fs::read_to_string(folder.path().join("all")).unwrap(), "whole");
}

#[test]
fn a_body_that_cannot_be_read_leaves_nothing() {
    for (kind, class) in
        [(ErrorKind::Unavailable, ErrorClass::Temporary), (ErrorKind::Corrupt, ErrorClass::Permanent)]
    {
        for mode in ["create-new", "overwrite"] {
            let folder = tempfile::tempdir().unwrap();
            let sender = sender(&settings(folder.path()).with("mode", mode));
            let body = stored(bytes(2 * FRAGMENT_BYTES), Some((1, kind)));
            is(&sender.deliver(&Sample::new(body).parcel()).unwrap_err(), class, "could not be read");
            assert!(names(folder.path()).is_empty());
        }
    }
}

#[test]
fn a_leftover_is_cleared_away_and_never_written_to() {
    let folder = tempfile::tempdir().unwrap();
    let sender = sender(&settings(folder.path()));
    let leftover = folder.path().join(temporary());
    // A reader moved an earlier file of ours away while it was still linked under the temporary name.
    fs::write(&leftover, "taken by a reader").unwrap();
    fs::hard_link(&leftover, folder.path().join("taken")).unwrap();
    sender.deliver(&Sample::new("hello").parcel()).unwrap();
    assert_eq!(fs::read_to_string(folder.path().join("taken")).unwrap(), "taken by a reader");
    assert_eq!(fs::read_to_string(folder.path().join(ID)).unwrap(), "hello");
    assert!(!leftover.exists());
}

#[test]
fn an_attempt_that_still_writes_is_not_disturbed() {
    let folder = tempfile::tempdir().unwrap();
    let sender = sender(&settings(folder.path()));
    let hanging = Folder::open(folder.path()).unwrap().claim(&temporary(), None).unwrap();
    let error = sender.deliver(&Sample::new("hello").parcel()).unwrap_err();
    is(&error, ErrorClass::Temporary, "an earlier attempt of this delivery is still writing");
    sender.deliver(&Sample::new("other").key("another").parcel()).unwrap();
    fs::remove_file(folder.path().join(ID)).unwrap();
    drop(hanging);
    sender.deliver(&Sample::new("hello").parcel()).unwrap();
    assert_eq!(names(folder.path()), BTreeSet::from([ID.to_owned()]));
}

#[test]
fn links_are_not_followed() {
    let folder = tempfile::tempdir().unwrap();
    let outside = tempfile::tempdir().unwrap();
    let victim = outside.path().join("victim");
    for (mode, written) in [("create-new", false), ("overwrite", true), ("append", false)] {
        fs::write(&victim, "untouched").unwrap();
        symlink(&victim, folder.path().join(ID)).unwrap();
        symlink(&victim, folder.path().join(temporary())).unwrap();
        let sent =
            sender(&settings(folder.path()).with("mode", mode)).deliver(&Sample::new("hello").parcel());
        assert_eq!(sent.is_ok(), written, "{mode}: {sent:?}");
        if let Err(error) = sent {
            is(&error, ErrorClass::Permanent, "symbolic link");
        }
        assert_eq!(fs::read_to_string(&victim).unwrap(), "untouched", "{mode}");
        fs::remove_file(folder.path().join(ID)).unwrap();
        let _gone = fs::remove_file(folder.path().join(temporary()));
    }
}

#[test]
fn what_is_no_file_is_not_written_to() {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join(ID)).unwrap();
    for mode in ["create-new", "overwrite", "append"] {
        let sender = sender(&settings(folder.path()).with("mode", mode));
        let error = sender.deliver(&Sample::new("hello").parcel()).unwrap_err();
        assert_eq!(error.class(), ErrorClass::Permanent, "{mode}: {error}");
        assert_eq!(names(folder.path()).len(), 1, "{mode}");
    }
}

#[test]
fn where_renaming_without_replacing_is_missing_a_link_does_it() {
    let path = tempfile::tempdir().unwrap();
    let folder = Folder::open(path.path()).unwrap();
    for (name, content) in [("a", "new"), ("b", "newer")] {
        fs::write(path.path().join(name), content).unwrap();
    }
    assert_eq!(folder.publish_by_link("a", "final"), Ok(true));
    assert_eq!(folder.publish_by_link("b", "final"), Ok(false));
    assert_eq!(folder.publish("b", "final"), Ok(false));
    assert_eq!(fs::read_to_string(path.path().join("final")).unwrap(), "new");
    assert_eq!(names(path.path()), BTreeSet::from(["b".to_owned(), "final".to_owned()]));
}

#[test]
fn permissions_are_as_set_whatever_the_umask() {
    for mode in ["create-new", "overwrite", "append"] {
        let folder = tempfile::tempdir().unwrap();
        let settings = settings(folder.path()).with("permissions", "0646").with("mode", mode);
        sender(&settings).deliver(&Sample::new("hello").parcel()).unwrap();
        assert_eq!(fs::metadata(folder.path().join(ID)).unwrap().permissions().mode() & 0o777, 0o646);
    }
}

#[test]
fn the_folder_is_made_or_asked_for() {
    let parent = tempfile::tempdir().unwrap();
    let deep = parent.path().join("a/b/c");
    let refused = FileSettings::check(&settings(&deep).with("create_folder", false)).unwrap();
    is(&FileSender::open(refused).unwrap_err(), ErrorClass::Temporary, "create it or mount it");
    let sender = sender(&settings(&deep));
    assert!(deep.is_dir());
    fs::remove_dir(&deep).unwrap();
    let error = sender.deliver(&Sample::new("hello").parcel()).unwrap_err();
    is(&error, ErrorClass::Temporary, "the folder is not there");
    assert!(!deep.exists(), "a folder that vanished may be a mount that is gone: it is not made again");
    fs::write(&deep, "a file").unwrap();
    let blocked = FileSettings::check(&settings(&deep)).unwrap();
    let error = FileSender::open(blocked).unwrap_err();
    is(&error, ErrorClass::Temporary, deep.to_str().unwrap());
}

#[test]
fn what_the_system_says_is_classed_and_put_into_words() {
    for (errno, class, hint) in [
        (Errno::NOSPC, ErrorClass::Temporary, "make room"),
        (Errno::DQUOT, ErrorClass::Temporary, "quota"),
        (Errno::IO, ErrorClass::Temporary, "/out/x"),
        (Errno::MFILE, ErrorClass::Temporary, "raise the limit"),
        (Errno::ACCESS, ErrorClass::Temporary, "permission to write"),
        (Errno::ROFS, ErrorClass::Temporary, "read-only"),
        (Errno::NAMETOOLONG, ErrorClass::Permanent, "shorten it"),
        (Errno::INVAL, ErrorClass::Permanent, "does not take this name"),
    ] {
        let error = failed("write", Path::new("/out/x"), Blocked::System(errno));
        is(&error, class, hint);
        assert!(error.to_failure().chain.len() == 2, "the system's own words are kept");
    }
}

#[test]
fn settings_have_defaults() {
    let checked = FileSettings::check(&Settings::default().with("folder", "FILE:///var/out")).unwrap();
    assert_eq!(checked.folder, Path::new("/var/out"));
    assert_eq!(checked.mode, Mode::CreateNew);
    assert!(checked.create_folder && checked.separator.is_empty() && checked.permissions.is_none());
    assert!(!checked.two_phase);
    assert_eq!(checked.name.render(&Sample::new("").parcel()).unwrap(), ID);
}

#[test]
fn every_problem_is_told_at_once() {
    let settings = Settings::default()
        .with("name", "{attempt}/{nonsense}")
        .with("mode", "append-new")
        .with("permissions", "0999");
    let error = FileSettings::check(&settings).unwrap_err();
    let keys: Vec<_> = error.0.iter().map(|problem| problem.key.as_str()).collect();
    assert_eq!(keys, ["folder", "mode", "name", "name", "name", "permissions"]);
    let unknown =
        FileSettings::check(&Settings::default().with("foldre", "x").with("nmae", "y")).unwrap_err();
    assert_eq!(unknown.0.len(), 2);
}

#[test]
fn single_mistakes_are_refused_by_their_key() {
    for (key, value, part) in [
        ("folder", "", "name the folder"),
        ("name", "latest.txt", "needs {message_id} or {key}"),
        ("name", "{time}-{header:a}", "needs {message_id} or {key}"),
        ("separator", "\n", "append"),
        ("permissions", "0444", "write permission"),
        ("permissions", "1777", "octal"),
    ] {
        let settings = Settings::default().with("folder", "out").with(key, value);
        let error = FileSettings::check(&settings).unwrap_err();
        assert_eq!(error.0.len(), 1, "{error}");
        assert_eq!(error.0[0].key, key);
        assert!(error.0[0].reason.contains(part), "{error}");
    }
}

#[test]
fn what_it_claims_depends_on_the_mode() {
    let folder = tempfile::tempdir().unwrap();
    let claim = |mode: &str| sender(&settings(folder.path()).with("mode", mode)).describe().capabilities;
    assert_eq!(claim("create-new").double_safety, DoubleSafety::Keyed(None));
    assert_eq!(claim("overwrite").double_safety, DoubleSafety::Keyed(None));
    assert_eq!(claim("append").double_safety, DoubleSafety::AtLeastOnce);
    assert!(claim("append").streams);
    assert_eq!(FileKind.describe().uri_prefixes, ["file://"]);
}
