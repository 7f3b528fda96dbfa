//! Puts messages into a bucket.

use std::fmt;

use async_trait::async_trait;
use bytes::Bytes;
use http::StatusCode;
use object_store::aws::AmazonS3;
use object_store::list::{PaginatedListOptions, PaginatedListStore as _};
use object_store::path::Path;
use object_store::{
    Attributes, Error, GetOptions, MultipartUpload, ObjectStore, PutMode, PutMultipartOptions, PutOptions,
    PutPayload,
};
use pillarbox_runtime::adapter::{
    ErrorClass, Outgoing, Reconciled, SendError, Sender, Transport, TransportInfo,
};
use pillarbox_store::FRAGMENT_BYTES;

use super::client::{self, Failure};
use super::settings::S3Settings;
use super::{info, metadata};
use crate::on_thread::on_thread;
use crate::parcel::{Parcel, body_unreadable};

/// Bodies longer than this go in parts of this many bytes, one after another: what is in memory of one.
pub(super) const PART_BYTES: u64 = 8 * 1024 * 1024;
/// The most parts of which an object can be made; those of a longer body are larger.
const PARTS_MAX: u64 = 10_000;

/// The store's names for what is wrong with a message, whenever it is sent.
const ABOUT_THE_MESSAGE: [&str; 4] =
    ["EntityTooLarge", "KeyTooLongError", "MetadataTooLarge", "RequestHeaderSectionTooLarge"];

/// Puts each message as an object.
pub(super) struct S3Sender {
    settings: S3Settings,
    store: AmazonS3,
}

/// What the store does with an object that it is given.
enum Put {
    Done,
    /// An object of the name is there already, or is being made.
    Taken,
}

/// What is to be seen under a message's name.
enum Seen {
    /// The object that an attempt of this delivery made.
    Ours,
    Nothing,
    /// We may not look; so the store answers also for what is not there where we may not list.
    Forbidden(SendError),
}

impl S3Sender {
    /// A sender for a bucket that is there, as far as we may look.
    ///
    /// # Errors
    /// Temporary: a secret cannot be read, or the store does not answer, refuses us or has no such bucket.
    pub(super) async fn open(settings: S3Settings) -> Result<Self, SendError> {
        let read = settings.clone();
        let store = on_thread(move || client::open(&read)).await?;
        let sender = Self { settings, store };
        let one = PaginatedListOptions { max_keys: Some(1), ..PaginatedListOptions::default() };
        let listed = sender.store.list_paginated(None, one).await;
        let Err(error) = listed else { return Ok(sender) };
        match Failure::of(&error) {
            // Whoever may only write is not told what there is, and is known to the store.
            Some(failure) if failure.code() == "AccessDenied" => Ok(sender),
            Some(_) => Err(sender.failed("look at the bucket", &error).into_temporary()),
            // It answers; what it lists may have names that the library does not take.
            None => Ok(sender),
        }
    }

    /// Puts the message, unless it is there already.
    ///
    /// # Errors
    /// The store refuses it or does not answer, or another object has its name.
    pub(super) async fn deliver(&self, parcel: &Parcel<'_>) -> Result<(), SendError> {
        let name = self.settings.name_of(parcel)?;
        let unfit =
            |error| SendError::permanent(format!("{name:?} is no name of an object")).caused_by(error);
        let path = Path::parse(&name).map_err(unfit)?;
        let attributes = metadata::of(parcel, &self.settings)?;
        let put = if parcel.body.len() <= PART_BYTES {
            self.put_whole(&path, attributes, parcel).await?
        } else {
            // Sending it all again would find this out at the end only.
            match self.look(&path, parcel).await? {
                Seen::Ours => return Ok(()),
                Seen::Nothing | Seen::Forbidden(_) => self.put_in_parts(&path, attributes, parcel).await?,
            }
        };
        if matches!(put, Put::Done) {
            return Ok(());
        }
        match self.look(&path, parcel).await? {
            Seen::Ours => Ok(()),
            Seen::Forbidden(error) => Err(error),
            Seen::Nothing => {
                let place = &self.settings.place;
                let text = format!("{place}: {path}: another attempt is making it, or it came and went");
                Err(SendError::temporary(text))
            }
        }
    }

    /// Asks whether the message's object is there. One that is not may have been taken away, or is still on its way.
    ///
    /// # Errors
    /// The store does not answer.
    pub(super) async fn ask(&self, parcel: &Parcel<'_>) -> Result<Reconciled, SendError> {
        // What is wrong with the message or its name, the attempt tells.
        let Ok(name) = self.settings.name_of(parcel) else { return Ok(Reconciled::Unknown) };
        let Ok(path) = Path::parse(&name) else { return Ok(Reconciled::Unknown) };
        match self.look(&path, parcel).await {
            Ok(Seen::Ours) => Ok(Reconciled::Landed),
            Ok(Seen::Nothing | Seen::Forbidden(_)) => Ok(Reconciled::Unknown),
            Err(error) if error.class() == ErrorClass::Permanent => Ok(Reconciled::Unknown),
            Err(error) => Err(error),
        }
    }

    async fn put_whole(
        &self,
        path: &Path,
        attributes: Attributes,
        parcel: &Parcel<'_>,
    ) -> Result<Put, SendError> {
        let mut parts = Parts::new(parcel);
        let payload = parts.next(PART_BYTES)?;
        let options = PutOptions { mode: PutMode::Create, attributes, ..PutOptions::default() };
        self.outcome("put", path, self.store.put_opts(path, payload, options).await.map(drop))
    }

    async fn put_in_parts(
        &self,
        path: &Path,
        attributes: Attributes,
        parcel: &Parcel<'_>,
    ) -> Result<Put, SendError> {
        let options = PutMultipartOptions { attributes, ..PutMultipartOptions::default() };
        let begun = self.store.put_multipart_opts(path, options).await;
        let mut upload = begun.map_err(|error| self.failed(&format!("begin {path}"), &error).into_error())?;
        let put = self.put_parts(path, upload.as_mut(), parcel).await;
        if !matches!(put, Ok(Put::Done)) {
            // The store keeps parts until somebody takes them away.
            let _leftover = upload.abort().await;
        }
        put
    }

    async fn put_parts(
        &self,
        path: &Path,
        upload: &mut dyn MultipartUpload,
        parcel: &Parcel<'_>,
    ) -> Result<Put, SendError> {
        let bytes = PART_BYTES.max(parcel.body.len().div_ceil(PARTS_MAX));
        let mut parts = Parts::new(parcel);
        while parts.left > 0 {
            let sent = upload.put_part(parts.next(bytes)?).await;
            sent.map_err(|error| self.failed(&format!("put a part of {path}"), &error).into_error())?;
        }
        self.outcome("complete", path, upload.complete().await.map(drop))
    }

    fn outcome(&self, doing: &str, path: &Path, put: Result<(), Error>) -> Result<Put, SendError> {
        let Err(error) = put else { return Ok(Put::Done) };
        let failed = self.failed(&format!("{doing} {path}"), &error);
        match failed.status {
            Some(StatusCode::PRECONDITION_FAILED | StatusCode::CONFLICT) => Ok(Put::Taken),
            _ => Err(failed.into_error()),
        }
    }

    /// Looks whether the message's object is there, from an attempt whose outcome was lost.
    ///
    /// # Errors
    /// Permanent where another object has its name.
    async fn look(&self, path: &Path, parcel: &Parcel<'_>) -> Result<Seen, SendError> {
        let looked = self.store.get_opts(path, GetOptions::new().with_head(true)).await;
        let found = match looked {
            Ok(found) => found,
            Err(error) => {
                let failed = self.failed(&format!("look at {path}"), &error);
                return match failed.status {
                    Some(StatusCode::NOT_FOUND) => Ok(Seen::Nothing),
                    Some(StatusCode::FORBIDDEN) => Ok(Seen::Forbidden(failed.into_error())),
                    _ => Err(failed.into_error()),
                };
            }
        };
        if metadata::is_of(&found.attributes, parcel) && found.meta.size == parcel.body.len() {
            return Ok(Seen::Ours);
        }
        Err(SendError::permanent(format!(
            "{}: {path}: an object of that name is there and is not this message's; move it away, or set `name` \
             so that names differ",
            self.settings.place
        )))
    }

    fn failed(&self, doing: &str, error: &Error) -> Failed {
        let failure = Failure::of(error);
        let why = failure.as_ref().map_or_else(|| error.to_string(), Failure::to_string);
        Failed {
            text: format!("{} at {}: cannot {doing}: {why}", self.settings.place, self.settings.endpoint.url),
            permanent: failure.as_ref().is_some_and(|failure| ABOUT_THE_MESSAGE.contains(&failure.code())),
            status: failure.as_ref().and_then(Failure::status),
        }
    }
}

/// A step that failed, in words.
struct Failed {
    text: String,
    permanent: bool,
    status: Option<StatusCode>,
}

impl Failed {
    fn into_temporary(self) -> SendError {
        SendError::temporary(self.text)
    }

    fn into_error(self) -> SendError {
        if self.permanent { SendError::permanent(self.text) } else { SendError::temporary(self.text) }
    }
}

/// A body, read a part at a time.
struct Parts<'a> {
    parcel: &'a Parcel<'a>,
    next: u32,
    left: u64,
    /// What of a fragment belongs to the next part.
    rest: Bytes,
}

impl<'a> Parts<'a> {
    fn new(parcel: &'a Parcel<'a>) -> Self {
        Self { parcel, next: 0, left: parcel.body.len(), rest: Bytes::new() }
    }

    /// The next so many bytes, or what is left.
    ///
    /// # Errors
    /// The box does not give them.
    fn next(&mut self, bytes: u64) -> Result<PutPayload, SendError> {
        let mut wanted = bytes.min(self.left);
        let mut pieces = Vec::with_capacity(usize::try_from(wanted).unwrap_or(0) / FRAGMENT_BYTES + 2);
        while wanted > 0 {
            if self.rest.is_empty() {
                self.rest = self.parcel.body.fragment(self.next).map_err(body_unreadable)?;
                self.next += 1;
            }
            if self.rest.is_empty() {
                let text = format!("the message's body ends {} bytes before its length", self.left);
                return Err(SendError::permanent(text));
            }
            let take = usize::try_from(wanted).unwrap_or(usize::MAX).min(self.rest.len());
            pieces.push(self.rest.split_to(take));
            wanted -= take as u64;
            self.left -= take as u64;
        }
        Ok(pieces.into_iter().collect())
    }
}

impl fmt::Debug for S3Sender {
    /// Without the client, which knows the secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("S3Sender").field("settings", &self.settings).finish_non_exhaustive()
    }
}

impl Transport for S3Sender {
    fn describe(&self) -> TransportInfo {
        info()
    }
}

#[async_trait]
impl Sender for S3Sender {
    async fn send(&self, message: &Outgoing) -> Result<(), SendError> {
        self.deliver(&Parcel::from(message)).await
    }

    async fn reconcile(&self, message: &Outgoing) -> Result<Reconciled, SendError> {
        self.ask(&Parcel::from(message)).await
    }
}
