//! Who may use the API: those who show the bearer token, where one is configured.

use axum::extract::{Request, State};
use axum::http::HeaderValue;
use axum::http::header::AUTHORIZATION;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use super::Api;
use crate::problem::Problem;

pub(super) async fn check(State(api): State<Api>, request: Request, next: Next) -> Response {
    let Some(secret) = &api.token else { return next.run(request).await };
    let given = request.headers().get(AUTHORIZATION).map(HeaderValue::as_bytes);
    let token = given.and_then(|value| match value.split_at_checked(7) {
        Some((scheme, token)) if scheme.eq_ignore_ascii_case(b"bearer ") => Some(token),
        _ => None,
    });
    if token.is_some_and(|token| secret.matches(token)) {
        return next.run(request).await;
    }
    let detail = "this server asks for its token; send it as 'Authorization: Bearer TOKEN'";
    Problem::new(401, "unauthorized", "The token is missing or wrong", detail).into_response()
}
