//! What is asked of the box: messages, bodies, deliveries, ports, health.

use axum::body::Body;
use axum::extract::{Path, RawQuery, State};
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use pillarbox_store::{Answered, DeliveryId, DeliveryState, FRAGMENT_BYTES, Filter, PortName};

use super::{Api, HEADER_PREFIX, MESSAGE_ID, reply};
use crate::config::values::show_time;
use crate::problem::Problem;
use crate::service::{PAGE_MAX, read_message_id};

pub(super) async fn health(State(api): State<Api>) -> Response {
    let health = api.service.health();
    let status = if health.status == "ok" { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    reply::json(status, &health)
}

pub(super) async fn ports(State(api): State<Api>) -> Response {
    reply::json(StatusCode::OK, &api.service.ports().await)
}

pub(super) async fn message(State(api): State<Api>, Path(id): Path<String>) -> Result<Response, Problem> {
    let view = api.service.message(read_message_id(&id)?).await?;
    Ok(reply::json(StatusCode::OK, &view))
}

pub(super) async fn body(State(api): State<Api>, Path(id): Path<String>) -> Result<Response, Problem> {
    let (len, chunks) = api.service.body(read_message_id(&id)?).await?;
    let kind = HeaderValue::from_static("application/octet-stream");
    let headers = [(header::CONTENT_TYPE, kind), (header::CONTENT_LENGTH, HeaderValue::from(len))];
    Ok((headers, Body::from_stream(chunks)).into_response())
}

pub(super) async fn deliveries(
    State(api): State<Api>,
    RawQuery(query): RawQuery,
) -> Result<Response, Problem> {
    let page = api.service.deliveries(&read_filter(query.as_deref().unwrap_or(""))?).await?;
    Ok(reply::json(StatusCode::OK, &page))
}

pub(super) async fn delivery(State(api): State<Api>, Path(id): Path<String>) -> Result<Response, Problem> {
    let view = api.service.delivery(read_delivery_id(&id)?).await?;
    Ok(reply::json(StatusCode::OK, &view))
}

/// The response header that says when a destination's answer was recorded.
const RECEIVED: HeaderName = HeaderName::from_static("x-pillarbox-received");

pub(super) async fn answer(State(api): State<Api>, Path(id): Path<String>) -> Result<Response, Problem> {
    let id = read_delivery_id(&id)?;
    let turn = api.answers.clone().acquire_owned().await.map_err(|_| Problem::draining())?;
    let answered = api.service.answer(id).await?;
    let mut headers = answer_headers(&answered);
    let body = answered.answer.body().clone();
    headers.push((header::CONTENT_LENGTH, HeaderValue::from(body.len())));
    let pieces = stream::unfold((body, turn), |(mut rest, turn)| async move {
        if rest.is_empty() {
            return None;
        }
        let piece = rest.split_to(rest.len().min(FRAGMENT_BYTES));
        Some((Ok::<_, std::convert::Infallible>(piece), (rest, turn)))
    });
    let mut response = Body::from_stream(pieces).into_response();
    response.headers_mut().extend(headers);
    Ok(response)
}

/// An answer's headers as they go over HTTP: those of a message the other way round.
fn answer_headers(answered: &Answered) -> Vec<(HeaderName, HeaderValue)> {
    let mut headers = Vec::new();
    let mut put = |name: HeaderName, value: String| {
        headers.extend(
            HeaderValue::from_maybe_shared(bytes::Bytes::from(value)).ok().map(|value| (name, value)),
        );
    };
    put(RECEIVED, show_time(answered.received));
    put(HeaderName::from_static(MESSAGE_ID), answered.message.to_string());
    let answer = answered.answer.headers();
    let kind = answer.get(header::CONTENT_TYPE.as_str()).map(ToString::to_string);
    put(header::CONTENT_TYPE, kind.unwrap_or_else(|| "application/octet-stream".to_owned()));
    for (name, value) in answer.iter().filter(|(name, _)| *name != header::CONTENT_TYPE.as_str()) {
        if let Ok(name) = HeaderName::try_from(format!("{HEADER_PREFIX}{name}")) {
            put(name, value.to_string());
        }
    }
    headers
}

pub(super) fn read_delivery_id(text: &str) -> Result<DeliveryId, Problem> {
    text.parse()
        .map_err(|_| Problem::bad_request(format!("'{}' is not a delivery number", text.escape_debug())))
}

/// Reads `port=&state=&in_doubt=&limit=&after=`. No value that is taken needs percent-encoding.
fn read_filter(query: &str) -> Result<Filter, Problem> {
    let mut filter = Filter::default();
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        if value.is_empty() {
            continue;
        }
        match key {
            "port" => filter.port = Some(PortName::new(value)?),
            "state" => filter.state = Some(read_state(value)?),
            "in_doubt" => {
                let flag = value.parse();
                filter.in_doubt = flag.map_err(|_| Problem::bad_request("in_doubt is 'true' or 'false'"))?;
            }
            "after" => filter.after = Some(read_delivery_id(value)?),
            "limit" => {
                let limit = value.parse().ok().filter(|limit| (1..=PAGE_MAX).contains(limit));
                filter.limit =
                    limit.ok_or_else(|| Problem::bad_request(format!("a limit is 1 to {PAGE_MAX}")))?;
            }
            _ => {
                let key = key.escape_debug();
                let detail =
                    format!("there is no parameter '{key}'; take port, state, in_doubt, limit, after");
                return Err(Problem::bad_request(detail));
            }
        }
    }
    Ok(filter)
}

/// Reads a delivery's state.
///
/// # Errors
/// There is no such state; the known ones are named.
pub(crate) fn read_state(text: &str) -> Result<DeliveryState, Problem> {
    DeliveryState::parse(text).ok_or_else(|| {
        let known = DeliveryState::ALL.map(DeliveryState::as_str).join(", ");
        Problem::bad_request(format!("there is no state '{}'; take one of {known}", text.escape_debug()))
    })
}
