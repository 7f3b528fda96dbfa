//! Waits until the box has nothing left to do, and sends what it has suspended again.

use std::time::Duration;

use http::Method;
use pillarbox_store::{Counts, DeliveryState, Filter, PortName};

use super::stage::PORT;
use crate::backend::{Backend, Remote};
use crate::failure::Failure;
use crate::service::PAGE_MAX;
use crate::wire::PortList;

/// The pause between two looks at the counts.
const LOOK: Duration = Duration::from_millis(50);
/// So long the counts may stand still before the demo gives up.
const STILL_MAX: Duration = Duration::from_secs(60);

/// Waits until every delivery has ended or is suspended; returns the counts.
///
/// # Errors
/// The server does not answer, or nothing moves any more.
pub(super) async fn wait_until_quiet(remote: &Remote) -> Result<Counts, Failure> {
    let mut last = counts(remote).await?;
    let mut still = Duration::ZERO;
    while last.live() > last.suspended {
        tokio::time::sleep(LOOK).await;
        let now = counts(remote).await?;
        still = if now == last { still + LOOK } else { Duration::ZERO };
        if still >= STILL_MAX {
            return Err(Failure::new(format!(
                "nothing has moved for {STILL_MAX:?}: {} ready, {} waiting for another attempt, {} being sent, \
                 {} suspended, {} done",
                now.ready, now.retry_wait, now.leased, now.suspended, now.done
            )));
        }
        last = now;
    }
    Ok(last)
}

/// Resumes every suspended delivery; returns how many.
///
/// # Errors
/// The server does not answer, or does not resume one.
pub(super) async fn resume_suspended(remote: &Remote) -> Result<usize, Failure> {
    let port = PortName::new(PORT).map_err(|error| Failure::new(error.to_string()))?;
    let backend = Backend::Remote(Box::new(remote.clone()));
    let state = Some(DeliveryState::Suspended);
    let mut filter = Filter { port: Some(port), state, limit: PAGE_MAX, ..Filter::default() };
    let mut resumed = 0;
    loop {
        let page = backend.deliveries(&filter).await?;
        for delivery in &page.deliveries {
            backend.resume(delivery.delivery_id).await?;
            resumed += 1;
        }
        filter.after = page.next;
        if page.next.is_none() {
            return Ok(resumed);
        }
    }
}

async fn counts(remote: &Remote) -> Result<Counts, Failure> {
    let list: PortList = remote.ask(Method::GET, "/v1/ports").await?;
    let port = list.ports.iter().find(|port| port.name.as_str() == PORT);
    port.map(|port| port.counts).ok_or_else(|| Failure::new(format!("the server has no port '{PORT}'")))
}
