//! The small traits on top of the protocol.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use pillarbox_store::DeliveryState;

use super::kit::{Bench, body, info, name, seconds, settle, steady};
use crate::adapter::{
    Adapter, BatchSender, BlockingSender, Outgoing, SendError, Sender, Transmitted, Transmitter, Transport,
    TransportControl, TransportInfo,
};
use crate::{Port, RouteConfig};

/// Does what the message's body says, by every trait.
#[derive(Debug, Clone, Default)]
struct Obedient {
    sent: Arc<Mutex<Vec<String>>>,
    /// Calls under way, and the most there were.
    under_way: Arc<AtomicUsize>,
    most: Arc<AtomicUsize>,
    aborted: Arc<AtomicUsize>,
    closed: Arc<AtomicUsize>,
    batches: Arc<Mutex<Vec<usize>>>,
}

/// Counts a call that is dropped before its end.
struct UnderWay<'a>(&'a Obedient, bool);

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        self.0.under_way.fetch_sub(1, Ordering::Relaxed);
        if !self.1 && !std::thread::panicking() {
            self.0.aborted.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl Obedient {
    fn begin(&self) -> UnderWay<'_> {
        let now = self.under_way.fetch_add(1, Ordering::Relaxed) + 1;
        self.most.fetch_max(now, Ordering::Relaxed);
        UnderWay(self, false)
    }

    async fn obey(&self, message: &Outgoing) -> Result<(), SendError> {
        let mut under_way = self.begin();
        let text = body(message);
        let outcome = match text.as_str() {
            "fail" => Err(SendError::temporary("as told")),
            "panic" => panic!("as told"),
            "hang" => std::future::pending().await,
            "wait" => {
                seconds(1).await;
                Ok(())
            }
            _ => Ok(()),
        };
        if outcome.is_ok() {
            self.sent.lock().unwrap().push(text);
        }
        under_way.1 = true;
        outcome
    }

    fn closes(&self) {
        assert_eq!(self.under_way.load(Ordering::Relaxed), 0, "nothing is being sent any more");
        self.closed.fetch_add(1, Ordering::Relaxed);
    }
}

impl Transport for Obedient {
    fn describe(&self) -> TransportInfo {
        info("obedient")
    }
}

#[async_trait]
impl Sender for Obedient {
    async fn send(&self, message: &Outgoing) -> Result<(), SendError> {
        self.obey(message).await
    }

    async fn close(&self) {
        self.closes();
    }
}

#[async_trait]
impl BatchSender for Obedient {
    async fn send_batch(&self, messages: &[Outgoing]) -> Vec<Result<(), SendError>> {
        self.batches.lock().unwrap().push(messages.len());
        let mut outcomes = Vec::new();
        for message in messages {
            match body(message).as_str() {
                "stop" => return outcomes,
                "more" => outcomes.extend([Ok(()), Ok(()), Ok(())]),
                _ => outcomes.push(self.obey(message).await),
            }
        }
        outcomes
    }

    async fn close(&self) {
        self.closes();
    }
}

#[derive(Debug)]
struct Each(Obedient);

impl Transport for Each {
    fn describe(&self) -> TransportInfo {
        info("each")
    }
}

#[async_trait]
impl TransportControl for Each {
    async fn terminate(&self) {
        self.0.closes();
    }
}

#[async_trait]
impl Transmitter for Each {
    async fn transmit(&self, message: Outgoing) -> Result<Transmitted, SendError> {
        if body(&message) == "drop" {
            return Ok(Transmitted::Pending);
        }
        self.0.obey(&message).await.map(|()| Transmitted::Sent)
    }
}

fn port(adapter: Adapter) -> Port {
    Port::new(name("p"), RouteConfig::new(adapter).retry(steady(3)).timeout(Duration::from_secs(10)))
}

/// Every message of a batch gets its own outcome.
async fn each_its_own(adapter: Adapter, obedient: Obedient) {
    let bench = Bench::start([port(adapter)]).await;
    let ids = bench.submit_many("p", &["a", "fail", "panic", "hang", "b"]).await;
    settle().await;
    assert_eq!((bench.state(ids[0]), bench.state(ids[4])), (DeliveryState::Done, DeliveryState::Done));
    assert_eq!(bench.failures(ids[1]), ["as told"]);
    assert_eq!(bench.failures(ids[2]), ["the adapter panicked: as told"]);
    assert_eq!(bench.state(ids[3]), DeliveryState::Leased);
    seconds(10).await;
    settle().await;
    assert_eq!(bench.failures(ids[3]), ["not completed within 10s"]);
    assert_eq!(obedient.aborted.load(Ordering::Relaxed), 1, "the hanging call was ended");
    seconds(60).await;
    assert!([ids[1], ids[2], ids[3]].iter().all(|&id| bench.state(id) == DeliveryState::Suspended));
    bench.runtime.shutdown(Duration::from_secs(1)).await;
    assert_eq!(obedient.closed.load(Ordering::Relaxed), 1);
}

#[tokio::test(start_paused = true)]
async fn a_senders_messages_each_have_their_own_outcome() {
    let obedient = Obedient::default();
    each_its_own(Adapter::sender(obedient.clone()), obedient).await;
}

#[tokio::test(start_paused = true)]
async fn a_transmitters_messages_each_have_their_own_outcome() {
    let obedient = Obedient::default();
    each_its_own(Adapter::transmitter(Each(obedient.clone())), obedient).await;
}

#[tokio::test(start_paused = true)]
async fn a_transmitter_that_forgets_a_message_pays_an_attempt() {
    let bench = Bench::start([port(Adapter::transmitter(Each(Obedient::default())))]).await;
    let id = bench.submit("p", "drop").await;
    settle().await;
    assert_eq!(bench.failures(id), ["the adapter dropped the message without an outcome"]);
}

#[tokio::test(start_paused = true)]
async fn a_sender_sends_a_batch_at_once_and_completes_it_together() {
    let obedient = Obedient::default();
    let bench = Bench::start([port(Adapter::sender(obedient.clone()))]).await;
    bench.submit_many("p", &["wait"; 50]).await;
    let before = bench.store.inner().commits.len();
    seconds(2).await;
    assert_eq!(obedient.most.load(Ordering::Relaxed), 50);
    let commits = bench.store.inner().commits[before..].to_vec();
    assert_eq!(commits.iter().sum::<usize>(), 50);
    assert!(commits.len() <= 2, "{commits:?}");
}

#[tokio::test(start_paused = true)]
async fn a_fast_message_does_not_wait_for_a_slow_one() {
    let bench = Bench::start([port(Adapter::sender(Obedient::default()))]).await;
    let ids = bench.submit_many("p", &["hang", "a"]).await;
    settle().await;
    assert_eq!((bench.state(ids[0]), bench.state(ids[1])), (DeliveryState::Leased, DeliveryState::Done));
}

#[tokio::test(start_paused = true)]
async fn a_batch_is_one_call_and_one_commit() {
    let obedient = Obedient::default();
    let bench = Bench::start([port(Adapter::batch_sender(obedient.clone()))]).await;
    let ids = bench.submit_many("p", &["a", "fail", "b"]).await;
    settle().await;
    assert_eq!(obedient.batches.lock().unwrap()[..], [3]);
    assert_eq!(bench.store.inner().commits.last(), Some(&3));
    assert_eq!(
        (bench.state(ids[0]), bench.failures(ids[1])),
        (DeliveryState::Done, vec!["as told".to_owned()])
    );
    bench.runtime.shutdown(Duration::from_secs(1)).await;
    assert_eq!(obedient.closed.load(Ordering::Relaxed), 1);
}

#[tokio::test(start_paused = true)]
async fn missing_outcomes_are_failures_and_surplus_ones_are_ignored() {
    let bench = Bench::start([port(Adapter::batch_sender(Obedient::default()))]).await;
    let ids = bench.submit_many("p", &["a", "stop", "b"]).await;
    settle().await;
    assert_eq!(bench.state(ids[0]), DeliveryState::Done);
    for &id in &ids[1..] {
        assert_eq!(bench.failures(id), ["the adapter gave no outcome for this message"]);
    }
    let id = bench.submit("p", "more").await;
    settle().await;
    assert_eq!(bench.state(id), DeliveryState::Done);
}

#[tokio::test(start_paused = true)]
async fn a_panicking_batch_fails_as_a_whole() {
    let bench = Bench::start([port(Adapter::batch_sender(Obedient::default()))]).await;
    let ids = bench.submit_many("p", &["a", "panic"]).await;
    settle().await;
    for id in ids {
        assert_eq!(bench.failures(id), ["the adapter panicked: as told"]);
    }
}

/// Blocks until it is let go.
#[derive(Debug, Clone, Default)]
struct Blocking {
    open: Arc<(Mutex<bool>, Condvar)>,
    calls: Arc<AtomicUsize>,
}

impl Transport for Blocking {
    fn describe(&self) -> TransportInfo {
        info("blocking")
    }
}

impl BlockingSender for Blocking {
    fn send(&self, message: &Outgoing) -> Result<(), SendError> {
        self.calls.fetch_add(1, Ordering::Relaxed);
        match body(message).as_str() {
            "block" => drop(self.open.1.wait_while(self.open.0.lock().unwrap(), |open| !*open).unwrap()),
            "panic" => panic!("as told"),
            "fail" => return Err(SendError::permanent("as told")),
            _ => {}
        }
        Ok(())
    }
}

impl Blocking {
    fn let_go(&self) {
        *self.open.0.lock().unwrap() = true;
        self.open.1.notify_all();
    }
}

/// Real threads work here: waits for what they do, yielding, without any time passing.
async fn until(what: impl Fn() -> bool) {
    while !what() {
        tokio::task::yield_now().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_blocking_sender_gives_each_message_its_outcome() {
    let bench = Bench::start([port(Adapter::blocking(Blocking::default()))]).await;
    let ids = bench.submit_many("p", &["a", "fail", "panic"]).await;
    until(|| bench.in_flight() == 0 && bench.state(ids[0]) == DeliveryState::Done).await;
    assert_eq!(bench.state(ids[1]), DeliveryState::Suspended);
    assert_eq!(bench.failures(ids[2])[0], "the adapter panicked: as told");
}

#[tokio::test(start_paused = true)]
async fn threads_that_hang_are_not_replaced_without_end() {
    let blocking = Blocking::default();
    let config =
        RouteConfig::new(Adapter::blocking(blocking.clone())).in_flight(2).timeout(Duration::from_secs(10));
    let bench = Bench::start([Port::new(name("p"), config.retry(steady(3)))]).await;
    let ids = bench.submit_many("p", &["block", "block", "a"]).await;
    until(|| blocking.calls.load(Ordering::Relaxed) == 2).await;
    let trouble = || bench.runtime.ports()[0].routes[0].trouble.clone();
    // tokio holds virtual time while a blocking call runs, so it is moved by hand.
    tokio::time::advance(Duration::from_secs(10)).await;
    until(|| trouble().is_some()).await;
    assert!(trouble().unwrap().contains("2 calls still hang"));
    assert_eq!(bench.failures(ids[0]), ["not completed within 10s"]);
    assert!(bench.record(ids[2]).attempts.is_empty(), "the one that could not be tried is not charged");
    assert_eq!(blocking.calls.load(Ordering::Relaxed), 2);
    blocking.let_go();
    until(|| bench.runtime.tasks().running() == 1).await;
    seconds(60).await;
    assert!(ids.iter().all(|&id| bench.state(id) == DeliveryState::Done));
}
