//! Messages as files that appear together with the box's record of their deliveries: prepared in a hidden folder of their
//! own, renamed once that is decided.
//!
//! `.pillarbox-BOX_NUMBER.preparing` is being filled; `.pillarbox-BOX_NUMBER.prepared` has every file of the transaction,
//! whole and flushed, under its final name.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use pillarbox_runtime::adapter::{
    Outgoing, SendError, TransactionId, TransactionalSender, Transport, TransportInfo,
};

use super::folder::{Blocked, Folder, failed, is_regular};
use super::send::write_body;
use super::settings::{FileSettings, Mode};
use super::{info, two_phase_info};
use crate::on_thread::on_thread;
use crate::parcel::Parcel;

const HIDDEN: &str = ".pillarbox-";
const PREPARING: &str = ".preparing";
const PREPARED: &str = ".prepared";

/// Sends in transactions of a folder.
#[derive(Debug, Clone)]
pub(super) struct TwoPhase {
    settings: Arc<FileSettings>,
    destination: String,
    /// Steps until a test's crash.
    #[cfg(test)]
    pub(super) steps_left: Arc<std::sync::atomic::AtomicUsize>,
}

impl TwoPhase {
    /// A sender for a folder that is there and can be written to.
    ///
    /// # Errors
    /// Temporary: it is not, with what to do about it.
    pub(super) fn open(settings: FileSettings) -> Result<Self, SendError> {
        Folder::prepare(&settings.folder, settings.create_folder)?;
        // Under whatever name the folder was given, it is the same destination.
        let path = std::fs::canonicalize(&settings.folder)
            .map_err(|error| failed("find the folder", &settings.folder, error.into()))?;
        Ok(Self {
            destination: format!("file:{}", path.display()),
            settings: Arc::new(settings),
            #[cfg(test)]
            steps_left: Arc::new(usize::MAX.into()),
        })
    }

    /// A place in which a test may crash.
    #[cfg(test)]
    fn step(&self) -> Result<(), SendError> {
        let left = self.steps_left.load(Ordering::SeqCst);
        if left == 0 {
            return Err(SendError::temporary("crashed"));
        }
        self.steps_left.store(left - 1, Ordering::SeqCst);
        Ok(())
    }

    #[cfg(not(test))]
    #[expect(clippy::unused_self, clippy::unnecessary_wraps, reason = "a test crashes here")]
    const fn step(&self) -> Result<(), SendError> {
        Ok(())
    }

    /// Leaves the transaction prepared, or something that is no prepared transaction.
    pub(super) fn write(
        &self,
        id: &TransactionId,
        parcels: &[Parcel<'_>],
        is_given_up: &AtomicBool,
    ) -> Result<(), SendError> {
        let folder = Folder::open(&self.settings.folder)?;
        let (preparing, prepared) = (hidden(id, PREPARING), hidden(id, PREPARED));
        self.step()?;
        folder.make(&preparing).map_err(at(&folder, &preparing, "make"))?;
        let inside = folder.inner(&preparing).map_err(at(&folder, &preparing, "open"))?;
        for parcel in parcels {
            let name = self.settings.name.render(parcel)?;
            self.check_free(&folder, &name, parcel)?;
            self.step()?;
            let mut file =
                inside.claim(&name, self.settings.permissions).map_err(at(&inside, &name, "create"))?;
            self.step()?;
            write_body(&mut file, parcel.body, &inside.path_of(&name))?;
            file.sync_all().map_err(|error| at(&inside, &name, "flush")(error.into()))?;
        }
        self.step()?;
        inside.sync().map_err(at(&folder, &preparing, "flush"))?;
        if is_given_up.load(Ordering::SeqCst) {
            return Err(SendError::temporary("it was rolled back while it was being prepared"));
        }
        self.step()?;
        folder.replace(&preparing, &prepared).map_err(at(&folder, &prepared, "rename to"))?;
        self.step()?;
        folder.sync().map_err(at(&folder, &prepared, "flush the folder of"))
    }

    /// Refuses a name that is taken by something else, for as long as that costs the message no more than an attempt.
    fn check_free(&self, folder: &Folder, name: &str, parcel: &Parcel<'_>) -> Result<(), SendError> {
        match self.settings.mode {
            Mode::CreateNew => super::send::is_there(folder, name, parcel).map(|_same| ()),
            Mode::Overwrite | Mode::Append => Ok(()),
        }
    }

    /// Gives every file its final name. What an earlier attempt did is done.
    pub(super) fn publish(&self, id: &TransactionId) -> Result<(), SendError> {
        let folder = Folder::open(&self.settings.folder)?;
        let prepared = hidden(id, PREPARED);
        let inside = match folder.inner(&prepared) {
            Err(Blocked::System(rustix::io::Errno::NOENT)) => return Ok(()),
            other => other.map_err(at(&folder, &prepared, "open"))?,
        };
        for name in names(&inside)? {
            self.step()?;
            let step = |doing: &'static str| at(&folder, &name, doing);
            if self.settings.mode == Mode::Overwrite {
                inside.move_replacing(&name, &folder).map_err(step("replace"))?;
            } else if !inside.move_to(&name, &folder).map_err(step("rename to"))? {
                if !same(&inside, &folder, &name)? {
                    return Err(taken(&folder, &name));
                }
                inside.remove(&name).map_err(step("remove the copy of"))?;
            }
        }
        self.step()?;
        folder.remove_folder(&prepared).map_err(at(&folder, &prepared, "remove"))?;
        self.step()?;
        folder.sync().map_err(at(&folder, &prepared, "flush the folder of"))
    }

    /// Leaves nothing of the transaction.
    pub(super) fn discard(&self, id: &TransactionId) -> Result<(), SendError> {
        let folder = Folder::open(&self.settings.folder)?;
        for hidden in [hidden(id, PREPARING), hidden(id, PREPARED)] {
            let inside = match folder.inner(&hidden) {
                Err(Blocked::System(rustix::io::Errno::NOENT)) => continue,
                other => other.map_err(at(&folder, &hidden, "open"))?,
            };
            for name in names(&inside)? {
                self.step()?;
                inside.remove(&name).map_err(at(&inside, &name, "remove"))?;
            }
            self.step()?;
            folder.remove_folder(&hidden).map_err(at(&folder, &hidden, "remove"))?;
        }
        Ok(())
    }

    /// The transactions of which something is there, the half-written ones too: those are rolled back.
    pub(super) fn list(&self, prefix: &str) -> Result<Vec<TransactionId>, SendError> {
        self.step()?;
        let begins = format!("{HIDDEN}{}", file_name(prefix));
        let ours = |name: &String| {
            let id = name.strip_suffix(PREPARED).or_else(|| name.strip_suffix(PREPARING))?;
            let id = id.starts_with(&begins).then_some(id)?.strip_prefix(HIDDEN)?;
            TransactionId::parse(&id.replacen('_', "/", 1))
        };
        let folder = Folder::open(&self.settings.folder)?;
        Ok(names(&folder)?.iter().filter_map(ours).collect())
    }
}

/// A transaction's name in names of files.
fn file_name(transaction: &str) -> String {
    transaction.replace('/', "_")
}

fn hidden(id: &TransactionId, suffix: &str) -> String {
    format!("{HIDDEN}{}{suffix}", file_name(id.as_str()))
}

fn at<'a>(folder: &'a Folder, name: &'a str, doing: &'static str) -> impl FnOnce(Blocked) -> SendError + 'a {
    move |blocked| failed(doing, &folder.path_of(name), blocked)
}

fn names(folder: &Folder) -> Result<Vec<String>, SendError> {
    folder.names().map_err(at(folder, ".", "list"))
}

fn taken(folder: &Folder, name: &str) -> SendError {
    SendError::permanent(format!(
        "cannot write {}: it exists with other content; move it away, and restart or let the adapter be opened anew",
        folder.path_of(name).display()
    ))
}

/// Whether both folders have a file of this name and content.
fn same(one: &Folder, other: &Folder, name: &str) -> Result<bool, SendError> {
    let open = |folder: &Folder| -> Result<Option<(File, PathBuf)>, SendError> {
        let step = |doing: &'static str| at(folder, name, doing);
        let Some(file) = folder.existing(name).map_err(step("look at"))? else { return Ok(None) };
        Ok(is_regular(&file).map_err(step("look at"))?.then(|| (file, folder.path_of(name))))
    };
    let (Some((mut one, at_one)), Some((mut other, at_other))) = (open(one)?, open(other)?) else {
        return Ok(false);
    };
    let unreadable = |path: &Path, error: io::Error| failed("read", path, error.into());
    let (mut left, mut right) = (vec![0; 64 * 1024], vec![0; 64 * 1024]);
    loop {
        let read = fill(&mut one, &mut left).map_err(|error| unreadable(&at_one, error))?;
        let also = fill(&mut other, &mut right).map_err(|error| unreadable(&at_other, error))?;
        if left.get(..read) != right.get(..also) {
            return Ok(false);
        }
        if read == 0 {
            return other.sync_all().map(|()| true).map_err(|error| failed("flush", &at_other, error.into()));
        }
    }
}

/// Reads as much as there is room for, or as there is.
fn fill(file: &mut File, buffer: &mut [u8]) -> io::Result<usize> {
    let mut read = 0;
    while let Some(rest) = buffer.get_mut(read..).filter(|rest| !rest.is_empty()) {
        match io::Read::read(file, rest) {
            Ok(0) => break,
            Ok(bytes) => read += bytes,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(read)
}

/// Says that nobody waits any more for what a thread prepares.
struct GivenUp(Arc<AtomicBool>);

impl Drop for GivenUp {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

impl Transport for TwoPhase {
    fn describe(&self) -> TransportInfo {
        two_phase_info(info(self.settings.mode))
    }
}

#[async_trait]
impl TransactionalSender for TwoPhase {
    async fn prepare(&self, transaction: &TransactionId, messages: &[Outgoing]) -> Result<(), SendError> {
        let (this, id, messages) = (self.clone(), transaction.clone(), messages.to_vec());
        let given_up = GivenUp(Arc::default());
        let is_given_up = Arc::clone(&given_up.0);
        on_thread(move || {
            let parcels: Vec<Parcel<'_>> = messages.iter().map(Parcel::from).collect();
            this.write(&id, &parcels, &is_given_up)
        })
        .await
    }

    async fn commit(&self, transaction: &TransactionId) -> Result<(), SendError> {
        let (this, id) = (self.clone(), transaction.clone());
        on_thread(move || this.publish(&id)).await
    }

    async fn roll_back(&self, transaction: &TransactionId) -> Result<(), SendError> {
        let (this, id) = (self.clone(), transaction.clone());
        on_thread(move || this.discard(&id)).await
    }

    fn destination(&self) -> String {
        self.destination.clone()
    }

    async fn prepared(&self, prefix: &str) -> Result<Vec<TransactionId>, SendError> {
        let (this, prefix) = (self.clone(), prefix.to_owned());
        on_thread(move || this.list(&prefix)).await
    }
}
