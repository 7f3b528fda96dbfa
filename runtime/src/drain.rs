//! The end of a runtime: what is being sent is finished, within a deadline, and nothing is charged that was cut off.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::time::{Instant, timeout_at};

use crate::core::{Core, Phase};
use crate::dynamic::Addresses;
use crate::lane::Lane;
use crate::port::LaneName;

/// What is kept of the deadline for the adapters' own end: a fifth, at most this.
const TERMINATE_MAX: Duration = Duration::from_secs(2);

/// How long after the deadline what was cut off may take to notice it.
const GRACE: Duration = Duration::from_secs(1);

/// How long after that deadline a destination may take to end a transaction. Shorter than [`GRACE`]: what it did not end
/// then is left prepared, and settled when the route opens again.
pub(crate) const LAST_CALL: Duration = Duration::from_millis(500);

/// How a drain went.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DrainReport {
    /// Deliveries whose attempt got an outcome during the drain, a failure included.
    pub completed: u64,
    /// Deliveries that were given back unsettled; no attempt is charged.
    pub released: u64,
    /// Routes whose adapter had not ended by the deadline and was abandoned.
    pub hung: Vec<LaneName>,
}

/// Drains. Takes at most `deadline` and twice [`GRACE`].
pub(crate) async fn drain(core: &Arc<Core>, lanes: &[Arc<Lane>], deadline: Duration) -> DrainReport {
    let completed = core.completed.load(Ordering::Relaxed);
    let released = core.released.load(Ordering::Relaxed);
    let end = Instant::now() + deadline;
    core.advance(Phase::Draining);
    let sending_ends = end - (deadline / 5).min(TERMINATE_MAX);
    if timeout_at(sending_ends, core.flights.empty()).await.is_err() {
        tracing::warn!(batches = core.flights.inside(), "messages are still being sent; ending the adapters");
    }
    let hung = terminate(core, lanes, end).await;
    core.advance(Phase::Cut);
    let _abandoned = timeout_at(Instant::now() + GRACE, core.flights.empty()).await;
    core.advance(Phase::Closed);
    core.tasks.abort_all();
    DrainReport {
        completed: core.completed.load(Ordering::Relaxed) - completed,
        released: core.released.load(Ordering::Relaxed) - released,
        hung,
    }
}

/// Ends every adapter that is open, all at once. At `end` what is still being sent is cut off; an adapter that does
/// not end soon after that either has hung.
async fn terminate(core: &Arc<Core>, lanes: &[Arc<Lane>], end: Instant) -> Vec<LaneName> {
    let ending = |lane: &Arc<Lane>| {
        let adapter = lane.take_adapter()?;
        let task = core.tasks.spawn(async move { adapter.terminate().await });
        Some((lane.name().clone(), task))
    };
    let beneath = lanes.iter().filter_map(|lane| lane.addresses()).flat_map(Addresses::lanes);
    let all: Vec<_> = lanes.iter().cloned().chain(beneath.map(|(_, lane)| lane)).collect();
    let ending: Vec<_> = all.iter().filter_map(ending).collect();
    let mut late = Vec::new();
    for (name, mut task) in ending {
        match timeout_at(end, &mut task).await {
            Ok(ended) => told(&name, ended),
            Err(_too_late) => late.push((name, task)),
        }
    }
    core.advance(Phase::Cut);
    let grace = Instant::now() + GRACE;
    let mut hung = Vec::new();
    for (name, mut task) in late {
        match timeout_at(grace, &mut task).await {
            Ok(ended) => told(&name, ended),
            Err(_hangs) => {
                tracing::error!(lane = %name, "the adapter did not end in time and is abandoned");
                task.abort();
                hung.push(name);
            }
        }
    }
    hung
}

fn told(name: &LaneName, ended: Result<(), tokio::task::JoinError>) {
    if let Err(error) = ended {
        tracing::error!(lane = %name, %error, "the adapter's end failed");
    }
}
