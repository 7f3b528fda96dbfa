//! The demo's destination: an HTTP server in the demo's own process, which survives the kills of the box's. It
//! fails as [`Fates`] decides and notes all that comes in a [`Ledger`].

use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use http::{HeaderMap, Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use pillarbox_runtime::Tasks;
use tokio::net::TcpListener;

use super::fate::{Answer, Fates};
use super::ledger::{Arrival, Content, Ledger};
use crate::api::MESSAGE_ID;
use crate::failure::Failure;

const IDEMPOTENCY_KEY: &str = "idempotency-key";

/// The running destination.
#[derive(Debug)]
pub(super) struct Destination {
    address: SocketAddr,
    shared: Arc<Shared>,
    tasks: Tasks,
}

#[derive(Debug)]
struct Shared {
    fates: Fates,
    repaired: AtomicBool,
    open: AtomicUsize,
    ledger: Mutex<Ledger>,
}

/// Why a connection ends without an answer.
#[derive(Debug)]
enum Cut {
    /// The request did not come whole.
    Torn(hyper::Error),
    /// The destination has chosen so.
    Chosen,
}

impl fmt::Display for Cut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Torn(error) => write!(f, "the request did not come whole: {error}"),
            Self::Chosen => f.write_str("cut on purpose"),
        }
    }
}

impl std::error::Error for Cut {}

/// A request under way.
struct Open<'s>(&'s AtomicUsize);

impl<'s> Open<'s> {
    fn new(count: &'s AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::AcqRel);
        Self(count)
    }
}

impl Drop for Open<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

impl Destination {
    /// Listens on a free port of this machine.
    ///
    /// # Errors
    /// It cannot listen.
    pub(super) async fn start(fates: Fates) -> Result<Self, Failure> {
        let cannot = |error| Failure::new(format!("the destination cannot listen on this machine: {error}"));
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.map_err(cannot)?;
        let address = listener.local_addr().map_err(cannot)?;
        let shared = Arc::new(Shared {
            fates,
            repaired: AtomicBool::new(false),
            open: AtomicUsize::new(0),
            ledger: Mutex::new(Ledger::default()),
        });
        let tasks = Tasks::new();
        tasks.spawn(accept(listener, Arc::clone(&shared), tasks.clone()));
        Ok(Self { address, shared, tasks })
    }

    /// Where messages are sent to.
    pub(super) fn url(&self) -> String {
        format!("http://{}/in", self.address)
    }

    /// From now on nothing is rejected.
    pub(super) fn repair(&self) {
        self.shared.repaired.store(true, Ordering::Release);
    }

    /// Requests under way.
    pub(super) fn open(&self) -> usize {
        self.shared.open.load(Ordering::Acquire)
    }

    /// The messages that were taken, each counted once.
    pub(super) fn taken(&self) -> usize {
        self.shared.ledger().taken()
    }

    /// Ends it, and hands out what it has noted.
    pub(super) fn stop(&self) -> Ledger {
        self.tasks.abort_all();
        self.shared.ledger().clone()
    }
}

impl Drop for Destination {
    fn drop(&mut self) {
        self.tasks.abort_all();
    }
}

impl Shared {
    fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>, tasks: Tasks) {
    loop {
        let Ok((stream, _peer)) = listener.accept().await else {
            // Out of file descriptors, most likely: some must close first.
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
            continue;
        };
        let shared = Arc::clone(&shared);
        tasks.spawn(async move {
            let service = service_fn(|request| {
                let shared = Arc::clone(&shared);
                async move { shared.receive(request).await }
            });
            let builder = Builder::new(TokioExecutor::new());
            // A connection may end in any way: the ledger tells what came of it.
            let _ended = builder.serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

impl Shared {
    async fn receive(&self, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Cut> {
        let _open = Open::new(&self.open);
        let (head, body) = request.into_parts();
        let body = body.collect().await.map_err(Cut::Torn)?.to_bytes();
        let message = text(&head.headers, MESSAGE_ID).unwrap_or_default();
        let key = text(&head.headers, IDEMPOTENCY_KEY);
        let content = Content::of(&body);
        drop(body);
        let arrival = self.ledger().count(&message) + 1;
        let choice = self.fates.choose(&message, arrival, self.repaired.load(Ordering::Acquire));
        tokio::time::sleep(choice.before).await;
        let taken = matches!(choice.answer, Answer::Take | Answer::TakeSilently);
        self.ledger().note(&message, Arrival { key, content, taken });
        tokio::time::sleep(choice.after).await;
        match choice.answer {
            Answer::Take => Ok(answer(StatusCode::OK, "taken")),
            Answer::TakeSilently => Err(Cut::Chosen),
            Answer::Reject => Ok(answer(StatusCode::UNPROCESSABLE_ENTITY, "this one is not understood")),
            Answer::Busy { at_once } => {
                let mut response = answer(StatusCode::SERVICE_UNAVAILABLE, "busy, come again");
                if at_once {
                    response.headers_mut().insert(header::RETRY_AFTER, 0.into());
                }
                Ok(response)
            }
        }
    }
}

fn text(headers: &HeaderMap, name: &str) -> Option<String> {
    headers.get(name).map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned())
}

fn answer(status: StatusCode, text: &'static str) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from_static(text.as_bytes())));
    *response.status_mut() = status;
    response
}
