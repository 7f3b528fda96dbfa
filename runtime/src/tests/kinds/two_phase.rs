//! What a crash or a failure leaves prepared: committed where the box has decided it, rolled back where not, and nobody
//! else's is touched.

use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use async_trait::async_trait;
use futures_util::FutureExt;
use pillarbox_store::{Batch, DeliveryId, DeliveryState, Route, Store};
use tokio::sync::Notify;
use tokio::time::Instant;

use super::super::doubt::{next_life, policy};
use super::super::kit::{Bench, Scripted, body, info, name, seconds, settle, steady};
use super::super::watched::WatchedBox;
use super::world::{Lives, World, done, undisturbed};
use crate::adapter::{
    Adapter, Capabilities, CheckedSettings, DoubleSafety, OpenContext, Outgoing, SendError, TransactionId,
    TransactionalSender, Transport, TransportInfo,
};
use crate::{AdapterSource, Port, RouteConfig, WhenUnknown};

/// A transaction of another box at the same destination.
const FOREIGN: &str = "01020304-0506-7000-8000-00000000000a/01020304-0506-7000-8000-00000000000b";

/// How often the next calls fail.
#[derive(Debug, Default)]
struct Fails {
    list: usize,
    /// It is prepared all the same.
    prepare: usize,
    commit: usize,
    roll_back: usize,
    /// For ever: another attempt cannot help.
    is_permanent: bool,
    /// The next commit waits for this.
    hold_commit: Option<Arc<Notify>>,
    /// These calls never return.
    hang: &'static [&'static str],
}

/// A destination that keeps what is prepared, and tells.
#[derive(Debug, Clone, Default)]
struct Holding {
    world: World,
    fails: Arc<Mutex<Fails>>,
}

impl Holding {
    fn fails(&self) -> MutexGuard<'_, Fails> {
        self.fails.lock().unwrap()
    }

    /// A step that the destination may never answer.
    async fn step(&self, what: &'static str) {
        self.world.step(what).await;
        if self.fails().hang.contains(&what) {
            std::future::pending::<()>().await;
        }
    }

    fn fail(&self, what: fn(&mut Fails) -> &mut usize, text: &str) -> Result<(), SendError> {
        let mut fails = self.fails();
        let left = what(&mut fails);
        if *left == 0 {
            return Ok(());
        }
        *left -= 1;
        Err(if fails.is_permanent { SendError::permanent(text) } else { SendError::temporary(text) })
    }
}

impl Transport for Holding {
    fn describe(&self) -> TransportInfo {
        let capabilities = Capabilities::default().double_safety(DoubleSafety::TwoPhase);
        TransportInfo { capabilities, ..info("holding") }
    }
}

#[async_trait]
impl TransactionalSender for Holding {
    async fn prepare(&self, transaction: &TransactionId, messages: &[Outgoing]) -> Result<(), SendError> {
        self.step("prepare").await;
        self.world.hold(transaction.as_str(), messages.iter().map(body).collect());
        self.fail(|fails| &mut fails.prepare, "the answer was lost")
    }

    async fn commit(&self, transaction: &TransactionId) -> Result<(), SendError> {
        self.step("commit").await;
        let held = self.fails().hold_commit.take();
        if let Some(held) = held {
            held.notified().await;
        }
        self.fail(|fails| &mut fails.commit, "no commit")?;
        assert!(self.world.prepared().contains_key(transaction.as_str()), "it was committed before");
        self.world.let_go(transaction.as_str(), true);
        Ok(())
    }

    async fn roll_back(&self, transaction: &TransactionId) -> Result<(), SendError> {
        self.step("roll back").await;
        self.fail(|fails| &mut fails.roll_back, "no roll back")?;
        self.world.let_go(transaction.as_str(), false);
        Ok(())
    }

    fn destination(&self) -> String {
        "the world".to_owned()
    }

    async fn prepared(&self, prefix: &str) -> Result<Vec<TransactionId>, SendError> {
        self.world.step("list").await;
        self.fail(|fails| &mut fails.list, "it is away")?;
        assert_eq!(prefix.len(), 37, "{prefix}");
        // More than was asked for does no harm.
        Ok(self.world.prepared().keys().filter_map(|name| TransactionId::parse(name)).collect())
    }
}

fn holding(world: &World) -> Adapter {
    Adapter::transactional(Holding { world: world.clone(), ..Holding::default() })
}

fn decisions(store: &WatchedBox) -> usize {
    store.decisions().now_or_never().unwrap().unwrap().known.len()
}

/// What of ours is held prepared.
fn ours(world: &World) -> usize {
    world.prepared().keys().filter(|name| *name != FOREIGN).count()
}

#[tokio::test(start_paused = true)]
async fn a_decision_is_written_with_the_deletions_and_forgotten_after_the_commit() {
    let (steps, wire) = undisturbed(holding, &["a", "b"]).await;
    assert_eq!(steps, ["list", "prepare", "box: delete 2, decide 1", "commit", "box: forget 1"]);
    assert_eq!(wire, ["a", "b"]);
}

/// A life that ends when all is settled, or before the step of that place. Its steps.
async fn life(lives: &Lives, crash_before: Option<usize>) -> Vec<String> {
    lives.begin(crash_before);
    lives.live_until(holding, |store| decisions(store) == 0).await;
    lives.world.steps()
}

/// A crash before the first and one before the second step of these places, then a life without. Whether either came.
async fn twice(first: usize, second: usize) -> (bool, bool) {
    let bodies = ["a", "b"];
    let lives = Lives::new(&bodies).await;
    lives.world.hold(FOREIGN, vec!["theirs".to_owned()]);
    let before = life(&lives, Some(first)).await;
    let during = life(&lives, Some(second)).await;
    let what = format!("{before:?}, then {during:?}");
    let stand = lives.stand().await;
    let held = lives.world.prepared();
    let seen = |body: &str| {
        let held = held.values().flatten().filter(|one| *one == body).count();
        held + lives.world.wire().iter().filter(|one| *one == body).count()
    };
    if done(&stand) == 2 {
        assert_eq!(bodies.map(seen), [1, 1], "what is recorded is there or held prepared: {what}");
    }
    let last = life(&lives, None).await;
    let what = format!("{what}, then {last:?}");
    let mut wire = lives.world.wire();
    wire.sort();
    assert_eq!(wire, bodies, "{what}");
    assert_eq!(done(&lives.stand().await), 2, "{what}");
    assert_eq!(ours(&lives.world), 0, "{what}");
    assert_eq!(decisions(&lives.open()), 0, "{what}");
    assert_eq!(lives.world.prepared()[FOREIGN], ["theirs"], "{what}");
    (before.len() > first, during.len() > second)
}

#[tokio::test(start_paused = true)]
async fn a_crash_anywhere_and_another_while_recovering_lose_nothing_and_repeat_nothing() {
    let mut crashes = 0;
    for first in 0.. {
        let mut came = false;
        for second in 0.. {
            let (one, other) = twice(first, second).await;
            came |= one;
            crashes += usize::from(one) + usize::from(other);
            if !other {
                break;
            }
        }
        if !came {
            break;
        }
    }
    assert!(crashes > 40, "{crashes}");
}

/// Ports at one destination.
async fn bench(adapter: &Holding, ports: &[&str]) -> Bench {
    let port = |port: &&str| {
        let route = RouteConfig::new(Adapter::transactional(adapter.clone())).retry(steady(3));
        Port::new(name(port), route.timeout(Duration::from_secs(10)))
    };
    Bench::start(ports.iter().map(port)).await
}

impl Holding {
    fn calls(&self, what: &str) -> usize {
        self.world.steps().iter().filter(|step| *step == what).count()
    }
}

fn attempts(bench: &Bench, ids: &[DeliveryId]) -> Vec<usize> {
    ids.iter().map(|id| bench.record(*id).attempts.len()).collect()
}

#[tokio::test(start_paused = true)]
async fn a_destination_that_is_down_is_asked_again_and_no_attempt_is_charged() {
    let adapter = Holding::default();
    adapter.fails().list = 3;
    let bench = bench(&adapter, &["p"]).await;
    let ids = bench.submit_many("p", &["a"]).await;
    settle().await;
    assert_eq!((adapter.calls("list"), adapter.calls("prepare")), (1, 0));
    let trouble = bench.trouble(Route::Primary).unwrap();
    assert_eq!(trouble, "cannot settle what the destination holds prepared: it is away");
    seconds(10).await;
    assert_eq!((adapter.calls("list"), adapter.world.wire()), (4, vec!["a".to_owned()]));
    assert_eq!((attempts(&bench, &ids), bench.trouble(Route::Primary)), (vec![1], None));
}

#[tokio::test(start_paused = true)]
async fn a_commit_that_failed_is_made_up_for_and_its_decision_stays_until_then() {
    let adapter = Holding::default();
    adapter.fails().commit = 3;
    let bench = bench(&adapter, &["p"]).await;
    let ids = bench.submit_many("p", &["a"]).await;
    settle().await;
    assert_eq!(bench.state(ids[0]), DeliveryState::Done);
    assert_eq!((decisions(&bench.store), ours(&adapter.world)), (1, 1));
    // Nothing goes out meanwhile.
    let later = bench.submit_many("p", &["b"]).await;
    settle().await;
    assert_eq!(adapter.calls("prepare"), 1);
    seconds(10).await;
    assert_eq!((decisions(&bench.store), ours(&adapter.world)), (0, 0));
    assert_eq!(adapter.world.wire(), ["a", "b"]);
    assert_eq!(attempts(&bench, &later), [1]);
}

#[tokio::test(start_paused = true)]
async fn a_rollback_that_failed_is_made_up_for() {
    let adapter = Holding::default();
    (adapter.fails().prepare, adapter.fails().roll_back) = (1, 2);
    let bench = bench(&adapter, &["p"]).await;
    let ids = bench.submit_many("p", &["a"]).await;
    seconds(10).await;
    assert_eq!((adapter.calls("roll back"), ours(&adapter.world)), (3, 0));
    assert_eq!((adapter.world.wire(), decisions(&bench.store)), (vec!["a".to_owned()], 0));
    assert_eq!(attempts(&bench, &ids), [2]);
}

#[tokio::test(start_paused = true)]
async fn what_this_process_works_on_is_left_alone() {
    let adapter = Holding::default();
    let held = Arc::new(Notify::new());
    adapter.fails().hold_commit = Some(Arc::clone(&held));
    let bench = bench(&adapter, &["p", "q"]).await;
    let ids = bench.submit_many("p", &["a"]).await;
    settle().await;
    assert_eq!((ours(&adapter.world), decisions(&bench.store)), (1, 1));
    // A commit that fails at the other port has everything looked at.
    adapter.fails().commit = 1;
    bench.submit_many("q", &["b"]).await;
    seconds(1).await;
    assert_eq!((adapter.calls("list"), adapter.calls("roll back")), (3, 0));
    assert_eq!((ours(&adapter.world), decisions(&bench.store)), (1, 1), "the one that is being committed");
    held.notify_one();
    settle().await;
    assert_eq!((ours(&adapter.world), decisions(&bench.store)), (0, 0));
    assert_eq!(adapter.world.wire(), ["b", "a"]);
    assert_eq!(attempts(&bench, &ids), [1]);
}

#[tokio::test(start_paused = true)]
async fn a_destination_that_answers_nothing_costs_an_attempt_within_the_lease() {
    let adapter = Holding::default();
    let route = RouteConfig::new(Adapter::transactional(adapter.clone())).retry(steady(2));
    let bench = Bench::start([Port::new(name("p"), route.timeout(Duration::from_secs(60)))]).await;
    settle().await;
    adapter.fails().hang = &["prepare", "roll back"];
    let ids = bench.submit_many("p", &["a", "b", "c"]).await;
    // The leases are of 90 seconds.
    seconds(89).await;
    assert_eq!(attempts(&bench, &ids), [1, 1, 1]);
    // The next attempt has begun. No time was left to try each message alone.
    assert_eq!((adapter.calls("prepare"), adapter.calls("roll back")), (2, 1));
    seconds(200).await;
    assert_eq!(ids.iter().map(|id| bench.state(*id)).collect::<Vec<_>>(), [DeliveryState::Suspended; 3]);
    assert_eq!(attempts(&bench, &ids), [2, 2, 2]);
}

/// A drain of five seconds with a destination that answers none of these calls any more.
async fn drained(hang: &'static [&'static str]) -> (Holding, Bench, Vec<DeliveryId>) {
    let adapter = Holding::default();
    let bench = bench(&adapter, &["p"]).await;
    bench.submit_many("p", &["first"]).await;
    settle().await;
    adapter.fails().hang = hang;
    let ids = bench.submit_many("p", &["a", "b", "c"]).await;
    settle().await;
    let begun = Instant::now();
    let report = bench.runtime.shutdown(Duration::from_secs(5)).await;
    assert_eq!((&report.hung, report.released), (&Vec::new(), if hang == ["commit"] { 0 } else { 3 }));
    assert!(begun.elapsed() < Duration::from_secs(6), "{:?}", begun.elapsed());
    assert_eq!(bench.runtime.tasks().running(), 0);
    (adapter, bench, ids)
}

/// The route's next life settles what this one left: everything is there, once.
async fn next_life_settles(adapter: &Holding, bench: Bench, sent: &[DeliveryId]) {
    adapter.fails().hang = &[];
    let (store, clock, ids) = (bench.store.clone(), bench.clock.clone(), bench.ids.clone());
    drop(bench);
    let port = Port::new(name("p"), RouteConfig::new(Adapter::transactional(adapter.clone())));
    let runtime = Arc::new(Bench::run(&store, &clock, &ids, [port]).await);
    seconds(1).await;
    let bench = Bench { store, clock, ids, runtime };
    assert_eq!(adapter.world.wire(), ["first", "a", "b", "c"]);
    assert_eq!((ours(&adapter.world), decisions(&bench.store), attempts(&bench, sent)), (0, 0, vec![1; 3]));
}

#[tokio::test(start_paused = true)]
async fn a_drain_waits_for_no_roll_back_that_is_not_answered() {
    let (adapter, bench, ids) = drained(&["prepare", "roll back"]).await;
    assert_eq!((adapter.calls("prepare"), adapter.calls("roll back")), (2, 1), "once, not once a message");
    assert_eq!(attempts(&bench, &ids), [0, 0, 0], "what was cut off is not charged");
    next_life_settles(&adapter, bench, &ids).await;
}

#[tokio::test(start_paused = true)]
async fn a_drain_waits_for_no_commit_that_is_not_answered() {
    let (adapter, bench, ids) = drained(&["commit"]).await;
    assert_eq!(
        (ours(&adapter.world), decisions(&bench.store), bench.state(ids[0])),
        (1, 1, DeliveryState::Done)
    );
    next_life_settles(&adapter, bench, &ids).await;
}

#[tokio::test(start_paused = true)]
async fn a_drain_rolls_back_what_it_cuts_off() {
    let (adapter, bench, ids) = drained(&["prepare"]).await;
    assert_eq!(
        (adapter.calls("roll back"), ours(&adapter.world), attempts(&bench, &ids)),
        (1, 0, vec![0; 3])
    );
}

/// A port whose destination was away at first, so that the test is there before the first look.
async fn late(adapter: &Holding) -> Bench {
    adapter.fails().list = 1;
    let bench = bench(adapter, &["p"]).await;
    settle().await;
    bench
}

/// A transaction of ours that a process before left prepared.
async fn leave(bench: &Bench, adapter: &Holding, destination: Option<&str>) -> TransactionId {
    let number = bench.ids.batch();
    let id = TransactionId::new(bench.store.id(), number);
    adapter.world.hold(id.as_str(), vec!["left".to_owned()]);
    if let Some(destination) = destination {
        let batch = Batch::new(bench.ids.batch()).decide(number, destination);
        bench.store.commit(&batch).await.unwrap();
    }
    id
}

#[tokio::test(start_paused = true)]
async fn a_decision_of_another_destination_stays_until_that_is_there() {
    let adapter = Holding::default();
    let bench = late(&adapter).await;
    let elsewhere = bench.ids.batch();
    let batch =
        Batch::new(bench.ids.batch()).decide(elsewhere, "elsewhere").decide(bench.ids.batch(), "the world");
    bench.store.commit(&batch).await.unwrap();
    seconds(1).await;
    let known = bench.store.decisions().await.unwrap().known;
    assert_eq!(known.iter().map(|decision| decision.transaction).collect::<Vec<_>>(), [elsewhere]);
    assert_eq!(stranded(&bench).await, ["elsewhere"]);
}

/// The destinations of decisions that nobody carries out.
async fn stranded(bench: &Bench) -> Vec<String> {
    let left = bench.runtime.stranded().await.unwrap();
    left.into_iter().map(|decision| decision.destination).collect()
}

#[tokio::test(start_paused = true)]
async fn a_decision_is_stranded_while_no_open_route_goes_to_its_destination() {
    let adapter = Holding::default();
    // At first the destination does not commit: its route is open, and goes on trying.
    let bench = late(&adapter).await;
    adapter.fails().commit = usize::MAX;
    leave(&bench, &adapter, Some("the world")).await;
    assert_eq!(
        (bench.runtime.settles("the world"), bench.runtime.settles("elsewhere")),
        (Some(true), Some(false))
    );
    seconds(1).await;
    assert_eq!((decisions(&bench.store), stranded(&bench).await.len()), (1, 0));

    // The port is there as before, and no longer in two phases.
    let (store, clock, ids) = (bench.store.clone(), bench.clock.clone(), bench.ids.clone());
    drop(bench);
    let plain = Port::new(name("p"), RouteConfig::new(Scripted::new().adapter()));
    let runtime = Arc::new(Bench::run(&store, &clock, &ids, [plain]).await);
    let bench = Bench { store, clock, ids, runtime };
    bench.submit_many("p", &["a"]).await;
    seconds(1).await;
    assert_eq!(
        (stranded(&bench).await, bench.runtime.settles("the world")),
        (vec!["the world".to_owned()], Some(false))
    );
    assert_eq!((ours(&adapter.world), adapter.calls("roll back")), (1, 0));
}

/// Settings of a destination that nobody reaches.
#[derive(Debug)]
struct Away;

#[async_trait]
impl CheckedSettings for Away {
    async fn open(&self, _context: &OpenContext) -> Result<Adapter, SendError> {
        Err(SendError::temporary("nobody answers"))
    }
}

#[tokio::test(start_paused = true)]
async fn a_route_that_is_not_open_yet_may_settle_anything() {
    let source = AdapterSource::Checked(Arc::new(Away), Holding::default().describe());
    let bench = Bench::start([Port::new(name("p"), RouteConfig::new(source))]).await;
    settle().await;
    let batch = Batch::new(bench.ids.batch()).decide(bench.ids.batch(), "the world");
    bench.store.commit(&batch).await.unwrap();
    assert_eq!((stranded(&bench).await.len(), bench.runtime.settles("the world")), (1, None));
}

#[tokio::test(start_paused = true)]
async fn where_damage_may_have_taken_a_decision_nothing_is_rolled_back() {
    let adapter = Holding::default();
    let bench = late(&adapter).await;
    bench.store.inner().decisions_lost_until = Some(bench.clock.now());
    leave(&bench, &adapter, Some("the world")).await;
    let unknown = leave(&bench, &adapter, None).await;
    seconds(1).await;
    let trouble = bench.trouble(Route::Primary).unwrap();
    assert!(
        trouble.contains(unknown.as_str()) && trouble.ends_with("commit it or roll it back"),
        "{trouble}"
    );
    assert_eq!((ours(&adapter.world), adapter.calls("roll back")), (1, 0));
    assert_eq!((adapter.world.wire(), decisions(&bench.store)), (vec!["left".to_owned()], 0));
}

#[tokio::test(start_paused = true)]
async fn what_can_never_be_committed_is_shown_and_holds_nothing_up() {
    let adapter = Holding::default();
    let bench = late(&adapter).await;
    (adapter.fails().is_permanent, adapter.fails().commit) = (true, 1);
    let left = leave(&bench, &adapter, Some("the world")).await;
    seconds(1).await;
    let trouble = bench.trouble(Route::Primary).unwrap();
    assert_eq!(trouble, format!("transaction {left}: no commit"));
    assert_eq!((ours(&adapter.world), decisions(&bench.store)), (1, 1));
    bench.submit_many("p", &["b"]).await;
    settle().await;
    assert_eq!(adapter.world.wire(), ["b"]);
}

#[test]
fn a_name_of_a_transaction_is_read_as_it_is_written_only() {
    let id = TransactionId::parse(FOREIGN).unwrap();
    assert_eq!(id.as_str(), FOREIGN);
    let upper = FOREIGN.to_uppercase();
    let without = FOREIGN.replace('-', "");
    for name in ["", "/", "a/b", &FOREIGN[..72], &upper, &without] {
        assert_eq!(TransactionId::parse(name), None, "{name}");
    }
}

/// Was taken for not sent, whatever the route's policy: a double where somebody was to decide.
#[tokio::test(start_paused = true)]
async fn what_was_sent_plainly_before_the_route_had_two_phases_is_in_doubt() {
    for (unknown, state) in [(WhenUnknown::Hold, "in-doubt"), (WhenUnknown::Suspend, "suspended")] {
        let world = World::default();
        let (bench, id) = next_life(1, Batch::intend, holding(&world), policy(unknown)).await;
        seconds(10).await;
        assert_eq!((bench.state(id).as_str(), world.wire()), (state, vec![]));
        drop(bench);
        let world = World::default();
        let (bench, id) = next_life(1, Batch::intend_transacted, holding(&world), policy(unknown)).await;
        seconds(10).await;
        assert_eq!((bench.state(id).as_str(), world.wire()), ("done", vec!["a".to_owned()]));
    }
}

#[tokio::test(start_paused = true)]
async fn an_intent_says_that_the_box_decides_about_the_transaction() {
    let bench = bench(&Holding::default(), &["p"]).await;
    let _ids = bench.submit_many("p", &["a"]).await;
    settle().await;
    assert_eq!(bench.store.inner().intents_transacted, [true]);
}
