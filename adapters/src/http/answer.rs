//! What a destination's answer means for the delivery.

use std::time::{Duration, UNIX_EPOCH};

use http::header::{self, HeaderMap};
use http::{StatusCode, Uri};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use pillarbox_runtime::adapter::SendError;
use pillarbox_store::{Clock, Timestamp};

use super::settings::Url;
use crate::said;

/// How much of an answer's body is read, so that its connection can be used again.
const READ_BYTES_MAX: usize = 64 * 1024;
/// How much of it is kept: more than is shown, so that a secret at the edge of that is kept whole and found.
const KEPT_BYTES_MAX: usize = 4 * 1024;
/// How much of it is shown.
const SHOWN_BYTES_MAX: usize = 2 * 1024;
/// How much of a redirect's address is shown.
const LOCATION_BYTES_MAX: usize = 512;
/// The longest wait that a destination can ask for.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(24 * 60 * 60);

/// Reads an answer's body, bounded, and keeps its beginning in `kept`.
pub(super) async fn read(mut body: Incoming, kept: &mut Vec<u8>) {
    let mut read = 0;
    while read < READ_BYTES_MAX {
        let Some(Ok(frame)) = body.frame().await else {
            return;
        };
        if let Some(data) = frame.data_ref() {
            read += data.len();
            let room = KEPT_BYTES_MAX - kept.len();
            kept.extend_from_slice(&data[..data.len().min(room)]);
        }
    }
}

/// What tells one destination's answers apart from another's.
pub(super) struct Judge {
    /// Method and address, for people.
    pub(super) request: String,
    /// Whether the destination recognises repeats, so that 409 says that the first of two is still at work.
    pub(super) deduplicates: bool,
    /// Values that must not be shown, should the destination echo them.
    pub(super) secrets: Vec<String>,
}

impl Judge {
    /// The outcome that this answer is.
    ///
    /// # Errors
    /// Temporary for 408, 425, 429 and 5xx; permanent for everything else that is no success.
    pub(super) fn outcome(
        &self,
        status: StatusCode,
        headers: &HeaderMap,
        body: &[u8],
        clock: &dyn Clock,
    ) -> Result<(), SendError> {
        if status.is_success() {
            return Ok(());
        }
        let text = format!("{}: the answer is {status}{}", self.request, self.said(body));
        if status.is_redirection() {
            return Err(SendError::permanent(format!(
                "{}: the answer is {status}, to {}; redirects are not followed, correct the url",
                self.request,
                self.location(headers)
            )));
        }
        if !self.may_pass(status) {
            return Err(SendError::permanent(text));
        }
        let error = SendError::temporary(text);
        Err(match retry_after(headers, clock.now()) {
            Some(span) => error.retry_after(span),
            None => error,
        })
    }

    fn may_pass(&self, status: StatusCode) -> bool {
        status.is_server_error()
            || matches!(
                status,
                StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_EARLY | StatusCode::TOO_MANY_REQUESTS
            )
            || (self.deduplicates && status == StatusCode::CONFLICT)
    }

    fn said(&self, body: &[u8]) -> String {
        let text = said::line(body, SHOWN_BYTES_MAX, &self.secrets);
        if text.is_empty() { String::new() } else { format!(", saying: {text}") }
    }

    fn location(&self, headers: &HeaderMap) -> String {
        let Some(location) = headers.get(header::LOCATION) else {
            return "nowhere (no Location)".to_owned();
        };
        match location.to_str().ok().and_then(|text| text.parse::<Uri>().ok()) {
            Some(uri) => said::line(Url(uri).to_string().as_bytes(), LOCATION_BYTES_MAX, &self.secrets),
            None => "something that is no address".to_owned(),
        }
    }
}

/// The wait that the destination asks for, in seconds or until a date; at most a day.
fn retry_after(headers: &HeaderMap, now: Timestamp) -> Option<Duration> {
    let text = headers.get(header::RETRY_AFTER)?.to_str().ok()?.trim();
    let span = if text.bytes().all(|byte| byte.is_ascii_digit()) && !text.is_empty() {
        text.parse().map_or(RETRY_AFTER_MAX, Duration::from_secs)
    } else {
        let date = httpdate::parse_http_date(text).ok()?.duration_since(UNIX_EPOCH).ok()?;
        Timestamp::EPOCH.plus(date).since(now)
    };
    Some(span.min(RETRY_AFTER_MAX))
}
