//! The demo's temporary folder: copies of the files, configuration, data, server logs, undelivered messages.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use pillarbox_store::EngineKind;
use tempfile::TempDir;

use super::fate::ATTEMPTS;
use super::ledger::Content;
use crate::failure::Failure;

/// The demo's port.
pub(super) const PORT: &str = "demo";
/// What the name of a file of the backup route ends with.
const ENDING: &str = ".msg";

/// The temporary folder; removed at the end unless it is kept.
#[derive(Debug)]
pub(super) struct Stage {
    folder: TempDir,
}

impl Stage {
    /// A new one.
    ///
    /// # Errors
    /// It cannot be made.
    pub(super) fn new() -> Result<Self, Failure> {
        let folder = tempfile::Builder::new().prefix("pillarbox-demo-").tempdir().map_err(|error| {
            Failure::new(format!("a temporary folder cannot be made: {error}"))
                .next("set TMPDIR to a folder that you may write")
        })?;
        let stage = Self { folder };
        fs::create_dir(stage.copies()).map_err(|error| unwritable(&stage.copies(), &error))?;
        Ok(stage)
    }

    /// Where it is.
    pub(super) fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Keeps it beyond the end of the demo.
    pub(super) fn keep(&mut self) {
        self.folder.disable_cleanup(true);
    }

    /// Where the files' copies are.
    pub(super) fn copies(&self) -> PathBuf {
        self.path().join("files")
    }

    /// The servers' configuration.
    pub(super) fn config(&self) -> PathBuf {
        self.path().join("pillarbox.toml")
    }

    /// The servers' log.
    pub(super) fn log(&self) -> PathBuf {
        self.path().join("server.log")
    }

    /// Where the backup route writes.
    pub(super) fn undelivered(&self) -> PathBuf {
        self.path().join("undelivered")
    }

    /// Writes the servers' configuration.
    ///
    /// # Errors
    /// It cannot be written.
    pub(super) fn write_config(&self, engine: EngineKind, url: &str) -> Result<(), Failure> {
        let text = config(engine, &self.path().join("data"), url, &self.undelivered())?;
        fs::write(self.config(), text).map_err(|error| unwritable(&self.config(), &error))
    }

    /// What the backup route has written: bodies by message id. What is not a message's whole file by its name
    /// comes under the file's name.
    ///
    /// # Errors
    /// The folder cannot be read.
    pub(super) fn read_undelivered(&self) -> Result<BTreeMap<String, Content>, Failure> {
        let folder = self.undelivered();
        if !folder.exists() {
            return Ok(BTreeMap::new());
        }
        let unreadable = |error| Failure::new(format!("{} cannot be read: {error}", folder.display()));
        let mut found = BTreeMap::new();
        for entry in fs::read_dir(&folder).map_err(unreadable)? {
            let entry = entry.map_err(unreadable)?;
            let name = entry.file_name().to_string_lossy().into_owned();
            // Readers pass over these: a kill may leave one half written.
            if name.starts_with('.') {
                continue;
            }
            let body = fs::read(entry.path()).map_err(unreadable)?;
            let message = name.strip_suffix(ENDING).unwrap_or(&name).to_owned();
            found.insert(message, Content::of(&body));
        }
        Ok(found)
    }
}

fn unwritable(path: &Path, error: &std::io::Error) -> Failure {
    Failure::new(format!("{} cannot be written: {error}", path.display()))
        .next("make room there, or set TMPDIR to another folder")
}

fn config(engine: EngineKind, data: &Path, url: &str, undelivered: &Path) -> Result<String, Failure> {
    let (data, undelivered) = (quoted(data)?, quoted(undelivered)?);
    let engine = engine.as_str();
    Ok(format!(
        "\
[box]
data = {data}
engine = \"{engine}\"
[server]
listen = \"127.0.0.1:0\"
[[port]]
name = \"{PORT}\"
[port.primary]
adapter = \"http\"
url = \"{url}\"
retry = {{ attempts = {ATTEMPTS}, first = \"20ms\", factor = 2.0, max = \"500ms\", jitter = 0.2 }}
[port.backup]
adapter = \"file\"
folder = {undelivered}
name = \"{{message_id}}{ENDING}\"
"
    ))
}

/// A path as TOML writes it: what JSON escapes, TOML escapes alike.
fn quoted(path: &Path) -> Result<String, Failure> {
    let text = path.to_str().and_then(|text| serde_json::to_string(text).ok());
    text.ok_or_else(|| {
        Failure::new(format!("{} is not UTF-8", path.display())).next("set TMPDIR to a folder that is")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_configuration_is_one_wherever_the_folder_is() {
        let kinds = pillarbox_adapters::registry();
        for folder in ["/a", "/with \"quotes\" and \\", "/ümläut's\t"] {
            let folder = Path::new(folder);
            let text = config(EngineKind::Sled, folder, "http://127.0.0.1:9/in", folder).unwrap();
            let config = crate::config::check("pillarbox.toml", &text, &kinds).unwrap();
            assert_eq!(config.mailbox.data, folder);
            assert_eq!(config.mailbox.engine, EngineKind::Sled);
            assert_eq!(config.ports[0].primary.retry.attempts, ATTEMPTS);
        }
    }

    #[test]
    fn half_written_files_are_passed_over() {
        let stage = Stage::new().unwrap();
        assert!(stage.read_undelivered().unwrap().is_empty());
        fs::create_dir(stage.undelivered()).unwrap();
        for name in ["a.msg", ".pillarbox-1.tmp", "stray"] {
            fs::write(stage.undelivered().join(name), "x").unwrap();
        }
        let found = stage.read_undelivered().unwrap();
        assert_eq!(found.keys().collect::<Vec<_>>(), ["a", "stray"]);
        assert_eq!(found["a"], Content::of(b"x"));
    }
}
