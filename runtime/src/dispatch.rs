//! The dispatcher of a lane: waits until something is ready and there is room, leases it, hands it over.

use std::sync::Arc;
use std::time::Duration;

use pillarbox_store::{Want, Watch};
use tokio::time::Instant;

use crate::core::Phase;
use crate::dynamic;
use crate::hand_over::hand_over;
use crate::lane::Lane;
use crate::open::open;
use crate::stranded::holds_transactions;
use crate::tasks::Inside;

/// A due time further away is looked at again after this span, so that a clock that was set is noticed.
const CLOCK_RECHECK: Duration = Duration::from_secs(60);

/// The first wait where something is due and yet nothing can be leased (a paused port, a clock that differs from
/// the box's); doubled up to [`CLOCK_RECHECK`].
const LAG: Duration = Duration::from_millis(1);

/// Runs a lane until the runtime drains or the box fails.
pub(crate) async fn run(lane: Arc<Lane>, inside: Inside) {
    dispatch(&lane).await;
    drop(inside);
}

async fn dispatch(lane: &Arc<Lane>) {
    let core = Arc::clone(lane.core());
    let Some(mut watch) = core.store.watch(&lane.name().port) else {
        lane.stops("the box does not know the port".to_owned());
        return;
    };
    let opens_at_start = lane.info().capabilities.init_at_start || holds_transactions(lane);
    if opens_at_start && !open_at_start(lane).await {
        return;
    }
    let mut lag = LAG;
    loop {
        let room = tokio::select! {
            biased;
            () = core.reached(Phase::Draining) => return,
            room = lane.room() => room,
        };
        if let Some(until) = lane.back_off() {
            tokio::select! {
                biased;
                () = core.reached(Phase::Draining) => return,
                () = tokio::time::sleep_until(until) => {}
            }
            continue;
        }
        if lane.is_unsettled() {
            open_unless_draining(lane).await;
            continue;
        }
        let leased = match core.store.lease(&want(lane, room)).await {
            Ok(leased) => leased,
            Err(error) => {
                lane.stops(error.to_string());
                return;
            }
        };
        if leased.is_empty() {
            match wait(lane, &mut watch, lag).await {
                Woken::Drain => return,
                Woken::Overdue => lag = (lag * 2).min(CLOCK_RECHECK),
                Woken::Change => lag = LAG,
            }
            continue;
        }
        lag = LAG;
        lane.take_credits(leased.len());
        if core.is(Phase::Draining) {
            lane.give_back(&leased);
            return;
        }
        if lane.addresses().is_some() {
            core.tasks.spawn(dynamic::hand_over(Arc::clone(lane), leased, core.flights.enter()));
            continue;
        }
        if lane.adapter().is_none() {
            // Opening may take long, and the leases' time counts from now: lease them again afterwards.
            lane.give_back(&leased);
            open_unless_draining(lane).await;
            continue;
        }
        core.tasks.spawn(hand_over(Arc::clone(lane), leased, core.flights.enter()));
    }
}

fn want(lane: &Lane, room: usize) -> Want {
    let name = lane.name();
    Want {
        port: name.port.clone(),
        route: name.route,
        limit: room,
        bytes_max: lane.batch_bytes(),
        lease_for: lane.lease_for(),
    }
}

enum Woken {
    Drain,
    /// Something was due already, and nothing could be leased.
    Overdue,
    Change,
}

/// Waits until leasing may give something.
async fn wait(lane: &Lane, watch: &mut Watch, lag: Duration) -> Woken {
    let core = lane.core();
    let due = core.store.next_due(&lane.name().port, lane.name().route);
    let left = due.map(|due| due.since(core.clock.now()));
    let overdue = left.is_some_and(|left| left.is_zero());
    let pause = left.map(|left| left.max(lag).min(CLOCK_RECHECK));
    let due = async {
        match pause {
            Some(pause) => tokio::time::sleep(pause).await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        biased;
        () = core.reached(Phase::Draining) => Woken::Drain,
        () = watch.changed() => Woken::Change,
        () = lane.nudge.notified() => Woken::Change,
        () = due => if overdue { Woken::Overdue } else { Woken::Change },
    }
}

async fn open_unless_draining(lane: &Arc<Lane>) {
    tokio::select! {
        biased;
        () = lane.core().reached(Phase::Draining) => {}
        () = open(lane) => {}
    }
}

/// Opens the adapter ahead of its first message; false where the runtime drains meanwhile.
async fn open_at_start(lane: &Arc<Lane>) -> bool {
    loop {
        open_unless_draining(lane).await;
        if lane.core().is(Phase::Draining) {
            return false;
        }
        if lane.adapter().is_some() && !lane.is_unsettled() {
            return true;
        }
        let until = lane.back_off().unwrap_or_else(Instant::now);
        tokio::select! {
            biased;
            () = lane.core().reached(Phase::Draining) => return false,
            () = tokio::time::sleep_until(until) => {}
        }
    }
}
