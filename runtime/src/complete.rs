//! Outcomes on their way to the box: one commit for many, each item with its own status.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use pillarbox_store::{
    Answer, Batch, Committed, Error, ErrorKind, Headers, Lease, Op, OpResult, Refusal, Timestamp,
};

use crate::RetryPolicy;
use crate::core::{Core, Phase};
use crate::proxy::ItemStatus;
use crate::settle::{Fault, Standing, Verdict, decide};
use crate::ticket::Ticket;

/// What is to become of a message.
#[derive(Debug, Clone)]
pub(crate) enum Act {
    /// It was sent.
    Delete,
    /// It was sent, and this is the answer.
    Respond(Answer),
    /// Send it again at a time, as the adapter wants it.
    Resubmit { at: Timestamp, fault: Fault, carried: Headers },
    /// Send it by the backup route.
    MoveToBackup(Fault),
    /// Park it.
    Suspend(Fault),
    /// It failed; the ladder decides.
    Fail(Fault),
    /// Send it again as if nothing had been tried, not before this.
    GiveBack(Timestamp),
}

/// A claimed ticket and what is to become of it.
#[derive(Debug)]
pub(crate) struct Item {
    pub(crate) ticket: Arc<Ticket>,
    pub(crate) act: Act,
}

impl Item {
    pub(crate) fn new(ticket: Arc<Ticket>, act: Act) -> Self {
        Self { ticket, act }
    }
}

/// How long to wait for room in the box.
const FULL: RetryPolicy = RetryPolicy {
    attempts: u32::MAX,
    first: Duration::from_millis(50),
    factor: 2.0,
    max: Duration::from_secs(2),
    jitter: 0.2,
};

/// Settles claimed tickets in one commit (and a second one for those whose way to the backup is refused).
///
/// After `Ok` every ticket is settled, except those whose move to the backup route was refused on the adapter's
/// own request: these are open again. After an error every ticket is still claimed, the caller's.
pub(crate) async fn complete(core: &Core, items: &[Item]) -> Result<Vec<ItemStatus>, Error> {
    let mut settled = commit(core, items).await?;
    let mut parked = Vec::new();
    for (place, (item, result)) in items.iter().zip(&settled).enumerate() {
        match (&item.act, &result.status) {
            (Act::Fail(fault), ItemStatus::Refused(Refusal::NoBackup | Refusal::OnBackup)) => {
                parked.push((place, Item::new(Arc::clone(&item.ticket), Act::Suspend(fault.clone()))));
            }
            (Act::MoveToBackup(_), ItemStatus::Refused(Refusal::NoBackup | Refusal::OnBackup)) => {
                item.ticket.reopen();
            }
            _ => conclude(core, item, result),
        }
    }
    if !parked.is_empty() {
        let (places, parked): (Vec<_>, Vec<_>) = parked.into_iter().unzip();
        // The first commit stands, so an error here is these items' alone: their leases end by themselves.
        match commit(core, &parked).await {
            Ok(second) => {
                for ((place, item), result) in places.into_iter().zip(&parked).zip(second) {
                    conclude(core, item, &result);
                    if let Some(first) = settled.get_mut(place) {
                        *first = result;
                    }
                }
            }
            Err(error) => abandon(&parked, &error),
        }
    }
    Ok(settled.into_iter().map(|result| result.status).collect())
}

/// What became of one item.
pub(crate) struct Settled {
    pub(crate) status: ItemStatus,
    /// Whether the operation asked to park it.
    parks: bool,
    /// Whether the box knows of it. What failed while there was no room it does not.
    recorded: bool,
}

impl Settled {
    pub(crate) fn is_applied(&self) -> bool {
        self.status.is_applied()
    }
}

/// How to commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Manner {
    /// A full box is an error.
    Once,
    /// A full box is waited for.
    Patient,
    /// So too, and one refusal voids all.
    AllOrNone,
}

/// Settles claimed tickets on the engine's own account: an error leaves them to the end of their leases.
pub(crate) async fn complete_or_abandon(core: &Core, items: &[Item]) {
    if items.is_empty() {
        return;
    }
    if let Err(error) = complete(core, items).await {
        abandon(items, &error);
    }
}

fn abandon(items: &[Item], error: &Error) {
    for item in items {
        item.ticket.span().in_scope(|| {
            tracing::error!(%error, "the outcome could not be recorded; the message is sent again when its lease ends");
        });
        item.ticket.finish();
    }
}

/// Commits what is to become of the items. Where the box has no room, what was sent waits for it (it cannot be
/// unsent, and recording it makes room), and what failed is given back after its pause, uncharged and unrecorded: its
/// history would only take more room.
async fn commit(core: &Core, items: &[Item]) -> Result<Vec<Settled>, Error> {
    let all: Vec<&Item> = items.iter().collect();
    match commit_once(core, &all, Manner::Once).await {
        Err(error) if error.kind() == ErrorKind::Full => {}
        settled => return settled,
    }
    let of = |wanted: fn(&Act) -> bool| -> Vec<&Item> {
        all.iter().copied().filter(|item| wanted(&item.act)).collect()
    };
    let sent = of(|act| matches!(act, Act::Delete));
    let answered = of(|act| matches!(act, Act::Respond(_)));
    let failed = of(|act| !matches!(act, Act::Delete | Act::Respond(_)));
    // Apart: a deletion makes the room that an answer needs.
    let recording = async {
        Ok::<_, Error>((commit_patiently(core, &sent).await?, commit_patiently(core, &answered).await?))
    };
    let (recorded, ()) = tokio::join!(recording, give_back_unrecorded(core, &failed));
    let (sent, answered) = recorded?;
    let (mut sent, mut answered) = (sent.into_iter(), answered.into_iter());
    let unrecorded = || Settled { status: ItemStatus::Applied, parks: false, recorded: false };
    let settled = |item: &Item| match item.act {
        Act::Delete => sent.next().unwrap_or_else(unrecorded),
        Act::Respond(_) => answered.next().unwrap_or_else(unrecorded),
        _ => unrecorded(),
    };
    Ok(items.iter().map(settled).collect())
}

async fn commit_patiently(core: &Core, items: &[&Item]) -> Result<Vec<Settled>, Error> {
    if items.is_empty() { Ok(Vec::new()) } else { commit_once(core, items, Manner::Patient).await }
}

/// Gives failed messages back once the longest of their pauses is over. What is not charged cannot make its own pauses
/// grow; they grow with how often the box had no room.
async fn give_back_unrecorded(core: &Core, items: &[&Item]) {
    if items.is_empty() {
        return;
    }
    let refused = core.refused.fetch_add(1, Ordering::Relaxed).saturating_add(1);
    let pause = |item: &&Item| {
        let leased = item.ticket.leased();
        let failed = leased.attempts_on_route.saturating_add(1);
        let pause = item.ticket.lane().retry().wait(failed, core.ids.random());
        pause.max(FULL.wait(refused, core.ids.random())).min(leased.ends.since(core.clock.steady()))
    };
    let pause = items.iter().map(pause).max().unwrap_or_default();
    tracing::warn!(
        messages = items.len(),
        ?pause,
        "there is no room to record failed attempts; they are not charged"
    );
    tokio::select! {
        biased;
        () = core.reached(Phase::Cut) => {}
        () = tokio::time::sleep(pause) => {}
    }
    let leases: Vec<Lease> = items.iter().map(|item| item.ticket.leased().lease).collect();
    core.store.release(&leases);
}

/// Commits the items, each sent, all or none of them, and with them what was decided about their transaction. Nothing is
/// concluded yet.
pub(crate) async fn commit_all_or_none(
    core: &Core,
    items: &[Item],
    decision: Option<Op>,
) -> Result<Vec<Settled>, Error> {
    let all: Vec<&Item> = items.iter().collect();
    commit_with(core, &all, Manner::AllOrNone, decision).await
}

async fn commit_once(core: &Core, items: &[&Item], manner: Manner) -> Result<Vec<Settled>, Error> {
    commit_with(core, items, manner, None).await
}

/// Commits. Does not wait for room beyond the end of the first lease, nor beyond the drain's deadline.
async fn commit_with(
    core: &Core,
    items: &[&Item],
    manner: Manner,
    decision: Option<Op>,
) -> Result<Vec<Settled>, Error> {
    let now = core.clock.now();
    let mut batch = Batch::new(core.ids.batch());
    let mut ends = None;
    for item in items {
        batch.push(operation(core, item, now));
        let end = item.ticket.leased().ends;
        ends = Some(ends.map_or(end, |earliest: Timestamp| earliest.min(end)));
    }
    decision.into_iter().for_each(|op| batch.push(op));
    if manner == Manner::AllOrNone {
        batch = batch.all_or_none();
    }
    let committed = if manner != Manner::Once {
        commit_with_patience(core, &batch, ends.unwrap_or_else(|| core.clock.steady())).await?
    } else {
        core.store.commit(&batch).await?
    };
    core.refused.store(0, Ordering::Relaxed);
    let settled = |(result, op): (&OpResult, &Op)| Settled {
        status: match result {
            OpResult::Refused(refusal) => ItemStatus::Refused(refusal.clone()),
            OpResult::Applied | OpResult::Submitted { .. } => ItemStatus::Applied,
        },
        parks: matches!(op, Op::Suspend { .. }),
        recorded: true,
    };
    Ok(committed.results().iter().zip(batch.ops()).take(items.len()).map(settled).collect())
}

/// Commits; where the box is full it waits for room, since what was sent cannot be unsent.
async fn commit_with_patience(core: &Core, batch: &Batch, ends: Timestamp) -> Result<Committed, Error> {
    let mut refused = 0_u32;
    loop {
        let error = match core.store.commit(batch).await {
            Ok(committed) => return Ok(committed),
            Err(error) => error,
        };
        let now = core.clock.steady();
        if error.kind() != ErrorKind::Full || now >= ends || core.is(Phase::Cut) {
            return Err(error);
        }
        refused = refused.saturating_add(1);
        let pause = FULL.wait(refused, core.ids.random()).min(ends.since(now));
        tracing::warn!(%error, ?pause, "there is no room to record outcomes; waiting for it");
        tokio::select! {
            biased;
            () = core.reached(Phase::Cut) => {}
            () = tokio::time::sleep(pause) => {}
        }
    }
}

fn operation(core: &Core, item: &Item, now: Timestamp) -> Op {
    let ticket = &item.ticket;
    let leased = ticket.leased();
    let lease = leased.lease;
    let failed = |fault: &Fault| Some(ticket.note(now, Some(fault.failure.clone())));
    match &item.act {
        Act::Delete => Op::Delete { lease, attempt: Some(ticket.note(now, None)) },
        Act::Respond(_) if pillarbox_store::mutant::is("answer-left-out") => {
            Op::Delete { lease, attempt: Some(ticket.note(now, None)) }
        }
        Act::Respond(answer) => {
            Op::Respond { lease, answer: Box::new(answer.clone()), attempt: Some(ticket.note(now, None)) }
        }
        Act::Resubmit { at, fault, carried } => {
            Op::Resubmit { lease, at: *at, attempt: failed(fault), carried: carried.clone() }
        }
        Act::MoveToBackup(fault) => Op::MoveToBackup { lease, attempt: failed(fault) },
        Act::Suspend(fault) => Op::Suspend { lease, reason: fault.failure.text(), attempt: failed(fault) },
        Act::GiveBack(at) => {
            Op::Resubmit { lease, at: now.max(*at), attempt: None, carried: leased.carried.clone() }
        }
        Act::Fail(fault) => {
            let standing = Standing {
                policy: ticket.lane().retry(),
                route: leased.route,
                has_backup: ticket.lane().has_backup(),
                attempts_on_route: leased.attempts_on_route.saturating_add(1),
                now,
                random: core.ids.random(),
            };
            let attempt = failed(fault);
            match decide(fault, &standing) {
                Verdict::ResubmitAt(at) => {
                    Op::Resubmit { lease, at, attempt, carried: leased.carried.clone() }
                }
                Verdict::MoveToBackup => Op::MoveToBackup { lease, attempt },
                Verdict::Suspend { reason } => Op::Suspend { lease, reason, attempt },
            }
        }
    }
}

/// The end of an item whose commit stands.
pub(crate) fn conclude(core: &Core, item: &Item, result: &Settled) {
    let ticket = &item.ticket;
    if result.status == ItemStatus::Applied {
        match &item.act {
            _ if !result.recorded => core.released.fetch_add(1, Ordering::Relaxed),
            Act::GiveBack(_) => core.released.fetch_add(1, Ordering::Relaxed),
            _ => core.completed.fetch_add(1, Ordering::Relaxed),
        };
        if matches!(item.act, Act::Delete | Act::Respond(_)) {
            ticket.lane().delivered();
        }
    }
    ticket.span().in_scope(|| tell(&item.act, result));
    ticket.finish();
}

fn tell(act: &Act, result: &Settled) {
    if let ItemStatus::Refused(refusal) = &result.status {
        tracing::warn!(%refusal, "the outcome was refused");
        return;
    }
    match act {
        Act::Delete => tracing::debug!("delivered"),
        Act::Respond(_) => tracing::debug!("delivered and answered"),
        Act::GiveBack(_) => tracing::debug!("given back unsent"),
        Act::Suspend(fault) | Act::Resubmit { fault, .. } | Act::MoveToBackup(fault) | Act::Fail(fault) => {
            let error = fault.failure.text();
            if result.parks {
                tracing::error!(error, "failed and suspended");
            } else {
                tracing::warn!(error, "failed");
            }
        }
    }
}
