//! Requests to the store: the library signs and writes them, here they are sent and their answers are judged.

use std::error::Error as StdError;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use http::header::{HeaderValue, IF_NONE_MATCH, USER_AGENT};
use http::{Method, StatusCode};
use http_body_util::{BodyExt as _, Limited};
use object_store::aws::{AmazonS3, AmazonS3Builder};
use object_store::client::{
    HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpRequestBody, HttpResponse,
    HttpService,
};
use object_store::{ClientOptions, RetryConfig};
use pillarbox_runtime::adapter::SendError;
use tokio::sync::Semaphore;
use tokio::time::timeout;

use super::settings::S3Settings;
use crate::said;
use crate::secret::Secret;
use crate::web::{self, Pool};

/// The longest answer that is read. What is asked here has short ones.
const ANSWER_BYTES_MAX: usize = 1024 * 1024;
/// How much of a refusal is shown.
const SHOWN_BYTES_MAX: usize = 1024;

/// Why a request has no success.
#[derive(Debug, Clone, thiserror::Error)]
pub(super) enum Failure {
    /// The store said no.
    #[error("the answer is {status}{said}")]
    Refused {
        status: StatusCode,
        /// The store's name for the reason; empty where it gives none.
        code: String,
        said: String,
    },
    /// There is no answer, or none that can be read.
    #[error("{0}")]
    Unanswered(String),
}

impl Failure {
    /// The reason that `error` has, if a request was made at all.
    pub(super) fn of(error: &object_store::Error) -> Option<Self> {
        let mut cause: Option<&(dyn StdError + 'static)> = Some(error);
        while let Some(error) = cause {
            if let Some(failure) = error.downcast_ref::<Self>() {
                return Some(failure.clone());
            }
            cause = error.source();
        }
        None
    }

    /// The status of a refusal.
    pub(super) const fn status(&self) -> Option<StatusCode> {
        match self {
            Self::Refused { status, .. } => Some(*status),
            Self::Unanswered(_) => None,
        }
    }

    /// The store's name for its reason.
    pub(super) fn code(&self) -> &str {
        match self {
            Self::Refused { code, .. } => code,
            Self::Unanswered(_) => "",
        }
    }
}

/// The library's client with its secrets and certificates read; may block.
///
/// # Errors
/// Temporary: one of them cannot be read.
pub(super) fn open(settings: &S3Settings) -> Result<AmazonS3, SendError> {
    let access_key = read("access_key", &settings.access_key)?;
    let secret_key = read("secret_key", &settings.secret_key)?;
    let session_token =
        settings.session_token.as_ref().map(|token| read("session_token", token)).transpose()?;
    let mut secrets: Vec<String> = [Some(&secret_key), session_token.as_ref()]
        .into_iter()
        .flatten()
        .flat_map(|s| said::guarded(s))
        .collect();
    // The whole of a secret before its parts.
    secrets.sort_by_key(|secret| std::cmp::Reverse(secret.len()));
    let requests = Requests(Arc::new(Inner {
        pool: web::pool(settings.ways())?,
        turns: Semaphore::new(settings.connections_max),
        timeout: settings.timeout,
        secrets,
    }));
    let mut builder = AmazonS3Builder::new()
        .with_bucket_name(&settings.place.bucket)
        .with_region(&settings.region)
        .with_endpoint(&settings.endpoint.url)
        .with_allow_http(!settings.endpoint.encrypted)
        .with_access_key_id(access_key)
        .with_secret_access_key(secret_key)
        // Whether to try again is decided by the route.
        .with_retry(RetryConfig { max_retries: 0, ..RetryConfig::default() })
        .with_http_connector(requests);
    if let Some(token) = session_token {
        builder = builder.with_token(token);
    }
    builder
        .build()
        .map_err(|error| SendError::permanent("the store's client cannot be set up").caused_by(error))
}

/// A secret, which goes into a header.
fn read(key: &str, secret: &Secret) -> Result<String, SendError> {
    let unusable = |reason: &str| SendError::temporary(format!("{key}: {reason}"));
    let value = secret.resolve().map_err(|reason| unusable(&reason))?;
    if value.is_empty() || !value.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(unusable("the value has visible ASCII characters only, and at least one"));
    }
    Ok(value)
}

/// Sends the library's requests by our own connections.
#[derive(Debug, Clone)]
struct Requests(Arc<Inner>);

struct Inner {
    pool: Pool<HttpRequestBody>,
    turns: Semaphore,
    timeout: Duration,
    secrets: Vec<String>,
}

impl std::fmt::Debug for Inner {
    /// Without secrets.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Inner").field("timeout", &self.timeout).finish_non_exhaustive()
    }
}

impl HttpConnector for Requests {
    fn connect(&self, _options: &ClientOptions) -> object_store::Result<HttpClient> {
        Ok(HttpClient::new(self.clone()))
    }
}

#[async_trait]
impl HttpService for Requests {
    async fn call(&self, mut request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let agent = HeaderValue::from_static(concat!("pillarbox/", env!("CARGO_PKG_VERSION")));
        request.headers_mut().insert(USER_AGENT, agent);
        if completes(&request) {
            // The library has no way to ask for it. The header is none of those that are signed.
            request.headers_mut().insert(IF_NONE_MATCH, HeaderValue::from_static("*"));
        }
        // The time begins with the turn: waiting for it is no fault of the store's.
        let _turn = self.0.turns.acquire().await.map_err(|_| unanswered("was not sent".to_owned()))?;
        let late = |_| unanswered(format!("no answer within {:?} (setting timeout)", self.0.timeout));
        timeout(self.0.timeout, self.answer(request)).await.map_err(late)?
    }
}

impl Requests {
    async fn answer(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let sent = self.0.pool.request(request).await;
        let response = sent.map_err(|error| {
            let what =
                if error.is_connect() { "cannot connect" } else { "the connection broke before the answer" };
            unanswered(with_causes(what, &error))
        })?;
        let (head, body) = response.into_parts();
        let body = Limited::new(body, ANSWER_BYTES_MAX).collect().await;
        let body = body.map_err(|error| unanswered(with_causes("the answer is cut off", error.as_ref())))?;
        let body = body.to_bytes();
        if head.status.is_success() {
            return Ok(HttpResponse::from_parts(head, body.into()));
        }
        Err(failed(self.refused(head.status, &body)))
    }

    fn refused(&self, status: StatusCode, body: &Bytes) -> Failure {
        let text = String::from_utf8_lossy(body);
        let code = element(&text, "Code").unwrap_or_default().to_owned();
        let message = element(&text, "Message").unwrap_or(if code.is_empty() { &text } else { "" });
        let whole = if code.is_empty() { message.to_owned() } else { format!("{code}: {message}") };
        let said = said::line(whole.as_bytes(), SHOWN_BYTES_MAX, &self.0.secrets);
        let said = if said.is_empty() { String::new() } else { format!(", saying: {said}") };
        Failure::Refused { status, code, said }
    }
}

/// Whether this request makes an object of its parts.
fn completes(request: &HttpRequest) -> bool {
    let query = request.uri().query().unwrap_or_default();
    request.method() == Method::POST && query.split('&').any(|pair| pair.starts_with("uploadId="))
}

/// What is in the first element of this name.
fn element<'a>(xml: &'a str, name: &str) -> Option<&'a str> {
    let (_, rest) = xml.split_once(&format!("<{name}>"))?;
    Some(rest.split_once(&format!("</{name}>"))?.0)
}

fn unanswered(what: String) -> HttpError {
    failed(Failure::Unanswered(what))
}

/// A kind of error after which the library does not try again by itself.
fn failed(failure: Failure) -> HttpError {
    HttpError::new(HttpErrorKind::Unknown, failure)
}

fn with_causes(what: &str, error: &(dyn StdError + 'static)) -> String {
    let mut text = what.to_owned();
    let mut cause = Some(error);
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}
