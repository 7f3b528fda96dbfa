//! What a route to a topic is configured with.

use std::fmt;
use std::time::Duration;

use pillarbox_runtime::adapter::{Settings, SettingsError};
use pillarbox_store::Headers;
use serde::Deserialize;

use super::HEADER_BYTES;
use crate::address::Address;
use crate::problems::Problems;
use crate::span;

/// The longest name of a topic.
const TOPIC_BYTES_MAX: usize = 249;
/// The shortest and longest `timeout`: what the library takes.
const TIMEOUTS: [Duration; 2] = [Duration::from_millis(100), Duration::from_secs(24 * 60 * 60)];
/// The longest one of a transaction: brokers keep none that takes a quarter of an hour.
const TRANSACTION_MAX: Duration = Duration::from_secs(5 * 60);
/// The usual `message_bytes_max`: that of brokers.
pub(super) const MESSAGE_BYTES_MAX: u32 = 1_000_000;
/// The least and most `message_bytes_max`: room for headers and a body, and what the library takes.
const MESSAGE_BYTES: [u32; 2] = [2 * HEADER_BYTES, 1_000_000_000];

/// Settings that were checked.
#[derive(Debug, Clone)]
pub(super) struct KafkaSettings {
    pub(super) servers: Servers,
    pub(super) topic: String,
    pub(super) key_header: Option<String>,
    pub(super) compression: &'static str,
    pub(super) message_bytes_max: u32,
    pub(super) connect_timeout: Duration,
    pub(super) timeout: Duration,
    pub(super) transactional: bool,
}

/// Brokers that tell which others there are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Servers(Vec<Address>);

/// The settings as they are written.
#[derive(Deserialize)]
struct Written {
    url: Option<String>,
    key_header: Option<String>,
    compression: Option<String>,
    message_bytes_max: Option<u32>,
    connect_timeout: Option<String>,
    timeout: Option<String>,
    transactional: Option<bool>,
}

impl KafkaSettings {
    /// Checks the settings without touching network, files or environment.
    ///
    /// # Errors
    /// Every problem at once, each with its key.
    pub(super) fn check(settings: &Settings) -> Result<Self, SettingsError> {
        let written: Written = settings.parse()?;
        let mut problems = Problems::default();
        let place = problems.take("url", place(written.url.as_deref()));
        let key_header = written.key_header.and_then(|name| problems.take("key_header", header(&name)));
        let compression = problems.take("compression", compression(written.compression.as_deref()));
        let message_bytes_max = problems
            .take("message_bytes_max", message_bytes(written.message_bytes_max.unwrap_or(MESSAGE_BYTES_MAX)));
        let span = |text: Option<String>, usual: &str| span::parse(text.as_deref().unwrap_or(usual));
        let connect_timeout = problems.take("connect_timeout", span(written.connect_timeout, "10s"));
        let transactional = written.transactional.unwrap_or(false);
        let timeout = span(written.timeout, "30s").and_then(|span| bounded(span, transactional));
        let timeout = problems.take("timeout", timeout);
        let checked = (|| {
            let (servers, topic) = place?;
            Some(Self {
                servers,
                topic,
                key_header,
                compression: compression?,
                message_bytes_max: message_bytes_max?,
                connect_timeout: connect_timeout?,
                timeout: timeout?,
                transactional,
            })
        })();
        problems.finish(checked)
    }
}

impl Servers {
    /// As the library takes them.
    pub(super) fn list(&self) -> String {
        let shown: Vec<String> = self.0.iter().map(Address::to_string).collect();
        shown.iter().map(|one| one.trim_start_matches("kafka://")).collect::<Vec<_>>().join(",")
    }
}

impl fmt::Display for Servers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "kafka://{}", self.list())
    }
}

fn place(written: Option<&str>) -> Result<(Servers, String), String> {
    let hint = "write kafka://HOST:PORT/TOPIC, or kafka://HOST:PORT,HOST:PORT/TOPIC";
    let text = written.ok_or(hint)?;
    let rest = match text.get(..8) {
        Some(scheme) if scheme.eq_ignore_ascii_case("kafka://") => &text[8..],
        _ => return Err(hint.to_owned()),
    };
    if rest.contains('@') {
        return Err("user and password do not belong there, and are not spoken".to_owned());
    }
    let (servers, topic) = rest.split_once('/').ok_or(hint)?;
    let servers =
        servers.split(',').map(|one| Address::parse(Some(&format!("kafka://{one}")), &[("kafka", 9092)]));
    let servers: Vec<Address> = servers.collect::<Result<_, _>>()?;
    let possible = topic.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c));
    if ["", ".", ".."].contains(&topic) || !possible || topic.len() > TOPIC_BYTES_MAX {
        return Err(format!("a topic's name has letters, digits, `.`, `_` and `-`; {hint}"));
    }
    Ok((Servers(servers), topic.to_owned()))
}

fn header(name: &str) -> Result<String, String> {
    match Headers::default().set(name, "") {
        Ok(()) => Ok(name.to_ascii_lowercase()),
        Err(_) => Err(format!("{name:?} is no possible header of a message")),
    }
}

fn compression(written: Option<&str>) -> Result<&'static str, String> {
    match written {
        None | Some("none") => Ok("none"),
        Some("lz4") => Ok("lz4"),
        Some("snappy") => Ok("snappy"),
        Some(other) => Err(format!("{other:?} is none of \"none\", \"lz4\" and \"snappy\"")),
    }
}

fn message_bytes(bytes: u32) -> Result<u32, String> {
    let [least, most] = MESSAGE_BYTES;
    if (least..=most).contains(&bytes) {
        Ok(bytes)
    } else {
        Err(format!("write a number from {least} to {most}"))
    }
}

fn bounded(span: Duration, transactional: bool) -> Result<Duration, String> {
    let [least, most] = TIMEOUTS;
    if transactional && span > TRANSACTION_MAX {
        Err(format!("write a span up to {TRANSACTION_MAX:?}, or leave out transactional"))
    } else if (least..=most).contains(&span) {
        Ok(span)
    } else {
        Err(format!("write a span from {least:?} to {most:?}"))
    }
}
