//! Writes messages as files of a server.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use futures_util::future::try_join_all;
use pillarbox_runtime::adapter::{Outgoing, Reconciled, SendError, Sender, Transport, TransportInfo};
use pillarbox_store::IdSource;
use russh_sftp::protocol::{FileAttributes, OpenFlags, StatusCode};

use super::info;
use super::session::{Fault, Login, Session};
use super::settings::SftpSettings;
use crate::on_thread::on_thread;
use crate::parcel::{Parcel, body_unreadable};
use crate::template::key_hash;

/// How much goes in one request: what every server takes.
const WRITE_BYTES: usize = 32 * 1024;

/// Writes each message as one file.
pub(super) struct SftpSender {
    settings: SftpSettings,
    ids: IdSource,
    session: Mutex<Option<Arc<Session>>>,
    /// Held by whoever connects.
    connecting: tokio::sync::Mutex<()>,
}

impl SftpSender {
    /// A sender that is connected, with a folder that is there.
    ///
    /// # Errors
    /// Temporary: a secret cannot be read, the server does not answer, is not the one that is known or refuses us, or
    /// has no such folder.
    pub(super) async fn open(settings: SftpSettings, ids: IdSource) -> Result<Self, SendError> {
        let sender =
            Self { settings, ids, session: Mutex::default(), connecting: tokio::sync::Mutex::default() };
        let session = sender.session().await?;
        sender.prepare(&session).await.map_err(|fault| fault.error)?;
        Ok(sender)
    }

    /// Writes the message. On return it is there under its final name.
    ///
    /// # Errors
    /// Under its final name there is what there was, or all of the message.
    pub(super) async fn deliver(&self, parcel: &Parcel<'_>) -> Result<(), SendError> {
        let name = self.settings.name.render(parcel)?;
        let path = self.settings.path_of(&name);
        // Another for each attempt: what one of old left in the server's ears must not meet this one's file.
        let temporary = format!(".pillarbox-{}-{:016x}.tmp", key_hash(parcel.send_key), self.ids.random());
        let temporary = self.settings.path_of(&temporary);
        let session = self.session().await?;
        let mut turn = Turn { sender: self, session: &session, whole: false };
        let put = put(&session, &temporary, &path, parcel).await;
        turn.whole = !put.as_ref().is_err_and(|fault| fault.broken);
        put.map_err(|fault| fault.error)
    }

    /// Asks whether the message's file is there. One that is not may have been taken away, or is still on its way.
    ///
    /// # Errors
    /// The server does not answer, or does not let us look.
    pub(super) async fn ask(&self, parcel: &Parcel<'_>) -> Result<Reconciled, SendError> {
        // What is wrong with the message, the attempt tells.
        let Ok(name) = self.settings.name.render(parcel) else { return Ok(Reconciled::Unknown) };
        let session = self.session().await?;
        let mut turn = Turn { sender: self, session: &session, whole: false };
        let has = session.has(&self.settings.path_of(&name), parcel.body.len()).await;
        turn.whole = !has.as_ref().is_err_and(|fault| fault.broken);
        let has = has.map_err(|fault| fault.error)?;
        Ok(if has { Reconciled::Landed } else { Reconciled::Unknown })
    }

    /// The connection, made anew where there is none.
    async fn session(&self) -> Result<Arc<Session>, SendError> {
        let _turn = self.connecting.lock().await;
        if let Some(session) = self.slot().as_ref().filter(|session| !session.is_closed()) {
            return Ok(Arc::clone(session));
        }
        let read = self.settings.clone();
        let login = on_thread(move || Login::read(&read)).await?;
        let session = Arc::new(Session::connect(&self.settings, login).await?);
        *self.slot() = Some(Arc::clone(&session));
        Ok(session)
    }

    fn slot(&self) -> MutexGuard<'_, Option<Arc<Session>>> {
        self.session.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Looks whether the folder is there, and makes it if that is wanted.
    async fn prepare(&self, session: &Session) -> Result<(), Fault> {
        let folder = &self.settings.folder;
        let look = || session.step("cannot look at the folder", session.sftp.stat(folder.as_str()));
        let mut found = look().await;
        if self.settings.create_folder
            && matches!(&found, Err(fault) if fault.code == Some(StatusCode::NoSuchFile))
        {
            for (end, _) in folder.match_indices('/').chain([(folder.len(), "")]).filter(|(end, _)| *end > 0)
            {
                // Whether it was there already shows in the end.
                let _there = session.sftp.mkdir(&folder[..end], FileAttributes::empty()).await;
            }
            found = look().await;
        }
        let attributes = found
            .map_err(|fault| match fault.code {
                Some(StatusCode::NoSuchFile) => {
                    let text = format!("the folder {folder} is not there; make it, or set `create_folder`");
                    Fault::from(session.failed(&text))
                }
                _ => fault,
            })?
            .attrs;
        if attributes.permissions.is_some() && !attributes.is_dir() {
            return Err(session.failed(&format!("{folder} is no folder")).into());
        }
        Ok(())
    }
}

/// Writes the message under its temporary name and gives it its own.
async fn put(session: &Session, temporary: &str, path: &str, parcel: &Parcel<'_>) -> Result<(), Fault> {
    let written = async {
        write(session, temporary, path, parcel).await?;
        session.publish(temporary, path, parcel.body.len()).await
    };
    let Err(fault) = written.await else { return Ok(()) };
    if !fault.broken {
        let _leftover = session.remove(temporary).await;
    }
    Err(fault)
}

/// Leaves the whole message under its temporary name.
async fn write(session: &Session, temporary: &str, path: &str, parcel: &Parcel<'_>) -> Result<(), Fault> {
    let flags = OpenFlags::CREATE | OpenFlags::EXCLUDE | OpenFlags::WRITE;
    let opening = session.sftp.open(temporary, flags, FileAttributes::empty());
    let handle = session.step(&format!("cannot create a file beside {path}"), opening).await?.handle;
    let written = async {
        let mut at = 0;
        for index in 0..parcel.body.fragments() {
            let fragment = parcel.body.fragment(index).map_err(body_unreadable)?;
            let writes = fragment.chunks(WRITE_BYTES).zip((at..).step_by(WRITE_BYTES));
            let writes = writes.map(|(bytes, at)| session.sftp.write(handle.as_str(), at, bytes.to_vec()));
            session.step(&format!("cannot write {path}"), try_join_all(writes)).await?;
            at += fragment.len() as u64;
        }
        if at != parcel.body.len() {
            let text = format!("the message's body has {at} bytes instead of {}", parcel.body.len());
            return Err(SendError::permanent(text).into());
        }
        session.flush(path, &handle).await
    };
    let written = written.await;
    if written.as_ref().is_err_and(|fault| fault.broken) {
        return written;
    }
    // What the server could not write it may say only now.
    let closed = session.step(&format!("cannot close {path}"), session.sftp.close(handle.as_str())).await;
    written.and(closed.map(drop))
}

/// An attempt over a connection. One that is dropped before its end leaves the connection to nobody: there is a file
/// open in it, and on its way may be more.
struct Turn<'a> {
    sender: &'a SftpSender,
    session: &'a Arc<Session>,
    whole: bool,
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        if !self.whole {
            self.sender.slot().take_if(|session| Arc::ptr_eq(session, self.session));
        }
    }
}

impl fmt::Debug for SftpSender {
    /// Without the connection, which knows the password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SftpSender").field("settings", &self.settings).finish_non_exhaustive()
    }
}

impl Transport for SftpSender {
    fn describe(&self) -> TransportInfo {
        info()
    }
}

#[async_trait]
impl Sender for SftpSender {
    async fn send(&self, message: &Outgoing) -> Result<(), SendError> {
        self.deliver(&Parcel::from(message)).await
    }

    async fn reconcile(&self, message: &Outgoing) -> Result<Reconciled, SendError> {
        self.ask(&Parcel::from(message)).await
    }
}
