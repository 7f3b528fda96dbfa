//! What is done to deliveries and ports.

use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::Response;
use pillarbox_store::DoubtVerdict;

use super::query::read_delivery_id;
use super::{Api, reply};
use crate::problem::Problem;
use crate::wire::{Because, DoubtSettled, Forgotten};

/// The longest body of what is done to a delivery.
const BODY_MAX: usize = 64 * 1024;
/// What a termination over the API says where no reason is given.
const TERMINATED: &str = "terminated over the API";

pub(super) async fn resume(State(api): State<Api>, Path(id): Path<String>) -> Result<Response, Problem> {
    let view = api.service.resume(read_delivery_id(&id)?).await?;
    Ok(reply::json(StatusCode::OK, &view))
}

pub(super) async fn terminate(
    State(api): State<Api>,
    Path(id): Path<String>,
    body: Body,
) -> Result<Response, Problem> {
    let id = read_delivery_id(&id)?;
    let bytes = super::submit::read_whole(body, BODY_MAX).await?;
    let because: Because = if bytes.is_empty() {
        Because::default()
    } else {
        serde_json::from_slice(&bytes).map_err(|error| {
            Problem::bad_request(format!("the body is not {{\"reason\": \"...\"}}: {error}"))
        })?
    };
    let view = api.service.terminate(id, because.reason.as_deref().unwrap_or(TERMINATED)).await?;
    Ok(reply::json(StatusCode::OK, &view))
}

pub(super) async fn settle_doubt(
    State(api): State<Api>,
    Path(id): Path<String>,
    body: Body,
) -> Result<Response, Problem> {
    let id = read_delivery_id(&id)?;
    let bytes = super::submit::read_whole(body, BODY_MAX).await?;
    let settled: DoubtSettled = serde_json::from_slice(&bytes).map_err(|error| {
        let known = DoubtVerdict::ALL.map(DoubtVerdict::as_str).join(", ");
        Problem::bad_request(format!("the body is not {{\"verdict\": \"...\"}} with one of {known}: {error}"))
    })?;
    Ok(reply::json(StatusCode::OK, &api.service.settle_doubt(id, settled.verdict).await?))
}

pub(super) async fn forget(State(api): State<Api>, body: Body) -> Result<Response, Problem> {
    let bytes = super::submit::read_whole(body, BODY_MAX).await?;
    let forgotten: Forgotten = serde_json::from_slice(&bytes).map_err(|error| {
        Problem::bad_request(format!("the body is not {{\"transaction\": \"...\"}}: {error}"))
    })?;
    Ok(reply::json(StatusCode::OK, &api.service.forget(&forgotten.transaction).await?))
}

pub(super) async fn pause(State(api): State<Api>, Path(port): Path<String>) -> Result<Response, Problem> {
    Ok(reply::json(StatusCode::OK, &api.service.pause(&port, true).await?))
}

pub(super) async fn unpause(State(api): State<Api>, Path(port): Path<String>) -> Result<Response, Problem> {
    Ok(reply::json(StatusCode::OK, &api.service.pause(&port, false).await?))
}
