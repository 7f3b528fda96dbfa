//! Writes messages as files.

use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::path::Path;

use pillarbox_runtime::adapter::{
    BlockingSender, ErrorClass, Outgoing, Reconciled, SendError, Transport, TransportInfo,
};
use pillarbox_store::Body;

use super::folder::{Blocked, Folder, failed, is_regular};
use super::info;
use super::settings::{FileSettings, Mode};
use crate::parcel::{Parcel, body_unreadable};
use crate::template::key_hash;

/// Writes each message as one file of a folder, or at the end of one.
#[derive(Debug)]
pub(super) struct FileSender {
    settings: FileSettings,
}

impl FileSender {
    /// A sender for a folder that is there and can be written to.
    ///
    /// # Errors
    /// Temporary: it is not, with what to do about it.
    pub(super) fn open(settings: FileSettings) -> Result<Self, SendError> {
        Folder::prepare(&settings.folder, settings.create_folder)?;
        Ok(Self { settings })
    }

    /// Writes the message. On return it is durable under its final name.
    ///
    /// # Errors
    /// Nothing of the message is to be seen, save in mode append after a crash.
    pub(super) fn deliver(&self, parcel: &Parcel<'_>) -> Result<(), SendError> {
        let name = self.settings.name.render(parcel)?;
        let folder = Folder::open(&self.settings.folder)?;
        match self.settings.mode {
            Mode::CreateNew => self.create_new(&folder, &name, parcel),
            Mode::Overwrite => self.overwrite(&folder, &name, parcel),
            Mode::Append => self.append(&folder, &name, parcel),
        }
    }

    /// Looks whether the message's file is there, with its content; it is durable on return. One that is not may have been
    /// taken away, or an attempt that was given up is still at it.
    ///
    /// # Errors
    /// The folder cannot be looked into.
    pub(super) fn ask(&self, parcel: &Parcel<'_>) -> Result<Reconciled, SendError> {
        if self.settings.mode != Mode::CreateNew {
            return Ok(Reconciled::Unknown);
        }
        // What is wrong with the message or its name, the attempt tells.
        let Ok(name) = self.settings.name.render(parcel) else { return Ok(Reconciled::Unknown) };
        let folder = Folder::open(&self.settings.folder)?;
        match is_there(&folder, &name, parcel) {
            Ok(true) => {
                folder.sync().map_err(at(&folder, &name, "flush the folder of"))?;
                Ok(Reconciled::Landed)
            }
            Ok(false) => Ok(Reconciled::Unknown),
            Err(error) if error.class() == ErrorClass::Permanent => Ok(Reconciled::Unknown),
            Err(error) => Err(error),
        }
    }

    fn create_new(&self, folder: &Folder, name: &str, parcel: &Parcel<'_>) -> Result<(), SendError> {
        let temporary = temporary_name(parcel);
        if !is_there(folder, name, parcel)? {
            self.write_temporary(folder, &temporary, parcel)?;
            if folder.publish(&temporary, name).map_err(at(folder, name, "rename to"))? {
                return folder.sync().map_err(at(folder, name, "flush the folder of"));
            }
            // Somebody took the name in the meantime.
            let same = is_there(folder, name, parcel);
            let _leftover = folder.remove(&temporary);
            if !same? {
                return Err(SendError::temporary(format!(
                    "cannot write {}: a file of that name came and went meanwhile",
                    folder.path_of(name).display()
                )));
            }
        }
        let _leftover = folder.remove(&temporary);
        folder.sync().map_err(at(folder, name, "flush the folder of"))
    }

    fn overwrite(&self, folder: &Folder, name: &str, parcel: &Parcel<'_>) -> Result<(), SendError> {
        let temporary = temporary_name(parcel);
        self.write_temporary(folder, &temporary, parcel)?;
        if let Err(error) = folder.replace(&temporary, name) {
            let _leftover = folder.remove(&temporary);
            return Err(at(folder, name, "replace")(error));
        }
        folder.sync().map_err(at(folder, name, "flush the folder of"))
    }

    /// Leaves the whole message flushed under its temporary name, or nothing.
    fn write_temporary(&self, folder: &Folder, name: &str, parcel: &Parcel<'_>) -> Result<(), SendError> {
        let mut file = folder.claim(name, self.settings.permissions).map_err(at(folder, name, "create"))?;
        let path = folder.path_of(name);
        let written = write_body(&mut file, parcel.body, &path)
            .and_then(|()| file.sync_all().map_err(|error| failed("flush", &path, error.into())));
        if written.is_err() {
            // Gives a full disk its room back. What cannot be removed is cleared away by the next attempt.
            let _leftover = folder.remove(name);
        }
        written
    }

    fn append(&self, folder: &Folder, name: &str, parcel: &Parcel<'_>) -> Result<(), SendError> {
        let path = folder.path_of(name);
        let step = |doing: &'static str| at(folder, name, doing);
        let mut file = folder.appendable(name, self.settings.permissions).map_err(step("append to"))?;
        let length = file.metadata().map_err(|error| step("append to")(error.into()))?.len();
        let written = write_body(&mut file, parcel.body, &path).and_then(|()| {
            file.write_all(self.settings.separator.as_bytes())
                .and_then(|()| file.sync_data())
                .map_err(|error| step("append to")(error.into()))
        });
        if written.is_err() {
            // Half a message in the middle of the file would be worse than one that is there twice.
            file.set_len(length).map_err(|error| step("cut half a message off")(error.into()))?;
            return written;
        }
        if length == 0 { folder.sync().map_err(step("flush the folder of")) } else { Ok(()) }
    }
}

impl Transport for FileSender {
    fn describe(&self) -> TransportInfo {
        info(self.settings.mode)
    }
}

impl BlockingSender for FileSender {
    fn send(&self, message: &Outgoing) -> Result<(), SendError> {
        self.deliver(&Parcel::from(message))
    }

    fn reconcile(&self, message: &Outgoing) -> Result<Reconciled, SendError> {
        self.ask(&Parcel::from(message))
    }
}

/// The name under which the message is written until it is whole: the same on every attempt.
fn temporary_name(parcel: &Parcel<'_>) -> String {
    format!(".pillarbox-{}.tmp", key_hash(parcel.send_key))
}

fn at<'a>(folder: &'a Folder, name: &'a str, doing: &'static str) -> impl FnOnce(Blocked) -> SendError + 'a {
    move |blocked| failed(doing, &folder.path_of(name), blocked)
}

/// Whether the message is there already, from an attempt whose outcome was lost. If so it is durable on return,
/// apart from its name.
pub(super) fn is_there(folder: &Folder, name: &str, parcel: &Parcel<'_>) -> Result<bool, SendError> {
    let step = |doing: &'static str| at(folder, name, doing);
    let Some(mut file) = folder.existing(name).map_err(step("look at"))? else {
        return Ok(false);
    };
    let regular = is_regular(&file).map_err(step("look at"))?;
    if regular && has_content(&mut file, parcel.body, &folder.path_of(name))? {
        file.sync_all().map_err(|error| step("flush")(error.into()))?;
        return Ok(true);
    }
    Err(SendError::permanent(format!(
        "cannot write {}: it exists with other content; move it away, or use mode \"overwrite\"",
        folder.path_of(name).display()
    )))
}

fn has_content(file: &mut File, body: &Body, path: &Path) -> Result<bool, SendError> {
    let unreadable = |error: io::Error| failed("read", path, error.into());
    if file.metadata().map_err(unreadable)?.len() != body.len() {
        return Ok(false);
    }
    let mut there = Vec::new();
    for index in 0..body.fragments() {
        let fragment = body.fragment(index).map_err(body_unreadable)?;
        there.resize(fragment.len(), 0);
        match file.read_exact(&mut there) {
            Ok(()) if there == fragment => {}
            Ok(()) => return Ok(false),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(false),
            Err(error) => return Err(unreadable(error)),
        }
    }
    Ok(true)
}

pub(super) fn write_body(file: &mut File, body: &Body, path: &Path) -> Result<(), SendError> {
    let mut written = 0;
    for index in 0..body.fragments() {
        let fragment = body.fragment(index).map_err(body_unreadable)?;
        file.write_all(&fragment).map_err(|error| failed("write", path, error.into()))?;
        written += fragment.len() as u64;
    }
    if written == body.len() {
        return Ok(());
    }
    Err(SendError::permanent(format!("the message's body has {written} bytes instead of {}", body.len())))
}
