//! What a route to a mail server is configured with.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use pillarbox_runtime::adapter::{Settings, SettingsError};
use serde::Deserialize;

use super::{mail, mailbox};
use crate::address::Address;
use crate::problems::{Problems, body_bytes};
use crate::secret::Secret;
use crate::span;
use crate::template::Template;
use crate::tls::Trust;

/// The longest body that is taken unless told otherwise: servers rarely take more than twice as much, encoded.
pub(super) const BODY_BYTES_MAX: u64 = 10 * 1024 * 1024;
/// The longest that a route can be made to take.
const BODY_BYTES_LIMIT: u64 = 256 * 1024 * 1024;

/// Settings that were checked.
#[derive(Debug, Clone)]
pub(super) struct SmtpSettings {
    pub(super) address: Address,
    pub(super) plain: bool,
    pub(super) hello: String,
    pub(super) user: Option<Secret>,
    pub(super) password: Option<Secret>,
    pub(super) from: Template,
    pub(super) to: Vec<Template>,
    pub(super) cc: Vec<Template>,
    pub(super) bcc: Vec<Template>,
    pub(super) reply_to: Option<Template>,
    pub(super) subject: Template,
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
    plain: Option<bool>,
    hello: Option<String>,
    user: Option<String>,
    password: Option<String>,
    from: Option<String>,
    #[serde(default)]
    to: Vec<String>,
    #[serde(default)]
    cc: Vec<String>,
    #[serde(default)]
    bcc: Vec<String>,
    reply_to: Option<String>,
    subject: Option<String>,
    content_type: Option<String>,
    body_bytes_max: Option<u64>,
    connect_timeout: Option<String>,
    timeout: Option<String>,
    ca_file: Option<String>,
    danger_accept_invalid_certs: Option<bool>,
}

impl SmtpSettings {
    /// Checks the settings without touching network, files or environment.
    ///
    /// # Errors
    /// Every problem at once, each with its key.
    pub(super) fn check(settings: &Settings) -> Result<Self, SettingsError> {
        let written: Written = settings.parse()?;
        let mut problems = Problems::default();
        let address = problems.take("url", address(written.url.as_deref()));
        let plain = written.plain.unwrap_or(false);
        if plain && address.as_ref().is_some_and(|address| !is_own_machine(address)) {
            problems.add("plain", "it is for smtp:// to a host on the loopback only; remove it");
        }
        let hello = problems.take("hello", hello(written.hello));
        let mut secret = |key: &str, text: Option<String>| Secret::optional(key, text, &mut problems);
        let (user, password) = (secret("user", written.user), secret("password", written.password));
        if user.is_some() != password.is_some() {
            problems.add("user", "a user and a password go together; set both `user` and `password`");
        }
        let from = mailbox_template("from", written.from.as_deref().unwrap_or_default(), &mut problems);
        let mut templates = |key: &str, texts: &[String]| -> Vec<Template> {
            texts.iter().map(|text| mailbox_template(key, text, &mut problems)).collect()
        };
        let (to, cc, bcc) =
            (templates("to", &written.to), templates("cc", &written.cc), templates("bcc", &written.bcc));
        let reply_to = written.reply_to.map(|text| mailbox_template("reply_to", &text, &mut problems));
        if to.is_empty() {
            problems
                .add("to", "name who gets the mail, [\"orders@example.com\"] or [\"{header:email}\"] say");
        }
        let subject = subject(written.subject.as_deref(), &mut problems);
        let content_type = problems.take("content_type", content_type(written.content_type));
        let body_bytes_max = body_bytes(written.body_bytes_max, BODY_BYTES_MAX, BODY_BYTES_LIMIT);
        let body_bytes_max = problems.take("body_bytes_max", body_bytes_max);
        let span = |text: Option<String>, usual: &str| span::parse(text.as_deref().unwrap_or(usual));
        let connect_timeout = problems.take("connect_timeout", span(written.connect_timeout, "30s"));
        let timeout = problems.take("timeout", span(written.timeout, "60s"));
        let (ca_file, careless) = (written.ca_file.map(PathBuf::from), written.danger_accept_invalid_certs);
        let trust = Trust::check(
            ca_file,
            careless.unwrap_or(false),
            plain,
            "connections that are not `plain`",
            &mut problems,
        );
        let checked = (|| {
            Some(Self {
                address: address?,
                plain,
                hello: hello?,
                user,
                password,
                from,
                to,
                cc,
                bcc,
                reply_to,
                subject,
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

fn address(written: Option<&str>) -> Result<Address, String> {
    let address = Address::parse(written, &[("smtp", 587), ("smtps", 465)])?;
    if address.path.is_empty() { Ok(address) } else { Err("nothing follows the port".to_owned()) }
}

/// Whether what is sent there unencrypted stays on this machine.
fn is_own_machine(address: &Address) -> bool {
    let host = address.host.as_str();
    let loopback = host.parse().is_ok_and(|ip: IpAddr| ip.is_loopback()) || host == "localhost";
    loopback && address.scheme == "smtp"
}

fn hello(written: Option<String>) -> Result<String, String> {
    let name = written.unwrap_or_else(|| "localhost".to_owned());
    let possible = |c: char| c.is_ascii_alphanumeric() || "-.:[]".contains(c);
    if !name.is_empty() && name.len() <= 255 && name.chars().all(possible) {
        Ok(name)
    } else {
        Err("write this machine's name, \"outbox.example.com\" say".to_owned())
    }
}

/// The template of an address. One without macros is checked at once.
fn mailbox_template(key: &str, text: &str, problems: &mut Problems) -> Template {
    let (template, wrong) = Template::read(text);
    for problem in wrong {
        problems.add(key, problem);
    }
    // A value is a part of an address, or the whole.
    let filled = |value: &str| template.pieces().map(|text| text.unwrap_or(value)).collect::<String>();
    if let Err(problem) = mailbox::one(&filled("x")).or_else(|_| mailbox::one(&filled("x@example.com"))) {
        problems.add(key, problem);
    }
    template
}

fn subject(written: Option<&str>, problems: &mut Problems) -> Template {
    let (template, wrong) = Template::read(written.unwrap_or_default());
    for problem in wrong {
        problems.add("subject", problem);
    }
    if template.pieces().next().is_none() {
        problems.add("subject", "write the mail's subject, \"Order {header:order}\" say");
    }
    if template.pieces().flatten().any(|text| text.chars().any(char::is_control)) {
        problems.add("subject", "a subject is one line without control characters");
    }
    template
}

fn content_type(written: Option<String>) -> Result<String, String> {
    let text = written.unwrap_or_else(|| "text/plain; charset=utf-8".to_owned());
    mail::encoding(&text)
        .map(|_| text)
        .map_err(|problem| format!("{problem}; write \"application/json\", say"))
}
