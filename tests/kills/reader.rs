//! One who takes files out of a folder as soon as they are there: whatever is written a second time is seen.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use pillarbox_adapter_kit::peer::run;
use pillarbox_tests::bodies::hash;
use tempfile::TempDir;
use tokio::task::JoinHandle;
use tokio::time::sleep;

use crate::judge::Copy;

/// Between two looks.
const LOOK: Duration = Duration::from_millis(3);

/// What is taken and by whom.
#[derive(Debug)]
pub(crate) struct Reader {
    folder: PathBuf,
    /// On the same disk, so that a file is taken in one step.
    own: TempDir,
    taken: Arc<Mutex<Vec<Copy>>>,
    reading: JoinHandle<()>,
}

impl Reader {
    /// Begins to take what comes to this folder.
    pub(crate) fn start(folder: &Path) -> io::Result<Self> {
        let own = match folder.parent() {
            Some(parent) => tempfile::tempdir_in(parent)?,
            None => tempfile::tempdir()?,
        };
        let taken = Arc::new(Mutex::default());
        let (from, to, list) = (folder.to_owned(), own.path().join("one"), Arc::clone(&taken));
        let reading = run(async move {
            loop {
                // Told once more at the end, where it is a fault of the folder's.
                let _next_time = take(&from, &to, &list);
                sleep(LOOK).await;
            }
        });
        Ok(Self { folder: folder.to_owned(), own, taken, reading })
    }

    /// Takes the rest; everything that was ever taken.
    pub(crate) async fn end(self) -> io::Result<Vec<Copy>> {
        self.reading.abort();
        let _ended = self.reading.await;
        take(&self.folder, &self.own.path().join("one"), &self.taken)?;
        let taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(taken.clone())
    }
}

/// Takes what is there. Names that begin with a dot are to be passed over.
fn take(from: &Path, to: &Path, list: &Mutex<Vec<Copy>>) -> io::Result<()> {
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.starts_with('.') {
            continue;
        }
        fs::rename(entry.path(), to)?;
        let body = hash(&fs::read(to)?);
        let copy = Copy { body, key: Some(name), is_labelled: false };
        list.lock().unwrap_or_else(PoisonError::into_inner).push(copy);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_comes_again_under_its_name_is_taken_again() {
        let folder = tempfile::tempdir().unwrap();
        let reader = Reader::start(folder.path()).unwrap();
        let (file, hidden) = (folder.path().join("a"), folder.path().join(".b"));
        fs::write(&hidden, "not there yet").unwrap();
        for _ in 0..2 {
            fs::write(folder.path().join(".c"), "body").unwrap();
            fs::rename(folder.path().join(".c"), &file).unwrap();
            while file.exists() {
                sleep(LOOK).await;
            }
        }
        let taken = reader.end().await.unwrap();
        let one = Copy { body: hash(b"body"), key: Some("a".to_owned()), is_labelled: false };
        assert_eq!(taken, [one.clone(), one]);
        assert!(hidden.exists());
    }
}
