//! What adapters share that speak HTTP: their connections, never more at once than the settings allow and each set up
//! within its time; and settings.

use std::error::Error as StdError;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::Uri;
use http::header::{HeaderName, HeaderValue};
use http_body::Body;
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder, MaybeHttpsStream};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::{Connected, Connection, HttpConnector};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use pillarbox_runtime::adapter::SendError;
use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tower_service::Service;

use crate::tls::{self, Trust};

/// How long an unused connection is kept: less than most servers keep theirs, so that we close first.
const IDLE_MAX: Duration = Duration::from_secs(30);
/// How often a connection of HTTP/2 is asked whether it is alive. One that died silently would else swallow every
/// later request, since they share it.
const PING_INTERVAL: Duration = Duration::from_secs(20);
/// How long it may take to answer that.
const PING_TIMEOUT: Duration = Duration::from_secs(10);

/// The most connections that can be asked for.
const CONNECTIONS_LIMIT: u32 = 10_000;

/// What connections are made by.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ways<'a> {
    /// Whom TLS trusts; `None` where it is not spoken.
    pub(crate) trust: Option<&'a Trust>,
    /// Whether HTTP/1.1 is spoken.
    pub(crate) http1: bool,
    /// Whether HTTP/2 is spoken; with both it is what the destination chooses over TLS, and 1.1 without.
    pub(crate) http2: bool,
    /// How long a connection may take, TLS included.
    pub(crate) connect_timeout: Duration,
    /// The most connections at once.
    pub(crate) connections_max: usize,
}

/// Which of the message's headers go along.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Forward {
    /// Every one.
    All,
    /// Those of these names.
    Named(Vec<String>),
}

impl Forward {
    /// Whether the header of this name goes along.
    pub(crate) fn takes(&self, name: &str) -> bool {
        match self {
            Self::All => true,
            Self::Named(names) => names.iter().any(|have| have == name),
        }
    }
}

/// A client with its pool of connections. It follows no redirect, knows no proxy, and decodes nothing.
pub(crate) type Pool<B> = Client<Limited, B>;

/// The setting `connections_max`.
///
/// # Errors
/// What can be written instead.
pub(crate) fn connections(written: Option<u32>) -> Result<usize, String> {
    match written.unwrap_or(16) {
        count @ 1..=CONNECTIONS_LIMIT => Ok(count as usize),
        _ => Err(format!("write a number from 1 to {CONNECTIONS_LIMIT}")),
    }
}

/// The setting `content_type`.
///
/// # Errors
/// What can be written instead.
pub(crate) fn content_type(written: Option<String>) -> Result<HeaderValue, String> {
    let written = written.unwrap_or_else(|| "application/octet-stream".to_owned());
    match HeaderValue::try_from(written) {
        Ok(value) if value.as_bytes().contains(&b'/') => Ok(value),
        _ => Err("it is no media type; write \"application/json\", say".to_owned()),
    }
}

/// The setting `forward_headers`.
///
/// # Errors
/// Which of them is no name.
pub(crate) fn forward(written: Option<Vec<String>>) -> Result<Forward, String> {
    let Some(names) = written else {
        return Ok(Forward::All);
    };
    if names.iter().any(|name| name == "*") {
        return Ok(Forward::All);
    }
    match names.iter().find(|name| HeaderName::from_bytes(name.as_bytes()).is_err()) {
        Some(bad) => Err(format!("{bad:?} is no header's name; list names, or [\"*\"] for all")),
        None => Ok(Forward::Named(names.iter().map(|name| name.to_ascii_lowercase()).collect())),
    }
}

/// The client that connects in these ways.
///
/// # Errors
/// As [`tls::client_config`].
pub(crate) fn pool<B>(ways: Ways<'_>) -> Result<Pool<B>, SendError>
where
    B: Body<Data = Bytes> + Send,
{
    let mut tcp = HttpConnector::new();
    tcp.enforce_http(false);
    tcp.set_nodelay(true);
    let tls = HttpsConnectorBuilder::new().with_tls_config(tls::client_config(ways.trust)?).https_or_http();
    let inner = match (ways.http1, ways.http2) {
        (true, true) => tls.enable_all_versions().wrap_connector(tcp),
        (_, false) => tls.enable_http1().wrap_connector(tcp),
        (false, true) => tls.enable_http2().wrap_connector(tcp),
    };
    let connector = Limited {
        inner,
        permits: Arc::new(Semaphore::new(ways.connections_max)),
        timeout: ways.connect_timeout,
    };
    Ok(Client::builder(TokioExecutor::new())
        .timer(TokioTimer::new())
        .pool_timer(TokioTimer::new())
        .pool_idle_timeout(IDLE_MAX)
        .pool_max_idle_per_host(ways.connections_max)
        .http2_only(!ways.http1)
        .http2_keep_alive_interval(PING_INTERVAL)
        .http2_keep_alive_timeout(PING_TIMEOUT)
        .build(connector))
}

/// Connects, with a permit for each connection that lives.
#[derive(Debug, Clone)]
pub(crate) struct Limited {
    inner: HttpsConnector<HttpConnector>,
    permits: Arc<Semaphore>,
    timeout: Duration,
}

/// No connection came about in time.
#[derive(Debug, thiserror::Error)]
#[error("no connection within {0:?} (setting connect_timeout)")]
struct ConnectTimedOut(Duration);

type BoxError = Box<dyn StdError + Send + Sync>;

impl Service<Uri> for Limited {
    type Response = Held;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Held, BoxError>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let mut inner = self.inner.clone();
        let permits = Arc::clone(&self.permits);
        let span = self.timeout;
        Box::pin(async move {
            let permit = permits.acquire_owned().await?;
            let connected = tokio::time::timeout(span, inner.call(uri)).await;
            let io = connected.map_err(|_elapsed| ConnectTimedOut(span))??;
            Ok(Held { io, _permit: permit })
        })
    }
}

/// A connection that counts as long as it lives.
#[derive(Debug)]
pub(crate) struct Held {
    io: MaybeHttpsStream<TokioIo<TcpStream>>,
    _permit: OwnedSemaphorePermit,
}

impl Connection for Held {
    fn connected(&self) -> Connected {
        self.io.connected()
    }
}

impl Read for Held {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_read(context, buffer)
    }
}

impl Write for Held {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(context)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(context, slices)
    }
}
