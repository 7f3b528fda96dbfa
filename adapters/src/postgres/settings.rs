//! What a route to a database is configured with.

use std::path::PathBuf;
use std::time::Duration;

use pillarbox_runtime::adapter::{Settings, SettingsError};
use serde::Deserialize;

use super::parameter::Parameter;
use crate::address::Address;
use crate::problems::{Problems, body_bytes};
use crate::secret::Secret;
use crate::span;
use crate::tls::Trust;

/// The longest body that is taken unless told otherwise.
pub(super) const BODY_BYTES_MAX: u64 = 16 * 1024 * 1024;
/// The longest body that can be asked for: a field of PostgreSQL's has at most 1 GiB, and text needs room beside it.
const BODY_BYTES_LIMIT: u64 = 512 * 1024 * 1024;
/// The most messages of a transaction.
const BATCH_LIMIT: usize = 10_000;
/// The most connections that can be asked for.
const CONNECTIONS_LIMIT: usize = 1_000;
/// What a statement begins with that can be executed in a transaction of ours.
const VERBS: [&str; 7] = ["INSERT", "UPDATE", "DELETE", "MERGE", "SELECT", "CALL", "WITH"];

/// Settings that were checked.
#[derive(Debug, Clone)]
pub(super) struct PostgresSettings {
    pub(super) address: Address,
    pub(super) user: String,
    pub(super) password: Option<Secret>,
    pub(super) tls: bool,
    pub(super) trust: Trust,
    pub(super) statement: String,
    pub(super) parameters: Vec<Parameter>,
    /// The ledger's table, quoted; none in two phases.
    pub(super) ledger: Option<String>,
    pub(super) batch_max: usize,
    pub(super) connections_max: usize,
    pub(super) body_bytes_max: u64,
    pub(super) connect_timeout: Duration,
    pub(super) timeout: Duration,
}

/// The settings as they are written.
#[derive(Deserialize)]
struct Written {
    url: Option<String>,
    user: Option<String>,
    password: Option<String>,
    tls: Option<bool>,
    ca_file: Option<String>,
    danger_accept_invalid_certs: Option<bool>,
    statement: Option<String>,
    #[serde(default)]
    parameters: Vec<String>,
    ledger: Option<String>,
    two_phase: Option<bool>,
    batch_max: Option<usize>,
    connections_max: Option<usize>,
    body_bytes_max: Option<u64>,
    connect_timeout: Option<String>,
    timeout: Option<String>,
}

impl PostgresSettings {
    /// Checks the settings without touching network, files or environment.
    ///
    /// # Errors
    /// Every problem at once, each with its key.
    pub(super) fn check(settings: &Settings) -> Result<Self, SettingsError> {
        let written: Written = settings.parse()?;
        let mut problems = Problems::default();
        let address = problems.take("url", address(written.url.as_deref()));
        let user = problems.take("user", named(written.user, "name the role that we are, \"orders\" say"));
        let password = written.password.and_then(|text| problems.take("password", Secret::parse(&text)));
        let tls = written.tls.unwrap_or(true);
        let trust = Trust::check(
            written.ca_file.map(PathBuf::from),
            written.danger_accept_invalid_certs.unwrap_or(false),
            !tls,
            "tls = true",
            &mut problems,
        );
        let statement = problems.take("statement", statement(written.statement));
        let parameters = parameters(&written.parameters, &mut problems);
        let two_phase = written.two_phase.unwrap_or(false);
        let ledger = problems.take("ledger", ledger(written.ledger.as_deref(), two_phase));
        let batch_max = problems.take("batch_max", number(written.batch_max.unwrap_or(100), BATCH_LIMIT));
        let connections = number(written.connections_max.unwrap_or(4), CONNECTIONS_LIMIT);
        let connections_max = problems.take("connections_max", connections);
        if two_phase && connections_max == Some(1) {
            problems.add("connections_max", "two_phase needs 2: one is kept for ending what is prepared");
        }
        let body_bytes_max = body_bytes(written.body_bytes_max, BODY_BYTES_MAX, BODY_BYTES_LIMIT);
        let body_bytes_max = problems.take("body_bytes_max", body_bytes_max);
        let span = |text: Option<String>, usual: &str| span::parse(text.as_deref().unwrap_or(usual));
        let connect_timeout = problems.take("connect_timeout", span(written.connect_timeout, "10s"));
        let timeout = problems.take("timeout", timeout(span(written.timeout, "30s")));
        let checked = (|| {
            Some(Self {
                address: address?,
                user: user?,
                password,
                tls,
                trust,
                statement: statement?,
                parameters,
                ledger: ledger?,
                batch_max: batch_max?,
                connections_max: connections_max?,
                body_bytes_max: body_bytes_max?,
                connect_timeout: connect_timeout?,
                timeout: timeout?,
            })
        })();
        problems.finish(checked)
    }

    /// Whether messages are prepared there and decided in the box.
    pub(super) const fn is_two_phase(&self) -> bool {
        self.ledger.is_none()
    }
}

fn address(written: Option<&str>) -> Result<Address, String> {
    let address = Address::parse(written, &[("postgres", 5432), ("postgresql", 5432)])?;
    if address.path.is_empty() || address.path.contains('/') {
        return Err("name the database after the host, \"postgres://db.example.com/orders\" say".to_owned());
    }
    Ok(address)
}

fn named(written: Option<String>, hint: &str) -> Result<String, String> {
    written.filter(|text| !text.is_empty() && !text.contains('\0')).ok_or_else(|| hint.to_owned())
}

fn statement(written: Option<String>) -> Result<String, String> {
    let hint = "write what is executed for each message, \"INSERT INTO orders (body) VALUES ($1)\" say";
    let statement = named(written, hint)?;
    let verb: String = statement.trim_start().chars().take_while(char::is_ascii_alphabetic).collect();
    if VERBS.iter().any(|known| known.eq_ignore_ascii_case(&verb)) {
        return Ok(statement);
    }
    Err(format!("it begins with none of {}; {hint}", VERBS.join(", ")))
}

/// The ledger's table; none in two phases.
fn ledger(written: Option<&str>, two_phase: bool) -> Result<Option<String>, String> {
    match (written, two_phase) {
        (Some(_), true) => Err("with two_phase there is none; remove one of the two".to_owned()),
        (None, true) => Ok(None),
        (written, false) => table(written.unwrap_or("pillarbox_sent")).map(Some),
    }
}

fn parameters(written: &[String], problems: &mut Problems) -> Vec<Parameter> {
    let parsed = written.iter().enumerate().map(|(at, text)| (at, Parameter::parse(text)));
    parsed.filter_map(|(at, parameter)| problems.take(&format!("parameters[{at}]"), parameter)).collect()
}

/// `TABLE` or `SCHEMA.TABLE`, quoted: read as it is written.
fn table(written: &str) -> Result<String, String> {
    let parts: Vec<&str> = written.split('.').collect();
    let possible = |part: &&str| {
        (1..=63).contains(&part.len())
            && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
    };
    if parts.len() > 2 || !parts.iter().all(possible) {
        return Err("write a table's name of letters, digits and '_', \"schema.table\" say".to_owned());
    }
    Ok(parts.iter().map(|part| format!("\"{part}\"")).collect::<Vec<_>>().join("."))
}

fn number(written: usize, limit: usize) -> Result<usize, String> {
    if (1..=limit).contains(&written) {
        Ok(written)
    } else {
        Err(format!("write a number from 1 to {limit}"))
    }
}

/// The server is told it in milliseconds, of which it takes so many.
fn timeout(span: Result<Duration, String>) -> Result<Duration, String> {
    let span = span?;
    if span.as_millis() == 0 || span.as_millis() > 2_147_483_647 {
        return Err("write a span from a millisecond to 24 days".to_owned());
    }
    Ok(span)
}
