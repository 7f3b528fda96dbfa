//! Lanes beside each other: credits, pause, fairness, idleness, trouble.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use pillarbox_store::{Batch, DeliveryState, ErrorKind, Route, Store};

use super::kit::{Act, Bench, Scripted, Treat, info, name, seconds, settle, steady};
use crate::adapter::{Adapter, CheckedSettings, OpenContext, SendError};
use crate::{AdapterSource, Port, RouteConfig};

fn port(text: &str, scripted: &Scripted) -> Port {
    Port::new(name(text), RouteConfig::new(scripted.adapter()).retry(steady(3)))
}

#[tokio::test(start_paused = true)]
async fn no_more_messages_are_out_than_the_route_allows() {
    let bodies = ["a", "b", "c", "d", "e"];
    let scripted = bodies.iter().fold(Scripted::new(), |scripted, body| scripted.treat(body, Treat::Pending));
    let config = RouteConfig::new(scripted.adapter()).in_flight(2);
    let bench = Bench::start([Port::new(name("p"), config)]).await;
    bench.submit_many("p", &bodies).await;
    for expected in [2, 2, 1] {
        settle().await;
        let kept = scripted.take_kept();
        assert_eq!((kept.len(), bench.in_flight()), (expected, expected));
        let mut batch = scripted.proxy().batch().unwrap();
        kept.into_iter().for_each(|message| batch.delete(message));
        batch.done().await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn a_hanging_lane_starves_no_other() {
    let (stuck, fine) = (Scripted::new(), Scripted::new());
    stuck.with(|script| script.done = Act::Hang);
    let bench = Bench::start([port("stuck", &stuck), port("fine", &fine)]).await;
    for number in 0..200 {
        bench.submit("stuck", "x").await;
        bench.submit("fine", &number.to_string()).await;
    }
    settle().await;
    assert_eq!(fine.wire().len(), 200);
    assert!(stuck.wire().is_empty());
    // Its credits come back with the timeout.
    stuck.with(|script| script.done = Act::Fine);
    seconds(200).await;
    assert_eq!(stuck.wire().len(), 200);
}

#[tokio::test(start_paused = true)]
async fn batches_never_mix_ports() {
    let scripted = Scripted::new();
    let bench = Bench::start([port("p", &scripted), port("q", &scripted)]).await;
    let mut batch = Batch::new(bench.ids.batch());
    for port in ["p", "q", "p", "q"] {
        batch = batch.submit(&name(port), bench.runtime.new_message(port));
    }
    bench.store.commit(&batch).await.unwrap();
    settle().await;
    assert_eq!(scripted.with(|script| script.batches.clone()), [2, 2]);
}

#[tokio::test(start_paused = true)]
async fn a_paused_port_sends_nothing_until_it_is_unpaused() {
    let scripted = Scripted::new().treat("b", Treat::Pending);
    let bench = Bench::over(scripted.adapter()).await;
    let ids = &bench.ids;
    bench.submit("p", "b").await;
    settle().await;
    bench.store.commit(&Batch::new(ids.batch()).pause_port(&name("p"))).await.unwrap();
    let id = bench.submit("p", "a").await;
    // What is out fails while the port is paused: it is due, and may not be leased.
    drop(scripted.take_kept());
    let asked = bench.store.inner().lease_calls;
    seconds(3_600).await;
    assert_eq!((bench.state(id), scripted.wire().len()), (DeliveryState::Ready, 0));
    let asked = bench.store.inner().lease_calls - asked;
    assert!(asked < 120, "asked {asked} times in an hour");
    scripted.with(|script| script.treats.clear());
    bench.store.commit(&Batch::new(ids.batch()).unpause_port(&name("p"))).await.unwrap();
    settle().await;
    assert_eq!(scripted.wire().len(), 2);
    assert_eq!(bench.record(id).attempts.len(), 1, "the pause charged nothing");
}

#[tokio::test(start_paused = true)]
async fn a_thousand_idle_ports_do_not_wake() {
    let scripted = Scripted::new();
    let ports: Vec<_> = (0..1_000).map(|number| port(&format!("p{number}"), &scripted)).collect();
    let bench = Bench::start(ports).await;
    settle().await;
    let asked = bench.store.inner().lease_calls;
    assert_eq!(asked, 1_000);
    seconds(24 * 3_600).await;
    assert_eq!(bench.store.inner().lease_calls, asked);
    bench.submit("p500", "a").await;
    settle().await;
    // Once to see that the adapter is needed, once to get it, once to see that there is no more, and the wake-ups.
    let woken = bench.store.inner().lease_calls - asked;
    assert!(woken <= 5, "{woken}");
    assert_eq!(scripted.wire(), ["a"]);
}

#[tokio::test(start_paused = true)]
async fn a_failed_box_stops_the_lane_and_says_so() {
    let scripted = Scripted::new();
    let bench = Bench::over(scripted.adapter()).await;
    settle().await;
    bench.store.inner().refuse_leases = Some(ErrorKind::Unavailable);
    bench.submit("p", "a").await;
    settle().await;
    let trouble = bench.trouble(Route::Primary).unwrap();
    assert!(trouble.contains("unavailable"), "{trouble}");
    let asked = bench.store.inner().lease_calls;
    bench.submit("p", "b").await;
    seconds(100).await;
    assert_eq!(bench.store.inner().lease_calls, asked);
}

/// Settings whose adapter opens at the third try.
#[derive(Debug)]
struct Flaky(Scripted, Arc<AtomicUsize>);

#[async_trait]
impl CheckedSettings for Flaky {
    async fn open(&self, context: &OpenContext) -> Result<Adapter, SendError> {
        assert_eq!((context.port.as_str(), context.route), ("p", Route::Primary));
        match self.1.fetch_add(1, Ordering::Relaxed) {
            0 => panic!("no settings"),
            1 => {
                // Longer than a lease would last.
                tokio::time::sleep(Duration::from_secs(59)).await;
                Err(SendError::temporary("no such folder"))
            }
            _ => Ok(self.0.adapter()),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn an_adapter_that_does_not_open_is_tried_again() {
    let (scripted, opened) = (Scripted::new(), Arc::new(AtomicUsize::new(0)));
    let settings = Arc::new(Flaky(scripted.clone(), Arc::clone(&opened)));
    let config = RouteConfig::new(AdapterSource::Checked(settings, info("flaky")));
    let bench = Bench::start([Port::new(name("p"), config)]).await;
    let id = bench.submit("p", "a").await;
    settle().await;
    let trouble = bench.trouble(Route::Primary).unwrap();
    assert_eq!(trouble, "cannot open the adapter: the adapter panicked: no settings");
    seconds(59).await;
    settle().await;
    seconds(3).await;
    assert_eq!((bench.state(id), bench.record(id).attempts.len()), (DeliveryState::Done, 1));
    assert_eq!(bench.trouble(Route::Primary), None);
    assert_eq!(opened.load(Ordering::Relaxed), 3);
}

#[tokio::test(start_paused = true)]
async fn a_seed_gives_the_same_run_every_time() {
    async fn run() -> (Vec<String>, Vec<usize>, u64) {
        let scripted =
            Scripted::new().treat("3", Treat::Refuse).treat("5", Treat::Drop).treat("6", Treat::SentFailed);
        let jittery = |name_: &str| Port::new(name(name_), RouteConfig::new(scripted.adapter()));
        let bench = Bench::start([jittery("p"), jittery("q"), jittery("r")]).await;
        for number in 0..30 {
            let port = ["p", "q", "r"][number % 3];
            bench.submit(port, &(number % 10).to_string()).await;
        }
        seconds(60).await;
        let commits = bench.store.inner().commits.clone();
        (scripted.calls(), commits, bench.ids.random())
    }
    assert_eq!(run().await, run().await);
}
