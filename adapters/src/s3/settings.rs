//! What a route to a bucket is configured with.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use http::header::HeaderValue;
use pillarbox_runtime::adapter::{SendError, Settings, SettingsError};
use serde::Deserialize;

use crate::address::Address;
use crate::file_name::Template;
use crate::parcel::Parcel;
use crate::problems::Problems;
use crate::secret::Secret;
use crate::span;
use crate::tls::Trust;
use crate::web::{self, Forward, Ways};

/// The longest name that an object can have.
const NAME_BYTES_MAX: usize = 1024;

/// Settings that were checked.
#[derive(Debug, Clone)]
pub(super) struct S3Settings {
    pub(super) place: Place,
    pub(super) endpoint: Endpoint,
    pub(super) region: String,
    pub(super) name: Name,
    pub(super) access_key: Secret,
    pub(super) secret_key: Secret,
    pub(super) session_token: Option<Secret>,
    pub(super) content_type: String,
    pub(super) forward: Forward,
    pub(super) connect_timeout: Duration,
    pub(super) timeout: Duration,
    pub(super) connections_max: usize,
    pub(super) trust: Trust,
}

/// A bucket, and what the names in it begin with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) bucket: String,
    /// Empty, or with a `/` at its end.
    pub(super) prefix: String,
}

/// Who keeps the bucket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Endpoint {
    /// `https://HOST` or `http://HOST`, with the port where it is not the usual one.
    pub(super) url: String,
    pub(super) encrypted: bool,
}

/// The name's template: its parts between slashes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Name(Vec<Template>);

/// The settings as they are written.
#[derive(Deserialize)]
struct Written {
    url: Option<String>,
    endpoint: Option<String>,
    region: Option<String>,
    name: Option<String>,
    access_key: Option<String>,
    secret_key: Option<String>,
    session_token: Option<String>,
    content_type: Option<String>,
    forward_headers: Option<Vec<String>>,
    connect_timeout: Option<String>,
    timeout: Option<String>,
    connections_max: Option<u32>,
    ca_file: Option<String>,
    danger_accept_invalid_certs: Option<bool>,
}

impl S3Settings {
    /// Checks the settings without touching network, files or environment.
    ///
    /// # Errors
    /// Every problem at once, each with its key.
    pub(super) fn check(settings: &Settings) -> Result<Self, SettingsError> {
        let written: Written = settings.parse()?;
        let mut problems = Problems::default();
        let place = problems.take("url", place(written.url.as_deref()));
        let region = problems.take("region", region(written.region));
        let usual = region.as_deref().unwrap_or_default();
        let endpoint = problems.take("endpoint", endpoint(written.endpoint.as_deref(), usual));
        let name = name(written.name.as_deref().unwrap_or("{message_id}"), &mut problems);
        let mut secret = |key: &str, text: Option<String>| {
            let missing = || "it is needed; write \"env:NAME\" or \"file:PATH\", say".to_owned();
            problems.take(key, text.ok_or_else(missing).and_then(|text| Secret::parse(&text)))
        };
        let access_key = secret("access_key", written.access_key);
        let secret_key = secret("secret_key", written.secret_key);
        let session_token = written.session_token.and_then(|text| secret("session_token", Some(text)));
        let content_type = problems.take("content_type", web::content_type(written.content_type));
        let content_type = content_type.as_ref().map(HeaderValue::to_str).and_then(Result::ok);
        let forward = problems.take("forward_headers", web::forward(written.forward_headers));
        let span = |text: Option<String>, usual: &str| span::parse(text.as_deref().unwrap_or(usual));
        let connect_timeout = problems.take("connect_timeout", span(written.connect_timeout, "10s"));
        let timeout = problems.take("timeout", span(written.timeout, "1m"));
        let connections_max = problems.take("connections_max", web::connections(written.connections_max));
        let plain = endpoint.as_ref().is_some_and(|endpoint| !endpoint.encrypted);
        let trust = Trust::check(
            written.ca_file.map(PathBuf::from),
            written.danger_accept_invalid_certs.unwrap_or(false),
            plain,
            "https://",
            &mut problems,
        );
        let checked = (|| {
            Some(Self {
                place: place?,
                endpoint: endpoint?,
                region: region?,
                name: name?,
                access_key: access_key?,
                secret_key: secret_key?,
                session_token,
                content_type: content_type?.to_owned(),
                forward: forward?,
                connect_timeout: connect_timeout?,
                timeout: timeout?,
                connections_max: connections_max?,
                trust,
            })
        })();
        problems.finish(checked)
    }

    /// How connections are made.
    pub(super) fn ways(&self) -> Ways<'_> {
        Ways {
            trust: self.endpoint.encrypted.then_some(&self.trust),
            http1: true,
            http2: false,
            connect_timeout: self.connect_timeout,
            connections_max: self.connections_max,
        }
    }

    /// The object's whole name for this message.
    ///
    /// # Errors
    /// Permanent: a header is missing, or the name would be empty or too long.
    pub(super) fn name_of(&self, parcel: &Parcel<'_>) -> Result<String, SendError> {
        let parts: Result<Vec<_>, _> = self.name.0.iter().map(|part| part.render(parcel)).collect();
        let name = format!("{}{}", self.place.prefix, parts?.join("/"));
        if name.len() > NAME_BYTES_MAX {
            let text =
                format!("the object's name has {} bytes, and at most {NAME_BYTES_MAX} fit", name.len());
            return Err(SendError::permanent(text));
        }
        Ok(name)
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "s3://{}", self.bucket)
    }
}

fn place(written: Option<&str>) -> Result<Place, String> {
    let hint = "write s3://BUCKET or s3://BUCKET/PREFIX";
    let text = written.ok_or(hint)?;
    let rest = match text.get(..5) {
        Some(scheme) if scheme.eq_ignore_ascii_case("s3://") => &text[5..],
        _ => return Err(hint.to_owned()),
    };
    let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
    let ends = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    let possible = bucket.chars().all(|c| ends(c) || ".-".contains(c));
    if !(3..=63).contains(&bucket.len()) || !possible || !bucket.starts_with(ends) || !bucket.ends_with(ends)
    {
        return Err(format!(
            "a bucket's name has 3 to 63 small letters, digits, `.` and `-`, and begins and ends with one of the \
             first two; {hint}"
        ));
    }
    let prefix = prefix.strip_suffix('/').unwrap_or(prefix);
    let part = |part: &str| {
        !["", ".", ".."].contains(&part) && part.chars().all(|c| !c.is_whitespace() && !c.is_control())
    };
    if prefix.is_empty() {
        return Ok(Place { bucket: bucket.to_owned(), prefix: String::new() });
    }
    if !prefix.split('/').all(part) || prefix.len() > NAME_BYTES_MAX / 2 {
        return Err(format!("what follows the bucket is no possible beginning of a name; {hint}"));
    }
    Ok(Place { bucket: bucket.to_owned(), prefix: format!("{prefix}/") })
}

fn region(written: Option<String>) -> Result<String, String> {
    let region = written.unwrap_or_else(|| "us-east-1".to_owned());
    let possible = region.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_');
    if region.is_empty() || !possible {
        return Err("it is no region; write \"eu-central-1\", say".to_owned());
    }
    Ok(region)
}

fn endpoint(written: Option<&str>, region: &str) -> Result<Endpoint, String> {
    let Some(text) = written else {
        return Ok(Endpoint { url: format!("https://s3.{region}.amazonaws.com"), encrypted: true });
    };
    let address = Address::parse(Some(text), &[("https", 443), ("http", 80)])?;
    if !address.path.is_empty() {
        return Err("nothing follows the port; name the bucket in the setting `url`".to_owned());
    }
    let url = address.to_string();
    let encrypted = address.scheme == "https";
    let usual = if encrypted { ":443" } else { ":80" };
    // The usual port is not part of what is signed.
    let url = url.strip_suffix(usual).map_or_else(|| url.clone(), str::to_owned);
    Ok(Endpoint { url, encrypted })
}

fn name(written: &str, problems: &mut Problems) -> Option<Name> {
    let mut parts = Vec::new();
    for part in written.split('/') {
        match Template::parse(part) {
            Ok(part) => parts.push(part),
            Err(found) => {
                found.into_iter().for_each(|reason| problems.add("name", reason));
                return None;
            }
        }
    }
    if parts.iter().any(Template::is_unique) {
        return Some(Name(parts));
    }
    problems.add("name", "it needs {message_id} or {key}, by which a repeat finds its own object");
    None
}
