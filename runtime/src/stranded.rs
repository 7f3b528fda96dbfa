//! Decisions that nobody carries out: of transactions that a destination was left with prepared, and to which no open
//! route goes any more. A port was taken away, or sends elsewhere, or no longer in two phases.

use std::collections::BTreeMap;
use std::sync::Arc;

use pillarbox_store::Decision;

use crate::adapter::{DoubleSafety, TransactionId};
use crate::core::{Core, Phase};
use crate::lane::Lane;

/// Of the decisions, those about destinations to which none of the open routes goes.
pub(crate) fn among(decisions: Vec<Decision>, settles: impl Fn(&str) -> bool) -> Vec<Decision> {
    decisions.into_iter().filter(|decision| !settles(&decision.destination)).collect()
}

/// Whether the adapter of one of these lanes is open and settles what this destination holds prepared; `None` where none
/// does, and one may that is not open.
pub(crate) fn settles(lanes: &[Arc<Lane>], destination: &str) -> Option<bool> {
    let is_its = |lane: &Lane| lane.holder().is_some_and(|holder| holder.destination() == destination);
    let settles = lanes.iter().any(|lane| {
        let beneath = lane.addresses().map(|addresses| addresses.lanes()).unwrap_or_default();
        is_its(lane) || beneath.iter().any(|(_, lane)| is_its(lane))
    });
    let may = || lanes.iter().any(|lane| holds_transactions(lane) && lane.holder().is_none());
    if !settles && may() { None } else { Some(settles) }
}

/// Whether the destination may hold transactions from before the start.
pub(crate) fn holds_transactions(lane: &Lane) -> bool {
    lane.info().capabilities.double_safety == DoubleSafety::TwoPhase && lane.addresses().is_none()
}

/// Warns of the decisions that nobody carries out, once each lane that may carry them out was opened or could not be.
/// Those of later are of this process's own routes.
pub(crate) async fn warn(core: Arc<Core>, lanes: Vec<Arc<Lane>>) {
    loop {
        let mut tried = std::pin::pin!(core.tried.notified());
        tried.as_mut().enable();
        if lanes.iter().all(|lane| !holds_transactions(lane) || lane.was_tried()) {
            break;
        }
        tokio::select! {
            biased;
            () = core.reached(Phase::Draining) => return,
            () = tried => {}
        }
    }
    let Ok(kept) = core.store.decisions().await else { return };
    let mut by_destination = BTreeMap::<String, Vec<Decision>>::new();
    for decision in among(kept.known, |destination| settles(&lanes, destination) == Some(true)) {
        by_destination.entry(decision.destination.clone()).or_default().push(decision);
    }
    for (destination, decisions) in by_destination {
        let names = decisions.iter().map(|one| TransactionId::new(core.box_id, one.transaction).to_string());
        let names = names.collect::<Vec<_>>().join(", ");
        tracing::warn!(
            destination,
            transactions = names,
            "messages are recorded as sent whose transaction this destination may still hold prepared, and no open \
             route settles it: have a route send there in two phases again until it is settled, or commit it there by hand"
        );
    }
}
