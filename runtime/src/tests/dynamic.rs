//! Dynamic ports: the address on the message decides, and no address disturbs another.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use pillarbox_store::{Batch, DeliveryId, DeliveryState, OpResult, Route, Store};

use super::kit::{Bench, body, info, name, seconds, settle, steady};
use crate::adapter::{
    Adapter, AdapterKind, CheckedSettings, OpenContext, Outgoing, SendError, Sender, SettingProblem,
    Settings, SettingsError, Transport, TransportInfo,
};
use crate::{Directory, Port, RouteConfig};

#[derive(Debug, Default)]
struct Log {
    calls: Vec<String>,
    wire: Vec<String>,
    open: BTreeSet<String>,
    most_open: usize,
    /// Addresses that cannot be opened.
    down: BTreeSet<String>,
    /// Addresses that fail every send.
    failing: BTreeSet<String>,
    /// Addresses that hang.
    hanging: BTreeSet<String>,
}

#[derive(Debug, Clone)]
struct Post {
    kind: &'static str,
    prefixes: &'static [&'static str],
    log: Arc<Mutex<Log>>,
}

impl Post {
    fn log(&self) -> MutexGuard<'_, Log> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl AdapterKind for Post {
    fn describe(&self) -> TransportInfo {
        TransportInfo { uri_prefixes: self.prefixes, ..info(self.kind) }
    }

    fn address_key(&self) -> Option<&'static str> {
        (self.kind != "mute").then_some("to")
    }

    fn check(&self, settings: &Settings) -> Result<Box<dyn CheckedSettings>, SettingsError> {
        let text = |key| settings.get(key).and_then(|value| value.as_str()).unwrap_or_default().to_owned();
        let to = text("to");
        if to.ends_with("wrong") {
            let reason = "there is nobody of that name".to_owned();
            return Err(SettingsError(vec![SettingProblem { key: "to".to_owned(), reason }]));
        }
        Ok(Box::new(Checked { post: self.clone(), to, greeting: text("greeting") }))
    }
}

#[derive(Debug, Clone)]
struct Checked {
    post: Post,
    to: String,
    greeting: String,
}

#[async_trait]
impl CheckedSettings for Checked {
    async fn open(&self, context: &OpenContext) -> Result<Adapter, SendError> {
        assert_eq!(context.port, name("p"));
        let mut log = self.post.log();
        log.calls.push(format!("open {}", self.to));
        if log.down.contains(&self.to) {
            return Err(SendError::temporary("nobody answers"));
        }
        assert!(log.open.insert(self.to.clone()), "{} is opened twice", self.to);
        log.most_open = log.most_open.max(log.open.len());
        Ok(Adapter::sender(self.clone()))
    }
}

impl Transport for Checked {
    fn describe(&self) -> TransportInfo {
        self.post.describe()
    }
}

#[async_trait]
impl Sender for Checked {
    async fn send(&self, message: &Outgoing) -> Result<(), SendError> {
        if self.post.log().hanging.contains(&self.to) {
            std::future::pending::<()>().await;
        }
        if self.post.log().failing.contains(&self.to) {
            return Err(SendError::temporary("refused"));
        }
        let line = format!("{} by {}: {} {}", self.to, self.post.kind, self.greeting, body(message));
        self.post.log().wire.push(line);
        Ok(())
    }

    async fn close(&self) {
        let mut log = self.post.log();
        log.calls.push(format!("close {}", self.to));
        log.open.remove(&self.to);
    }
}

struct World {
    post: Post,
    bench: Bench,
}

fn post() -> Post {
    Post { kind: "post", prefixes: &["post://"], log: Arc::default() }
}

fn directory(post: &Post) -> Directory {
    Directory::new().with(Arc::new(post.clone()), Settings::default().with("greeting", "Dear"))
}

fn route(directory: Directory) -> RouteConfig {
    RouteConfig::new(directory).retry(steady(3)).timeout(Duration::from_secs(10))
}

impl World {
    async fn new(post: Post, route: RouteConfig) -> Self {
        Self { post, bench: Bench::start([Port::new(name("p"), route)]).await }
    }

    /// Messages, each to its address, in one batch.
    async fn submit(&self, messages: &[(&str, &str)]) -> Vec<DeliveryId> {
        let mut batch = Batch::new(self.bench.ids.batch());
        for (address, body) in messages {
            let message = self.bench.runtime.new_message((*body).to_owned());
            batch = batch.submit(&name("p"), message.header(Directory::ADDRESS, *address).unwrap());
        }
        let committed = self.bench.store.commit(&batch).await.unwrap();
        let first = |result: &_| match result {
            OpResult::Submitted { first } => *first,
            other => panic!("{other:?}"),
        };
        committed.results().iter().map(first).collect()
    }

    fn states(&self, ids: &[DeliveryId]) -> Vec<DeliveryState> {
        ids.iter().map(|id| self.bench.state(*id)).collect()
    }

    fn attempts(&self, ids: &[DeliveryId]) -> Vec<usize> {
        ids.iter().map(|id| self.bench.record(*id).attempts.len()).collect()
    }

    fn wire(&self) -> Vec<String> {
        self.post.log().wire.clone()
    }
}

#[tokio::test(start_paused = true)]
async fn the_longest_prefix_finds_the_adapter_over_its_handler_settings() {
    let post = post();
    let express = Post { kind: "express", prefixes: &["post://express/", "xp:"], log: post.log.clone() };
    let directory = directory(&post).with(Arc::new(express), Settings::default().with("greeting", "Quick"));
    let world = World::new(post, route(directory)).await;
    let ids =
        world.submit(&[("post://a", "1"), ("POST://Express/a", "2"), ("xp:b", "3"), ("post://a", "4")]).await;
    settle().await;
    assert_eq!(world.states(&ids), [DeliveryState::Done; 4]);
    let mut wire = world.wire();
    wire.sort();
    assert_eq!(
        wire,
        [
            "POST://Express/a by express: Quick 2",
            "post://a by post: Dear 1",
            "post://a by post: Dear 4",
            "xp:b by express: Quick 3",
        ]
    );
    assert_eq!(world.bench.in_flight(), 0);
    assert_eq!(world.bench.runtime.ports()[0].routes[0].kind, "dynamic");
}

#[tokio::test(start_paused = true)]
async fn an_address_that_nobody_serves_suspends_its_message_alone() {
    let post = post();
    let mute = Post { kind: "mute", prefixes: &["mute:"], log: post.log.clone() };
    let directory = directory(&post).with(Arc::new(mute), Settings::default());
    let world = World::new(post, route(directory)).await;
    let mut ids = world
        .submit(&[("post://a", "1"), ("pigeon:b", "2"), ("mute:c", "3"), ("post://wrong", "4"), ("", "5")])
        .await;
    ids.push(world.bench.submit("p", "without an address").await);
    let number = world.bench.runtime.new_message("6").header(Directory::ADDRESS, 7).unwrap();
    ids.push(world.bench.runtime.submit(&name("p"), number).await.unwrap().delivery);
    settle().await;
    let mut expected = [DeliveryState::Suspended; 7];
    expected[0] = DeliveryState::Done;
    assert_eq!(world.states(&ids), expected);
    let reasons: Vec<_> = ids[1..].iter().map(|id| world.bench.record(*id).reason.unwrap()).collect();
    let because = |text: &str| format!("no further attempt can help: {text}");
    assert_eq!(
        reasons,
        [
            because("no adapter serves the address 'pigeon:b'; the prefixes that are served: post://"),
            because("no adapter serves the address 'mute:c'; the prefixes that are served: post://"),
            because(
                "the adapter 'post' does not take the address 'post://wrong': to: there is nobody of that name"
            ),
            because("no adapter serves the address ''; the prefixes that are served: post://"),
            because("the header 'pillarbox-address' is missing: it says where the message goes"),
            because("the header 'pillarbox-address' is no text: it says where the message goes"),
        ]
    );
    assert_eq!(world.bench.in_flight(), 0);
}

#[tokio::test(start_paused = true)]
async fn an_address_that_fails_keeps_its_own_retries() {
    let post = post();
    post.log().failing.insert("post://down".to_owned());
    let world = World::new(post.clone(), route(directory(&post))).await;
    let ids = world.submit(&[("post://down", "1"), ("post://up", "2")]).await;
    seconds(5).await;
    assert_eq!(world.states(&ids), [DeliveryState::Suspended, DeliveryState::Done]);
    assert_eq!(world.attempts(&ids), [3, 1]);
}

#[tokio::test(start_paused = true)]
async fn an_address_that_does_not_open_backs_off_alone_and_charges_nothing() {
    let post = post();
    post.log().down.insert("post://down".to_owned());
    let world = World::new(post.clone(), route(directory(&post))).await;
    let down = world.submit(&[("post://down", "1"), ("post://down", "2")]).await;
    let up = world.submit(&[("post://up", "3")]).await;
    seconds(20).await;
    assert_eq!(world.states(&up), [DeliveryState::Done]);
    assert_eq!((world.states(&down), world.attempts(&down)), (vec![DeliveryState::RetryWait; 2], vec![0, 0]));
    let opened = world.post.log().calls.iter().filter(|call| *call == "open post://down").count();
    assert!((3..12).contains(&opened), "the back-off grows: {opened} times");
    let trouble = world.bench.trouble(Route::Primary).unwrap();
    assert_eq!(trouble, "post://down: cannot open the adapter: nobody answers");
    world.post.log().down.clear();
    seconds(60).await;
    assert_eq!((world.states(&down), world.attempts(&down)), (vec![DeliveryState::Done; 2], vec![1, 1]));
    assert_eq!((world.bench.trouble(Route::Primary), world.bench.in_flight()), (None, 0));
}

#[tokio::test(start_paused = true)]
async fn an_address_that_hangs_takes_its_part_and_no_more() {
    let post = post();
    post.log().hanging.insert("post://stuck".to_owned());
    let route = route(directory(&post).in_flight_per_address(1)).in_flight(2).batch(2, 1 << 20);
    let world = World::new(post, route).await;
    let stuck = world.submit(&[("post://stuck", "1"), ("post://stuck", "2"), ("post://stuck", "3")]).await;
    settle().await;
    let up: Vec<_> = (0..20).map(|_| ("post://up", "x")).collect();
    let up = world.submit(&up).await;
    seconds(30).await;
    assert_eq!(world.states(&up), [DeliveryState::Done; 20]);
    // What had no room waited uncharged; only what hung has failed.
    let failures: Vec<_> = stuck.iter().flat_map(|id| world.bench.failures(*id)).collect();
    assert!(!failures.is_empty(), "{failures:?}");
    assert!(failures.iter().all(|failure| failure == "not completed within 10s"), "{failures:?}");
    assert!(failures.len() <= 3, "{failures:?}");
}

#[tokio::test(start_paused = true)]
async fn many_addresses_take_bounded_room() {
    let post = post();
    let world = World::new(post.clone(), route(directory(&post).addresses_max(3))).await;
    let addresses: Vec<String> = (0..60).map(|number| format!("post://{number}")).collect();
    let messages: Vec<_> = addresses.iter().map(|address| (address.as_str(), "x")).collect();
    let ids = world.submit(&messages).await;
    seconds(900).await;
    assert!(world.states(&ids).iter().all(|state| *state == DeliveryState::Done), "{:?}", world.states(&ids));
    assert!(world.attempts(&ids).iter().all(|attempts| *attempts == 1));
    let log = world.post.log();
    let most_open = log.most_open;
    assert!(most_open <= 3 + 1, "one is ended while the next one opens: {most_open}");
    let mut opened = BTreeMap::<&str, usize>::new();
    log.calls
        .iter()
        .filter(|call| call.starts_with("open"))
        .for_each(|call| *opened.entry(call).or_default() += 1);
    assert_eq!(opened.len(), 60);
}

#[tokio::test(start_paused = true)]
async fn without_an_idle_place_a_further_address_waits_uncharged() {
    let post = post();
    post.log().hanging.insert("post://stuck".to_owned());
    let world = World::new(post.clone(), route(directory(&post).addresses_max(1))).await;
    let stuck = world.submit(&[("post://stuck", "1")]).await;
    settle().await;
    let up = world.submit(&[("post://up", "2")]).await;
    seconds(5).await;
    assert_eq!((world.states(&up), world.attempts(&up)), (vec![DeliveryState::RetryWait], vec![0]));
    seconds(120).await;
    assert_eq!((world.states(&up), world.attempts(&up)), (vec![DeliveryState::Done], vec![1]));
    assert_eq!(world.states(&stuck), [DeliveryState::Suspended]);
}

#[tokio::test(start_paused = true)]
async fn a_drain_ends_the_adapter_of_every_address() {
    let post = post();
    let world = World::new(post.clone(), route(directory(&post))).await;
    world.submit(&[("post://a", "1"), ("post://b", "2")]).await;
    settle().await;
    assert_eq!(world.post.log().open.len(), 2);
    let report = world.bench.runtime.shutdown(Duration::from_secs(5)).await;
    assert!(report.hung.is_empty());
    assert!(world.post.log().open.is_empty());
    let calls = world.post.log().calls.clone();
    assert_eq!(calls[2..], ["close post://a", "close post://b"]);
}
