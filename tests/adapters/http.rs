//! HTTP destinations: one that takes everything, and one that recognises a repeat.

use std::convert::Infallible;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use pillarbox_adapter_kit::peer::{free_port, run};
use pillarbox_adapter_kit::{Destination, Held, Subject};
use pillarbox_runtime::adapter::{AdapterKind, Settings};
use pillarbox_store::Body;
use serde_json::json;
use tokio::net::TcpListener;
use tokio::task::{JoinHandle, JoinSet};

const TOKEN: &str = "Bearer hunter2hunter2";
const REFUSED: &[u8] = b"refuse me";

pub(crate) fn subjects() -> Vec<Box<dyn Subject>> {
    vec![Box::new(Web { deduplicates: false }), Box::new(Web { deduplicates: true })]
}

#[derive(Debug)]
struct Web {
    deduplicates: bool,
}

#[async_trait(?Send)]
impl Subject for Web {
    fn name(&self) -> &str {
        if self.deduplicates { "http, destination_deduplicates" } else { "http" }
    }

    fn kind(&self) -> Arc<dyn AdapterKind> {
        crate::kind("http")
    }

    async fn start(&self) -> Box<dyn Destination> {
        let (port, kept, deduplicates) = (free_port(), Kept::default(), self.deduplicates);
        let serving = serve(port, kept.clone(), deduplicates).await;
        Box::new(Server { port, kept, deduplicates, serving })
    }
}

#[derive(Debug)]
struct Server {
    port: u16,
    kept: Kept,
    deduplicates: bool,
    serving: JoinHandle<()>,
}

#[derive(Debug, Clone, Default)]
struct Kept(Arc<Mutex<Vec<Held>>>);

impl Kept {
    fn lock(&self) -> MutexGuard<'_, Vec<Held>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn serve(port: u16, kept: Kept, deduplicates: bool) -> JoinHandle<()> {
    // One that has just been ended may not have let go of the port yet.
    let listener = loop {
        match TcpListener::bind(("127.0.0.1", port)).await {
            Ok(listener) => break listener,
            Err(_taken) => tokio::task::yield_now().await,
        }
    };
    run(async move {
        // Its connections end with it.
        let mut connections = JoinSet::new();
        while let Ok((stream, _)) = listener.accept().await {
            let kept = kept.clone();
            let service = service_fn(move |request| take(request, kept.clone(), deduplicates));
            let serving = http1::Builder::new().serve_connection(TokioIo::new(stream), service);
            let _connection = connections.spawn(serving);
        }
    })
}

async fn take(
    request: Request<Incoming>,
    kept: Kept,
    deduplicates: bool,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let answer = |status: u16| Response::builder().status(status).body(Full::default()).unwrap();
    let (head, body) = request.into_parts();
    let Ok(body) = body.collect().await else {
        // Cut off in the middle: not a message.
        return Ok(answer(400));
    };
    let body = body.to_bytes();
    if header(&head.headers, "authorization") != TOKEN {
        return Ok(answer(401));
    }
    if body.starts_with(REFUSED) {
        return Ok(answer(422));
    }
    let key = header(&head.headers, "idempotency-key");
    let attempt = header(&head.headers, "x-pillarbox-attempt").parse().unwrap();
    let mut kept = kept.lock();
    if !deduplicates || !kept.iter().any(|one| one.key.as_deref() == Some(key)) {
        let in_doubt = header(&head.headers, "x-pillarbox-in-doubt") == "true";
        kept.push(Held::new(body).key(key).attempt(attempt).in_doubt(in_doubt));
    }
    Ok(answer(204))
}

fn header<'a>(headers: &'a HeaderMap, name: &str) -> &'a str {
    headers.get(name).map_or("", |value| value.to_str().unwrap())
}

#[async_trait(?Send)]
impl Destination for Server {
    fn port(&self) -> Option<u16> {
        Some(self.port)
    }

    fn settings(&self, port: u16) -> Settings {
        Settings::default()
            .with("url", format!("http://127.0.0.1:{port}/in"))
            .with("headers", json!({ "authorization": TOKEN }))
            .with("destination_deduplicates", self.deduplicates)
            .with("connect_timeout", "1s")
            .with("timeout", "1s")
    }

    async fn held(&self) -> Vec<Held> {
        self.kept.lock().clone()
    }

    fn refused(&self) -> Option<Body> {
        Some(Body::from(REFUSED))
    }

    fn secrets(&self) -> Vec<String> {
        vec![TOKEN.to_owned(), "hunter2hunter2".to_owned()]
    }

    fn restarts(&self) -> bool {
        true
    }

    async fn kill(&mut self) {
        self.serving.abort();
    }

    async fn start_again(&mut self) {
        self.serving = serve(self.port, self.kept.clone(), self.deduplicates).await;
    }
}
