//! What becomes of messages in doubt: a crash, or a lease that ended, hid whether they were sent.
//!
//! Before its first byte leaves, an attempt's intent is recorded in the box ([`intend`]). A message that comes back in
//! doubt is not sent as if nothing had been: first the destination is asked where the adapter can do that, then the
//! route's policy decides ([`settle`]).

use std::sync::Arc;

use pillarbox_store::{Batch, Doubt, Durability, Lease, Leased};
use tokio::time::Instant;

use crate::adapter::{DoubleSafety, Outgoing, Reconciled};
use crate::complete::{Act, Item, complete_or_abandon};
use crate::lane::{CallFailed, Lane};
use crate::ticket::{Group, Ticket};

/// What a route does about attempts whose outcome a crash may hide.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DoubtPolicy {
    /// Whether, and how durably, it is recorded that messages are about to be sent. Default [`IntentRecord::Written`].
    pub record: IntentRecord,
    /// What becomes of a message of which nobody can tell whether it was sent. Default [`WhenUnknown::Resend`].
    pub unknown: WhenUnknown,
    /// A message is parked after the process has ended so many times, one time after another, while it was being sent; 0
    /// for never. Default 20: a process that is restarted again and again for other reasons must not park bystanders.
    pub park_after: u32,
}

impl Default for DoubtPolicy {
    fn default() -> Self {
        Self { record: IntentRecord::Written, unknown: WhenUnknown::Resend, park_after: 20 }
    }
}

/// How it is recorded that messages are about to be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IntentRecord {
    /// Not at all: after a crash they are sent again as if for the first time.
    None,
    /// Handed to the operating system: known after a crash of the process, not after a power cut.
    Written,
    /// Flushed to the disk: known after a power cut as well. Costs each batch a flush before it is sent.
    Flushed,
}

impl IntentRecord {
    /// Every way, by its name in configuration.
    pub const ALL: [(&'static str, Self); 3] =
        [("none", Self::None), ("written", Self::Written), ("flushed", Self::Flushed)];
}

/// What becomes of a message of which nobody can tell whether it was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WhenUnknown {
    /// It is sent again under the same send key, and [`Outgoing::in_doubt`] says so.
    Resend,
    /// It is held until somebody settles it ([`pillarbox_store::Op::SettleDoubt`]).
    Hold,
    /// It is suspended.
    Suspend,
}

impl WhenUnknown {
    /// Every way, by its name in configuration.
    pub const ALL: [(&'static str, Self); 3] =
        [("resend", Self::Resend), ("hold", Self::Hold), ("suspend", Self::Suspend)];
}

/// What follows for one message in doubt. Pure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Course {
    Send,
    Hold,
    Suspend,
    Park,
}

/// Whether a message has to be decided about before it is sent.
fn is_open(doubt: Option<Doubt>) -> Option<Doubt> {
    doubt.filter(|doubt| !doubt.resend)
}

fn is_poison(policy: &DoubtPolicy, doubt: &Doubt) -> bool {
    policy.park_after > 0 && doubt.crashes >= policy.park_after
}

fn course(policy: &DoubtPolicy, doubt: &Doubt, told: Reconciled) -> Course {
    match (told, policy.unknown) {
        _ if is_poison(policy, doubt) => Course::Park,
        (Reconciled::Unknown, WhenUnknown::Hold) => Course::Hold,
        (Reconciled::Unknown, WhenUnknown::Suspend) => Course::Suspend,
        _ => Course::Send,
    }
}

/// Records that these are about to be sent, as the route wants it.
///
/// # Errors
/// The box's own, or that a lease has ended: whoever has that message now may be sending it. None of them may be sent
/// then, as the adapter has them in one batch already.
pub(crate) async fn intend(lane: &Lane, leases: impl Iterator<Item = Lease>) -> Result<(), String> {
    let durability = match lane.config().doubt.record {
        IntentRecord::None => return Ok(()),
        IntentRecord::Written => Durability::Written,
        IntentRecord::Flushed => Durability::Flushed,
    };
    let leases: Vec<Lease> = leases.collect();
    if leases.is_empty() {
        return Ok(());
    }
    let core = lane.core();
    let batch = Batch::new(core.ids.batch()).durability(durability);
    // What is prepared at the destination is settled by the box's decision.
    let is_transacted = lane.info().capabilities.double_safety == DoubleSafety::TwoPhase;
    let about_to = if is_transacted { Batch::intend_transacted } else { Batch::intend };
    let batch = leases.iter().copied().fold(batch, about_to);
    let committed = core.store.commit(&batch).await.map_err(|error| error.to_string())?;
    match leases.iter().zip(committed.results()).find(|(_lease, result)| !result.is_applied()) {
        Some((lease, _refused)) => Err(format!("the lease of delivery {} has ended", lease.delivery())),
        None => Ok(()),
    }
}

/// Decides about those in doubt. Gives the messages that are to be sent, each still with its credit.
pub(crate) async fn settle(lane: &Arc<Lane>, leased: Vec<Leased>) -> Vec<Leased> {
    if leased.iter().all(|leased| is_open(leased.doubt).is_none()) {
        return leased;
    }
    let mut to_send = Vec::with_capacity(leased.len());
    for leased in leased {
        let Some(doubt) = is_open(leased.doubt) else {
            to_send.push(leased);
            continue;
        };
        // By whatever route it comes now: what was not decided is committed nowhere.
        let known =
            if doubt.transacted { Ok(Reconciled::NotLanded) } else { ask(lane, &leased, &doubt).await };
        let policy = lane.config().doubt;
        match known {
            Ok(Reconciled::Landed) => conclude(lane, leased).await,
            Ok(told) => match course(&policy, &doubt, told) {
                Course::Send => to_send.push(leased),
                Course::Hold => put_aside(lane, leased, Batch::hold_in_doubt).await,
                Course::Suspend => suspend(lane, leased, "nobody knows whether it was sent").await,
                Course::Park => {
                    let times = if doubt.crashes == 1 {
                        "once".to_owned()
                    } else {
                        format!("{} times", doubt.crashes)
                    };
                    let why = format!("the process ended {times} while it was being sent");
                    suspend(lane, leased, &why).await;
                }
            },
            Err(why) => {
                lane.backs_off("ask the destination about a message in doubt", &why);
                lane.give_back(&[leased]);
            }
        }
    }
    to_send
}

/// Asks the destination whether it has the message, where the adapter can.
async fn ask(lane: &Arc<Lane>, leased: &Leased, doubt: &Doubt) -> Result<Reconciled, String> {
    // Whatever ends the process may do so again when it is asked about.
    if !lane.info().capabilities.reconciles || is_poison(&lane.config().doubt, doubt) {
        return Ok(Reconciled::Unknown);
    }
    let Some(adapter) = lane.adapter() else { return Err("the adapter is not open".to_owned()) };
    let group = Arc::new(Group::default());
    let ticket = Ticket::new(lane, &group, leased.clone(), lane.core().clock.now());
    let message = Outgoing { ticket: Arc::clone(&ticket) };
    let asking = async move {
        let told = adapter.reconcile(&message).await;
        drop(message);
        told
    };
    let told = lane.call(Instant::now() + lane.timeout(), asking).await;
    ticket.withdraw();
    match told {
        Ok(Ok(told)) => {
            ticket.span().in_scope(|| tracing::info!(?told, "was in doubt"));
            Ok(told)
        }
        Ok(Err(error)) => Err(error.to_failure().text()),
        Err(CallFailed::Panicked(text)) => Err(text),
        Err(CallFailed::TimedOut) => Err(format!("no answer within {:?}", lane.timeout())),
        Err(CallFailed::Cut) => Err("the runtime has ended".to_owned()),
    }
}

/// The destination has it.
async fn conclude(lane: &Arc<Lane>, leased: Leased) {
    let group = Arc::new(Group::default());
    let ticket = Ticket::new(lane, &group, leased, lane.core().clock.now());
    if ticket.claim() {
        complete_or_abandon(lane.core(), &[Item::new(ticket, Act::Delete)]).await;
    }
}

async fn suspend(lane: &Arc<Lane>, leased: Leased, why: &str) {
    put_aside(lane, leased, |batch, lease| batch.suspend(lease, why, None)).await;
}

/// Parks a message that is not sent again before somebody acts. No attempt was made, so none is charged.
async fn put_aside(lane: &Arc<Lane>, leased: Leased, park: impl FnOnce(Batch, Lease) -> Batch) {
    let core = lane.core();
    let batch = park(Batch::new(core.ids.batch()), leased.lease);
    match core.store.commit(&batch).await {
        Ok(_parked) => {
            tracing::warn!(lane = %lane.name(), delivery = %leased.lease.delivery(), "in doubt and put aside");
            lane.return_credits(1);
        }
        Err(error) => {
            lane.backs_off("put a message in doubt aside", &error.to_string());
            lane.give_back(&[leased]);
        }
    }
}

#[cfg(test)]
mod tests;
