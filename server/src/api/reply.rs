//! Answers: JSON, and problems as `application/problem+json`.

use axum::body::HttpBody as _;
use axum::extract::Request;
use axum::http::{HeaderValue, Method, StatusCode, Uri, Version, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use serde::Serialize;

use crate::problem::Problem;

/// The content type of problems.
pub const JSON_PROBLEM: &str = "application/problem+json";

/// A JSON answer.
pub(super) fn json(status: StatusCode, value: &impl Serialize) -> Response {
    typed(status, "application/json", value)
}

fn typed(status: StatusCode, kind: &'static str, value: &impl Serialize) -> Response {
    match serde_json::to_vec(value) {
        Ok(bytes) => {
            (status, [(header::CONTENT_TYPE, HeaderValue::from_static(kind))], bytes).into_response()
        }
        Err(error) => {
            tracing::error!(%error, "an answer cannot be written as JSON");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut response = typed(status, JSON_PROBLEM, &self);
        if let Some(seconds) = self.fields.get("retry_after").and_then(serde_json::Value::as_u64) {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        if status == StatusCode::UNAUTHORIZED {
            response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}

/// Ends the connection after a refusal that may have left some of the request's body unread, and says so: a client
/// that sent its next request on it would get no answer.
pub(super) async fn close_after_refusal(request: Request, next: Next) -> Response {
    let has_body = !request.body().is_end_stream() && request.version() < Version::HTTP_2;
    let mut response = next.run(request).await;
    if has_body && !response.status().is_success() {
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

pub(super) async fn no_such_route(uri: Uri) -> Problem {
    let detail = format!("there is nothing at {}; the routes are in docs/api.md", uri.path().escape_debug());
    Problem::new(404, "no-such-route", "There is no such route", detail)
}

pub(super) async fn no_such_method(method: Method, uri: Uri) -> Problem {
    let detail =
        format!("{method} is not possible at {}; the routes are in docs/api.md", uri.path().escape_debug());
    Problem::new(405, "no-such-method", "The method is not possible here", detail)
}
