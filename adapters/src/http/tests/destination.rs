//! Real destinations on the loopback interface.

use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, Uri, Version};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

/// A request that came in whole.
#[derive(Debug, Clone)]
pub(super) struct Seen {
    pub(super) method: Method,
    pub(super) uri: Uri,
    pub(super) version: Version,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
}

impl Seen {
    pub(super) fn header(&self, name: &str) -> &str {
        self.headers.get(name).unwrap_or_else(|| panic!("no header {name}")).to_str().unwrap()
    }
}

type Answer = Pin<Box<dyn Future<Output = Response<Full<Bytes>>> + Send>>;

/// A server that keeps what it saw.
#[derive(Debug, Clone)]
pub(super) struct Destination {
    pub(super) address: SocketAddr,
    seen: Arc<Mutex<Vec<Seen>>>,
    connections: Arc<AtomicUsize>,
    connections_most: Arc<AtomicUsize>,
}

impl Destination {
    pub(super) fn url(&self, scheme: &str) -> String {
        format!("{scheme}://{}/in", self.address)
    }

    pub(super) fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }

    pub(super) fn forget(&self) {
        self.seen.lock().unwrap().clear();
    }

    pub(super) fn connections_most(&self) -> usize {
        self.connections_most.load(Ordering::SeqCst)
    }

    /// Answers by `answer`, over TLS where there is a configuration.
    pub(super) async fn start<F, A>(tls: Option<ServerConfig>, answer: F) -> Self
    where
        F: Fn(Seen) -> A + Send + Sync + 'static,
        A: Future<Output = Response<Full<Bytes>>> + Send + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let this = Self {
            address: listener.local_addr().unwrap(),
            seen: Arc::default(),
            connections: Arc::default(),
            connections_most: Arc::default(),
        };
        let answer: Arc<dyn Fn(Seen) -> Answer + Send + Sync> = Arc::new(move |seen| Box::pin(answer(seen)));
        let acceptor = tls.map(|config| TlsAcceptor::from(Arc::new(config)));
        let server = this.clone();
        run(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let (server, answer, acceptor) = (server.clone(), Arc::clone(&answer), acceptor.clone());
                run(async move {
                    let live = server.connections.fetch_add(1, Ordering::SeqCst) + 1;
                    server.connections_most.fetch_max(live, Ordering::SeqCst);
                    match acceptor {
                        None => server.serve(stream, answer).await,
                        Some(acceptor) => {
                            if let Ok(stream) = acceptor.accept(stream).await {
                                server.serve(stream, answer).await;
                            }
                        }
                    }
                    server.connections.fetch_sub(1, Ordering::SeqCst);
                });
            }
        });
        this
    }

    /// Answers every request with this status, these headers and this body.
    pub(super) async fn answering(status: u16, headers: &[(&str, &str)], body: &'static str) -> Self {
        let headers: Vec<_> = headers.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect();
        Self::start(None, move |_seen| {
            let mut response = Response::builder().status(status);
            for (name, value) in &headers {
                response = response.header(name, value);
            }
            std::future::ready(response.body(Full::from(body)).unwrap())
        })
        .await
    }

    async fn serve<S>(&self, stream: S, answer: Arc<dyn Fn(Seen) -> Answer + Send + Sync>)
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let service = service_fn(|request: Request<Incoming>| {
            let (this, answer) = (self.clone(), Arc::clone(&answer));
            async move {
                let (head, body) = request.into_parts();
                let Ok(body) = body.collect().await else {
                    // Cut off in the middle: not a message.
                    std::future::pending::<()>().await;
                    unreachable!();
                };
                let seen = Seen {
                    method: head.method,
                    uri: head.uri,
                    version: head.version,
                    headers: head.headers,
                    body: body.to_bytes(),
                };
                this.seen.lock().unwrap().push(seen.clone());
                Ok::<_, Infallible>(answer(seen).await)
            }
        });
        let _ended =
            auto::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(stream), service).await;
    }
}

/// A server that gives each connection, its request's head already read, to `talk`.
pub(super) async fn raw<F, T>(talk: F) -> SocketAddr
where
    F: Fn(TcpStream) -> T + Send + Sync + 'static,
    T: Future<Output = io::Result<()>> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    run(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut read = Vec::new();
            while !read.windows(4).any(|four| four == b"\r\n\r\n") {
                let mut buffer = [0; 4096];
                match stream.read(&mut buffer).await {
                    Ok(count @ 1..) => read.extend_from_slice(&buffer[..count]),
                    _ => break,
                }
            }
            run(talk(stream));
        }
    });
    address
}

/// An address at which nobody listens.
pub(super) async fn nobody() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap()
}

#[expect(clippy::disallowed_methods, reason = "the test's own server, which ends with the test's runtime")]
fn run<F>(future: F)
where
    F: Future + Send + 'static,
    F::Output: Send,
{
    tokio::spawn(future);
}
