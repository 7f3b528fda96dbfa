//! What a route to an exchange is configured with.

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

/// The longest body that is taken unless told otherwise: what RabbitMQ 4 takes.
pub(super) const BODY_BYTES_MAX: u64 = 16 * 1024 * 1024;
/// The longest that any RabbitMQ can be made to take.
const BODY_BYTES_LIMIT: u64 = 512 * 1024 * 1024;
/// The longest name that the protocol has room for.
pub(super) const NAME_BYTES_MAX: usize = 255;

/// Settings that were checked.
#[derive(Debug, Clone)]
pub(super) struct AmqpSettings {
    pub(super) address: Address,
    pub(super) virtual_host: String,
    pub(super) user: Option<Secret>,
    pub(super) password: Option<Secret>,
    pub(super) exchange: String,
    pub(super) routing_key: Template,
    pub(super) mandatory: bool,
    pub(super) persistent: bool,
    pub(super) content_type: String,
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
    exchange: Option<String>,
    routing_key: Option<String>,
    mandatory: Option<bool>,
    persistent: Option<bool>,
    content_type: Option<String>,
    body_bytes_max: Option<u64>,
    connect_timeout: Option<String>,
    timeout: Option<String>,
    ca_file: Option<String>,
    danger_accept_invalid_certs: Option<bool>,
}

impl AmqpSettings {
    /// Checks the settings without touching network, files or environment.
    ///
    /// # Errors
    /// Every problem at once, each with its key.
    pub(super) fn check(settings: &Settings) -> Result<Self, SettingsError> {
        let written: Written = settings.parse()?;
        let mut problems = Problems::default();
        let parsed = Address::parse(written.url.as_deref(), &[("amqp", 5672), ("amqps", 5671)]);
        let address = problems.take("url", parsed);
        let path = address.as_ref().map_or("", |address| &address.path);
        let virtual_host = problems.take("url", virtual_host(path));
        let mut secret = |key: &str, text: Option<String>| Secret::optional(key, text, &mut problems);
        let user = secret("user", written.user);
        let password = secret("password", written.password);
        if user.is_some() != password.is_some() {
            problems.add("user", "a user and a password go together; set both `user` and `password`");
        }
        let exchange = written.exchange.unwrap_or_default();
        if !is_name(&exchange) {
            problems.add("exchange", "an exchange's name has at most 255 bytes and no control characters");
        }
        let routing_key = routing_key(written.routing_key, &exchange, &mut problems);
        let content_type = problems.take("content_type", content_type(written.content_type));
        let body_bytes_max = body_bytes(written.body_bytes_max, BODY_BYTES_MAX, BODY_BYTES_LIMIT);
        let body_bytes_max = problems.take("body_bytes_max", body_bytes_max);
        let span = |text: Option<String>, usual: &str| span::parse(text.as_deref().unwrap_or(usual));
        let connect_timeout = problems.take("connect_timeout", span(written.connect_timeout, "10s"));
        let timeout = problems.take("timeout", span(written.timeout, "30s"));
        let plain = address.as_ref().is_some_and(|address| address.scheme == "amqp");
        let trust = Trust::check(
            written.ca_file.map(PathBuf::from),
            written.danger_accept_invalid_certs.unwrap_or(false),
            plain,
            "amqps://",
            &mut problems,
        );
        let checked = (|| {
            Some(Self {
                address: address?,
                virtual_host: virtual_host?,
                user,
                password,
                exchange,
                routing_key,
                mandatory: written.mandatory.unwrap_or(true),
                persistent: written.persistent.unwrap_or(true),
                content_type: content_type?,
                body_bytes_max: body_bytes_max?,
                connect_timeout: connect_timeout?,
                timeout: timeout?,
                trust,
            })
        })();
        problems.finish(checked)
    }
}

/// Whether the protocol has room for it, and no one can be misled by it.
fn is_name(text: &str) -> bool {
    text.len() <= NAME_BYTES_MAX && !text.chars().any(char::is_control)
}

/// What follows the address's `/`, in which `%XX` is a byte; the host `/` where nothing does.
fn virtual_host(path: &str) -> Result<String, String> {
    if path.is_empty() {
        return Ok("/".to_owned());
    }
    let problem = || {
        "what follows the '/' is a virtual host's name, in which a '/' is written as %2F and a '%' as %25"
            .to_owned()
    };
    let mut bytes = Vec::with_capacity(path.len());
    let mut parts = path.split('%');
    bytes.extend(parts.next().unwrap_or_default().bytes());
    for part in parts {
        let digits = part.get(..2).filter(|digits| digits.bytes().all(|byte| byte.is_ascii_hexdigit()));
        let byte = digits.and_then(|digits| u8::from_str_radix(digits, 16).ok());
        bytes.push(byte.ok_or_else(problem)?);
        bytes.extend(part.bytes().skip(2));
    }
    let name = String::from_utf8(bytes).map_err(|_| problem())?;
    // A '/' that is written as such more likely began something else.
    if is_name(&name) && !path.contains('/') { Ok(name) } else { Err(problem()) }
}

fn routing_key(written: Option<String>, exchange: &str, problems: &mut Problems) -> Template {
    let text = written.unwrap_or_default();
    let (template, wrong) = Template::read(&text);
    for problem in wrong {
        problems.add("routing_key", problem);
    }
    if text.is_empty() && exchange.is_empty() {
        problems.add("routing_key", "name the queue, \"orders\" say, or name an `exchange`");
    }
    if template.pieces().flatten().any(|text| !is_name(text)) {
        problems.add("routing_key", "a routing key has at most 255 bytes and no control characters");
    }
    template
}

fn content_type(written: Option<String>) -> Result<String, String> {
    let text = written.unwrap_or_else(|| "application/octet-stream".to_owned());
    let possible = !text.is_empty() && text.len() <= NAME_BYTES_MAX;
    if possible && text.bytes().all(|byte| matches!(byte, b' '..=b'~')) {
        Ok(text)
    } else {
        Err("write a media type, \"application/json\" say".to_owned())
    }
}
