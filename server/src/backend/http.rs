//! A running server, over its API.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::TryStreamExt as _;
use http::{Method, Request, StatusCode, Uri, header};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full, Limited, StreamBody};
use hyper::body::Frame;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use rustls_platform_verifier::BuilderVerifierExt as _;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::Input;
use crate::api::{HEADER_PREFIX, MESSAGE_ID, NOT_BEFORE};
use crate::config::values::show_time;
use crate::problem::{Problem, chain};
use crate::secret::Secret;
use crate::service::Submission;
use crate::wire::{Health, Submitted};

/// The longest answer that is read.
const ANSWER_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Of bodies longer than this the server is asked first whether it takes them.
const ASKED_ABOVE: u64 = 4 * 1024 * 1024;
/// How long to wait for a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

type Content = UnsyncBoxBody<Bytes, Problem>;

/// A running server.
#[derive(Clone)]
pub struct Remote {
    base: String,
    token: Option<Secret>,
    client: Client<HttpsConnector<HttpConnector>, Content>,
}

impl fmt::Debug for Remote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Remote").field("base", &self.base).finish_non_exhaustive()
    }
}

impl Remote {
    /// The server at `url`, `http://127.0.0.1:7420` say.
    ///
    /// # Errors
    /// What is wrong with the address, or with the host's certificates.
    pub fn new(url: &str, token: Option<Secret>) -> Result<Self, String> {
        let base = url.trim_end_matches('/').to_owned();
        let uri: Uri = base.parse().map_err(|_| wrong_url(url))?;
        let known = matches!(uri.scheme_str(), Some("http" | "https"));
        if !known || uri.host().is_none() || uri.query().is_some() {
            return Err(wrong_url(url));
        }
        let tls = client_tls(uri.scheme_str() == Some("https"))?;
        let mut plain = HttpConnector::new();
        plain.enforce_http(false);
        plain.set_nodelay(true);
        plain.set_connect_timeout(Some(CONNECT_TIMEOUT));
        let connector = HttpsConnectorBuilder::new()
            .with_tls_config(tls)
            .https_or_http()
            .enable_http1()
            .wrap_connector(plain);
        let client = Client::builder(TokioExecutor::new()).build(connector);
        Ok(Self { base, token, client })
    }

    /// The server's address.
    #[must_use]
    pub fn base(&self) -> &str {
        &self.base
    }

    /// Asks whether this is a Pillarbox server; `None` where something else answers.
    ///
    /// # Errors
    /// Nothing answers.
    pub async fn health(&self) -> Result<Option<Health>, Problem> {
        let request = self.request(Method::GET, "/healthz", nothing(), None)?;
        let (_, bytes) = self.send(request).await?;
        Ok(serde_json::from_slice::<Health>(&bytes).ok().filter(|health| health.service == "pillarbox"))
    }

    /// `POST /v1/ports/{port}/messages`.
    ///
    /// # Errors
    /// The server refused it, or does not answer.
    pub async fn submit(&self, submission: &Submission, input: &Input) -> Result<Submitted, Problem> {
        let (len, pieces) = input.open().await?;
        self.check_len(len).await?;
        let body = StreamBody::new(pieces.map_ok(Frame::data)).boxed_unsync();
        let path = format!("/v1/ports/{}/messages", submission.port);
        let mut request = self.request(Method::POST, &path, body, None)?;
        let headers = request.headers_mut();
        if let Some(len) = len {
            headers.insert(header::CONTENT_LENGTH, len.into());
        }
        for (name, value) in submission.headers.iter() {
            let kept = matches!(name, "content-type" | "traceparent" | "tracestate");
            let name = if kept { name.to_owned() } else { format!("{HEADER_PREFIX}{name}") };
            let name = header::HeaderName::try_from(name).map_err(|error| unsendable(&error))?;
            headers.insert(
                name,
                header::HeaderValue::try_from(value.to_string()).map_err(|error| unsendable(&error))?,
            );
        }
        let mut set = |name, value: String| {
            let value = header::HeaderValue::try_from(value).map_err(|error| unsendable(&error))?;
            headers.insert(header::HeaderName::from_static(name), value);
            Ok::<_, Problem>(())
        };
        if let Some(id) = submission.message_id {
            set(MESSAGE_ID, id.to_string())?;
        }
        if let Some(time) = submission.not_before {
            set(NOT_BEFORE, show_time(time))?;
        }
        self.answer(request).await
    }

    /// Refuses a long body that the server would refuse: in the midst of it the answer might get lost.
    async fn check_len(&self, len: Option<u64>) -> Result<(), Problem> {
        let Some(len) = len.filter(|len| *len > ASKED_ABOVE) else { return Ok(()) };
        match self.health().await? {
            Some(health) if len > health.body_bytes_max => Err(Problem::too_large(health.body_bytes_max)),
            _ => Ok(()),
        }
    }

    /// A GET, or a POST without content.
    ///
    /// # Errors
    /// The server refused it, or does not answer.
    pub async fn ask<T: DeserializeOwned>(&self, method: Method, path: &str) -> Result<T, Problem> {
        self.answer(self.request(method, path, nothing(), None)?).await
    }

    /// A POST of JSON.
    ///
    /// # Errors
    /// The server refused it, or does not answer.
    pub async fn post<T: DeserializeOwned>(&self, path: &str, value: &impl Serialize) -> Result<T, Problem> {
        let bytes = serde_json::to_vec(value).map_err(|error| unsendable(&error))?;
        let body = Full::new(Bytes::from(bytes)).map_err(|never| match never {}).boxed_unsync();
        self.answer(self.request(Method::POST, path, body, Some("application/json"))?).await
    }

    fn request(
        &self,
        method: Method,
        path: &str,
        body: Content,
        kind: Option<&str>,
    ) -> Result<Request<Content>, Problem> {
        let mut request = Request::builder().method(method).uri(format!("{}{path}", self.base));
        if let Some(kind) = kind {
            request = request.header(header::CONTENT_TYPE, kind);
        }
        if let Some(token) = &self.token {
            let mut value = header::HeaderValue::try_from(format!("Bearer {}", token.expose()))
                .map_err(|error| unsendable(&error))?;
            value.set_sensitive(true);
            request = request.header(header::AUTHORIZATION, value);
        }
        request.body(body).map_err(|error| unsendable(&error))
    }

    async fn answer<T: DeserializeOwned>(&self, request: Request<Content>) -> Result<T, Problem> {
        let (status, bytes) = self.send(request).await?;
        if status.is_success() {
            return serde_json::from_slice(&bytes).map_err(|error| {
                let detail = format!("{} answered something that is not understood: {error}", self.base);
                Problem::new(502, "bad-answer", "The server's answer is not understood", detail)
            });
        }
        Err(serde_json::from_slice(&bytes).unwrap_or_else(|_| {
            let detail = format!("{} answered {status}; is that a Pillarbox server?", self.base);
            Problem::new(status.as_u16(), "bad-answer", "The server's answer is not understood", detail)
        }))
    }

    async fn send(&self, request: Request<Content>) -> Result<(StatusCode, Bytes), Problem> {
        let response = self.client.request(request).await.map_err(|error| self.failed(&error))?;
        let status = response.status();
        let body = Limited::new(response.into_body(), ANSWER_BYTES_MAX).collect().await;
        Ok((status, body.map_err(|error| self.failed(&*error))?.to_bytes()))
    }

    /// Tells a failure of our own input from one of the connection.
    fn failed(&self, error: &(dyn std::error::Error + 'static)) -> Problem {
        let mut cause = Some(error);
        while let Some(error) = cause {
            if let Some(problem) = error.downcast_ref::<Problem>() {
                return problem.clone();
            }
            cause = error.source();
        }
        let detail = format!("{}: {}", self.base, chain(error));
        Problem::new(503, "unreachable", "The server does not answer", detail)
    }
}

/// How certificates are checked: as the host does; where no TLS is spoken, none is trusted and none read.
fn client_tls(wanted: bool) -> Result<rustls::ClientConfig, String> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let unusable = |error| format!("the host's certificates cannot be used: {error}");
    let builder = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(unusable)?;
    let builder = if wanted {
        builder.with_platform_verifier().map_err(unusable)?
    } else {
        builder.with_root_certificates(rustls::RootCertStore::empty())
    };
    Ok(builder.with_no_client_auth())
}

fn nothing() -> Content {
    Full::new(Bytes::new()).map_err(|never| match never {}).boxed_unsync()
}

fn wrong_url(url: &str) -> String {
    format!("'{}' is not a server's address; write for example http://127.0.0.1:7420", url.escape_debug())
}

fn unsendable(error: &dyn std::error::Error) -> Problem {
    Problem::bad_request(format!("this cannot be sent to the server: {}", chain(error)))
}
