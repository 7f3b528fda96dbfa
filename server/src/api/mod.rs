//! The HTTP API. Bodies of messages are raw bytes, all else is JSON; refusals are problem details (RFC 9457).

mod act;
mod auth;
pub mod listen;
mod patience;
mod query;
mod reply;
mod submit;

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::middleware;
use axum::routing::{get, post};
use tokio::sync::Semaphore;

use crate::secret::Secret;
use crate::service::Service;

pub(crate) use query::read_state;
pub use reply::JSON_PROBLEM;
pub(crate) use submit::{HEADER_PREFIX, MESSAGE_ID, NOT_BEFORE};

/// The longest request to `/v1/batches`, in bytes.
pub const BATCH_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Batches read at once: together with [`BATCH_BYTES_MAX`] the bound of their memory.
const BATCHES_AT_ONCE: usize = 4;
/// Destinations' answers sent at once: each is in memory until its last piece is on its way.
const ANSWERS_AT_ONCE: usize = 16;
/// How long a client may take for the next bytes of a body.
const BODY_PAUSE_MAX: Duration = Duration::from_secs(30);

/// What every handler has.
#[derive(Debug, Clone)]
pub(crate) struct Api {
    service: Service,
    token: Option<Arc<Secret>>,
    batches: Arc<Semaphore>,
    answers: Arc<Semaphore>,
}

/// The API over a service; with a token, only for those who show it (save `/healthz`).
pub fn router(service: Service, token: Option<Secret>) -> Router {
    let api = Api {
        service,
        token: token.map(Arc::new),
        batches: Arc::new(Semaphore::new(BATCHES_AT_ONCE)),
        answers: Arc::new(Semaphore::new(ANSWERS_AT_ONCE)),
    };
    let guarded = Router::new()
        .route("/v1/ports", get(query::ports))
        .route("/v1/ports/{port}/messages", post(submit::message))
        .route("/v1/ports/{port}/pause", post(act::pause))
        .route("/v1/ports/{port}/unpause", post(act::unpause))
        .route("/v1/stranded/forget", post(act::forget))
        .route("/v1/batches", post(submit::batch))
        .route("/v1/messages/{id}", get(query::message))
        .route("/v1/messages/{id}/body", get(query::body))
        .route("/v1/deliveries", get(query::deliveries))
        .route("/v1/deliveries/{id}", get(query::delivery))
        .route("/v1/deliveries/{id}/answer", get(query::answer))
        .route("/v1/deliveries/{id}/resume", post(act::resume))
        .route("/v1/deliveries/{id}/terminate", post(act::terminate))
        .route("/v1/deliveries/{id}/settle-doubt", post(act::settle_doubt))
        .fallback(reply::no_such_route)
        .method_not_allowed_fallback(reply::no_such_method)
        .layer(middleware::from_fn_with_state(api.clone(), auth::check))
        .layer(middleware::from_fn(reply::close_after_refusal));
    Router::new().route("/healthz", get(query::health)).merge(guarded).with_state(api)
}
