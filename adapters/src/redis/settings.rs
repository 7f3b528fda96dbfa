//! What a route to a stream is configured with.

use std::path::PathBuf;
use std::time::Duration;

use pillarbox_runtime::adapter::{Settings, SettingsError};
use serde::Deserialize;

use crate::address::Address;
use crate::problems::{Problems, body_bytes};
use crate::secret::Secret;
use crate::span;
use crate::tls::Trust;

/// How long a send key is known unless told otherwise.
pub(super) const WINDOW: Duration = Duration::from_secs(24 * 60 * 60);
/// The longest body that is taken unless told otherwise.
pub(super) const BODY_BYTES_MAX: u64 = 16 * 1024 * 1024;
/// The longest value that Redis takes.
const BODY_BYTES_LIMIT: u64 = 512 * 1024 * 1024;

/// Settings that were checked.
#[derive(Debug, Clone)]
pub(super) struct RedisSettings {
    pub(super) address: Address,
    pub(super) database: i64,
    pub(super) user: Option<Secret>,
    pub(super) password: Option<Secret>,
    pub(super) stream: String,
    pub(super) create_stream: bool,
    pub(super) entries_max: Option<u64>,
    pub(super) window: Duration,
    pub(super) body_bytes_max: u64,
    pub(super) connect_timeout: Duration,
    pub(super) timeout: Duration,
    pub(super) trust: Trust,
}

/// The settings as they are written.
#[derive(Deserialize)]
struct Written {
    url: Option<String>,
    user: Option<String>,
    password: Option<String>,
    stream: Option<String>,
    create_stream: Option<bool>,
    entries_max: Option<u64>,
    window: Option<String>,
    body_bytes_max: Option<u64>,
    connect_timeout: Option<String>,
    timeout: Option<String>,
    ca_file: Option<String>,
    danger_accept_invalid_certs: Option<bool>,
}

impl RedisSettings {
    /// Checks the settings without touching network, files or environment.
    ///
    /// # Errors
    /// Every problem at once, each with its key.
    pub(super) fn check(settings: &Settings) -> Result<Self, SettingsError> {
        let written: Written = settings.parse()?;
        let mut problems = Problems::default();
        let parsed = Address::parse(written.url.as_deref(), &[("redis", 6379), ("rediss", 6379)]);
        let address = problems.take("url", parsed);
        let database =
            problems.take("url", address.as_ref().map_or(Ok(0), |address| database(&address.path)));
        let mut secret = |key: &str, text: Option<String>| Secret::optional(key, text, &mut problems);
        let user = secret("user", written.user);
        let password = secret("password", written.password);
        if user.is_some() && password.is_none() {
            problems.add("user", "a user needs a password; set `password` to \"env:NAME\", say");
        }
        let stream = problems.take("stream", stream(written.stream));
        if written.entries_max == Some(0) {
            problems.add("entries_max", "a stream that keeps nothing is of no use; remove it for no limit");
        }
        let span = |text: Option<String>, usual: &str| span::parse(text.as_deref().unwrap_or(usual));
        let window = problems.take("window", window(span(written.window, "24h")));
        let body_bytes_max = body_bytes(written.body_bytes_max, BODY_BYTES_MAX, BODY_BYTES_LIMIT);
        let body_bytes_max = problems.take("body_bytes_max", body_bytes_max);
        let connect_timeout = problems.take("connect_timeout", span(written.connect_timeout, "10s"));
        let timeout = problems.take("timeout", span(written.timeout, "30s"));
        let plain = address.as_ref().is_some_and(|address| address.scheme == "redis");
        let trust = Trust::check(
            written.ca_file.map(PathBuf::from),
            written.danger_accept_invalid_certs.unwrap_or(false),
            plain,
            "rediss://",
            &mut problems,
        );
        let checked = (|| {
            Some(Self {
                address: address?,
                database: database?,
                user,
                password,
                stream: stream?,
                create_stream: written.create_stream.unwrap_or(true),
                entries_max: written.entries_max,
                window: window?,
                body_bytes_max: body_bytes_max?,
                connect_timeout: connect_timeout?,
                timeout: timeout?,
                trust,
            })
        })();
        problems.finish(checked)
    }
}

fn database(path: &str) -> Result<i64, String> {
    match path {
        "" => Ok(0),
        number => number
            .parse::<u16>()
            .map(i64::from)
            .map_err(|_| "what follows the '/' is the database's number, 0 say".to_owned()),
    }
}

fn stream(written: Option<String>) -> Result<String, String> {
    written.filter(|name| !name.is_empty()).ok_or_else(|| "name the stream's key, \"orders\" say".to_owned())
}

fn window(span: Result<Duration, String>) -> Result<Duration, String> {
    let span = span?;
    if span.as_millis() == 0 || span > Duration::from_secs(10 * 365 * 24 * 60 * 60) {
        return Err("write a span from a millisecond to ten years".to_owned());
    }
    Ok(span)
}
