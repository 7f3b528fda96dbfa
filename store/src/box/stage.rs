//! Long bodies go into the box fragment by fragment, ahead of their message, in bounded memory.

use std::fmt;
use std::sync::{Arc, Weak};

use bytes::{Bytes, BytesMut};

use super::{Handle, MessageBox};
use crate::ledger::Prepared;
use crate::{Body, Error, ErrorKind, FRAGMENT_BYTES, OpResult, Staged};

/// Puts a body into the box, fragment by fragment. Holds at most one fragment in memory.
///
/// A body that turns out to be short never goes there ahead: [`BodyWriter::finish`] then gives one in memory.
pub struct BodyWriter {
    mailbox: MessageBox,
    pending: BytesMut,
    staged: Option<Staged>,
    index: u32,
    len: u64,
}

impl BodyWriter {
    pub(super) fn new(mailbox: MessageBox) -> Self {
        Self { mailbox, pending: BytesMut::new(), staged: None, index: 0, len: 0 }
    }

    /// Bytes written so far.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Whether nothing was written yet.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Appends to the body. Whole fragments are handed to the box at once, written but not flushed: the commit of
    /// their message flushes them.
    ///
    /// # Errors
    /// As [`crate::Store::commit`]: [`ErrorKind::Invalid`] past the box's longest body, [`ErrorKind::Full`] without
    /// room. The body is given up and its room given back when the writer is dropped.
    ///
    /// # Cancel
    /// The body is spoilt: drop the writer.
    pub async fn write(&mut self, mut bytes: Bytes) -> Result<(), Error> {
        self.len += bytes.len() as u64;
        let most = self.mailbox.shared().config.body_bytes_max;
        if self.len > most {
            return Err(Error::new(ErrorKind::Invalid, "take the body")
                .with("reason", "it is longer than the box allows")
                .with("body_bytes_max", most));
        }
        while self.pending.len() + bytes.len() > FRAGMENT_BYTES {
            let part = bytes.split_to(FRAGMENT_BYTES - self.pending.len());
            self.pending.extend_from_slice(&part);
            let fragment = self.pending.split().freeze();
            self.put(fragment).await?;
        }
        self.pending.extend_from_slice(&bytes);
        Ok(())
    }

    /// The body, to be submitted in a [`crate::Message`]. Dropping it instead gives its room back.
    ///
    /// # Errors
    /// As [`BodyWriter::write`].
    ///
    /// # Cancel
    /// The body's room is given back.
    pub async fn finish(mut self) -> Result<Body, Error> {
        let rest = self.pending.split().freeze();
        if self.staged.is_none() {
            return Ok(Body::from(rest));
        }
        self.put(rest).await?;
        let len = self.len;
        Ok(self.staged.take().map_or_else(Body::default, |mut staged| {
            staged.len = len;
            Body::staged(staged)
        }))
    }

    async fn put(&mut self, fragment: Bytes) -> Result<(), Error> {
        let shared = self.mailbox.shared();
        let number = match &self.staged {
            Some(staged) => staged.number,
            None => {
                let number = shared.state().ledger.begin_staging();
                let owner = Arc::downgrade(&self.mailbox.handle);
                self.staged =
                    Some(Staged { number, len: 0, discard: Some(Box::new(move |n| discard(&owner, n))) });
                number
            }
        };
        let batch = Prepared::stage(shared.config.ids.batch(), number, self.index, fragment);
        let committed = self.mailbox.handle.committer.commit(shared, batch).await?;
        self.index += 1;
        match committed.results() {
            [OpResult::Refused(refusal)] => {
                Err(Error::new(ErrorKind::Invalid, "take the body").caused_by(refusal.clone()))
            }
            _ => Ok(()),
        }
    }
}

/// Gives the room of a body back that nobody submitted. Does nothing for one that was.
fn discard(owner: &Weak<Handle>, number: u64) {
    if let Some(handle) = owner.upgrade() {
        let batch = Prepared::unstage(handle.shared.config.ids.batch(), number);
        handle.committer.commit_unattended(&handle.shared, batch);
    }
}

impl fmt::Debug for BodyWriter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BodyWriter")
            .field("len", &self.len)
            .field("staged", &self.staged)
            .finish_non_exhaustive()
    }
}
