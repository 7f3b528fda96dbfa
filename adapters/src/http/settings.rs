//! What an HTTP route is configured with.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use http::header::{self, HeaderName, HeaderValue};
use http::{Method, Uri};
use pillarbox_runtime::adapter::{Settings, SettingsError};
use serde::Deserialize;

use super::request::{ATTEMPT, IN_DOUBT, MESSAGE_ID};
use super::signature::{self, Signer};
use crate::problems::Problems;
use crate::secret::Secret;
use crate::span;
use crate::tls::Trust;
use crate::web::{self, Forward, Ways};

/// Which version of the protocol is spoken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Version {
    /// What the destination chooses over TLS; 1.1 without.
    Auto,
    /// 1.1 only.
    One,
    /// 2 only.
    Two,
}

/// A destination. Shown without its query, in which there may be secrets.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Url(pub(super) Uri);

/// Settings that were checked.
#[derive(Debug, Clone)]
pub(super) struct HttpSettings {
    pub(super) url: Url,
    pub(super) method: Method,
    pub(super) headers: Vec<(HeaderName, Secret)>,
    pub(super) content_type: HeaderValue,
    pub(super) forward: Forward,
    pub(super) connect_timeout: Duration,
    pub(super) timeout: Duration,
    pub(super) connections_max: usize,
    pub(super) idempotency_header: HeaderName,
    pub(super) version: Version,
    pub(super) trust: Trust,
    pub(super) destination_deduplicates: bool,
    /// Each request is signed with every one of them.
    pub(super) webhook_secrets: Vec<Secret>,
}

/// The settings as they are written.
#[derive(Deserialize)]
struct Written {
    url: Option<String>,
    method: Option<String>,
    #[serde(default)]
    headers: BTreeMap<String, String>,
    content_type: Option<String>,
    forward_headers: Option<Vec<String>>,
    connect_timeout: Option<String>,
    timeout: Option<String>,
    connections_max: Option<u32>,
    idempotency_header: Option<String>,
    version: Option<String>,
    ca_file: Option<String>,
    danger_accept_invalid_certs: Option<bool>,
    destination_deduplicates: Option<bool>,
    #[serde(default)]
    webhook_secrets: Vec<String>,
    client_cert_file: Option<String>,
    client_key_file: Option<String>,
}

impl HttpSettings {
    /// Checks the settings without touching network, files or environment.
    ///
    /// # Errors
    /// Every problem at once, each with its key.
    pub(super) fn check(settings: &Settings) -> Result<Self, SettingsError> {
        let written: Written = settings.parse()?;
        let mut problems = Problems::default();
        let url = problems.take("url", url(written.url.as_deref()));
        let method = problems.take("method", method(written.method.as_deref()));
        let mut made = Vec::new();
        if !written.webhook_secrets.is_empty() {
            made.extend([signature::ID, signature::TIMESTAMP, signature::SIGNATURE]);
        }
        let idempotency_header = written.idempotency_header.as_deref().unwrap_or("idempotency-key");
        let idempotency_header = problems.take("idempotency_header", header_name(idempotency_header, &made));
        made.extend(idempotency_header.clone());
        let headers = headers(&written.headers, &made, &mut problems);
        let webhook_secrets = webhook_secrets(&written.webhook_secrets, &mut problems);
        let content_type = problems.take("content_type", web::content_type(written.content_type));
        let forward = problems.take("forward_headers", web::forward(written.forward_headers));
        let connect_timeout = problems
            .take("connect_timeout", span::parse(written.connect_timeout.as_deref().unwrap_or("10s")));
        let timeout = problems.take("timeout", span::parse(written.timeout.as_deref().unwrap_or("30s")));
        let connections_max = problems.take("connections_max", web::connections(written.connections_max));
        let version = problems.take("version", version(written.version.as_deref()));
        let plain = url.as_ref().is_some_and(|url| !url.is_tls());
        let accept_invalid = written.danger_accept_invalid_certs.unwrap_or(false);
        let ca_file = written.ca_file.map(PathBuf::from);
        let trust = Trust::check(ca_file, accept_invalid, plain, "https://", &mut problems).with_client(
            written.client_cert_file.map(PathBuf::from),
            written.client_key_file.map(PathBuf::from),
            plain,
            "https://",
            &mut problems,
        );
        let checked = (|| {
            Some(Self {
                url: url?,
                method: method?,
                headers,
                content_type: content_type?,
                forward: forward?,
                connect_timeout: connect_timeout?,
                timeout: timeout?,
                connections_max: connections_max?,
                idempotency_header: idempotency_header?,
                version: version?,
                trust,
                destination_deduplicates: written.destination_deduplicates.unwrap_or(false),
                webhook_secrets,
            })
        })();
        problems.finish(checked)
    }
}

impl HttpSettings {
    /// How connections are made.
    pub(super) fn ways(&self) -> Ways<'_> {
        Ways {
            trust: self.url.is_tls().then_some(&self.trust),
            http1: self.version != Version::Two,
            http2: self.version != Version::One,
            connect_timeout: self.connect_timeout,
            connections_max: self.connections_max,
        }
    }
}

impl Url {
    /// Whether TLS is spoken.
    pub(super) fn is_tls(&self) -> bool {
        self.0.scheme_str() == Some("https")
    }
}

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let host = self.0.authority().map_or("", |authority| authority.as_str());
        // Settings allow no user; what a destination sends as a location may have one.
        let host = host.rsplit_once('@').map_or(host, |(_, host)| host);
        if let Some(scheme) = self.0.scheme_str() {
            write!(f, "{scheme}://")?;
        }
        write!(f, "{host}{}", self.0.path())?;
        if self.0.query().is_some() { f.write_str("?[redacted]") } else { Ok(()) }
    }
}

impl fmt::Debug for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

fn url(written: Option<&str>) -> Result<Url, String> {
    let hint = "write the destination's address, \"https://example.com/in\" say";
    let written = written.ok_or(hint)?;
    let uri: Uri = written.parse().map_err(|error| format!("it is no address ({error}); {hint}"))?;
    if !matches!(uri.scheme_str(), Some("http" | "https")) {
        return Err(format!("it begins with neither http:// nor https://; {hint}"));
    }
    let authority = uri.authority().map_or("", |authority| authority.as_str());
    if authority.contains('@') {
        return Err(
            "user and password do not belong there; set headers.authorization to \"env:NAME\"".to_owned()
        );
    }
    if uri.host().is_none_or(str::is_empty) {
        return Err(format!("it names no host; {hint}"));
    }
    let port = authority.strip_prefix(uri.host().unwrap_or("")).and_then(|rest| rest.strip_prefix(':'));
    if port.is_some_and(|port| !port.parse::<u16>().is_ok_and(|port| port > 0)) {
        return Err(format!("it names no possible port; {hint}"));
    }
    Ok(Url(uri))
}

fn method(written: Option<&str>) -> Result<Method, String> {
    match written.unwrap_or("POST") {
        "POST" => Ok(Method::POST),
        "PUT" => Ok(Method::PUT),
        "PATCH" => Ok(Method::PATCH),
        "DELETE" => Ok(Method::DELETE),
        other => Err(format!("{other:?} is none of POST, PUT, PATCH and DELETE")),
    }
}

fn headers(
    written: &BTreeMap<String, String>,
    made: &[HeaderName],
    problems: &mut Problems,
) -> Vec<(HeaderName, Secret)> {
    let mut headers: Vec<(HeaderName, Secret)> = Vec::new();
    for (name, value) in written {
        let key = format!("headers.{name}");
        let value = problems.take(&key, header_value(value));
        let name = problems.take(&key, header_name(name, made));
        if let Some((name, value)) = name.zip(value) {
            if headers.iter().any(|(have, _)| *have == name) {
                problems.add(&key, "there are two settings for this header; remove one");
            }
            headers.push((name, value));
        }
    }
    headers
}

fn header_value(text: &str) -> Result<Secret, String> {
    let value = Secret::parse(text)?;
    match &value {
        Secret::Plain(text) if HeaderValue::from_str(text).is_err() => {
            Err("a header's value has visible ASCII characters and spaces only".to_owned())
        }
        _ => Ok(value),
    }
}

/// The name of a header that is none of those that are made for every request: some always, and these.
fn header_name(text: &str, also: &[HeaderName]) -> Result<HeaderName, String> {
    let name = HeaderName::from_bytes(text.as_bytes()).map_err(|_| "it is no header's name".to_owned())?;
    let made = [
        header::HOST,
        header::CONTENT_LENGTH,
        header::TRANSFER_ENCODING,
        header::CONNECTION,
        header::UPGRADE,
        header::TE,
        header::TRAILER,
        header::EXPECT,
        HeaderName::from_static("keep-alive"),
        HeaderName::from_static("proxy-connection"),
        MESSAGE_ID,
        ATTEMPT,
        IN_DOUBT,
    ];
    if name == header::CONTENT_TYPE {
        return Err("use the setting `content_type`".to_owned());
    }
    if made.contains(&name) || also.contains(&name) {
        return Err("this header is made for every request; remove it".to_owned());
    }
    Ok(name)
}

/// One that is written out is looked at now, the others when they are read.
fn webhook_secrets(written: &[String], problems: &mut Problems) -> Vec<Secret> {
    let parse = |text: &String| {
        let secret = Secret::parse(text)?;
        if let Secret::Plain(value) = &secret {
            Signer::parse(value)?;
        }
        Ok(secret)
    };
    let parsed = written.iter().enumerate().map(|(at, text)| (at, parse(text)));
    parsed.filter_map(|(at, secret)| problems.take(&format!("webhook_secrets[{at}]"), secret)).collect()
}

fn version(written: Option<&str>) -> Result<Version, String> {
    match written.unwrap_or("auto") {
        "auto" => Ok(Version::Auto),
        "1.1" => Ok(Version::One),
        "2" => Ok(Version::Two),
        other => Err(format!("{other:?} is none of \"auto\", \"1.1\" and \"2\"")),
    }
}
