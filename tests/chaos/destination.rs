//! A destination that behaves as badly as one can over TCP, and writes down what it has read in full.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use pillarbox_tests::witness::{Fact, Witness, number_of};
use sha2::{Digest as _, Sha256};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::sleep;

use crate::plan::{Fate, Kind, LADDER, ORDERS, RETRY_AFTER_SECONDS};
use crate::shown::{Shown, more};

/// The longest head of a request.
const HEAD_BYTES_MAX: usize = 64 * 1024;

struct Shared {
    seed: u64,
    kind: Kind,
    witness: Witness,
    shown: Arc<Shown>,
    /// The life of the server whose connections are taken.
    life: AtomicU32,
    is_calm: AtomicBool,
    /// Connections that are open.
    open: watch::Sender<usize>,
    fates: Mutex<BTreeMap<&'static str, u64>>,
}

/// The destination.
pub(crate) struct Destination {
    address: SocketAddr,
    /// Bound and never listening: keeps the address ours while connections are refused.
    _reserved: TcpSocket,
    shared: Arc<Shared>,
    running: JoinSet<()>,
}

impl Destination {
    pub(crate) fn up(seed: u64, kind: Kind, witness: Witness, shown: Arc<Shown>) -> io::Result<Self> {
        let reserved = socket(SocketAddr::from(([127, 0, 0, 1], 0)))?;
        let shared = Shared {
            seed,
            kind,
            witness,
            shown,
            life: AtomicU32::new(0),
            is_calm: AtomicBool::new(false),
            open: watch::Sender::new(0),
            fates: Mutex::default(),
        };
        let address = reserved.local_addr()?;
        let mut destination =
            Self { address, _reserved: reserved, shared: Arc::new(shared), running: JoinSet::new() };
        destination.start()?;
        Ok(destination)
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Takes connections.
    pub(crate) fn start(&mut self) -> io::Result<()> {
        let listener = socket(self.address)?.listen(1024)?;
        self.running.spawn(accept(listener, Arc::clone(&self.shared)));
        Ok(())
    }

    /// Ends every connection and refuses new ones.
    pub(crate) async fn refuse(&mut self) {
        self.running.shutdown().await;
        // Those that were under way do not count down any more.
        self.shared.open.send_replace(0);
    }

    /// From now on the connections are those of this life.
    pub(crate) fn begins(&self, life: u32) {
        self.shared.life.store(life, Ordering::SeqCst);
    }

    /// Behaves well from now on.
    pub(crate) fn calm(&self) {
        self.shared.is_calm.store(true, Ordering::SeqCst);
    }

    /// Waits until every connection of a server that is gone has ended, so that whatever arrives later comes from
    /// the next one.
    pub(crate) async fn hears_the_end(&self) -> io::Result<()> {
        // Connections are accepted in order: behind this one there is none that the server made.
        let mut last = TcpStream::connect(self.address).await?;
        last.write_all(b"GET /last HTTP/1.1\r\n\r\n").await?;
        last.read_to_end(&mut Vec::new()).await?;
        let mut open = self.shared.open.subscribe();
        let _none = open.wait_for(|open| *open == 0).await;
        Ok(())
    }

    /// What was done with the messages, how often.
    pub(crate) fn fates(&self) -> BTreeMap<&'static str, u64> {
        self.shared.fates.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

fn socket(address: SocketAddr) -> io::Result<TcpSocket> {
    let socket = TcpSocket::new_v4()?;
    socket.set_reuseaddr(true)?;
    socket.set_reuseport(true)?;
    socket.bind(address)?;
    Ok(socket)
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let Ok((stream, _)) = accepted else { continue };
                shared.open.send_modify(|open| *open += 1);
                let shared = Arc::clone(&shared);
                let life = shared.life.load(Ordering::SeqCst);
                connections.spawn(async move {
                    let mut connection = Connection { stream, read: Vec::new(), life, shared };
                    // A broken connection is what this is about.
                    let _ended = connection.serve().await;
                    let shared = Arc::clone(&connection.shared);
                    drop(connection);
                    shared.open.send_modify(|open| *open = open.saturating_sub(1));
                });
            }
            Some(_ended) = connections.join_next() => {}
        }
    }
}

struct Connection {
    stream: TcpStream,
    read: Vec<u8>,
    life: u32,
    shared: Arc<Shared>,
}

/// The head of a request.
struct Head {
    port: &'static str,
    message: u64,
    attempt: u32,
    key: String,
    len: usize,
}

impl Head {
    fn parse(text: &str) -> Option<Self> {
        let mut lines = text.split("\r\n");
        let port = match lines.next()?.split(' ').nth(1)? {
            "/orders" => ORDERS,
            "/ladder" => LADDER,
            _ => return None,
        };
        let headers: BTreeMap<String, &str> = lines
            .filter_map(|line| line.split_once(':'))
            .map(|(name, value)| (name.to_ascii_lowercase(), value.trim()))
            .collect();
        Some(Self {
            port,
            message: number_of(headers.get("x-pillarbox-message-id")?)?,
            attempt: headers.get("x-pillarbox-attempt")?.parse().ok()?,
            key: (*headers.get("idempotency-key")?).to_owned(),
            len: headers.get("content-length")?.parse().ok()?,
        })
    }
}

impl Connection {
    async fn serve(&mut self) -> io::Result<()> {
        loop {
            let Some(head) = self.head().await? else { return Ok(()) };
            let Some(head) = Head::parse(&head) else {
                if self.read.is_empty() {
                    // Our own, or nothing that a server of ours sends.
                    self.stream.write_all(b"HTTP/1.1 404 Not Found\r\nconnection: close\r\n\r\n").await?;
                }
                return Ok(());
            };
            let Shared { seed, kind, is_calm, .. } = &*self.shared;
            let fate = Fate::draw(*seed, *kind, head.message, head.attempt, is_calm.load(Ordering::SeqCst));
            *self
                .shared
                .fates
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .entry(fate.text())
                .or_default() += 1;
            if fate == Fate::ResetInRequest {
                return self.reset_in_request(head.len).await;
            }
            let body = self.body(head.len).await?;
            let life = self.life;
            let arrival = self.shared.witness.arrived(|arrival| Fact::Arrived {
                arrival,
                message: head.message,
                port: head.port,
                life,
                attempt: head.attempt,
                key: head.key,
                body,
                is_kept: fate.is_kept(),
            });
            if fate.is_kept() {
                more(&self.shared.shown.kept);
            }
            if !self.answer(fate, arrival).await? {
                return Ok(());
            }
        }
    }

    /// Reads up to the end of a head; nothing where the connection ends before it.
    async fn head(&mut self) -> io::Result<Option<String>> {
        loop {
            if let Some(end) = self.read.windows(4).position(|bytes| bytes == b"\r\n\r\n") {
                let rest = self.read.split_off(end + 4);
                let head = std::mem::replace(&mut self.read, rest);
                return Ok(Some(String::from_utf8_lossy(&head[..end]).into_owned()));
            }
            if self.read.len() > HEAD_BYTES_MAX || self.stream.read_buf(&mut self.read).await? == 0 {
                return Ok(None);
            }
        }
    }

    /// Reads a body to its end and gives its hash.
    async fn body(&mut self, len: usize) -> io::Result<[u8; 32]> {
        let mut hasher = Sha256::new();
        let mut left = len;
        loop {
            let take = left.min(self.read.len());
            hasher.update(&self.read[..take]);
            self.read.drain(..take);
            left -= take;
            if left == 0 {
                return Ok(hasher.finalize().into());
            }
            if self.stream.read_buf(&mut self.read).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
    }

    async fn reset_in_request(&mut self, len: usize) -> io::Result<()> {
        while self.read.len() < len / 2 {
            if self.stream.read_buf(&mut self.read).await? == 0 {
                break;
            }
        }
        self.stream.set_zero_linger()
    }

    /// Answers; true where the connection goes on.
    async fn answer(&mut self, fate: Fate, arrival: u64) -> io::Result<bool> {
        let (text, goes_on) = match fate {
            Fate::Keep => ("HTTP/1.1 204 No Content\r\n\r\n".to_owned(), true),
            Fate::AnswerTwice => ("HTTP/1.1 204 No Content\r\n\r\n".repeat(2), true),
            Fate::Turn(status) => {
                (format!("HTTP/1.1 {status} Not Now\r\ncontent-length: 7\r\n\r\nnot now"), true)
            }
            Fate::TurnWithPatience => (
                format!(
                    "HTTP/1.1 429 Too Many Requests\r\nretry-after: {RETRY_AFTER_SECONDS}\r\n\
                     content-length: 0\r\n\r\n"
                ),
                true,
            ),
            Fate::Refuse => ("HTTP/1.1 422 Bad\r\ncontent-length: 3\r\n\r\nbad".to_owned(), true),
            Fate::ResetInAnswer => {
                self.stream.write_all(b"HTTP/1.1 20").await?;
                self.stream.set_zero_linger()?;
                return Ok(false);
            }
            Fate::Garbage => {
                self.stream.write_all(b"\x00\xff 204 what is this\r\n\r\n").await?;
                return Ok(false);
            }
            Fate::DropAnswer | Fate::ResetInRequest => return Ok(false),
            Fate::SlowAnswer => {
                self.answer_slowly().await?;
                return Ok(false);
            }
        };
        self.stream.write_all(text.as_bytes()).await?;
        self.shared.witness.saw(Fact::Said(arrival));
        Ok(goes_on)
    }

    /// A byte a second, until the other side has had enough. Nobody waits for the end of it.
    async fn answer_slowly(&mut self) -> io::Result<()> {
        for byte in b"HTTP/1.1 204 No Content\r\n\r\n" {
            self.stream.write_all(&[*byte]).await?;
            tokio::select! {
                read = self.stream.read_buf(&mut self.read) => if read? == 0 { return Ok(()) },
                () = sleep(Duration::from_secs(1)) => {}
            }
        }
        Ok(())
    }
}
