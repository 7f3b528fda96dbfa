//! Configuration: one TOML file, checked as a whole before anything is opened.
//!
//! [`check`] is pure: it touches no file, no network, no environment. It reports every problem at once, each with
//! its line and column. Relative paths in the file are taken from the working directory, adapters' too.

mod dynamic;
mod ports;
mod problem;
mod reader;
pub mod values;

#[cfg(test)]
mod tests;

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use pillarbox_adapters::Registry;
use pillarbox_store::{BoxConfig, EngineKind, Retention};
use toml::de::DeTable;

pub use ports::{PortSection, RouteSection};
pub use problem::{Problem, Problems};

use crate::secret::SecretRef;
use problem::Collector;
use reader::Table;

/// The file that is read where none is named.
pub const FILE_DEFAULT: &str = "pillarbox.toml";
/// The address that is listened on where none is configured.
pub const LISTEN_DEFAULT: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 7420);

/// A whole configuration, checked.
#[derive(Debug, Clone)]
pub struct Config {
    /// The file it was read from; `None` for the built-in defaults.
    pub file: Option<PathBuf>,
    /// The box.
    pub mailbox: BoxSection,
    /// The server.
    pub server: ServerSection,
    /// The ports, in the file's order.
    pub ports: Vec<PortSection>,
}

/// `[box]`.
#[derive(Debug, Clone)]
pub struct BoxSection {
    /// `data`: the data folder.
    pub data: PathBuf,
    /// `engine`.
    pub engine: EngineKind,
    /// `body_bytes_max`.
    pub body_bytes_max: u64,
    /// `keep_finished` and `keep_answers`.
    pub keep_finished: Retention,
    /// `segment_bytes`.
    pub segment_bytes: u64,
}

/// `[server]`.
#[derive(Debug, Clone)]
pub struct ServerSection {
    /// `listen`.
    pub listen: SocketAddr,
    /// `token`.
    pub token: Option<SecretRef>,
    /// `body_bytes_max`: the longest body taken over the API.
    pub body_bytes_max: u64,
    /// `drain`: how long a stopping server waits for what is being sent.
    pub drain: Duration,
}

impl Default for BoxSection {
    fn default() -> Self {
        let defaults = BoxConfig::new("./pillarbox-data");
        Self {
            data: defaults.folder,
            engine: defaults.engine,
            body_bytes_max: defaults.body_bytes_max,
            keep_finished: defaults.retention,
            segment_bytes: defaults.segment_bytes,
        }
    }
}

impl BoxSection {
    /// What the box is opened with.
    #[must_use]
    pub fn to_box_config(&self) -> BoxConfig {
        let mut config = BoxConfig::new(&self.data);
        config.engine = self.engine;
        config.body_bytes_max = self.body_bytes_max;
        config.retention = self.keep_finished;
        config.segment_bytes = self.segment_bytes;
        config
    }
}

impl Default for Config {
    /// The built-in defaults: no ports.
    fn default() -> Self {
        let mailbox = BoxSection::default();
        let server = ServerSection {
            listen: LISTEN_DEFAULT,
            token: None,
            body_bytes_max: mailbox.body_bytes_max,
            drain: Duration::from_secs(30),
        };
        Self { file: None, mailbox, server, ports: Vec::new() }
    }
}

/// Reads and checks the named file; where none is named, [`FILE_DEFAULT`] if it is there, else the defaults.
///
/// # Errors
/// Every problem at once.
pub fn load(file: Option<&Path>, kinds: &Registry) -> Result<Config, Problems> {
    let path = match file {
        Some(path) => path,
        None if Path::new(FILE_DEFAULT).exists() => Path::new(FILE_DEFAULT),
        None => return Ok(Config::default()),
    };
    let name = path.display().to_string();
    let bytes = std::fs::read(path).map_err(|error| {
        Problems::about_file(&name, format!("cannot be read: {error}; correct the path given with --config"))
    })?;
    let text = String::from_utf8(bytes).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        Problems::about_file(&name, format!("is not UTF-8 text (byte {at}); save it as UTF-8"))
    })?;
    let mut config = check(&name, &text, kinds)?;
    config.file = Some(path.to_owned());
    Ok(config)
}

/// Checks a configuration's text. Pure.
///
/// # Errors
/// Every problem at once, each with its line and column in `file`.
pub fn check(file: &str, text: &str, kinds: &Registry) -> Result<Config, Problems> {
    let mut problems = Collector::new(text);
    let (document, errors) = DeTable::parse_recoverable(text);
    for error in &errors {
        let end = text.len()..text.len();
        let what = format!("this is not valid TOML: {}", error.message().replace('\n', ", "));
        problems.push(&error.span().unwrap_or(end), "", what);
    }
    if !errors.is_empty() {
        // What was recovered would only lead to follow-up complaints.
        return problems.finish(file, None);
    }
    let mut root = Table::new("", document.span(), document.get_ref());
    let mailbox = read_box(&mut root, &mut problems);
    let server = read_server(&mut root, mailbox.body_bytes_max, &mut problems);
    let ports = ports::read(&mut root, kinds, &mut problems);
    root.finish(&mut problems);
    problems.finish(file, Some(Config { file: None, mailbox, server, ports }))
}

fn read_box(root: &mut Table<'_, '_>, problems: &mut Collector<'_>) -> BoxSection {
    let mut section = BoxSection::default();
    let Some(mut table) = root.take("box").and_then(|entry| entry.table(problems)) else { return section };
    if let Some(entry) = table.take("data") {
        match entry.text(problems) {
            Some("") => entry.wrong(problems, "the data folder's path is empty; name a folder"),
            Some(path) => section.data = path.into(),
            None => {}
        }
    }
    if let Some(engine) = table.take("engine").and_then(|entry| entry.parsed(problems, engine)) {
        section.engine = engine;
    }
    if let Some(bytes) = table.take("body_bytes_max").and_then(|entry| entry.bytes(problems)) {
        section.body_bytes_max = bytes;
    }
    if let Some(entry) = table.take("segment_bytes") {
        match entry.bytes(problems) {
            Some(bytes) if bytes >= 64 * 1024 => section.segment_bytes = bytes,
            Some(bytes) => {
                entry
                    .wrong(problems, format!("a segment of {bytes} bytes is too small; give at least 64KiB"));
            }
            None => {}
        }
    }
    if let Some(mut keep) = table.take("keep_finished").and_then(|entry| entry.table(problems)) {
        if let Some(count) = keep.take("count").and_then(|entry| entry.count(problems, 0..=u64::MAX)) {
            section.keep_finished.count = count;
        }
        if let Some(age) = keep.take("age").and_then(|entry| entry.duration(problems)) {
            section.keep_finished.age = age;
        }
        keep.finish(problems);
    }
    if let Some(mut keep) = table.take("keep_answers").and_then(|entry| entry.table(problems)) {
        let answers = &mut section.keep_finished.answers;
        if let Some(count) = keep.take("count").and_then(|entry| entry.count(problems, 0..=u64::MAX)) {
            answers.count = count;
        }
        if let Some(bytes) = keep.take("bytes").and_then(|entry| entry.bytes(problems)) {
            answers.bytes = bytes;
        }
        if let Some(age) = keep.take("age").and_then(|entry| entry.duration(problems)) {
            answers.age = age;
        }
        keep.finish(problems);
    }
    table.finish(problems);
    section
}

fn read_server(root: &mut Table<'_, '_>, body_bytes_max: u64, problems: &mut Collector<'_>) -> ServerSection {
    let mut section = ServerSection { body_bytes_max, ..Config::default().server };
    let Some(mut table) = root.take("server").and_then(|entry| entry.table(problems)) else { return section };
    let token = table.take("token");
    if let Some(entry) = &token {
        section.token = entry.parsed(problems, SecretRef::parse);
    }
    if let Some(entry) = table.take("listen")
        && let Some(address) = entry.parsed(problems, listen)
    {
        if !address.ip().is_loopback() && token.is_none() {
            entry.wrong(problems, open_without_token(address));
        }
        section.listen = address;
    }
    if let Some(entry) = table.take("body_bytes_max")
        && let Some(bytes) = entry.bytes(problems)
    {
        if bytes > body_bytes_max {
            let what = format!(
                "{bytes} is more than the box takes ({body_bytes_max}, box.body_bytes_max); lower it or raise that"
            );
            entry.wrong(problems, what);
        }
        section.body_bytes_max = bytes;
    }
    if let Some(drain) = table.take("drain").and_then(|entry| entry.duration(problems)) {
        section.drain = drain;
    }
    table.finish(problems);
    section
}

/// What to tell of an address beyond loopback that no token protects.
#[must_use]
pub fn open_without_token(address: SocketAddr) -> String {
    format!(
        "{address} can be reached from other machines and no token is asked for; set server.token to \
         \"env:NAME\" or \"file:PATH\", or listen on 127.0.0.1"
    )
}

/// Reads `IP:PORT` or `localhost:PORT`.
///
/// # Errors
/// What is wrong with it.
pub fn listen(text: &str) -> Result<SocketAddr, String> {
    let address = match text.strip_prefix("localhost:") {
        Some(port) => format!("127.0.0.1:{port}"),
        None => text.to_owned(),
    };
    address
        .parse()
        .map_err(|_| format!("'{text}' is not an address; write IP:PORT, for example \"127.0.0.1:7420\""))
}

fn engine(text: &str) -> Result<EngineKind, String> {
    EngineKind::parse(text)
        .ok_or_else(|| format!("there is no engine '{text}'; take journal, sled or memory"))
}
