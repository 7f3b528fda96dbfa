//! A port's part of the ledger: its counts, its ready deliveries, those that wait for a time, and its leases.

use std::collections::BTreeSet;

use hashbrown::HashMap;

use super::DeliveryRow;
use super::leases::Held;
use super::queue::Queue;
use crate::clock::Moment;
use crate::message_box::keys::port::PortRecord;
use crate::{Counts, DeliveryState, PortInfo, Route, Timestamp};

/// A port.
#[derive(Debug)]
pub(crate) struct PortState {
    pub(crate) record: PortRecord,
    /// By state's number.
    counts: [u64; 9],
    lanes: [Lane; 2],
    /// Already listed among the ports that this group changed.
    pub(super) touched: bool,
    /// Its record is lost: the name is made up.
    is_nameless: bool,
}

/// One route of a port.
#[derive(Debug, Default)]
pub(super) struct Lane {
    /// Oldest first. May hold numbers that are not ready any more: whoever takes one checks.
    pub(super) ready: Queue,
    /// When due, which.
    pub(super) due: BTreeSet<(i64, u64)>,
    pub(super) leases: HashMap<u64, Held>,
    /// No lease ends before this.
    pub(super) earliest_end: i64,
}

impl PortState {
    pub(super) fn new(record: PortRecord) -> Self {
        let lanes = [Lane::default(), Lane::default()];
        Self { record, counts: [0; 9], lanes, touched: false, is_nameless: false }
    }

    /// A port whose record is lost, under a made-up name.
    pub(super) fn nameless(record: PortRecord) -> Self {
        Self { is_nameless: true, ..Self::new(record) }
    }

    pub(crate) fn is_nameless(&self) -> bool {
        self.is_nameless
    }

    pub(super) fn lane(&mut self, route: Route) -> &mut Lane {
        let [primary, backup] = &mut self.lanes;
        match route {
            Route::Primary => primary,
            Route::Backup => backup,
        }
    }

    pub(super) fn lane_ref(&self, route: Route) -> &Lane {
        let [primary, backup] = &self.lanes;
        match route {
            Route::Primary => primary,
            Route::Backup => backup,
        }
    }

    pub(super) fn count(&mut self, state: DeliveryState, by: i64) {
        if let Some(count) = self.counts.get_mut(state as usize) {
            *count = count.saturating_add_signed(by);
        }
    }

    pub(super) fn shift(&mut self, from: DeliveryState, to: DeliveryState) {
        self.count(from, -1);
        self.count(to, 1);
    }

    /// Puts a delivery where its state wants it: among the ready, or among those that wait for a time.
    pub(super) fn enqueue(&mut self, number: u64, row: &DeliveryRow) {
        let lane = self.lane(row.route());
        match row.state {
            DeliveryState::Ready => lane.ready.push_back(number),
            DeliveryState::Scheduled | DeliveryState::RetryWait => {
                lane.due.insert((row.due, number));
            }
            _ => {}
        }
    }

    /// Takes out everything that waits on a route, for its turn or for a time. Order of number.
    pub(super) fn take_waiting(&mut self, route: Route) -> BTreeSet<u64> {
        let lane = self.lane(route);
        let due = std::mem::take(&mut lane.due).into_iter().map(|(_, number)| number);
        due.chain(lane.ready.drain()).collect()
    }

    /// Every lease that is held.
    pub(super) fn held(&self) -> impl Iterator<Item = (u64, Held)> {
        self.lanes.iter().flat_map(|lane| lane.leases.iter().map(|(number, held)| (*number, *held)))
    }

    /// When something on this route changes by time alone, as far as can be told `now`.
    pub(crate) fn next_due(&self, route: Route, now: Moment) -> Option<Timestamp> {
        let lane = self.lane_ref(route);
        let due = lane.due.first().map(|(due, _)| Timestamp::from_micros(*due));
        let ends = (!lane.leases.is_empty()).then(|| {
            let left = Timestamp::from_micros(lane.earliest_end).since(now.steady);
            now.wall.plus(left)
        });
        due.into_iter().chain(ends).min()
    }

    pub(crate) fn counts(&self) -> Counts {
        let of = |state: DeliveryState| self.counts.get(state as usize).copied().unwrap_or(0);
        Counts {
            ready: of(DeliveryState::Ready),
            scheduled: of(DeliveryState::Scheduled),
            retry_wait: of(DeliveryState::RetryWait),
            leased: of(DeliveryState::Leased),
            suspended: of(DeliveryState::Suspended),
            done: of(DeliveryState::Done),
            terminated: of(DeliveryState::Terminated),
            in_doubt: of(DeliveryState::InDoubt),
        }
    }

    pub(crate) fn info(&self) -> PortInfo {
        let due = |route| self.lane_ref(route).due.first().map(|(due, _)| Timestamp::from_micros(*due));
        PortInfo {
            name: self.record.name.clone(),
            backup: self.record.backup,
            defined: self.record.defined,
            paused: self.record.paused,
            counts: self.counts(),
            next_due: due(Route::Primary).into_iter().chain(due(Route::Backup)).min(),
        }
    }
}
