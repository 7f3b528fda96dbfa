//! Messages come in: one as raw bytes, many as JSON.

use std::time::Duration;

use axum::body::{Body, BodyDataStream};
use axum::extract::{Path, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::{Bytes, BytesMut};
use futures_util::{Stream, StreamExt as _, stream};
use pillarbox_store::Headers;

use super::{Api, BATCH_BYTES_MAX, BODY_PAUSE_MAX, reply};
use crate::config::values;
use crate::problem::{Problem, chain};
use crate::service::{Submission, read_message_id};
use crate::wire::{BatchRequest, Submitted};

/// A request header that begins so becomes a message header.
pub(crate) const HEADER_PREFIX: &str = "x-pillarbox-h-";
/// The request header that names the message.
pub(crate) const MESSAGE_ID: &str = "x-pillarbox-message-id";
/// The request header before whose time nothing is sent.
pub(crate) const NOT_BEFORE: &str = "x-pillarbox-not-before";
/// The bytes of a refused body that are read on and forgotten.
const DISCARDED_MAX: usize = 16 * 1024 * 1024;
/// How long they are read.
const DISCARDING_MAX: Duration = Duration::from_secs(2);
/// Request headers that become message headers under their own name.
const KEPT: [header::HeaderName; 3] = [
    header::CONTENT_TYPE,
    header::HeaderName::from_static("traceparent"),
    header::HeaderName::from_static("tracestate"),
];

pub(super) async fn message(
    State(api): State<Api>,
    Path(port): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let mut chunks = chunks(body);
    let taken = match take(&api, &port, &headers, &mut chunks).await {
        Ok(taken) => taken,
        Err(problem) => {
            if !matches!(problem.status, 400 | 408) && !headers.contains_key(header::EXPECT) {
                discard(&mut chunks).await;
            }
            return Err(problem);
        }
    };
    let status = if taken.duplicate { StatusCode::OK } else { StatusCode::CREATED };
    let mut response = reply::json(status, &taken);
    if let Ok(location) = HeaderValue::try_from(format!("/v1/messages/{}", taken.message_id)) {
        response.headers_mut().insert(header::LOCATION, location);
    }
    Ok(response)
}

async fn take(
    api: &Api,
    port: &str,
    headers: &HeaderMap,
    chunks: &mut (impl Stream<Item = Result<Bytes, Problem>> + Send + Unpin),
) -> Result<Submitted, Problem> {
    api.service.check_open()?;
    let submission = read_submission(api, port, headers)?;
    let len = headers.get(header::CONTENT_LENGTH).and_then(|len| len.to_str().ok()?.parse().ok());
    let body = api.service.take_body(len, chunks).await?;
    api.service.submit(submission, body).await
}

/// Reads on for a while after a refusal: a client that is still writing would lose its connection before it could
/// read why.
async fn discard(chunks: &mut (impl Stream<Item = Result<Bytes, Problem>> + Unpin)) {
    let reading = async {
        let mut left = DISCARDED_MAX;
        while let Some(Ok(chunk)) = chunks.next().await {
            let Some(less) = left.checked_sub(chunk.len()) else { return };
            left = less;
        }
    };
    // Past that the connection is closed under its hands.
    let _given_up = tokio::time::timeout(DISCARDING_MAX, reading).await;
}

pub(super) async fn batch(State(api): State<Api>, body: Body) -> Result<Response, Problem> {
    api.service.check_open()?;
    let _turn = api.batches.acquire().await.map_err(|_| Problem::draining())?;
    let bytes = read_whole(body, BATCH_BYTES_MAX).await?;
    let request: BatchRequest = serde_json::from_slice(&bytes)
        .map_err(|error| Problem::bad_request(format!("the batch is not the JSON it should be: {error}")))?;
    drop(bytes);
    let taken = api.service.submit_batch(request).await?;
    let repeated = taken.messages.iter().all(|message| message.duplicate);
    let status = if repeated { StatusCode::OK } else { StatusCode::CREATED };
    Ok(reply::json(status, &taken).into_response())
}

fn read_submission(api: &Api, port: &str, given: &HeaderMap) -> Result<Submission, Problem> {
    let port = api.service.port(port)?;
    let message_id = text(given, MESSAGE_ID)?.map(read_message_id).transpose()?;
    let not_before = text(given, NOT_BEFORE)?.map(values::time).transpose();
    let not_before =
        not_before.map_err(|what| Problem::bad_request(format!("the header {NOT_BEFORE}: {what}")))?;
    let mut headers = Headers::default();
    for (name, value) in given {
        let kept = KEPT.contains(name).then_some(name.as_str());
        let Some(name) = name.as_str().strip_prefix(HEADER_PREFIX).or(kept) else { continue };
        if headers.get(name).is_some() {
            return Err(Problem::bad_request(format!("the header '{name}' is given twice; give it once")));
        }
        let value = std::str::from_utf8(value.as_bytes()).map_err(|_| {
            Problem::bad_request(format!("the header '{name}' is not UTF-8; send other bytes in the body"))
        })?;
        headers.set(name, value)?;
    }
    Ok(Submission { port, message_id, headers, not_before })
}

fn text<'h>(given: &'h HeaderMap, name: &str) -> Result<Option<&'h str>, Problem> {
    let Some(value) = given.get(name) else { return Ok(None) };
    value.to_str().map(Some).map_err(|_| Problem::bad_request(format!("the header {name} is not ASCII text")))
}

/// A body's chunks. A client that pauses too long, or goes away, ends them with a problem.
fn chunks(body: Body) -> impl Stream<Item = Result<Bytes, Problem>> + Send + Unpin {
    let next = |mut data: BodyDataStream| async move {
        let chunk = match tokio::time::timeout(BODY_PAUSE_MAX, data.next()).await {
            Ok(chunk) => chunk?.map_err(|error| {
                Problem::bad_request(format!("the body ended early: {}; nothing was taken", chain(&error)))
            }),
            Err(_elapsed) => {
                let detail = format!("no byte of the body came for {BODY_PAUSE_MAX:?}; nothing was taken");
                Err(Problem::new(408, "too-slow", "The client is too slow", detail))
            }
        };
        Some((chunk, data))
    };
    // Fused: who discards the rest may come when there is none.
    Box::pin(stream::unfold(body.into_data_stream(), next)).fuse()
}

/// A request's whole body, where it is JSON of limited length.
pub(super) async fn read_whole(body: Body, limit: usize) -> Result<Bytes, Problem> {
    let mut whole = BytesMut::new();
    let mut chunks = chunks(body);
    while let Some(chunk) = chunks.next().await {
        let chunk = chunk?;
        if whole.len() + chunk.len() > limit {
            let detail = format!("this request takes at most {limit} bytes; send smaller batches");
            // So that the client, which is still sending, comes to read why.
            discard(&mut chunks).await;
            return Err(
                Problem::new(413, "too-large", "The request is too long", detail).with("bytes_max", limit)
            );
        }
        whole.extend_from_slice(&chunk);
    }
    Ok(whole.freeze())
}
