//! A mail server.

use std::path::Path;
use std::process::Command;

use pillarbox_runtime::adapter::Settings;
use tempfile::TempDir;
use tokio::net::TcpStream;

use crate::peer::{Peer, certificates, free_port, program, tools};

/// The server of Python's package `aiosmtpd`, with a handler of our own.
#[derive(Debug)]
pub struct MailServer {
    /// The process.
    pub peer: Peer,
    /// Where it listens.
    pub port: u16,
    /// Its folder, `ca.crt` in it.
    pub folder: TempDir,
}

impl MailServer {
    /// A body that it refuses for good, however that is encoded.
    pub const REFUSED: &[u8] = b"refuse-me";

    /// Starts a server that takes mails of 700 KiB: `plain`, `login` (the same for those who log in), `starttls` or
    /// `smtps`.
    pub async fn start(mode: &'static str) -> Self {
        Self::start_with(mode, 700 * 1024).await
    }

    /// With another size.
    pub async fn start_with(mode: &'static str, bytes_max: usize) -> Self {
        let folder = tempfile::tempdir().unwrap();
        certificates(folder.path());
        let (port, data) = (free_port(), folder.path().to_owned());
        let peer = Peer::start("smtp", folder.path(), move || command(port, &data, mode, bytes_max));
        let mut server = Self { peer, port, folder };
        server.ready().await;
        server
    }

    /// Waits until it takes connections.
    pub async fn ready(&mut self) {
        let port = self.port;
        self.peer.ready(async || TcpStream::connect(("127.0.0.1", port)).await.map(drop)).await;
    }

    /// Of a route to the server without encryption.
    #[must_use]
    pub fn settings(&self) -> Settings {
        Self::settings_at(self.port)
    }

    /// The same, by this port of the loopback.
    #[must_use]
    pub fn settings_at(port: u16) -> Settings {
        Settings::default()
            .with("url", format!("smtp://127.0.0.1:{port}"))
            .with("plain", true)
            .with("from", "Outbox <outbox@example.com>")
            .with("to", vec!["orders@example.com"])
            .with("subject", "Order {message_id}")
    }

    /// What the server holds, in order.
    #[must_use]
    pub fn mails(&self) -> Vec<Mail> {
        let kept = std::fs::read_to_string(self.folder.path().join("mails")).unwrap_or_default();
        kept.lines().map(|line| Mail(serde_json::from_str(line).unwrap())).collect()
    }
}

/// A mail that the server holds.
#[derive(Debug)]
pub struct Mail(serde_json::Value);

impl Mail {
    /// What the server noted of it: `from`, `to`, `encrypted` or `user`.
    #[must_use]
    pub fn of(&self, name: &str) -> String {
        match self.0.get(name).unwrap() {
            serde_json::Value::String(text) => text.clone(),
            other => other.to_string(),
        }
    }

    /// Head and body.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8(from_base64(&self.of("text"))).unwrap()
    }

    /// A header's value, as it is written.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<String> {
        let text = self.text();
        let head = text.split("\r\n\r\n").next().unwrap().replace("\r\n ", " ");
        head.lines().find_map(|line| Some(line.strip_prefix(name)?.strip_prefix(": ")?.to_owned()))
    }

    /// The body as it was before it was encoded.
    #[must_use]
    pub fn body(&self) -> Vec<u8> {
        let text = self.text();
        let body = text.split_once("\r\n\r\n").unwrap().1;
        match self.header("Content-Transfer-Encoding").as_deref() {
            Some("base64") => from_base64(body),
            Some("quoted-printable") => from_quoted(body),
            other => unreachable!("{other:?} is no encoding of the adapter's"),
        }
    }
}

fn command(port: u16, folder: &Path, mode: &str, bytes_max: usize) -> Command {
    let mut command = Command::new(program("python3"));
    command.env("PYTHONPATH", tools().join("aiosmtpd")).arg("-u").arg("-c").arg(include_str!("mail.py"));
    command.arg(port.to_string()).arg(folder).arg(mode).arg(bytes_max.to_string());
    command
}

/// Written here, so that the library's own reading proves nothing to itself.
fn from_base64(text: &str) -> Vec<u8> {
    const ALPHABET: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let digit = |byte: u8| ALPHABET.iter().position(|one| *one == byte);
    let (mut bytes, mut bits, mut held) = (Vec::new(), 0u32, 0);
    for value in text.bytes().filter_map(digit) {
        bits = (bits << 6) | u32::try_from(value).unwrap();
        held += 6;
        if held >= 8 {
            held -= 8;
            bytes.push(u8::try_from((bits >> held) & 0xff).unwrap());
        }
    }
    bytes
}

fn from_quoted(text: &str) -> Vec<u8> {
    let joined = text.replace("=\r\n", "");
    let mut parts = joined.split('=');
    let mut bytes = parts.next().unwrap().as_bytes().to_vec();
    for part in parts {
        let (digits, plain) = part.split_at(2);
        bytes.push(u8::from_str_radix(digits, 16).unwrap());
        bytes.extend_from_slice(plain.as_bytes());
    }
    bytes
}
