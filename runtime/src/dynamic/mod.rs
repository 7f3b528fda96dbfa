//! Dynamic ports: the address is on the message. Each address is a lane of its own beneath the port's, with its own
//! adapter, back-off and part of the credits, and goes when it is idle and its place is needed.

mod directory;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use pillarbox_store::{Batch, HeaderValue, Leased, Op};
use tokio::time::Instant;

pub use directory::Directory;

use crate::RetryPolicy;
use crate::adapter::SendError;
use crate::complete::{Act, Item, complete_or_abandon};
use crate::core::Phase;
use crate::hand_over;
use crate::lane::Lane;
use crate::open::open;
use crate::port::{AdapterSource, RouteConfig};
use crate::settle::Fault;
use crate::tasks::Inside;
use crate::ticket::{Group, Ticket};

/// How long a message waits whose address has no room.
const BUSY: RetryPolicy = RetryPolicy {
    attempts: u32::MAX,
    first: Duration::from_secs(1),
    factor: 2.0,
    max: Duration::from_secs(30),
    jitter: 0.2,
};

/// The addresses that a dynamic lane knows at the moment.
#[derive(Debug)]
pub(crate) struct Addresses {
    directory: Arc<Directory>,
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    lanes: BTreeMap<String, Entry>,
    /// Counts uses.
    uses: u64,
    /// How often in a row there was no place for a further address.
    crowded: u32,
}

#[derive(Debug)]
struct Entry {
    lane: Arc<Lane>,
    /// When it was used last.
    used: u64,
    /// How often in a row it had no room.
    busy: u32,
}

/// Where messages to one address go.
enum Place {
    /// To this lane, so many of them; the rest waits.
    Lane { lane: Arc<Lane>, taken: usize, busy: u32 },
    /// No further address has a place.
    Crowded(u32),
    /// Nowhere.
    Wrong(SendError),
}

impl Addresses {
    pub(crate) fn new(directory: Arc<Directory>) -> Self {
        Self { directory, known: Mutex::default() }
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The lanes of the addresses, with these.
    pub(crate) fn lanes(&self) -> Vec<(String, Arc<Lane>)> {
        self.known().lanes.iter().map(|(address, entry)| (address.clone(), Arc::clone(&entry.lane))).collect()
    }

    /// Finds or makes the lane of an address, and takes credits of it.
    fn place(&self, parent: &Arc<Lane>, address: &str, wanted: usize) -> Place {
        let mut known = self.known();
        known.uses += 1;
        let used = known.uses;
        if !known.lanes.contains_key(address) {
            // Checked at each message of an address that is wrong: what is wrong is not kept.
            let (settings, info) = match self.directory.check(address) {
                Ok(checked) => checked,
                Err(error) => return Place::Wrong(error),
            };
            if known.lanes.len() >= self.directory.addresses_max && !known.evict(parent) {
                known.crowded = known.crowded.saturating_add(1);
                return Place::Crowded(known.crowded);
            }
            let config = RouteConfig {
                adapter: AdapterSource::Checked(settings, info),
                in_flight: self.directory.in_flight.min(parent.in_flight_max()),
                ..parent.config().clone()
            };
            let lane = Arc::new(Lane::beneath(parent, config));
            known.lanes.insert(address.to_owned(), Entry { lane, used, busy: 0 });
        }
        known.crowded = 0;
        let Some(entry) = known.lanes.get_mut(address) else { return Place::Crowded(1) };
        entry.used = used;
        let taken = entry.lane.try_take_credits(wanted);
        entry.busy = if taken == 0 { entry.busy.saturating_add(1) } else { 0 };
        Place::Lane { lane: Arc::clone(&entry.lane), taken, busy: entry.busy.max(1) }
    }
}

impl Known {
    /// Ends the adapter that was idle for longest. False where none is idle.
    fn evict(&mut self, parent: &Lane) -> bool {
        let idle = self.lanes.iter().filter(|(_, entry)| entry.lane.in_flight() == 0);
        let Some(address) = idle.min_by_key(|(_, entry)| entry.used).map(|(address, _)| address.clone())
        else {
            return false;
        };
        if let Some(adapter) = self.lanes.remove(&address).and_then(|entry| entry.lane.take_adapter()) {
            parent.core().tasks.spawn(async move { adapter.terminate().await });
        }
        true
    }
}

/// Hands leased messages of a dynamic lane over, each to its address.
pub(crate) async fn hand_over(lane: Arc<Lane>, leased: Vec<Leased>, inside: Inside) {
    let Some(addresses) = lane.addresses() else { return lane.give_back(&leased) };
    let core = lane.core();
    let (mut by_address, mut wrong) = (BTreeMap::<String, Vec<Leased>>::new(), Vec::new());
    for one in leased {
        match one.message.headers.get(Directory::ADDRESS) {
            Some(HeaderValue::Text(address)) => by_address.entry(address.clone()).or_default().push(one),
            given => {
                let what = if given.is_some() { "is no text" } else { "is missing" };
                let text =
                    format!("the header '{}' {what}: it says where the message goes", Directory::ADDRESS);
                wrong.push((one, Fault::from(&SendError::permanent(text))));
            }
        }
    }
    for (address, mut leased) in by_address {
        match addresses.place(&lane, &address, leased.len()) {
            Place::Lane { lane: of, taken, busy } => {
                let rest = leased.split_off(taken.min(leased.len()));
                if !leased.is_empty() {
                    core.tasks.spawn(send(of, leased, core.flights.enter()));
                }
                postpone(&lane, &rest, BUSY.wait(busy, core.ids.random())).await;
            }
            Place::Crowded(times) => postpone(&lane, &leased, BUSY.wait(times, core.ids.random())).await,
            Place::Wrong(error) => {
                wrong.extend(leased.into_iter().map(|one| (one, Fault::from(&error))));
            }
        }
    }
    refuse(&lane, wrong).await;
    drop(inside);
}

/// Hands messages of one address over to its adapter, which is opened where that is needed.
async fn send(lane: Arc<Lane>, leased: Vec<Leased>, inside: Inside) {
    let is_to_open = || (lane.adapter().is_none() || lane.is_unsettled()) && lane.back_off().is_none();
    if is_to_open() {
        let _turn = lane.opening.lock().await;
        if is_to_open() {
            tokio::select! {
                biased;
                () = lane.core().reached(Phase::Draining) => {}
                () = open(&lane) => {}
            }
        }
        // The leases' time has gone on meanwhile: leased again they have all of it.
        if lane.adapter().is_some() || lane.core().is(Phase::Draining) {
            return lane.give_back(&leased);
        }
    }
    if let Some(until) = lane.back_off() {
        return postpone(&lane, &leased, until.saturating_duration_since(Instant::now())).await;
    }
    hand_over::hand_over(lane, leased, inside).await;
}

/// Makes messages that were not tried due again after a pause, uncharged.
async fn postpone(lane: &Lane, leased: &[Leased], pause: Duration) {
    if leased.is_empty() {
        return;
    }
    let core = lane.core();
    let at = core.clock.now().plus(pause);
    let mut batch = Batch::new(core.ids.batch());
    for one in leased {
        batch.push(Op::Resubmit { lease: one.lease, at, attempt: None, carried: one.carried.clone() });
    }
    if let Err(error) = core.store.commit(&batch).await {
        tracing::warn!(lane = %lane.name(), %error, "messages wait for the end of their leases");
    }
    lane.never_sent(leased.len());
}

/// Ends attempts at addresses that there are not.
async fn refuse(lane: &Arc<Lane>, wrong: Vec<(Leased, Fault)>) {
    let group = Arc::new(Group::default());
    let started = lane.core().clock.now();
    let refused = wrong.into_iter().filter_map(|(one, fault)| {
        let ticket = Ticket::new(lane, &group, one, started);
        ticket.claim().then(|| Item::new(ticket, Act::Fail(fault)))
    });
    let refused: Vec<_> = refused.collect();
    complete_or_abandon(lane.core(), &refused).await;
}
