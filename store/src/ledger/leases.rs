//! Handing deliveries out, and taking them back when nobody settled them.

use super::{DeliveryRow, Ledger};
use crate::clock::Moment;
use crate::{DeliveryId, DeliveryState, Doubt, Lease, Route, Timestamp, Want};

/// A lease that is held.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Held {
    pub(super) token: u64,
    /// When it ends, in microseconds on the clock's steady scale: a clock that is set ends nobody's work.
    pub(super) ends: i64,
    /// The intent that names the delivery; 0 where none does.
    pub(super) intent: u64,
}

/// Whether a leased delivery has headers of an earlier attempt to load.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Carried {
    No,
    InRecord,
}

/// A delivery that was just leased.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Picked {
    pub(crate) lease: Lease,
    /// The message's number.
    pub(crate) message: u64,
    pub(crate) row: DeliveryRow,
    pub(crate) ends: Timestamp,
    pub(crate) carried: Carried,
    pub(crate) doubt: Option<Doubt>,
}

impl Ledger {
    /// Leases what is ready, oldest first.
    pub(crate) fn lease(&mut self, want: &Want, now: Moment) -> Vec<Picked> {
        let Some(port_number) = self.port_number(&want.port) else { return Vec::new() };
        self.advance(port_number, want.route, now);
        let ends = now.steady.plus(want.lease_for);
        let mut bytes = 0;
        let mut picked = Vec::new();
        let Some(port) = self
            .ports
            .get_mut(port_number as usize)
            .filter(|port| !port.record.paused || crate::mutant::is("pause-ignored"))
        else {
            return picked;
        };
        while picked.len() < want.limit && (picked.is_empty() || bytes < want.bytes_max) {
            let Some(number) = port.lane(want.route).ready.pop_front() else { break };
            let Some(mut row) = self.deliveries.get(number) else { continue };
            // The queue may name a delivery that was held, ended or moved since it was queued.
            if row.state != DeliveryState::Ready || row.route() != want.route || row.port != port_number {
                continue;
            }
            row.state = DeliveryState::Leased;
            self.deliveries.set_state(number, row.state);
            port.shift(DeliveryState::Ready, DeliveryState::Leased);
            let message = number - u64::from(row.ordinal);
            let body_len = self.messages.get(message).map_or(0, |message| message.body_len);
            bytes = body_len.saturating_add(bytes);
            self.next_token += 1;
            let held = Held { token: self.next_token, ends: ends.as_micros(), intent: 0 };
            let lane = port.lane(want.route);
            if lane.leases.is_empty() || held.ends < lane.earliest_end {
                lane.earliest_end = held.ends;
            }
            lane.leases.insert(number, held);
            picked.push(Picked {
                lease: Lease { delivery: DeliveryId::new(number), token: held.token },
                message,
                row,
                ends,
                carried: if row.has(DeliveryRow::CARRIED) { Carried::InRecord } else { Carried::No },
                doubt: self.intents.doubt_of(number),
            });
        }
        picked
    }

    /// Makes ready what has become due on a route, and what leases that have ended were holding.
    fn advance(&mut self, port_number: u32, route: Route, now: Moment) {
        let (now, steady) = (now.wall.as_micros(), now.steady.as_micros());
        let soon = if crate::mutant::is("retry-before-due") { now.saturating_add(5_000_000) } else { now };
        let mut lost = Vec::new();
        let Some(port) = self.ports.get_mut(port_number as usize) else { return };
        let lane = port.lane(route);
        if !lane.leases.is_empty() && lane.earliest_end <= steady {
            let ended = lane.leases.iter().filter(|(_, held)| held.ends <= steady);
            let mut ended: Vec<u64> = ended.map(|(number, _)| *number).collect();
            ended.sort_unstable();
            for number in ended.into_iter().rev() {
                let lane = port.lane(route);
                lost.extend(lane.leases.remove(&number).map(|held| (number, held.intent)));
                lane.ready.push_front(number);
                self.deliveries.set_state(number, DeliveryState::Ready);
                port.shift(DeliveryState::Leased, DeliveryState::Ready);
            }
            let lane = port.lane(route);
            lane.earliest_end = lane.leases.values().map(|held| held.ends).min().unwrap_or(i64::MAX);
        }
        while let Some((due, number)) = port.lane(route).due.first().copied().filter(|(due, _)| *due <= soon)
        {
            port.lane(route).due.remove(&(due, number));
            let Some(row) = self.deliveries.get(number) else { continue };
            self.deliveries.set_state(number, DeliveryState::Ready);
            port.shift(row.state, DeliveryState::Ready);
            port.lane(route).ready.push_back(number);
        }
        for (number, intent) in lost {
            self.attempt_is_lost(number, intent);
        }
    }

    /// Gives leases back. Gives the ports that have something ready by it.
    pub(crate) fn release(&mut self, leases: &[Lease]) -> Vec<u32> {
        let mut ports = Vec::new();
        for lease in leases.iter().rev() {
            let number = lease.delivery.number();
            let Ok(row) = self.owned(lease) else { continue };
            let (port_number, route) = (row.port, row.route());
            if let Some(held) = self.drop_lease(number, port_number, route) {
                self.attempt_is_lost(number, held.intent);
            }
            self.deliveries.set_state(number, DeliveryState::Ready);
            if crate::mutant::is("given-back-is-charged") {
                self.charge(number);
            }
            if let Some(port) = self.ports.get_mut(port_number as usize) {
                if !crate::mutant::is("counts-drift") {
                    port.shift(DeliveryState::Leased, DeliveryState::Ready);
                }
                port.lane(route).ready.push_front(number);
            }
            if !ports.contains(&port_number) {
                ports.push(port_number);
            }
        }
        ports
    }

    /// Puts leases back that were held when this ledger was rebuilt from the engine.
    pub(crate) fn restore_leases(&mut self, held: Vec<(u64, Held)>) {
        for (number, mut held) in held {
            held.intent = self.intents.still_names(held.intent, number);
            let Some(row) = self.deliveries.get(number) else { continue };
            // What was leased because its time had come is on the disk as still waiting for it.
            let from = row.state;
            let only_ready = crate::mutant::is("full-disk-ends-leases") && from != DeliveryState::Ready;
            let waits =
                matches!(from, DeliveryState::Ready | DeliveryState::Scheduled | DeliveryState::RetryWait);
            if only_ready || !waits {
                continue;
            }
            self.deliveries.set_state(number, DeliveryState::Leased);
            let (port_number, route, due) = (row.port, row.route(), row.due);
            self.next_token = self.next_token.max(held.token);
            let Some(port) = self.ports.get_mut(port_number as usize) else { continue };
            port.shift(from, DeliveryState::Leased);
            port.lane(route).due.remove(&(due, number));
            let lane = port.lane(route);
            lane.earliest_end =
                if lane.leases.is_empty() { held.ends } else { lane.earliest_end.min(held.ends) };
            lane.leases.insert(number, held);
        }
    }

    /// The delivery of a lease that is still held.
    pub(super) fn owned(&self, lease: &Lease) -> Result<DeliveryRow, crate::Refusal> {
        let number = lease.delivery.number();
        let row = self.deliveries.get(number).ok_or(crate::Refusal::NotOwned)?;
        let held =
            self.ports.get(row.port as usize).and_then(|port| port.lane_ref(row.route()).leases.get(&number));
        if crate::mutant::is("double-outcome") {
            return Ok(row);
        }
        match held {
            Some(held) if crate::mutant::is("stale-lease-settles") && held.token != lease.token => Ok(row),
            Some(held) if held.token == lease.token && row.state == DeliveryState::Leased => Ok(row),
            _ => Err(crate::Refusal::NotOwned),
        }
    }

    /// Ends a lease; its delivery's state is the caller's to set.
    pub(super) fn drop_lease(&mut self, number: u64, port: u32, route: Route) -> Option<Held> {
        self.ports.get_mut(port as usize)?.lane(route).leases.remove(&number)
    }
}
