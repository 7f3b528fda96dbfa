//! Transactional batches: the destination's transaction ends as the box's record of the deliveries does.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use pillarbox_store::{DeliveryId, DeliveryState, ErrorKind, Refusal, Route, Store};

use super::super::kit::{Bench, body, info, name, seconds, settle, steady};
use super::world::{World, crashes, done, undisturbed};
use crate::adapter::{
    Adapter, BatchTransmitter, Begun, CommitConfirm, Done, Outgoing, SendError, Transaction, TransactionId,
    TransactionalSender, TransmitBatch, Transmitted, Transport, TransportControl, TransportInfo,
};
use crate::{ItemStatus, Port, Proxy, RouteConfig, TransactError};

/// What one of a transaction's calls does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Does {
    #[default]
    Fine,
    Fails,
    Hangs,
    Panics,
}

#[derive(Debug, Clone, Copy, Default)]
struct Script {
    prepare: Does,
    commit: Does,
    done: Does,
    /// It answers with `Sent`: the engine's own deletion goes into the transaction.
    is_synchronous: bool,
    /// It does nothing by itself after `done`; the test does.
    is_driven: bool,
    /// It lets go of the confirmation without a report.
    is_silent: bool,
}

/// An adapter whose destination knows transactions.
#[derive(Debug, Clone, Default)]
struct Transacting {
    world: World,
    script: Script,
    begun: Arc<Mutex<Vec<Arc<Wire>>>>,
    kept: Arc<Mutex<Vec<Outgoing>>>,
}

impl Transport for Transacting {
    fn describe(&self) -> TransportInfo {
        info("transacting")
    }
}

#[async_trait]
impl TransportControl for Transacting {
    async fn initialize(&self, proxy: Proxy) -> Result<(), SendError> {
        self.world.keep(proxy);
        Ok(())
    }
}

#[async_trait]
impl BatchTransmitter for Transacting {
    async fn get_batch(&self) -> Result<Box<dyn TransmitBatch>, SendError> {
        self.world.step("get_batch").await;
        Ok(Box::new(Batch { of: self.clone(), wire: None, messages: Vec::new() }))
    }
}

impl Transacting {
    fn last(&self) -> Arc<Wire> {
        Arc::clone(self.begun.lock().unwrap().last().unwrap())
    }

    fn take_kept(&self) -> Vec<Outgoing> {
        std::mem::take(&mut self.kept.lock().unwrap())
    }

    async fn complete(self, wire: Arc<Wire>, messages: Vec<Outgoing>) {
        wire.write(&messages).await;
        let mut batch = self.world.proxy().batch().unwrap();
        messages.iter().for_each(|message| batch.delete(message.clone()));
        if let Err(TransactError::NotPrepared(error)) = batch.done_in(wire).await {
            let mut batch = self.world.proxy().batch().unwrap();
            let text = error.to_string();
            messages.into_iter().for_each(|message| batch.fail(message, SendError::temporary(&*text)));
            batch.done().await.unwrap();
        }
    }
}

/// A transaction at the destination.
#[derive(Debug)]
struct Wire {
    world: World,
    id: TransactionId,
    script: Script,
    written: Mutex<Vec<String>>,
    confirm: Mutex<Option<Box<dyn CommitConfirm>>>,
}

impl Wire {
    fn new(of: &Transacting) -> Arc<Self> {
        let id = of.world.proxy().new_transaction();
        let wire = Self {
            world: of.world.clone(),
            id,
            script: of.script,
            written: Mutex::default(),
            confirm: Mutex::default(),
        };
        Arc::new(wire)
    }

    async fn write(&self, messages: &[Outgoing]) {
        for message in messages {
            self.world.step(format!("write {}", body(message))).await;
            self.written.lock().unwrap().push(body(message));
        }
    }

    async fn call(&self, what: &str, does: Does) -> Result<(), SendError> {
        self.world.step(what).await;
        match does {
            Does::Fine => Ok(()),
            Does::Fails => Err(SendError::temporary(format!("{what} failed"))),
            Does::Hangs => std::future::pending().await,
            Does::Panics => panic!("{what} went wrong"),
        }
    }

    fn report(&self, committed: bool) {
        let confirm = self.confirm.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(confirm) = confirm
            && !self.script.is_silent
        {
            confirm.confirm(committed);
            self.world.note(format!("confirm {committed}"));
        }
    }
}

#[async_trait]
impl Transaction for Wire {
    fn id(&self) -> &TransactionId {
        &self.id
    }

    async fn prepare(&self) -> Result<(), SendError> {
        self.call("prepare", self.script.prepare).await?;
        self.world.hold(self.id.as_str(), self.written.lock().unwrap().clone());
        Ok(())
    }

    async fn commit(&self) -> Result<(), SendError> {
        self.call("commit", self.script.commit).await?;
        self.world.let_go(self.id.as_str(), true);
        self.report(true);
        Ok(())
    }

    async fn roll_back(&self) -> Result<(), SendError> {
        self.call("roll back", Does::Fine).await?;
        self.world.let_go(self.id.as_str(), false);
        self.report(false);
        Ok(())
    }
}

#[derive(Debug)]
struct Batch {
    of: Transacting,
    wire: Option<Arc<Wire>>,
    messages: Vec<Outgoing>,
}

#[async_trait]
impl TransmitBatch for Batch {
    async fn begin(&mut self) -> Result<Begun, SendError> {
        self.of.world.step("begin").await;
        let wire = Wire::new(&self.of);
        self.of.begun.lock().unwrap().push(Arc::clone(&wire));
        self.wire = Some(Arc::clone(&wire));
        Ok(Begun::at_most(3).in_transaction(wire))
    }

    fn transmit(&mut self, message: Outgoing) -> Result<Transmitted, SendError> {
        self.of.world.note(format!("transmit {}", body(&message)));
        self.messages.push(message);
        Ok(if self.of.script.is_synchronous { Transmitted::Sent } else { Transmitted::Pending })
    }

    async fn done(self: Box<Self>, confirm: Option<Box<dyn CommitConfirm>>) -> Result<Done, SendError> {
        let Self { of, wire, messages } = *self;
        let wire = wire.unwrap();
        *wire.confirm.lock().unwrap() = Some(confirm.expect("a transaction was announced"));
        wire.call("done", of.script.done).await?;
        if of.script.is_synchronous {
            wire.write(&messages).await;
        } else if of.script.is_driven {
            of.kept.lock().unwrap().extend(messages);
        } else {
            of.world.proxy().tasks().spawn(of.clone().complete(wire, messages));
        }
        Ok(Done::default())
    }

    fn clear(&mut self) {
        self.messages.clear();
    }
}

fn asynchronous(world: &World) -> Adapter {
    Adapter::batch_transmitter(Transacting { world: world.clone(), ..Transacting::default() })
}

fn synchronous(world: &World) -> Adapter {
    let script = Script { is_synchronous: true, ..Script::default() };
    Adapter::batch_transmitter(Transacting { world: world.clone(), script, ..Transacting::default() })
}

/// The end of a batch of two: prepared, recorded, committed once, reported.
const END: [&str; 4] = ["prepare", "box: delete 2", "commit", "confirm true"];

#[tokio::test(start_paused = true)]
async fn a_transacted_batch_is_prepared_recorded_committed_and_confirmed() {
    let (steps, wire) = undisturbed(asynchronous, &["a", "b"]).await;
    let collected = ["get_batch", "begin", "transmit a", "transmit b", "done", "write a", "write b"];
    assert_eq!(steps, [collected.as_slice(), &END].concat());
    assert_eq!(wire, ["a", "b"]);
}

#[tokio::test(start_paused = true)]
async fn the_engines_own_deletion_goes_into_the_announced_transaction() {
    let (steps, wire) = undisturbed(synchronous, &["a", "b"]).await;
    let collected = ["get_batch", "begin", "transmit a", "transmit b", "done", "write a", "write b"];
    assert_eq!(steps, [collected.as_slice(), &END].concat());
    assert_eq!(wire, ["a", "b"]);
}

/// Nothing is seen twice, and what a crash leaves is one transaction that is prepared: to be committed where its
/// deliveries are done, and rolled back where they are not.
#[tokio::test(start_paused = true)]
async fn a_crash_leaves_a_prepared_transaction_and_the_box_says_how_it_ends() {
    for make in [asynchronous, synchronous] {
        let crashes = crashes(make, &["a", "b"]).await;
        let told: Vec<_> = crashes
            .iter()
            .map(|crash| (crash.before.as_str(), crash.prepared, done(&crash.stand), crash.wire.len()))
            .collect();
        assert_eq!(told[..7], told.iter().map(|one| (one.0, 0, 0, 0)).collect::<Vec<_>>()[..7]);
        assert_eq!(
            told[7..],
            [
                ("prepare", 0, 0, 0),
                ("box: delete 2", 1, 0, 0),
                ("commit", 1, 2, 0),
                ("confirm true", 0, 2, 2),
            ]
        );
        for crash in crashes {
            let seen = if crash.before == "commit" { 0 } else { 2 };
            assert_eq!(crash.wire_at_end.len(), seen, "{crash:?}");
        }
    }
}

struct Driven {
    adapter: Transacting,
    bench: Bench,
    ids: Vec<DeliveryId>,
}

/// A batch of "a" and "b" that is with the adapter, its transaction open.
async fn driven(script: Script) -> Driven {
    let adapter = Transacting { script, ..Transacting::default() };
    let route = RouteConfig::new(Adapter::batch_transmitter(adapter.clone()))
        .retry(steady(3))
        .timeout(Duration::from_secs(10));
    let bench = Bench::start([Port::new(name("p"), route)]).await;
    let ids = bench.submit_many("p", &["a", "b"]).await;
    settle().await;
    Driven { adapter, bench, ids }
}

impl Driven {
    fn calls(&self, what: &str) -> usize {
        self.adapter.world.steps().iter().filter(|step| *step == what).count()
    }

    fn states(&self) -> Vec<DeliveryState> {
        self.ids.iter().map(|id| self.bench.state(*id)).collect()
    }

    fn attempts(&self) -> Vec<usize> {
        self.ids.iter().map(|id| self.bench.record(*id).attempts.len()).collect()
    }

    async fn delete_in(&self, wire: &Arc<Wire>, messages: &[Outgoing]) -> Result<(), TransactError> {
        let mut batch = self.adapter.world.proxy().batch().unwrap();
        messages.iter().for_each(|message| batch.delete(message.clone()));
        batch.done_in(Arc::clone(wire) as Arc<dyn Transaction>).await
    }
}

fn by_hand() -> Script {
    Script { is_driven: true, ..Script::default() }
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_prepared_is_rolled_back_and_still_the_adapters() {
    for (prepare, said) in [
        (Does::Fails, "prepare failed"),
        (Does::Hangs, "no answer within 10s"),
        (Does::Panics, "the adapter panicked: prepare went wrong"),
    ] {
        let driven = driven(Script { prepare, ..by_hand() }).await;
        let kept = driven.adapter.take_kept();
        let ended = driven.delete_in(&driven.adapter.last(), &kept).await;
        let Err(TransactError::NotPrepared(error)) = ended else { panic!("{ended:?}") };
        assert_eq!(error.to_string(), said);
        assert_eq!((driven.calls("roll back"), driven.calls("commit")), (1, 0));
        assert_eq!(driven.calls("confirm false"), 1);
        assert!(driven.adapter.world.wire().is_empty());
        if prepare != Does::Hangs {
            assert_eq!(driven.bench.in_flight(), 2, "they are still the adapter's");
            // What failed is completed outside of the transaction.
            let mut batch = driven.adapter.world.proxy().batch().unwrap();
            kept.into_iter().for_each(|message| batch.fail(message, SendError::temporary("no")));
            assert_eq!(batch.done().await.unwrap(), [ItemStatus::Applied, ItemStatus::Applied]);
        }
        seconds(0).await;
        assert_eq!(driven.attempts(), [1, 1]);
    }
}

#[tokio::test(start_paused = true)]
async fn one_refused_item_rolls_the_transaction_back() {
    let driven = driven(by_hand()).await;
    let kept = driven.adapter.take_kept();
    driven.bench.store.revoke(driven.ids[0]);
    let ended = driven.delete_in(&driven.adapter.last(), &kept).await;
    let Err(TransactError::Refused(statuses)) = ended else { panic!("{ended:?}") };
    assert_eq!(statuses, [ItemStatus::Refused(Refusal::NotOwned), ItemStatus::Refused(Refusal::Voided)]);
    assert_eq!((driven.calls("roll back"), driven.calls("commit")), (1, 0));
    assert_eq!(driven.states(), [DeliveryState::Suspended, DeliveryState::Leased]);
    // The other one goes on in a transaction of its own.
    let second = Wire::new(&driven.adapter);
    driven.delete_in(&second, &kept[1..]).await.unwrap();
    assert_eq!(driven.states(), [DeliveryState::Suspended, DeliveryState::Done]);
    assert_eq!((driven.calls("roll back"), driven.calls("commit")), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn a_message_with_an_outcome_is_in_no_transaction() {
    let driven = driven(by_hand()).await;
    let kept = driven.adapter.take_kept();
    let mut batch = driven.adapter.world.proxy().batch().unwrap();
    batch.delete(kept[0].clone());
    batch.done().await.unwrap();
    let ended = driven.delete_in(&driven.adapter.last(), &kept).await;
    let Err(TransactError::Refused(statuses)) = ended else { panic!("{ended:?}") };
    assert_eq!(statuses, [ItemStatus::Refused(Refusal::NotOwned), ItemStatus::Refused(Refusal::Voided)]);
    assert_eq!((driven.calls("prepare"), driven.calls("roll back")), (0, 1));
    assert_eq!(driven.states(), [DeliveryState::Done, DeliveryState::Leased]);
}

#[tokio::test(start_paused = true)]
async fn a_commit_that_fails_leaves_the_deliveries_done_and_is_shown() {
    for (commit, said) in [(Does::Fails, "commit failed"), (Does::Hangs, "no answer within 10s")] {
        let driven = driven(Script { commit, is_synchronous: true, ..Script::default() }).await;
        seconds(11).await;
        assert_eq!(driven.states(), [DeliveryState::Done; 2]);
        assert_eq!((driven.calls("commit"), driven.calls("roll back")), (1, 0));
        assert_eq!(driven.adapter.world.prepared().len(), 1, "the destination holds it");
        assert_eq!(driven.bench.trouble(Route::Primary).as_deref(), Some(said));
    }
}

#[tokio::test(start_paused = true)]
async fn a_transaction_is_ended_once() {
    let driven = driven(by_hand()).await;
    let (kept, wire) = (driven.adapter.take_kept(), driven.adapter.last());
    driven.delete_in(&wire, &kept[..1]).await.unwrap();
    assert!(matches!(driven.delete_in(&wire, &kept[1..]).await, Err(TransactError::Ended)));
    assert_eq!(driven.states(), [DeliveryState::Done, DeliveryState::Leased]);
    drop(kept);
    settle().await;
    assert_eq!((driven.calls("prepare"), driven.calls("commit"), driven.calls("roll back")), (1, 1, 0));
}

#[tokio::test(start_paused = true)]
async fn what_failed_is_not_completed_in_a_transaction() {
    let driven = driven(by_hand()).await;
    let kept = driven.adapter.take_kept();
    let mut batch = driven.adapter.world.proxy().batch().unwrap();
    batch.delete(kept[0].clone());
    batch.fail(kept[1].clone(), SendError::temporary("no"));
    let ended = batch.done_in(driven.adapter.last()).await;
    assert!(matches!(ended, Err(TransactError::NotSent)));
    let nothing = driven.delete_in(&driven.adapter.last(), &[]).await;
    assert!(matches!(nothing, Err(TransactError::NotSent)));
    assert_eq!(driven.states(), [DeliveryState::Leased; 2]);
    driven.delete_in(&driven.adapter.last(), &kept).await.unwrap();
    assert_eq!(driven.states(), [DeliveryState::Done; 2]);
}

#[tokio::test(start_paused = true)]
async fn a_transaction_that_nobody_ends_is_rolled_back() {
    let driven = driven(by_hand()).await;
    let mut batch = driven.adapter.world.proxy().batch().unwrap();
    driven.adapter.take_kept().into_iter().for_each(|message| batch.delete(message));
    batch.done().await.unwrap();
    settle().await;
    assert_eq!((driven.calls("roll back"), driven.calls("confirm false")), (1, 1));
    assert_eq!((driven.states(), driven.bench.trouble(Route::Primary)), (vec![DeliveryState::Done; 2], None));
}

#[tokio::test(start_paused = true)]
async fn a_done_that_fails_rolls_back_before_its_messages_are_sent_again() {
    for done in [Does::Fails, Does::Panics, Does::Hangs] {
        let driven = driven(Script { done, is_synchronous: true, ..Script::default() }).await;
        seconds(11).await;
        let steps = driven.adapter.world.steps();
        let at = |what: &str| steps.iter().position(|step| step == what).unwrap();
        let second = steps.iter().enumerate().filter(|(_, step)| *step == "transmit a").nth(1).unwrap().0;
        assert!(at("roll back") < second, "{steps:?}");
        assert_eq!(driven.calls("prepare"), 0);
    }
}

#[tokio::test(start_paused = true)]
async fn an_end_that_is_not_reported_is_shown() {
    let driven = driven(Script { is_silent: true, is_synchronous: true, ..Script::default() }).await;
    assert_eq!(driven.states(), [DeliveryState::Done; 2]);
    driven.adapter.begun.lock().unwrap().clear();
    settle().await;
    let trouble = driven.bench.trouble(Route::Primary).unwrap();
    assert!(trouble.ends_with("its end was never reported"), "{trouble}");
}

#[tokio::test(start_paused = true)]
async fn a_report_that_contradicts_the_box_is_shown() {
    let driven = driven(by_hand()).await;
    let wire = driven.adapter.last();
    wire.report(true);
    let trouble = driven.bench.trouble(Route::Primary).unwrap();
    assert!(trouble.ends_with("reported as committed, and the box did not record it"), "{trouble}");
    assert_eq!(driven.states(), [DeliveryState::Leased; 2]);
}

#[tokio::test(start_paused = true)]
async fn without_room_for_the_record_the_transaction_is_rolled_back() {
    let driven = driven(by_hand()).await;
    let kept = driven.adapter.take_kept();
    driven.bench.store.inner().refuse_commits = vec![ErrorKind::Full; 10_000];
    let ended = driven.delete_in(&driven.adapter.last(), &kept).await;
    assert!(matches!(ended, Err(TransactError::Store(error)) if error.kind() == ErrorKind::Full));
    assert_eq!((driven.calls("roll back"), driven.calls("commit")), (1, 0));
    assert!(driven.adapter.world.wire().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_record_of_unknown_outcome_leaves_the_transaction_prepared() {
    let driven = driven(by_hand()).await;
    let kept = driven.adapter.take_kept();
    driven.bench.store.inner().refuse_commits = vec![ErrorKind::Unavailable];
    let ended = driven.delete_in(&driven.adapter.last(), &kept).await;
    assert!(matches!(ended, Err(TransactError::Store(error)) if error.kind() == ErrorKind::Unavailable));
    assert_eq!((driven.calls("roll back"), driven.calls("commit")), (0, 0));
    assert_eq!(driven.adapter.world.prepared().len(), 1);
    assert_eq!(driven.bench.in_flight(), 0);
}

/// A destination that refuses to prepare what has "bad" in it.
#[derive(Debug, Clone, Default)]
struct Picky(World);

impl Transport for Picky {
    fn describe(&self) -> TransportInfo {
        info("picky")
    }
}

#[async_trait]
impl TransactionalSender for Picky {
    async fn prepare(&self, transaction: &TransactionId, messages: &[Outgoing]) -> Result<(), SendError> {
        let bodies: Vec<_> = messages.iter().map(body).collect();
        self.0.step(format!("prepare {}", bodies.join(" "))).await;
        if bodies.iter().any(|body| body == "bad") {
            return Err(SendError::permanent("it is bad"));
        }
        self.0.hold(transaction.as_str(), bodies);
        Ok(())
    }

    async fn commit(&self, transaction: &TransactionId) -> Result<(), SendError> {
        self.0.step("commit").await;
        self.0.let_go(transaction.as_str(), true);
        Ok(())
    }

    async fn roll_back(&self, transaction: &TransactionId) -> Result<(), SendError> {
        self.0.step("roll back").await;
        self.0.let_go(transaction.as_str(), false);
        Ok(())
    }

    fn destination(&self) -> String {
        "picky".to_owned()
    }

    async fn prepared(&self, _prefix: &str) -> Result<Vec<TransactionId>, SendError> {
        Ok(Vec::new())
    }
}

fn sender(world: &World) -> Adapter {
    Adapter::transactional(Picky(world.clone()))
}

#[tokio::test(start_paused = true)]
async fn a_transactional_sender_needs_three_calls() {
    let (steps, wire) = undisturbed(sender, &["a", "b"]).await;
    assert_eq!(steps, ["prepare a b", "box: delete 2, decide 1", "commit", "box: forget 1"]);
    assert_eq!(wire, ["a", "b"]);
}

#[tokio::test(start_paused = true)]
async fn a_message_that_cannot_be_prepared_costs_the_others_nothing() {
    let world = World::default();
    let bench = Bench::over(sender(&world)).await;
    let ids = bench.submit_many("p", &["a", "bad", "c"]).await;
    settle().await;
    let states: Vec<_> = ids.iter().map(|id| bench.state(*id)).collect();
    assert_eq!(states, [DeliveryState::Done, DeliveryState::Suspended, DeliveryState::Done]);
    assert_eq!(bench.failures(ids[1]), ["it is bad"]);
    assert!(ids.iter().all(|id| bench.record(*id).attempts.len() == 1));
    assert_eq!((world.wire(), world.prepared().len()), (vec!["a".to_owned(), "c".to_owned()], 0));
}

#[tokio::test(start_paused = true)]
async fn names_of_transactions_tell_the_box_and_are_never_the_same() {
    let driven = driven(by_hand()).await;
    let proxy = driven.adapter.world.proxy();
    let (one, other) = (proxy.new_transaction(), proxy.new_transaction());
    assert_ne!(one, other);
    let of = format!("{}/", driven.bench.store.id());
    assert!(one.as_str().starts_with(&of) && other.as_str().starts_with(&of), "{one}");
    assert_eq!(one.as_str().len(), 73);
}
