//! The listening side: bounded numbers of connections, bounded patience, and an end that lets requests finish.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use axum::Router;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use pillarbox_store::Headers;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::BODY_PAUSE_MAX;
use super::patience::Patience;

/// The most connections at once; more wait to be accepted.
const CONNECTIONS_MAX: usize = 1_024;
/// How long a client may take to send a request's headers, an idle connection's next request included.
const HEADER_TIMEOUT: Duration = Duration::from_secs(30);
/// How long requests may go on once the server stops.
const CLOSING_MAX: Duration = Duration::from_secs(5);

/// The most header fields of a request beside the message's own.
const HEADERS_BESIDE: usize = 64;
/// The most bytes of a request's header fields over HTTP/2, the protocol's overhead included: enough for a message's.
const HEADER_LIST_BYTES_MAX: u32 = 128 * 1024;

/// Listens on an address.
///
/// # Errors
/// Why it cannot, and what to do.
pub async fn bind(address: SocketAddr) -> Result<TcpListener, String> {
    TcpListener::bind(address).await.map_err(|error| match error.kind() {
        io::ErrorKind::AddrInUse => format!(
            "{address} is taken by another program; stop that one (ss -ltnp shows it), or set server.listen \
             to another address"
        ),
        io::ErrorKind::PermissionDenied => format!(
            "{address} may not be listened on by this user; set server.listen to a port of 1024 or more"
        ),
        io::ErrorKind::AddrNotAvailable => {
            format!("{address} is not an address of this machine; set server.listen to one that is")
        }
        _ => format!("{address} cannot be listened on: {error}; correct server.listen"),
    })
}

/// Serves until `stop` turns true, then lets the requests under way finish for a while.
pub async fn serve(listener: TcpListener, router: Router, mut stop: watch::Receiver<bool>) {
    let graceful = GracefulShutdown::new();
    let mut connections = JoinSet::new();
    loop {
        while connections.try_join_next().is_some() {}
        tokio::select! {
            biased;
            () = stopped(&mut stop) => break,
            _ = connections.join_next(), if connections.len() >= CONNECTIONS_MAX => {}
            accepted = listener.accept(), if connections.len() < CONNECTIONS_MAX => match accepted {
                Ok((stream, _peer)) => {
                    let connection = connection(stream, router.clone(), &graceful);
                    connections.spawn(connection);
                }
                Err(error) => {
                    tracing::warn!(%error, "a connection could not be accepted");
                    // Out of file descriptors, most likely: some must close first.
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            },
        }
    }
    drop(listener);
    if tokio::time::timeout(CLOSING_MAX, graceful.shutdown()).await.is_err() {
        tracing::warn!("requests were still under way after {CLOSING_MAX:?} and are cut off");
    }
}

/// Returns once it is told to stop, or the one who would tell is gone.
async fn stopped(stop: &mut watch::Receiver<bool>) {
    let _gone = stop.wait_for(|stop| *stop).await;
}

fn connection(
    stream: tokio::net::TcpStream,
    router: Router,
    graceful: &GracefulShutdown,
) -> impl Future<Output = ()> + Send + use<> {
    let mut builder = Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .max_headers(Headers::COUNT_MAX + HEADERS_BESIDE);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_header_list_size(HEADER_LIST_BYTES_MAX)
        .max_concurrent_streams(128)
        .keep_alive_interval(Some(HEADER_TIMEOUT));
    let serving = builder.serve_connection(
        TokioIo::new(Patience::new(stream, BODY_PAUSE_MAX)),
        TowerToHyperService::new(router),
    );
    let watched = graceful.watch(serving.into_owned());
    async move {
        if let Err(error) = watched.await {
            tracing::debug!(error = &*error, "a connection failed");
        }
    }
}
