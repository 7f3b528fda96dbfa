//! Connections: never more at once than the settings allow, each set up within its time.

use std::error::Error as StdError;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use http::Uri;
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder, MaybeHttpsStream};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::{Connected, Connection, HttpConnector};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use pillarbox_runtime::adapter::SendError;
use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tower_service::Service;

use super::request::Streamed;
use super::settings::{HttpSettings, Version};
use crate::tls;

/// How long an unused connection is kept: less than most servers keep theirs, so that we close first.
const IDLE_MAX: Duration = Duration::from_secs(30);
/// How often a connection of HTTP/2 is asked whether it is alive. One that died silently would else swallow every
/// later request, since they share it.
const PING_INTERVAL: Duration = Duration::from_secs(20);
/// How long it may take to answer that.
const PING_TIMEOUT: Duration = Duration::from_secs(10);

/// A client with its pool of connections. It follows no redirect, knows no proxy, and decodes nothing.
pub(super) type Pool = Client<Limited, Streamed>;

/// The client for these settings.
///
/// # Errors
/// As [`tls::client_config`].
pub(super) fn pool(settings: &HttpSettings) -> Result<Pool, SendError> {
    let mut tcp = HttpConnector::new();
    tcp.enforce_http(false);
    tcp.set_nodelay(true);
    let tls = HttpsConnectorBuilder::new()
        .with_tls_config(tls::client_config(settings.url.is_tls().then_some(&settings.trust))?)
        .https_or_http();
    let inner = match settings.version {
        Version::Auto => tls.enable_all_versions().wrap_connector(tcp),
        Version::One => tls.enable_http1().wrap_connector(tcp),
        Version::Two => tls.enable_http2().wrap_connector(tcp),
    };
    let connector = Limited {
        inner,
        permits: Arc::new(Semaphore::new(settings.connections_max)),
        timeout: settings.connect_timeout,
    };
    Ok(Client::builder(TokioExecutor::new())
        .timer(TokioTimer::new())
        .pool_timer(TokioTimer::new())
        .pool_idle_timeout(IDLE_MAX)
        .pool_max_idle_per_host(settings.connections_max)
        .http2_only(settings.version == Version::Two)
        .http2_keep_alive_interval(PING_INTERVAL)
        .http2_keep_alive_timeout(PING_TIMEOUT)
        .build(connector))
}

/// Connects, with a permit for each connection that lives.
#[derive(Debug, Clone)]
pub(super) struct Limited {
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
pub(super) struct Held {
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
