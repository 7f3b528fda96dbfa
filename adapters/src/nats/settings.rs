//! What a route to a stream is configured with.

use std::path::PathBuf;
use std::time::Duration;

use pillarbox_runtime::adapter::{Settings, SettingsError};
use serde::Deserialize;

use crate::address::Address;
use crate::problems::Problems;
use crate::secret::Secret;
use crate::span;
use crate::tls::Trust;

/// How long a stream has to know a send key unless told otherwise: what the server gives a stream by default.
pub(super) const WINDOW: Duration = Duration::from_secs(120);

/// Settings that were checked.
#[derive(Debug, Clone)]
pub(super) struct NatsSettings {
    pub(super) address: Address,
    pub(super) user: Option<Secret>,
    pub(super) password: Option<Secret>,
    pub(super) token: Option<Secret>,
    pub(super) subject: String,
    pub(super) stream: Option<String>,
    pub(super) window: Duration,
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
    token: Option<String>,
    subject: Option<String>,
    stream: Option<String>,
    window: Option<String>,
    connect_timeout: Option<String>,
    timeout: Option<String>,
    ca_file: Option<String>,
    danger_accept_invalid_certs: Option<bool>,
}

impl NatsSettings {
    /// Checks the settings without touching network, files or environment.
    ///
    /// # Errors
    /// Every problem at once, each with its key.
    pub(super) fn check(settings: &Settings) -> Result<Self, SettingsError> {
        let written: Written = settings.parse()?;
        let mut problems = Problems::default();
        let address = problems.take("url", address(written.url.as_deref()));
        let mut secret = |key: &str, text: Option<String>| Secret::optional(key, text, &mut problems);
        let user = secret("user", written.user);
        let password = secret("password", written.password);
        let token = secret("token", written.token);
        if user.is_some() != password.is_some() {
            problems.add("user", "a user and a password go together; set both `user` and `password`");
        }
        if token.is_some() && user.is_some() {
            problems.add("token", "it takes the place of `user` and `password`; remove one of the two");
        }
        let subject = problems.take("subject", subject(written.subject));
        if written.stream.as_deref().is_some_and(|name| !is_stream(name)) {
            problems.add("stream", "a stream's name has no space and none of `.`, `*`, `>`, `/` and `\\`");
        }
        let span = |text: Option<String>, usual: &str| span::parse(text.as_deref().unwrap_or(usual));
        let window = problems.take("window", span(written.window, "2m"));
        let connect_timeout = problems.take("connect_timeout", span(written.connect_timeout, "10s"));
        let timeout = problems.take("timeout", span(written.timeout, "30s"));
        let plain = address.as_ref().is_some_and(|address| address.scheme == "nats");
        let trust = Trust::check(
            written.ca_file.map(PathBuf::from),
            written.danger_accept_invalid_certs.unwrap_or(false),
            plain,
            "tls://",
            &mut problems,
        );
        let checked = (|| {
            Some(Self {
                address: address?,
                user,
                password,
                token,
                subject: subject?,
                stream: written.stream,
                window: window?,
                connect_timeout: connect_timeout?,
                timeout: timeout?,
                trust,
            })
        })();
        problems.finish(checked)
    }
}

fn address(written: Option<&str>) -> Result<Address, String> {
    let address = Address::parse(written, &[("nats", 4222), ("tls", 4222)])?;
    if address.path.is_empty() {
        Ok(address)
    } else {
        Err("nothing follows the port; name the subject in the setting `subject`".to_owned())
    }
}

fn subject(written: Option<String>) -> Result<String, String> {
    let hint = "name the subject to publish to, \"orders.new\" say, without wildcards";
    let written = written.ok_or(hint)?;
    let part = |part: &str| {
        !part.is_empty() && part.chars().all(|c| !c.is_whitespace() && !c.is_control() && !"*>".contains(c))
    };
    if written.split('.').all(part) { Ok(written) } else { Err(hint.to_owned()) }
}

fn is_stream(name: &str) -> bool {
    !name.is_empty() && name.chars().all(|c| !c.is_whitespace() && !c.is_control() && !".*>/\\".contains(c))
}
