//! An adapter of one's own, and the kit that shows what it claims: each message is a line of a small protocol.
#![expect(clippy::print_stdout, reason = "an example shows what it does")]

mod destination;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use pillarbox_adapter_kit::{Destination, Effort, Held, Report, Subject, check_with};
use pillarbox_runtime::adapter::{
    Adapter, AdapterKind, Capabilities, CheckedSettings, DoubleSafety, OpenContext, Outgoing, SendError,
    Sender, Settings, SettingsError, Transport, TransportInfo,
};
use pillarbox_store::Body;
use serde::Deserialize;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;

use crate::destination::{Lines, REFUSED};

/// The longest body.
const BODY_BYTES_MAX: u64 = 25 * 1024 * 1024;

/// Who the adapter is, and its record.
fn info() -> TransportInfo {
    TransportInfo {
        kind: "line",
        name: "Line",
        version: "1.0",
        description: "sends each message as a line",
        capabilities: Capabilities::default()
            .double_safety(DoubleSafety::Keyed(None))
            .body_bytes_max(BODY_BYTES_MAX)
            .streams(),
        uri_prefixes: &[],
    }
}

/// What configuration names.
#[derive(Debug)]
struct LineKind;

/// Its settings, as they are written and as they are used.
#[derive(Debug, Clone, Deserialize)]
struct LineSettings {
    port: u16,
    timeout_ms: u64,
}

impl AdapterKind for LineKind {
    fn describe(&self) -> TransportInfo {
        info()
    }

    fn check(&self, settings: &Settings) -> Result<Box<dyn CheckedSettings>, SettingsError> {
        Ok(Box::new(settings.parse::<LineSettings>()?))
    }
}

#[async_trait]
impl CheckedSettings for LineSettings {
    async fn open(&self, _context: &OpenContext) -> Result<Adapter, SendError> {
        Ok(Adapter::sender(LineSender(self.clone())))
    }
}

/// The adapter: a connection for each message.
#[derive(Debug)]
struct LineSender(LineSettings);

impl LineSender {
    async fn exchange(&self, message: &Outgoing) -> Result<String, SendError> {
        let broken = |error: std::io::Error| SendError::temporary("the connection broke").caused_by(error);
        let mut stream = TcpStream::connect(("127.0.0.1", self.0.port)).await.map_err(broken)?;
        stream.set_nodelay(true).map_err(broken)?;
        let (key, attempt, body) = (message.send_key(), message.attempt(), message.body());
        let doubt = if message.in_doubt() { "?" } else { "" };
        let head = format!("PUT {key} {attempt}{doubt} {}\n", body.len());
        stream.write_all(head.as_bytes()).await.map_err(broken)?;
        for index in 0..body.fragments() {
            let unreadable =
                |error| SendError::temporary("the body could not be read from the box").caused_by(error);
            let fragment = body.fragment(index).map_err(unreadable)?;
            stream.write_all(&fragment).await.map_err(broken)?;
        }
        let mut answer = String::new();
        BufReader::new(stream).read_line(&mut answer).await.map_err(broken)?;
        Ok(answer)
    }
}

impl Transport for LineSender {
    fn describe(&self) -> TransportInfo {
        info()
    }
}

#[async_trait]
impl Sender for LineSender {
    async fn send(&self, message: &Outgoing) -> Result<(), SendError> {
        let (length, span) = (message.body().len(), Duration::from_millis(self.0.timeout_ms));
        if length > BODY_BYTES_MAX {
            return Err(SendError::permanent(format!("the body has {length} bytes")));
        }
        match tokio::time::timeout(span, self.exchange(message)).await {
            Ok(Ok(answer)) if answer == "OK\n" => Ok(()),
            // Half an answer is none.
            Ok(Ok(answer)) if answer.starts_with("NO ") && answer.ends_with('\n') => {
                Err(SendError::permanent(format!("refused: {}", answer.trim_end())))
            }
            Ok(Ok(_half)) => Err(SendError::temporary("the connection ended before the answer")),
            Ok(Err(error)) => Err(error),
            Err(_elapsed) => Err(SendError::temporary(format!("no answer within {span:?}"))),
        }
    }
}

/// What the kit needs: the adapter and a real destination.
#[derive(Debug)]
struct LineSubject;

#[async_trait(?Send)]
impl Subject for LineSubject {
    fn name(&self) -> &'static str {
        "line"
    }

    fn kind(&self) -> Arc<dyn AdapterKind> {
        Arc::new(LineKind)
    }

    async fn start(&self) -> Box<dyn Destination> {
        Box::new(Server(Lines::start(true).await))
    }
}

#[derive(Debug)]
struct Server(Lines);

#[async_trait(?Send)]
impl Destination for Server {
    fn port(&self) -> Option<u16> {
        Some(self.0.port)
    }

    fn settings(&self, port: u16) -> Settings {
        Settings::default().with("port", port).with("timeout_ms", 500)
    }

    async fn held(&self) -> Vec<Held> {
        self.0.held()
    }

    fn refused(&self) -> Option<Body> {
        Some(Body::from(REFUSED))
    }

    fn restarts(&self) -> bool {
        true
    }

    async fn kill(&mut self) {
        self.0.kill();
    }

    async fn start_again(&mut self) {
        self.0.start_again().await;
    }
}

#[tokio::main]
async fn main() -> Result<(), String> {
    let report =
        check_with(&LineSubject, &Effort::default(), |one| println!("{:20} {:?}", one.claim, one.verdict))
            .await;
    println!("{report}\n{}{}", Report::table_head(), report.row());
    if report.broken().next().is_some() { Err("a claim is not true".to_owned()) } else { Ok(()) }
}
