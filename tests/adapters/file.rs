//! Folders: one file a message, the same in transactions, and one file for all.

use std::fs;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use pillarbox_adapter_kit::{Destination, Held, Subject};
use pillarbox_runtime::adapter::{AdapterKind, Settings};
use tempfile::TempDir;

/// What stands after each message where all go to one file.
const SEPARATOR: &str = "\n-- the end of one --\n";

pub(crate) fn subjects() -> Vec<Box<dyn Subject>> {
    let all = [Mode::CreateNew, Mode::Overwrite, Mode::TwoPhase, Mode::Append];
    all.into_iter().map(|mode| Box::new(mode) as Box<dyn Subject>).collect()
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    CreateNew,
    Overwrite,
    TwoPhase,
    Append,
}

#[async_trait(?Send)]
impl Subject for Mode {
    fn name(&self) -> &str {
        match self {
            Self::CreateNew => "file",
            Self::Overwrite => "file, mode overwrite",
            Self::TwoPhase => "file, two_phase",
            Self::Append => "file, mode append",
        }
    }

    fn kind(&self) -> Arc<dyn AdapterKind> {
        crate::kind("file")
    }

    async fn start(&self) -> Box<dyn Destination> {
        Box::new(Folder { at: tempfile::tempdir().unwrap(), mode: *self })
    }
}

#[derive(Debug)]
struct Folder {
    at: TempDir,
    mode: Mode,
}

#[async_trait(?Send)]
impl Destination for Folder {
    fn port(&self) -> Option<u16> {
        None
    }

    fn settings(&self, _port: u16) -> Settings {
        let settings = Settings::default().with("folder", self.at.path().to_str().unwrap());
        match self.mode {
            Mode::CreateNew => settings.with("name", "{key}"),
            Mode::Overwrite => settings.with("name", "{key}").with("mode", "overwrite"),
            Mode::TwoPhase => settings.with("name", "{key}").with("two_phase", true),
            Mode::Append => settings.with("name", "all").with("mode", "append").with("separator", SEPARATOR),
        }
    }

    async fn held(&self) -> Vec<Held> {
        let mut held = Vec::new();
        for entry in fs::read_dir(self.at.path()).unwrap() {
            let entry = entry.unwrap();
            let name = entry.file_name().into_string().unwrap();
            // Hidden ones are not there yet.
            if name.starts_with('.') {
                continue;
            }
            let bytes = Bytes::from(fs::read(entry.path()).unwrap());
            if self.mode == Mode::Append {
                held.extend(parts(&bytes).into_iter().map(Held::new));
            } else {
                held.push(Held::new(bytes).key(name));
            }
        }
        held
    }

    async fn left_over(&self) -> Vec<String> {
        let names = fs::read_dir(self.at.path()).unwrap();
        let names = names.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        // In the other modes a crash may leave a file under a hidden name, which is nobody's.
        names.filter(|name| self.mode == Mode::TwoPhase && name.starts_with('.')).collect()
    }
}

/// The messages of a file. What follows the last separator is being written.
fn parts(bytes: &Bytes) -> Vec<Bytes> {
    let (mut parts, mut begin) = (Vec::new(), 0);
    let separator = SEPARATOR.as_bytes();
    let mut at = 0;
    while at + separator.len() <= bytes.len() {
        if bytes[at..].starts_with(separator) {
            parts.push(bytes.slice(begin..at));
            at += separator.len();
            begin = at;
        } else {
            at += 1;
        }
    }
    parts
}
