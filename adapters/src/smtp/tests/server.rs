//! A real mail server for the tests.

use std::path::Path;
use std::process::Command;

use pillarbox_runtime::adapter::Settings;
use tempfile::TempDir;
use tokio::net::TcpStream;

use crate::peer::{Peer, certificates, free_port, program, tools};

/// The server of Python's package `aiosmtpd`, with a handler of our own.
pub(super) struct Server {
    pub(super) peer: Peer,
    pub(super) port: u16,
    pub(super) folder: TempDir,
}

impl Server {
    /// Starts a server: `plain`, `login` (the same for those who log in), `starttls` or `smtps`.
    pub(super) async fn start(mode: &'static str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        certificates(folder.path());
        let (port, data) = (free_port(), folder.path().to_owned());
        let peer = Peer::start("smtp", folder.path(), move || command(port, &data, mode));
        let mut server = Self { peer, port, folder };
        server.ready().await;
        server
    }

    pub(super) async fn ready(&mut self) {
        let port = self.port;
        self.peer.ready(async || TcpStream::connect(("127.0.0.1", port)).await.map(drop)).await;
    }

    pub(super) fn settings(&self) -> Settings {
        settings(self.port)
    }

    /// What the server holds, in order.
    pub(super) fn mails(&self) -> Vec<Held> {
        let kept = std::fs::read_to_string(self.folder.path().join("mails")).unwrap_or_default();
        kept.lines().map(|line| Held(serde_json::from_str(line).unwrap())).collect()
    }
}

/// A mail that the server holds.
pub(super) struct Held(serde_json::Value);

impl Held {
    pub(super) fn of(&self, name: &str) -> String {
        match &self.0[name] {
            serde_json::Value::String(text) => text.clone(),
            other => other.to_string(),
        }
    }

    /// Head and body.
    pub(super) fn text(&self) -> String {
        String::from_utf8(from_base64(&self.of("text"))).unwrap()
    }

    pub(super) fn header(&self, name: &str) -> Option<String> {
        let text = self.text();
        let head = text.split("\r\n\r\n").next().unwrap().replace("\r\n ", " ");
        head.lines().find_map(|line| Some(line.strip_prefix(name)?.strip_prefix(": ")?.to_owned()))
    }

    /// The body as it was before it was encoded.
    pub(super) fn body(&self) -> Vec<u8> {
        let text = self.text();
        let body = text.split_once("\r\n\r\n").unwrap().1;
        match self.header("Content-Transfer-Encoding").as_deref() {
            Some("base64") => from_base64(body),
            Some("quoted-printable") => from_quoted(body),
            other => panic!("{other:?}"),
        }
    }
}

fn command(port: u16, folder: &Path, mode: &str) -> Command {
    let mut command = Command::new(program("python3"));
    command.env("PYTHONPATH", tools().join("aiosmtpd")).arg("-u").arg("-c").arg(include_str!("server.py"));
    command.arg(port.to_string()).arg(folder).arg(mode);
    command
}

/// Of a route to the server without encryption.
pub(super) fn settings(port: u16) -> Settings {
    Settings::default()
        .with("url", format!("smtp://127.0.0.1:{port}"))
        .with("plain", true)
        .with("from", "Outbox <outbox@example.com>")
        .with("to", vec!["orders@example.com"])
        .with("subject", "Order {message_id}")
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
        bytes.push(u8::from_str_radix(&part[..2], 16).unwrap());
        bytes.extend_from_slice(&part.as_bytes()[2..]);
    }
    bytes
}
