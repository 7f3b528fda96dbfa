//! An HTTP destination that remembers everything it received, answers as it is told, and can be stopped and started
//! again at the same address.

use std::convert::Infallible;
use std::fmt;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use sha2::{Digest as _, Sha256};
use tokio::net::{TcpListener, TcpSocket};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::bodies::Hash;
use crate::wait::until;

/// A request, whose body came in full.
#[derive(Debug, Clone)]
pub struct Received {
    /// When its body had come.
    pub at: Instant,
    /// The path of its URL.
    pub path: String,
    /// All its headers.
    pub headers: HeaderMap,
    /// Its `Idempotency-Key`.
    pub key: String,
    /// Its message's id.
    pub message: String,
    /// Its attempt's number.
    pub attempt: u32,
    /// Its body's length.
    pub len: u64,
    /// Its body's hash.
    pub hash: Hash,
}

/// What is answered.
#[derive(Debug, Clone)]
pub struct Reply {
    status: u16,
    retry_after: Option<u64>,
    text: String,
}

impl Reply {
    /// An answer with this status.
    #[must_use]
    pub fn status(status: u16) -> Self {
        Self { status, retry_after: None, text: String::new() }
    }

    /// The same, asking for a repeat after so many seconds.
    #[must_use]
    pub fn retry_after(self, seconds: u64) -> Self {
        Self { retry_after: Some(seconds), ..self }
    }

    /// The same, saying something.
    #[must_use]
    pub fn saying(self, text: &str) -> Self {
        Self { text: text.to_owned(), ..self }
    }
}

type Script = dyn Fn(&Received) -> Reply + Send + Sync;

struct Shared {
    received: Mutex<Vec<Received>>,
    script: Mutex<Arc<Script>>,
    held: watch::Sender<bool>,
}

/// The destination. It is down until [`Destination::start`].
pub struct Destination {
    address: SocketAddr,
    /// Bound and never listening: keeps the address ours while the destination is down.
    _reserved: TcpSocket,
    shared: Arc<Shared>,
    running: JoinSet<()>,
}

impl fmt::Debug for Destination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Destination").field("address", &self.address).finish_non_exhaustive()
    }
}

impl Destination {
    /// A destination that has an address and is down. Once started it answers 204 to everything.
    ///
    /// # Panics
    /// There is no free address.
    #[must_use]
    pub fn down() -> Self {
        let reserved = socket(SocketAddr::from(([127, 0, 0, 1], 0)));
        let address = reserved.local_addr().expect("it is bound");
        let script: Arc<Script> = Arc::new(|_: &Received| Reply::status(204));
        let shared = Shared {
            received: Mutex::default(),
            script: Mutex::new(script),
            held: watch::Sender::new(false),
        };
        Self { address, _reserved: reserved, shared: Arc::new(shared), running: JoinSet::new() }
    }

    /// A destination that is up.
    #[must_use]
    pub fn up() -> Self {
        let mut destination = Self::down();
        destination.start();
        destination
    }

    /// Its URL with this path, which begins with a slash.
    #[must_use]
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// Begins to take requests.
    ///
    /// # Panics
    /// The address cannot be listened on.
    pub fn start(&mut self) {
        let listener = socket(self.address).listen(1024).expect("the address is reserved");
        self.running.spawn(accept(listener, Arc::clone(&self.shared)));
    }

    /// Cuts off what is under way and takes no more connections.
    pub async fn stop(&mut self) {
        self.running.shutdown().await;
    }

    /// Answers so from now on.
    pub fn answer(&self, script: impl Fn(&Received) -> Reply + Send + Sync + 'static) {
        *lock(&self.shared.script) = Arc::new(script);
    }

    /// Answers nothing until [`Destination::release`]; requests are received all the same.
    pub fn hold(&self) {
        self.shared.held.send_replace(true);
    }

    /// Answers again, the requests that were held back first.
    pub fn release(&self) {
        self.shared.held.send_replace(false);
    }

    /// Everything that was received so far, in order.
    #[must_use]
    pub fn received(&self) -> Vec<Received> {
        lock(&self.shared.received).clone()
    }

    /// What was received of one message.
    #[must_use]
    pub fn received_of(&self, message: &str) -> Vec<Received> {
        lock(&self.shared.received).iter().filter(|one| one.message == message).cloned().collect()
    }

    /// How many requests were received so far.
    #[must_use]
    pub fn count(&self) -> usize {
        lock(&self.shared.received).len()
    }

    /// Waits until at least so many requests were received.
    ///
    /// # Panics
    /// That does not happen.
    pub async fn wait_count(&self, count: usize) {
        let reached = until(async || (self.count() >= count).then_some(())).await;
        assert_eq!(reached, Ok(()), "the destination received {} of {count} requests", self.count());
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A socket that shares its address with others of this process.
fn socket(address: SocketAddr) -> TcpSocket {
    let socket = TcpSocket::new_v4().expect("there are sockets");
    socket.set_reuseaddr(true).expect("a new socket takes options");
    socket.set_reuseport(true).expect("a new socket takes options");
    socket.bind(address).expect("the address is free or ours");
    socket
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    // Dropped with this task, and every connection with it.
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let Ok((stream, _)) = accepted else { continue };
                let shared = Arc::clone(&shared);
                let service = service_fn(move |request| receive(request, Arc::clone(&shared)));
                let connection = http1::Builder::new().serve_connection(TokioIo::new(stream), service);
                connections.spawn(async move { drop(connection.await) });
            }
            Some(_ended) = connections.join_next() => {}
        }
    }
}

async fn receive(
    request: Request<Incoming>,
    shared: Arc<Shared>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let (parts, mut body) = request.into_parts();
    let (mut hasher, mut len) = (Sha256::new(), 0);
    while let Some(frame) = body.frame().await {
        let Ok(frame) = frame else {
            // The sender went away in the middle: nobody received anything.
            return Ok(answer(&Reply::status(400)));
        };
        if let Some(data) = frame.data_ref() {
            hasher.update(data);
            len += data.len() as u64;
        }
    }
    let text = |name| parts.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or("").to_owned();
    let received = Received {
        at: Instant::now(),
        path: parts.uri.path().to_owned(),
        key: text("idempotency-key"),
        message: text("x-pillarbox-message-id"),
        attempt: text("x-pillarbox-attempt").parse().unwrap_or(0),
        headers: parts.headers,
        len,
        hash: hasher.finalize().into(),
    };
    lock(&shared.received).push(received.clone());
    let mut held = shared.held.subscribe();
    let _gone = held.wait_for(|held| !held).await;
    let script = Arc::clone(&lock(&shared.script));
    Ok(answer(&script(&received)))
}

fn answer(reply: &Reply) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::from(reply.text.clone()));
    *response.status_mut() = reply.status.try_into().expect("a script answers with a status");
    if let Some(seconds) = reply.retry_after {
        response.headers_mut().insert(http::header::RETRY_AFTER, seconds.into());
    }
    response
}
