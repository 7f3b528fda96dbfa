//! Sends messages as requests.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use http::Response;
use http::header::{HeaderMap, HeaderValue};
use hyper::body::Incoming;
use hyper_util::client::legacy::Error as ClientError;
use pillarbox_runtime::adapter::{Outgoing, SendError, Sender, Transport, TransportInfo};
use pillarbox_store::Clock;
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout_at};

use super::answer::{self, Judge};
use super::info;
use super::request::{Blank, Streamed};
use super::settings::HttpSettings;
use super::signature::{self, Signer};
use crate::parcel::{Parcel, body_unreadable};
use crate::said;
use crate::web::{self, Pool};

/// How long an answer's body is waited for. Its status has decided by then.
const ANSWER_BODY_WAIT: Duration = Duration::from_secs(2);

/// Sends each message as one request.
pub(super) struct HttpSender {
    pool: Pool<Streamed>,
    requests: Semaphore,
    blank: Blank,
    signers: Vec<Signer>,
    judge: Judge,
    timeout: Duration,
    clock: Arc<dyn Clock>,
}

impl HttpSender {
    /// A sender with its secrets and certificates read. It connects at its first message.
    ///
    /// # Errors
    /// Temporary: a secret or certificate cannot be read.
    pub(super) fn open(settings: &HttpSettings, clock: Arc<dyn Clock>) -> Result<Self, SendError> {
        let mut headers = HeaderMap::new();
        let mut secrets = Vec::new();
        for (name, secret) in &settings.headers {
            let unusable = |reason: &str| SendError::temporary(format!("headers.{name}: {reason}"));
            let value = secret.resolve().map_err(|reason| unusable(&reason))?;
            let mut header = HeaderValue::from_str(&value)
                .map_err(|_| unusable("the value has visible ASCII characters and spaces only"))?;
            header.set_sensitive(secret.is_reference() || is_credential(name.as_str()));
            if header.is_sensitive() {
                secrets.extend(said::guarded(&value));
            }
            headers.insert(name.clone(), header);
        }
        let mut signers = Vec::new();
        for (at, secret) in settings.webhook_secrets.iter().enumerate() {
            let unusable = |reason: String| SendError::temporary(format!("webhook_secrets[{at}]: {reason}"));
            let value = secret.resolve().map_err(unusable)?;
            signers.push(Signer::parse(&value).map_err(unusable)?);
            secrets.extend(said::guarded(&value));
            // It may be told without its beginning.
            secrets.extend(value.split_once('_').into_iter().flat_map(|(_, encoded)| said::guarded(encoded)));
        }
        // The whole of a secret before its parts.
        secrets.sort_by_key(|secret| std::cmp::Reverse(secret.len()));
        Ok(Self {
            pool: web::pool(settings.ways())?,
            requests: Semaphore::new(settings.connections_max),
            blank: Blank::new(settings, headers),
            signers,
            judge: Judge {
                request: format!("{} {}", settings.method, settings.url),
                deduplicates: settings.destination_deduplicates,
                secrets,
            },
            timeout: settings.timeout,
            clock,
        })
    }

    /// Sends the message and waits for the answer.
    ///
    /// # Errors
    /// The answer is no success, or there is none.
    pub(super) async fn deliver(&self, parcel: &Parcel<'_>) -> Result<(), SendError> {
        let (mut request, unreadable) = self.blank.fill(parcel)?;
        // The time begins with the turn: waiting for it is no fault of the destination's.
        let _turn =
            self.requests.acquire().await.map_err(|error| self.failed("was not sent").caused_by(error))?;
        if !self.signers.is_empty() {
            signature::sign(&self.signers, parcel, self.clock.now(), request.headers_mut())?;
        }
        let deadline = Instant::now() + self.timeout;
        let answered = timeout_at(deadline, self.pool.request(request)).await;
        if let Some(error) = unreadable.get() {
            return Err(body_unreadable(error.clone()));
        }
        match answered {
            Ok(Ok(response)) => self.judge(response, deadline).await,
            Ok(Err(error)) => Err(self.unanswered(error)),
            Err(_elapsed) => {
                Err(self.failed(&format!("no answer within {:?} (setting timeout)", self.timeout)))
            }
        }
    }

    async fn judge(&self, response: Response<Incoming>, deadline: Instant) -> Result<(), SendError> {
        let (head, body) = response.into_parts();
        let mut kept = Vec::new();
        let enough = deadline.min(Instant::now() + ANSWER_BODY_WAIT);
        let _whole_or_not = timeout_at(enough, answer::read(body, &mut kept)).await;
        self.judge.outcome(head.status, &head.headers, &kept, self.clock.as_ref())
    }

    fn unanswered(&self, error: ClientError) -> SendError {
        let what =
            if error.is_connect() { "cannot connect" } else { "the connection broke before the answer" };
        self.failed(what).caused_by(error)
    }

    fn failed(&self, what: &str) -> SendError {
        SendError::temporary(format!("{}: {what}", self.judge.request))
    }
}

impl fmt::Debug for HttpSender {
    /// Without anything in which there are secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpSender").field("request", &self.judge.request).finish_non_exhaustive()
    }
}

impl Transport for HttpSender {
    fn describe(&self) -> TransportInfo {
        info(self.judge.deduplicates)
    }
}

#[async_trait]
impl Sender for HttpSender {
    async fn send(&self, message: &Outgoing) -> Result<(), SendError> {
        self.deliver(&Parcel::from(message)).await
    }
}

/// Headers whose values are credentials even where they are written in the settings.
fn is_credential(name: &str) -> bool {
    let parts = ["authorization", "cookie", "token", "secret", "password", "api-key", "apikey"];
    parts.iter().any(|part| name.contains(part))
}
