//! From a message to a request.

use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};

use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Method, Request, Uri};
use http_body::{Frame, SizeHint};
use pillarbox_runtime::adapter::SendError;
use pillarbox_store::{Body, Error, ErrorKind, HeaderValue as Value};

use super::settings::HttpSettings;
use crate::parcel::Parcel;
use crate::web::Forward;

/// The header with the message's id.
pub(super) const MESSAGE_ID: HeaderName = HeaderName::from_static("x-pillarbox-message-id");
/// The header with the attempt's number.
pub(super) const ATTEMPT: HeaderName = HeaderName::from_static("x-pillarbox-attempt");
/// The header of a message that the destination may have already, though the attempt's number does not say so.
pub(super) const IN_DOUBT: HeaderName = HeaderName::from_static("x-pillarbox-in-doubt");

/// What the names of forwarded message headers begin with.
const FORWARDED: &str = "x-pillarbox-h-";
/// Message headers that go along under their own names.
const VERBATIM: [&str; 3] = ["content-type", "traceparent", "tracestate"];

/// What is the same in every request.
pub(super) struct Blank {
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    idempotency: HeaderName,
    forward: Forward,
}

impl Blank {
    /// A blank with these headers, whose secrets were resolved.
    pub(super) fn new(settings: &HttpSettings, mut headers: HeaderMap) -> Self {
        headers.insert(header::CONTENT_TYPE, settings.content_type.clone());
        if !headers.contains_key(header::USER_AGENT) {
            let agent = HeaderValue::from_static(concat!("pillarbox/", env!("CARGO_PKG_VERSION")));
            headers.insert(header::USER_AGENT, agent);
        }
        Self {
            method: settings.method.clone(),
            uri: settings.url.0.clone(),
            headers,
            idempotency: settings.idempotency_header.clone(),
            forward: settings.forward.clone(),
        }
    }

    /// The request for a message, whose body is read while it is sent. Should the box fail to give it, its error is
    /// then found in the cell.
    ///
    /// # Errors
    /// Permanent: something of the message cannot be put into a header.
    pub(super) fn fill(
        &self,
        parcel: &Parcel<'_>,
    ) -> Result<(Request<Streamed>, Arc<OnceLock<Error>>), SendError> {
        let mut headers = self.headers.clone();
        for (name, value) in parcel.headers.iter() {
            let verbatim = VERBATIM.contains(&name);
            if verbatim {
                headers.insert(header_name(name)?, header_value(name, value)?);
            } else if self.forward.takes(name) {
                headers.insert(header_name(&format!("{FORWARDED}{name}"))?, header_value(name, value)?);
            }
        }
        let key = HeaderValue::from_str(parcel.send_key).map_err(|error| {
            SendError::permanent("the send key does not fit into a header").caused_by(error)
        })?;
        headers.insert(self.idempotency.clone(), key);
        headers.insert(MESSAGE_ID, header_value("message id", &Value::Text(parcel.message_id.to_string()))?);
        headers.insert(ATTEMPT, HeaderValue::from(parcel.attempt));
        if parcel.in_doubt {
            headers.insert(IN_DOUBT, HeaderValue::from_static("true"));
        }
        headers.insert(header::CONTENT_LENGTH, HeaderValue::from(parcel.body.len()));
        let body = Streamed::new(parcel.body.clone());
        let failed = Arc::clone(&body.failed);
        let mut request = Request::new(body);
        *request.method_mut() = self.method.clone();
        *request.uri_mut() = self.uri.clone();
        *request.headers_mut() = headers;
        Ok((request, failed))
    }
}

fn header_name(name: &str) -> Result<HeaderName, SendError> {
    HeaderName::from_bytes(name.as_bytes()).map_err(|error| {
        SendError::permanent(format!("the message's header {name:?} has a name that HTTP does not take"))
            .caused_by(error)
    })
}

fn header_value(name: &str, value: &Value) -> Result<HeaderValue, SendError> {
    HeaderValue::from_bytes(value.to_string().as_bytes()).map_err(|error| {
        SendError::permanent(format!("the message's header {name:?} has a value that HTTP does not take"))
            .caused_by(error)
    })
}

/// A message's body, read a fragment at a time as the connection takes it.
#[derive(Debug)]
pub(super) struct Streamed {
    body: Body,
    next: u32,
    left: u64,
    failed: Arc<OnceLock<Error>>,
}

impl Streamed {
    /// The body, from its beginning.
    pub(super) fn new(body: Body) -> Self {
        Self { left: body.len(), body, next: 0, failed: Arc::default() }
    }

    /// Whether all of it was read.
    pub(super) const fn is_read(&self) -> bool {
        self.left == 0
    }

    /// The next fragment of one that was not read to its end.
    ///
    /// # Errors
    /// The box does not give it.
    pub(super) fn read(&mut self) -> Result<Bytes, Error> {
        let fragment = self.body.fragment(self.next)?;
        let read = fragment.len() as u64;
        if read == 0 || read > self.left {
            return Err(Error::new(ErrorKind::Corrupt, "read a body of its declared length")
                .with("fragment", self.next)
                .with("bytes", read)
                .with("left", self.left));
        }
        self.next += 1;
        self.left -= read;
        Ok(fragment)
    }
}

impl http_body::Body for Streamed {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        if self.left == 0 {
            return Poll::Ready(None);
        }
        let read = self.read();
        if let Err(error) = &read {
            let _first = self.failed.set(error.clone());
            self.left = 0;
        }
        Poll::Ready(Some(read.map(Frame::data)))
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}
