//! Hands one batch to an adapter, call by call, and sees to it that every message of it is settled.
//!
//! `get_batch`, `begin`, `transmit` for each, `done(None)`; each call in a task of its own, so that a panic or a hang
//! stays there. Before `done` nothing is sent: what fails up to then charges no attempt, except of a message that
//! `transmit` itself refused.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Weak};

use pillarbox_store::{Lease, Leased};
use tokio::time::Instant;

use crate::adapter::{
    BatchTransmitter, Begun, Done, Outgoing, SendError, Transaction, TransmitBatch, Transmitted,
};
use crate::complete::{Act, Item, complete_or_abandon};
use crate::core::Phase;
use crate::doubt;
use crate::lane::{CallFailed, Lane, panic_text};
use crate::settle::Fault;
use crate::tasks::Inside;
use crate::ticket::{Group, Ticket};
use crate::transact::{Joined, TransactError, transact};

/// Hands leased messages over, all of one lane, and returns when each is settled.
///
/// Messages beyond what the adapter's batch takes go into further batches.
pub(crate) async fn hand_over(lane: Arc<Lane>, leased: Vec<Leased>, inside: Inside) {
    let mut leased = doubt::settle(&lane, leased).await;
    if leased.is_empty() {
        return;
    }
    let deadline = Instant::now() + lane.timeout();
    let Some(adapter) = lane.adapter() else {
        lane.give_back(&leased);
        return;
    };
    let why = match lane.call(deadline, begin(adapter)).await {
        Ok(Ok((batch, begun))) => {
            let rest = leased.split_off(announced(&lane, &begun).min(leased.len()));
            if !rest.is_empty() {
                let core = lane.core();
                let another = boxed(Arc::clone(&lane), rest, core.flights.enter());
                core.tasks.spawn(another);
            }
            let flight = Flight::new(lane, leased, deadline, begun.transaction);
            let joined = flight.joined.clone();
            flight.fly(batch).await;
            if let Some(joined) = joined {
                joined.roll_back_if_open().await;
            }
            drop(inside);
            return;
        }
        Ok(Err(error)) => error.to_failure().text(),
        Err(CallFailed::Panicked(text)) => text,
        Err(CallFailed::TimedOut) => format!("no answer within {:?}", lane.timeout()),
        Err(CallFailed::Cut) => {
            lane.give_back(&leased);
            return;
        }
    };
    lane.backs_off("get a batch from the adapter", &why);
    lane.give_back(&leased);
}

/// The same as a type that does not contain itself.
fn boxed(
    lane: Arc<Lane>,
    leased: Vec<Leased>,
    inside: Inside,
) -> futures_util::future::BoxFuture<'static, ()> {
    Box::pin(hand_over(lane, leased, inside))
}

async fn begin(adapter: Arc<dyn BatchTransmitter>) -> Result<(Box<dyn TransmitBatch>, Begun), SendError> {
    let mut batch = adapter.get_batch().await?;
    let begun = batch.begin().await?;
    Ok((batch, begun))
}

/// How many messages the batch takes.
fn announced(lane: &Lane, begun: &Begun) -> usize {
    if begun.messages_max == 0 {
        tracing::warn!(lane = %lane.name(), "the adapter's batch takes 0 messages; taken as 1");
    }
    let messages_max = begun.messages_max.max(1);
    lane.began(messages_max);
    messages_max
}

/// One batch on its way.
struct Flight {
    lane: Arc<Lane>,
    group: Arc<Group>,
    tickets: Vec<Arc<Ticket>>,
    deadline: Instant,
    /// The transaction in which the batch is sent.
    joined: Option<Arc<Joined>>,
}

/// What `transmit` said to the messages of a batch.
struct Collected {
    /// The batch, to be `done`; `None` where it was cleared.
    batch: Option<Box<dyn TransmitBatch>>,
    sent: Vec<Arc<Ticket>>,
    refused: Vec<(Arc<Ticket>, Fault)>,
}

impl Flight {
    fn new(
        lane: Arc<Lane>,
        leased: Vec<Leased>,
        deadline: Instant,
        transaction: Option<Arc<dyn Transaction>>,
    ) -> Self {
        let group = Arc::new(Group::default());
        let started = lane.core().clock.now();
        let ticket = |leased| Ticket::new(&lane, &group, leased, started);
        let tickets = leased.into_iter().map(ticket).collect();
        let joined = transaction.map(|transaction| Joined::new(&lane, transaction));
        Self { lane, group, tickets, deadline, joined }
    }

    async fn fly(self, batch: Box<dyn TransmitBatch>) {
        let collecting = collect(Arc::clone(&self.lane), batch, self.tickets.clone());
        let collected = match self.lane.call(self.deadline, collecting).await {
            Ok(collected) => collected,
            Err(failed) => return self.ground(failed, Vec::new()).await,
        };
        let items: Vec<_> =
            collected.refused.into_iter().filter_map(|(ticket, fault)| failed(ticket, fault)).collect();
        let mut collected_batch = collected.batch;
        if let Some(batch) = &mut collected_batch
            && let Err(why) = doubt::intend(&self.lane, self.open_leases()).await
        {
            self.lane.backs_off("record what is about to be sent", &why);
            batch.clear();
            collected_batch = None;
        }
        let Some(batch) = collected_batch else {
            complete_or_abandon(self.lane.core(), &items).await;
            self.give_back();
            return self.settle_rest().await;
        };
        let confirm = self.joined.as_ref().map(|joined| joined.confirm(&self.lane));
        match self.lane.call(self.deadline, batch.done(confirm)).await {
            Ok(Ok(done)) => {
                let (items, transacted) = settled(done, collected.sent, items, self.joined.is_some());
                complete_or_abandon(self.lane.core(), &items).await;
                self.transact(transacted).await;
                self.settle_rest().await;
            }
            Ok(Err(error)) => self.fail_all(&Fault::from(&error), items).await,
            Err(failed) => self.ground(failed, items).await,
        }
    }

    /// Those of messages without an outcome.
    fn open_leases(&self) -> impl Iterator<Item = Lease> {
        self.tickets.iter().filter(|ticket| ticket.is_open()).map(|ticket| ticket.leased().lease)
    }

    /// Ends the batch's transaction with what was sent in it.
    async fn transact(&self, sent: Vec<Item>) {
        let Some(joined) = self.joined.as_ref().filter(|_| !sent.is_empty()) else { return };
        let tickets: Vec<_> = sent.iter().map(|item| Arc::clone(&item.ticket)).collect();
        // In a task of its own: a batch that is cut off does not leave it half done.
        let ending = self.lane.core().tasks.spawn(transact(Arc::clone(joined), sent)).await;
        match ending.unwrap_or(Err(TransactError::Stopped)) {
            Ok(()) => {}
            Err(TransactError::NotPrepared(error)) => {
                let fault = Fault::from(&error);
                let failed: Vec<_> =
                    tickets.into_iter().filter_map(|ticket| failed(ticket, fault.clone())).collect();
                complete_or_abandon(self.lane.core(), &failed).await;
            }
            Err(TransactError::Uncommitted(error)) => self.lane.complains(error.to_failure().text()),
            // None of them is at fault.
            Err(_) => give_back(&self.lane, tickets.into_iter()),
        }
    }

    /// Nothing that is undone by the adapter's fault may become visible once its messages are sent again.
    async fn roll_back(&self) {
        if let Some(joined) = &self.joined {
            joined.roll_back_if_open().await;
        }
    }

    /// A call into the adapter gave nothing: every message without an outcome has failed, or is given back where
    /// the runtime's end was the cause.
    async fn ground(self, failed: CallFailed, items: Vec<Item>) {
        let fault = match failed {
            CallFailed::Panicked(text) => Fault::from(&SendError::temporary(text)),
            CallFailed::TimedOut => self.too_late(),
            CallFailed::Cut => {
                complete_or_abandon(self.lane.core(), &items).await;
                self.give_back();
                return self.settle_rest().await;
            }
        };
        self.fail_all(&fault, items).await;
    }

    async fn fail_all(self, fault: &Fault, mut items: Vec<Item>) {
        self.roll_back().await;
        let open = self.tickets.iter().filter_map(|ticket| failed(Arc::clone(ticket), fault.clone()));
        items.extend(open);
        complete_or_abandon(self.lane.core(), &items).await;
        self.settle_rest().await;
    }

    fn too_late(&self) -> Fault {
        let text = format!("not completed within {:?}", self.lane.timeout());
        Fault::from(&SendError::temporary(text))
    }

    /// Gives back, uncharged, every message that nobody has an outcome for.
    fn give_back(&self) {
        give_back(&self.lane, self.tickets.iter().map(Arc::clone));
    }

    /// Waits until the adapter has completed the rest, up to the deadline; then the rest has failed.
    async fn settle_rest(self) {
        let fault = self.too_late();
        let Self { lane, group, tickets, deadline, joined } = self;
        // The adapter's clones alone keep a ticket alive from here: so the last one to be dropped is noticed.
        let pending: Vec<Weak<Ticket>> = tickets.iter().map(Arc::downgrade).collect();
        drop(tickets);
        let core = Arc::clone(lane.core());
        let mut expired = false;
        loop {
            adopt_orphans(&lane, &group).await;
            if group.unsettled() == 0 {
                return;
            }
            let open = pending.iter().filter_map(Weak::upgrade);
            if core.is(Phase::Cut) && !pillarbox_store::mutant::is("shutdown-burns-budget") {
                give_back(&lane, open);
            } else if core.is(Phase::Cut) || (expired && !pillarbox_store::mutant::is("timeout-not-settled"))
            {
                if let Some(joined) = &joined {
                    joined.roll_back_if_open().await;
                }
                let late: Vec<_> = open.filter_map(|ticket| failed(ticket, fault.clone())).collect();
                late.iter().for_each(|item| item.ticket.abort_worker());
                complete_or_abandon(&core, &late).await;
            }
            if group.unsettled() == 0 {
                return;
            }
            // Once expired or cut, only outcomes are left that are on their way to the box.
            tokio::select! {
                biased;
                () = group.changed.notified() => {}
                () = core.reached(Phase::Cut), if !core.is(Phase::Cut) => {}
                () = tokio::time::sleep_until(deadline), if !expired => expired = true,
            }
        }
    }
}

/// Offers each message to the batch. Sends nothing.
async fn collect(lane: Arc<Lane>, mut batch: Box<dyn TransmitBatch>, tickets: Vec<Arc<Ticket>>) -> Collected {
    let (mut sent, mut refused) = (Vec::new(), Vec::new());
    let offered = tickets.len();
    for ticket in tickets {
        let message = Outgoing { ticket: Arc::clone(&ticket) };
        match catch_unwind(AssertUnwindSafe(|| batch.transmit(message))) {
            Ok(Ok(Transmitted::Sent)) => sent.push(ticket),
            Ok(Ok(Transmitted::Pending)) => {}
            Ok(Err(error)) => refused.push((ticket, Fault::from(&error))),
            Err(panic) => {
                // Nobody knows what the batch is worth now. Nothing of it was sent.
                refused.push((ticket, Fault::from(&SendError::temporary(panic_text(panic.as_ref())))));
                batch.clear();
                return Collected { batch: None, sent, refused };
            }
        }
    }
    if refused.len() == offered || lane.core().is(Phase::Draining) {
        batch.clear();
        return Collected { batch: None, sent, refused };
    }
    Collected { batch: Some(batch), sent, refused }
}

/// What a batch that is done says of its messages, added to what is known already; and what was sent in its transaction.
fn settled(
    done: Done,
    sent: Vec<Arc<Ticket>>,
    mut items: Vec<Item>,
    in_transaction: bool,
) -> (Vec<Item>, Vec<Item>) {
    let failures = done.failed.into_iter();
    if pillarbox_store::mutant::is("failures-lost") {
        items.extend(failures.map(|(message, _)| Item::new(message.ticket, Act::Delete)));
    } else {
        items.extend(failures.filter_map(|(message, error)| failed(message.ticket, Fault::from(&error))));
    }
    let delivered = sent.into_iter().filter(|ticket| ticket.claim());
    let mut delivered: Vec<Item> = delivered.map(|ticket| Item::new(ticket, Act::Delete)).collect();
    if in_transaction {
        return (items, delivered);
    }
    items.append(&mut delivered);
    (items, Vec::new())
}

fn failed(ticket: Arc<Ticket>, fault: Fault) -> Option<Item> {
    ticket.claim().then(|| Item::new(ticket, Act::Fail(fault)))
}

/// Settles what the adapter let go of without an outcome.
async fn adopt_orphans(lane: &Lane, group: &Group) {
    let orphans = group.take_orphans();
    if orphans.is_empty() {
        return;
    }
    let core = lane.core();
    if core.is(Phase::Cut) {
        return release(lane, orphans.into_iter().map(|orphan| orphan.ticket).collect());
    }
    let item = |orphan: crate::ticket::Orphan| {
        let text = if orphan.panicked {
            "the adapter panicked: the message had no outcome"
        } else {
            "the adapter dropped the message without an outcome"
        };
        Item::new(orphan.ticket, Act::Fail(Fault::from(&SendError::temporary(text))))
    };
    let items: Vec<_> = orphans.into_iter().map(item).collect();
    complete_or_abandon(core, &items).await;
}

fn give_back(lane: &Lane, tickets: impl Iterator<Item = Arc<Ticket>>) {
    release(lane, tickets.filter(|ticket| ticket.claim()).collect());
}

/// Releases claimed tickets: no attempt is charged.
fn release(lane: &Lane, claimed: Vec<Arc<Ticket>>) {
    if claimed.is_empty() {
        return;
    }
    let core = lane.core();
    let leases: Vec<Lease> = claimed.iter().map(|ticket| ticket.leased().lease).collect();
    core.store.release(&leases);
    core.released.fetch_add(leases.len() as u64, std::sync::atomic::Ordering::Relaxed);
    for ticket in claimed {
        ticket.abort_worker();
        ticket.finish();
    }
}
