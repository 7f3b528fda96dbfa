//! Requests to the server's API, over a box in memory.
//!
//! An input is a row of requests as text, each a request line, headers, an empty line and a body, with
//! [`SEPARATOR`] between them. They go to one server one after the other.

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use http::{Request, StatusCode, header};
use http_body_util::BodyExt as _;
use pillarbox_server::api::router;
use pillarbox_server::service::Service;
use pillarbox_store::{
    Batch, BoxConfig, Clock, Committing, DeliveryState, IdSource, MessageBox, PortSpec, Store, Timestamp,
};
use serde_json::Value;
use tower::ServiceExt as _;

/// What stands between two requests.
pub const SEPARATOR: &[u8] = b"\n~~~\n";
const REQUESTS_MAX: usize = 16;
const PORTS: [&str; 2] = ["orders", "other"];
/// The most deliveries that one page shows.
const PAGE_MAX: u64 = 1_000;

#[derive(Debug)]
struct FixedClock;

impl Clock for FixedClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_micros(1_790_000_000_000_000)
    }
}

/// Sends the requests. None panics, none finds the server at fault, and the counts are those of what was taken.
pub fn run(data: &[u8]) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a runtime on this thread");
    runtime.block_on(talk(data));
}

async fn talk(data: &[u8]) {
    let router = router(service().await, None);
    let mut taken = 0;
    for text in requests(data).into_iter().take(REQUESTS_MAX) {
        let Some(request) = read_request(text) else { continue };
        let (status, answer) = send(&router, request).await;
        assert!(
            !status.is_server_error(),
            "{status}: {}\n{}",
            answer.as_deref().map(String::from_utf8_lossy).unwrap_or_default(),
            String::from_utf8_lossy(text)
        );
        if status == StatusCode::CREATED {
            taken += count_taken(&json(answer));
        }
    }
    check_counts(&router, taken).await;
}

async fn service() -> Service {
    let clock = Arc::new(FixedClock);
    let ids = IdSource::seeded(clock.clone(), 1);
    let config = BoxConfig {
        clock,
        ids: ids.clone(),
        committing: Committing::Inline,
        body_bytes_max: 1024 * 1024,
        ..BoxConfig::in_memory()
    };
    let mailbox = MessageBox::open(config).expect("a box in memory opens");
    let mut batch = Batch::new(ids.batch());
    for name in PORTS {
        batch = batch.define_port(&name.parse().expect("a name"), PortSpec::default());
    }
    mailbox.commit(&batch).await.expect("ports are taken");
    Service::new(Arc::new(mailbox), ids, 1024 * 1024)
}

fn requests(mut data: &[u8]) -> Vec<&[u8]> {
    let mut all = Vec::new();
    while let Some(at) = data.windows(SEPARATOR.len()).position(|window| window == SEPARATOR) {
        let (request, rest) = data.split_at(at);
        all.push(request);
        data = rest.get(SEPARATOR.len()..).unwrap_or_default();
    }
    all.push(data);
    all
}

/// What a server's HTTP layer would hand on: text that is no request goes no further than there.
fn read_request(text: &[u8]) -> Option<Request<Body>> {
    let (line, mut rest) = split_line(text)?;
    let mut words = line.split(|byte| *byte == b' ');
    let mut builder = Request::builder().method(words.next()?).uri(words.next()?);
    let mut has_length = false;
    while let Some((line, after)) = split_line(rest) {
        rest = after;
        if line.is_empty() {
            break;
        }
        let colon = line.iter().position(|byte| *byte == b':')?;
        let (name, value) = line.split_at(colon);
        if name.eq_ignore_ascii_case(b"content-length") {
            has_length = true;
            continue;
        }
        builder = builder.header(name, value.get(1..)?.trim_ascii());
    }
    if has_length {
        builder = builder.header(header::CONTENT_LENGTH, rest.len());
    }
    builder.body(Body::from(rest.to_vec())).ok()
}

fn split_line(text: &[u8]) -> Option<(&[u8], &[u8])> {
    if text.is_empty() {
        return None;
    }
    let end = text.iter().position(|byte| *byte == b'\n').unwrap_or(text.len());
    let (line, rest) = text.split_at(end);
    Some((line.strip_suffix(b"\r").unwrap_or(line), rest.get(1..).unwrap_or_default()))
}

/// The answer's status and body; `None` where the body ends early.
async fn send(router: &Router, request: Request<Body>) -> (StatusCode, Option<Vec<u8>>) {
    let Ok(response) = router.clone().oneshot(request).await;
    let status = response.status();
    let body = response.into_body().collect().await.ok();
    (status, body.map(|body| body.to_bytes().to_vec()))
}

fn json(answer: Option<Vec<u8>>) -> Value {
    serde_json::from_slice(&answer.expect("the answer is whole")).expect("the answer is JSON")
}

/// Messages in an answer to a submission that had not been submitted before.
fn count_taken(answer: &Value) -> u64 {
    let one = [answer.clone()];
    let messages = answer["messages"].as_array().map_or(one.as_slice(), Vec::as_slice);
    messages.iter().filter(|message| message["duplicate"] != true).count() as u64
}

async fn check_counts(router: &Router, taken: u64) {
    let mut counted = 0;
    for port in ask(router, "/v1/ports").await["ports"].as_array().expect("ports") {
        let name = port["name"].as_str().expect("a name");
        for state in DeliveryState::ALL.map(DeliveryState::as_str) {
            let count = port["counts"][state.replace('-', "_")].as_u64().expect("every state is counted");
            counted += count;
            let page =
                ask(router, &format!("/v1/deliveries?port={name}&state={state}&limit={PAGE_MAX}")).await;
            let listed = page["deliveries"].as_array().expect("deliveries").len() as u64;
            assert_eq!(listed, count.min(PAGE_MAX), "deliveries of {name} that are {state}");
        }
    }
    assert_eq!(counted, taken, "deliveries in the box, and those that were taken");
}

async fn ask(router: &Router, path: &str) -> Value {
    let request = Request::get(path).body(Body::empty()).expect("a request");
    let (status, answer) = send(router, request).await;
    assert_eq!(status, StatusCode::OK, "{path}");
    json(answer)
}
