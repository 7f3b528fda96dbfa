//! What a route to a topic is configured with.

use std::path::PathBuf;
use std::time::Duration;

use pillarbox_runtime::adapter::{Settings, SettingsError};
use serde::Deserialize;

use crate::address::Address;
use crate::problems::{Problems, body_bytes};
use crate::secret::Secret;
use crate::span;
use crate::template::Template;
use crate::tls::Trust;

/// The longest body that is taken unless told otherwise: brokers often take no more.
pub(super) const BODY_BYTES_MAX: u64 = 1024 * 1024;
/// A little less than the longest packet of the protocol.
const BODY_BYTES_LIMIT: u64 = 255 * 1024 * 1024;
/// The longest text that the protocol has room for.
pub(super) const TEXT_BYTES_MAX: usize = 65_535;

/// Settings that were checked.
#[derive(Debug, Clone)]
pub(super) struct MqttSettings {
    pub(super) address: Address,
    pub(super) client_id: String,
    pub(super) user: Option<Secret>,
    pub(super) password: Option<Secret>,
    pub(super) topic: Template,
    pub(super) retain: bool,
    pub(super) subscriber_required: bool,
    pub(super) content_type: Option<String>,
    pub(super) body_bytes_max: u64,
    pub(super) connect_timeout: Duration,
    pub(super) timeout: Duration,
    pub(super) trust: Trust,
}

/// The settings as they are written.
#[derive(Deserialize)]
struct Written {
    url: Option<String>,
    client_id: Option<String>,
    user: Option<String>,
    password: Option<String>,
    topic: Option<String>,
    retain: Option<bool>,
    subscriber_required: Option<bool>,
    content_type: Option<String>,
    body_bytes_max: Option<u64>,
    connect_timeout: Option<String>,
    timeout: Option<String>,
    ca_file: Option<String>,
    danger_accept_invalid_certs: Option<bool>,
}

impl MqttSettings {
    /// Checks the settings without touching network, files or environment.
    ///
    /// # Errors
    /// Every problem at once, each with its key.
    pub(super) fn check(settings: &Settings) -> Result<Self, SettingsError> {
        let written: Written = settings.parse()?;
        let mut problems = Problems::default();
        let address = problems.take("url", address(written.url.as_deref()));
        let client_id = problems.take("client_id", client_id(written.client_id));
        let mut secret = |key: &str, text: Option<String>| Secret::optional(key, text, &mut problems);
        let user = secret("user", written.user);
        let password = secret("password", written.password);
        if user.is_some() != password.is_some() {
            problems.add("user", "a user and a password go together; set both `user` and `password`");
        }
        let topic = topic(written.topic.as_deref(), &mut problems);
        let (retain, required) = (written.retain.unwrap_or(false), written.subscriber_required);
        if retain && required == Some(true) {
            problems.add("subscriber_required", "the broker keeps what is retained; remove one of the two");
        }
        if written.content_type.as_ref().is_some_and(|text| text.is_empty() || !is_text(text)) {
            problems.add("content_type", "write a media type, \"application/json\" say");
        }
        let body_bytes_max = body_bytes(written.body_bytes_max, BODY_BYTES_MAX, BODY_BYTES_LIMIT);
        let body_bytes_max = problems.take("body_bytes_max", body_bytes_max);
        let span = |text: Option<String>, usual: &str| span::parse(text.as_deref().unwrap_or(usual));
        let connect_timeout = problems.take("connect_timeout", span(written.connect_timeout, "10s"));
        let timeout = problems.take("timeout", span(written.timeout, "30s"));
        let plain = address.as_ref().is_some_and(|address| address.scheme == "mqtt");
        let trust = Trust::check(
            written.ca_file.map(PathBuf::from),
            written.danger_accept_invalid_certs.unwrap_or(false),
            plain,
            "mqtts://",
            &mut problems,
        );
        let checked = (|| {
            Some(Self {
                address: address?,
                client_id: client_id?,
                user,
                password,
                topic,
                retain,
                subscriber_required: required.unwrap_or(!retain),
                content_type: written.content_type,
                body_bytes_max: body_bytes_max?,
                connect_timeout: connect_timeout?,
                timeout: timeout?,
                trust,
            })
        })();
        problems.finish(checked)
    }
}

fn address(written: Option<&str>) -> Result<Address, String> {
    let address = Address::parse(written, &[("mqtt", 1883), ("mqtts", 8883)])?;
    if address.path.is_empty() {
        Ok(address)
    } else {
        Err("nothing follows the port; name the topic in the setting `topic`".to_owned())
    }
}

/// Whether the protocol has room for it, and no one can be misled by it.
fn is_text(text: &str) -> bool {
    text.len() <= TEXT_BYTES_MAX && !text.chars().any(char::is_control)
}

fn client_id(written: Option<String>) -> Result<String, String> {
    let name = written.unwrap_or_default();
    if is_text(&name) { Ok(name) } else { Err("a client's id has no control characters".to_owned()) }
}

fn topic(written: Option<&str>, problems: &mut Problems) -> Template {
    let (template, wrong) = Template::read(written.unwrap_or_default());
    for problem in wrong {
        problems.add("topic", problem);
    }
    // Whatever the values are, what is written around them has to be right.
    let filled: String = template.pieces().map(|text| text.unwrap_or("x")).collect();
    if let Err(problem) = check_topic(&filled) {
        problems.add("topic", format!("{problem}; name the topic to publish to, \"orders/new\" say"));
    }
    template
}

/// Whether a message can be published to the topic.
///
/// # Errors
/// Why not.
pub(super) fn check_topic(topic: &str) -> Result<(), String> {
    if topic.is_empty() {
        return Err("the topic is empty".to_owned());
    }
    if topic.contains(['+', '#']) {
        return Err("a topic to publish to has no wildcards, `+` and `#`".to_owned());
    }
    if topic.starts_with('$') {
        return Err("topics that begin with `$` are the broker's own".to_owned());
    }
    if !is_text(topic) {
        return Err(format!("a topic has at most {TEXT_BYTES_MAX} bytes and no control characters"));
    }
    Ok(())
}
