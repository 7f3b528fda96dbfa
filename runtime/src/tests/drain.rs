//! The end of a runtime.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures_util::FutureExt;
use pillarbox_store::{DeliveryState, ErrorKind, Route};
use tokio::time::Instant;

use super::kit::{Act, Bench, Hook, Scripted, Treat, info, name, seconds, settle, steady};
use crate::adapter::{Adapter, Outgoing, SendError, Sender, Transport, TransportInfo};
use crate::{ItemStatus, LaneName, Port, ProxyError, RouteConfig, SubmitError};

/// Takes so many seconds for a message, the number of which is its body; a body that is no number hangs.
#[derive(Debug)]
struct Slow;

impl Transport for Slow {
    fn describe(&self) -> TransportInfo {
        info("slow")
    }
}

#[async_trait]
impl Sender for Slow {
    async fn send(&self, message: &Outgoing) -> Result<(), SendError> {
        let text = super::kit::body(message);
        match text.strip_prefix('-').unwrap_or(&text).parse() {
            Ok(pause) => seconds(pause).await,
            Err(_hangs) => std::future::pending().await,
        }
        if text.starts_with('-') { Err(SendError::temporary("failed late")) } else { Ok(()) }
    }
}

fn slow() -> Port {
    Port::new(name("p"), RouteConfig::new(Adapter::sender(Slow)).retry(steady(3)))
}

#[tokio::test(start_paused = true)]
async fn what_is_being_sent_is_finished_and_failures_are_recorded() {
    let bench = Bench::start([slow()]).await;
    let ids = bench.submit_many("p", &["3", "-3", "forever"]).await;
    settle().await;
    let begun = Instant::now();
    let report = bench.runtime.shutdown(Duration::from_secs(10)).await;
    assert!(begun.elapsed() <= Duration::from_secs(12), "{:?}", begun.elapsed());
    assert_eq!((report.completed, report.released), (2, 1));
    assert!(report.hung.is_empty(), "a send that is cut off is not the adapter's fault");
    assert_eq!(bench.state(ids[0]), DeliveryState::Done);
    assert_eq!(bench.failures(ids[1]), ["failed late"]);
    assert_eq!(bench.state(ids[2]), DeliveryState::Ready, "given back");
    assert!(bench.record(ids[2]).attempts.is_empty(), "and not charged");
    assert_eq!(bench.runtime.tasks().running(), 0);
    assert_eq!(bench.runtime.shutdown(Duration::ZERO).await, report, "a second call tells the same");
}

#[tokio::test(start_paused = true)]
async fn an_idle_runtime_ends_at_once() {
    let scripted = Scripted::new();
    let bench = Bench::over(scripted.adapter()).await;
    bench.submit("p", "a").await;
    settle().await;
    let begun = Instant::now();
    bench.runtime.shutdown(Duration::from_secs(60)).await;
    assert!(begun.elapsed() < Duration::from_millis(1));
    assert_eq!(scripted.calls().iter().filter(|call| *call == "terminate").count(), 1);
    assert!(matches!(scripted.proxy().batch(), Err(ProxyError::ShuttingDown)));
}

#[tokio::test(start_paused = true)]
async fn an_adapter_that_was_never_needed_is_never_created() {
    let scripted = Scripted::new();
    let bench = Bench::over(scripted.adapter()).await;
    bench.runtime.shutdown(Duration::from_secs(1)).await;
    assert!(scripted.calls().is_empty());
}

#[tokio::test(start_paused = true)]
async fn nothing_is_accepted_nor_leased_while_draining() {
    let bench = Bench::start([slow()]).await;
    bench.submit("p", "5").await;
    settle().await;
    let runtime = Arc::clone(&bench.runtime);
    let ending = bench.runtime.shutdown(Duration::from_secs(20));
    let late = async {
        seconds(1).await;
        let refused = runtime.submit(&name("p"), runtime.new_message("1")).await;
        assert!(matches!(refused, Err(SubmitError::ShuttingDown)));
        bench.submit_many("p", &["0"]).await
    };
    let (report, late) = tokio::join!(ending, late);
    assert_eq!(report.completed, 1);
    assert_eq!(bench.state(late[0]), DeliveryState::Ready);
}

#[tokio::test(start_paused = true)]
async fn completions_are_taken_while_draining() {
    let scripted = Scripted::new().treat("a", Treat::Pending);
    let bench = Bench::over(scripted.adapter()).await;
    let id = bench.submit("p", "a").await;
    settle().await;
    let completing = async {
        seconds(2).await;
        let mut batch = scripted.proxy().batch().unwrap();
        batch.delete(scripted.take_kept().remove(0));
        batch.done().await.unwrap()
    };
    let (report, statuses) = tokio::join!(bench.runtime.shutdown(Duration::from_secs(10)), completing);
    assert_eq!(statuses, [ItemStatus::Applied]);
    assert_eq!((report.completed, report.released), (1, 0));
    assert_eq!(bench.state(id), DeliveryState::Done);
}

#[tokio::test(start_paused = true)]
async fn a_batch_that_is_not_done_is_cleared_and_given_back() {
    let scripted = Scripted::new();
    let bench = Bench::over(scripted.adapter()).await;
    let runtime = Arc::downgrade(&bench.runtime);
    let hook = move || {
        // One poll begins the drain.
        let _begun = runtime.upgrade().unwrap().shutdown(Duration::from_secs(1)).now_or_never();
    };
    scripted.with(|script| script.on_transmit = Some(Hook(Box::new(hook))));
    let ids = bench.submit_many("p", &["a", "b"]).await;
    settle().await;
    assert_eq!(scripted.calls(), ["initialize", "get_batch", "begin", "transmit a", "transmit b", "clear"]);
    bench.runtime.shutdown(Duration::from_secs(1)).await;
    for id in ids {
        assert_eq!((bench.state(id), bench.record(id).attempts.len()), (DeliveryState::Ready, 0));
    }
    assert!(scripted.wire().is_empty());
}

#[tokio::test(start_paused = true)]
async fn an_adapter_that_does_not_end_is_abandoned_and_named() {
    let scripted = Scripted::new().treat("a", Treat::Pending);
    scripted.with(|script| script.terminate = Act::Hang);
    let bench = Bench::over(scripted.adapter()).await;
    let id = bench.submit("p", "a").await;
    settle().await;
    let begun = Instant::now();
    let report = bench.runtime.shutdown(Duration::from_secs(10)).await;
    assert!(begun.elapsed() <= Duration::from_secs(12));
    assert_eq!(report.hung, [LaneName { port: name("p"), route: Route::Primary }]);
    assert_eq!(report.hung[0].to_string(), "p/primary");
    assert_eq!(report.released, 1);
    assert_eq!((bench.state(id), bench.record(id).attempts.len()), (DeliveryState::Ready, 0));
    // What it completes afterwards is refused: no batch is given.
    assert!(scripted.proxy().batch().is_err());
}

#[tokio::test(start_paused = true)]
async fn an_adapter_that_panics_while_ending_stops_nobody() {
    let scripted = Scripted::new();
    scripted.with(|script| script.terminate = Act::Panic);
    let bench = Bench::over(scripted.adapter()).await;
    bench.submit("p", "a").await;
    settle().await;
    assert!(bench.runtime.shutdown(Duration::from_secs(1)).await.hung.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_drain_cuts_off_calls_that_hang_without_a_charge() {
    for call in ["get_batch", "done"] {
        let scripted = Scripted::new();
        scripted.with(|script| match call {
            "get_batch" => script.get_batch = Act::Hang,
            _ => script.done = Act::Hang,
        });
        let bench = Bench::over(scripted.adapter()).await;
        let id = bench.submit("p", "a").await;
        settle().await;
        let report = bench.runtime.shutdown(Duration::from_secs(3)).await;
        assert_eq!(report.released, 1, "{call}");
        assert_eq!((bench.state(id), bench.record(id).attempts.len()), (DeliveryState::Ready, 0));
    }
}

#[tokio::test(start_paused = true)]
async fn a_lane_that_backs_off_ends_at_once() {
    let scripted = Scripted::new();
    scripted.with(|script| script.initialize = Act::Fail);
    let bench = Bench::over(scripted.adapter()).await;
    bench.submit("p", "a").await;
    seconds(20).await;
    let begun = Instant::now();
    bench.runtime.shutdown(Duration::from_secs(60)).await;
    assert!(begun.elapsed() < Duration::from_millis(1));
}

#[tokio::test(start_paused = true)]
async fn a_dropped_runtime_stops_as_in_a_crash() {
    let bench = Bench::start([slow()]).await;
    let id = bench.submit("p", "2").await;
    settle().await;
    let tasks = bench.runtime.tasks().clone();
    let Bench { store, clock, ids, runtime } = bench;
    drop(runtime);
    seconds(10).await;
    assert_eq!(tasks.running(), 0);
    assert_eq!(store.record(id).state, DeliveryState::Leased, "until its lease ends");
    assert!(tasks.spawn(async {}).await.unwrap_err().is_cancelled(), "nothing is started any more");
    let _next = Bench::run(&store, &clock, &ids, [slow()]).await;
    seconds(100).await;
    assert_eq!(store.record(id).state, DeliveryState::Done);
}

#[tokio::test(start_paused = true)]
async fn an_outcome_without_room_in_the_box_does_not_hold_up_the_drain() {
    let scripted = Scripted::new().treat("a", Treat::Pending);
    let bench = Bench::over(scripted.adapter()).await;
    let id = bench.submit("p", "a").await;
    settle().await;
    bench.store.inner().refuse_commits = vec![ErrorKind::Full; 10_000];
    let mut batch = scripted.proxy().batch().unwrap();
    batch.delete(scripted.take_kept().remove(0));
    let begun = Instant::now();
    let (report, done) = tokio::join!(bench.runtime.shutdown(Duration::from_secs(5)), batch.done());
    assert!(begun.elapsed() <= Duration::from_secs(6), "{:?}", begun.elapsed());
    assert!(done.is_err());
    assert_eq!(report.released, 1);
    assert_eq!((bench.state(id), bench.record(id).attempts.len()), (DeliveryState::Ready, 0));
}
