//! Which files are sent: those below a folder, in a stable order, copied aside so that nobody changes them midway.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use pillarbox_store::MessageId;
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};

use super::ledger::Content;
use crate::failure::Failure;

/// Folders of these names hold nothing that somebody wrote: they are passed over.
const PASSED_OVER: [&str; 4] = ["target", ".git", "pillarbox-data", "undelivered"];
/// A longer file is passed over.
const FILE_BYTES_MAX: u64 = 16 * 1024 * 1024;
/// Once the files have so many bytes, no more are taken.
const ALL_BYTES_MAX: u64 = 256 * 1024 * 1024;
/// Fewer files than this are sent several times, under ids of their own: a kill should find many under way.
const MESSAGES_MIN: usize = 6_000;

/// A file to be sent.
#[derive(Debug, Clone)]
pub(super) struct Source {
    /// Its path below the folder.
    pub(super) name: String,
    /// Where its copy is.
    pub(super) copy: PathBuf,
    /// Its bytes.
    pub(super) content: Content,
}

/// The files to be sent.
#[derive(Debug)]
pub(super) struct Sources {
    /// In order of their paths.
    pub(super) files: Vec<Source>,
    /// Files that were passed over: unreadable, too long, or too many.
    pub(super) passed_over: usize,
}

/// A message of the demo.
#[derive(Debug, Clone)]
pub(super) struct Message {
    /// Its id, chosen by the demo.
    pub(super) id: MessageId,
    /// What it carries.
    pub(super) source: Source,
}

/// The folder whose files are sent where none is named: the nearest workspace around `start`, else `start`.
pub(super) fn default_folder(start: &Path) -> PathBuf {
    let is_workspace = |folder: &&Path| {
        fs::read_to_string(folder.join("Cargo.toml"))
            .is_ok_and(|manifest| manifest.lines().any(|line| line.trim() == "[workspace]"))
    };
    start.ancestors().find(is_workspace).unwrap_or(start).to_owned()
}

/// Copies at most `most` files of a folder into the folder `copies`.
///
/// # Errors
/// The folder cannot be read, has no files, or the copies cannot be written.
pub(super) fn collect(folder: &Path, most: usize, copies: &Path) -> Result<Sources, Failure> {
    let found = walk(folder).map_err(|error| {
        Failure::usage(format!("{} cannot be read: {error}", folder.display()))
            .next("pillarbox demo FOLDER, with a folder that you may read")
    })?;
    let mut sources = Sources { files: Vec::new(), passed_over: 0 };
    let mut bytes = 0;
    for path in found {
        let room = sources.files.len() < most && bytes < ALL_BYTES_MAX;
        let short = room && fs::metadata(&path).is_ok_and(|metadata| metadata.len() <= FILE_BYTES_MAX);
        let Some(body) = short.then(|| fs::read(&path).ok()).flatten() else {
            sources.passed_over += 1;
            continue;
        };
        let copy = copies.join(format!("{:06}", sources.files.len()));
        fs::write(&copy, &body).map_err(|error| {
            Failure::new(format!("{} cannot be written: {error}", copy.display()))
                .next("make room there, or set TMPDIR to another folder")
        })?;
        bytes += body.len() as u64;
        let name = path.strip_prefix(folder).unwrap_or(&path).to_string_lossy().into_owned();
        sources.files.push(Source { name, copy, content: Content::of(&body) });
    }
    if sources.files.is_empty() {
        return Err(Failure::usage(format!("there are no files to send below {}", folder.display()))
            .next("pillarbox demo FOLDER, with a folder that has some"));
    }
    Ok(sources)
}

/// Every regular file below a folder, in order of path. Links are not followed.
fn walk(top: &Path) -> io::Result<BTreeSet<PathBuf>> {
    let mut files = BTreeSet::new();
    let mut folders = vec![top.to_owned()];
    while let Some(folder) = folders.pop() {
        let entries = match fs::read_dir(&folder) {
            Ok(entries) => entries,
            Err(error) if folder == top => return Err(error),
            Err(_closed_to_us) => continue,
        };
        for entry in entries.flatten() {
            let Ok(kind) = entry.file_type() else { continue };
            let passed_over = PASSED_OVER.iter().any(|name| entry.file_name() == OsStr::new(name));
            if kind.is_dir() && !passed_over {
                folders.push(entry.path());
            } else if kind.is_file() {
                files.insert(entry.path());
            }
        }
    }
    Ok(files)
}

impl Sources {
    /// The bytes of all files.
    pub(super) fn bytes(&self) -> u64 {
        self.files.iter().map(|file| file.content.len).sum()
    }

    /// How often every file is sent.
    pub(super) fn rounds(&self) -> usize {
        let wanted = MESSAGES_MIN.div_ceil(self.files.len().max(1));
        let bearable = usize::try_from(ALL_BYTES_MAX / self.bytes().max(1)).unwrap_or(usize::MAX);
        wanted.min(bearable).max(1)
    }

    /// The messages: every file once a round. The same seed gives the same ids.
    pub(super) fn messages(&self, seed: u64) -> Vec<Message> {
        let mut random = StdRng::seed_from_u64(seed);
        let rounds = (0..self.rounds()).flat_map(|_| &self.files);
        rounds.map(|source| Message { id: message_id(&mut random), source: source.clone() }).collect()
    }
}

/// A random UUID (version 4).
fn message_id(random: &mut StdRng) -> MessageId {
    let mut bytes: [u8; 16] = random.random();
    bytes[6] = (bytes[6] & 0x0f) | 0x40;
    bytes[8] = (bytes[8] & 0x3f) | 0x80;
    MessageId::from_bytes(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        root
    }

    fn names(sources: &Sources) -> Vec<&str> {
        sources.files.iter().map(|source| source.name.as_str()).collect()
    }

    #[test]
    fn files_come_in_order_and_without_what_was_built() {
        let root = folder(&[
            ("b/z.rs", "z"),
            ("b/target/built", "x"),
            (".git/HEAD", "x"),
            ("pillarbox-data/meta", "x"),
            ("a.rs", ""),
            ("b/target.rs", "t"),
        ]);
        let copies = tempfile::tempdir().unwrap();
        let all = collect(root.path(), 10, copies.path()).unwrap();
        assert_eq!(names(&all), ["a.rs", "b/target.rs", "b/z.rs"]);
        assert_eq!((all.bytes(), all.passed_over), (2, 0));
        assert_eq!(fs::read(&all.files[2].copy).unwrap(), b"z");
        let some = collect(root.path(), 2, copies.path()).unwrap();
        assert_eq!((names(&some), some.passed_over), (vec!["a.rs", "b/target.rs"], 1));
    }

    #[test]
    fn a_folder_without_files_is_refused() {
        let root = folder(&[("target/built", "x")]);
        let copies = tempfile::tempdir().unwrap();
        assert_eq!(collect(root.path(), 10, copies.path()).unwrap_err().code, 2);
        assert_eq!(collect(&root.path().join("gone"), 10, copies.path()).unwrap_err().code, 2);
    }

    #[test]
    fn few_files_are_sent_often_under_ids_of_their_own() {
        let root = folder(&[("a", "a"), ("b", "b"), ("c", "c")]);
        let copies = tempfile::tempdir().unwrap();
        let sources = collect(root.path(), 10, copies.path()).unwrap();
        let ids = |seed| sources.messages(seed).iter().map(|message| message.id).collect::<Vec<_>>();
        assert!(ids(1).len() >= MESSAGES_MIN);
        assert_eq!(ids(1).iter().collect::<BTreeSet<_>>().len(), ids(1).len());
        assert_eq!(ids(1), ids(1));
        assert_ne!(ids(1), ids(2));
    }

    #[test]
    fn the_workspace_around_is_found() {
        let root = folder(&[
            ("Cargo.toml", "[workspace]\n"),
            ("server/Cargo.toml", "[package]\n"),
            ("server/src/a", ""),
        ]);
        assert_eq!(default_folder(&root.path().join("server/src")), root.path());
    }
}
