//! The protocol's call sequence, and what its failures cost.

use std::time::Duration;

use pillarbox_store::{DeliveryState, Route};

use super::kit::{Act, Bench, Scripted, Treat, name, seconds, settle, steady};
use crate::{Port, RouteConfig};

#[tokio::test(start_paused = true)]
async fn the_calls_come_in_the_originals_order() {
    let scripted = Scripted::new();
    let bench = Bench::over(scripted.adapter()).await;
    settle().await;
    assert!(scripted.calls().is_empty(), "created at its first message only");
    let ids = bench.submit_many("p", &["a", "b", "c"]).await;
    settle().await;
    let sequence = ["initialize", "get_batch", "begin", "transmit a", "transmit b", "transmit c", "done"];
    assert_eq!(scripted.calls(), sequence);
    assert_eq!(scripted.wire(), ["a", "b", "c"]);
    assert!(ids.iter().all(|&id| bench.state(id) == DeliveryState::Done));
    // Define the port, submit, delete all three.
    assert_eq!(bench.store.inner().commits, [1, 3, 3]);
    assert_eq!(bench.in_flight(), 0);
    let report = bench.runtime.shutdown(Duration::from_secs(1)).await;
    assert_eq!((report.completed, report.released), (0, 0));
    assert_eq!(scripted.calls().last().unwrap(), "terminate");
}

#[tokio::test(start_paused = true)]
async fn nothing_is_sent_before_done() {
    let scripted = Scripted::new();
    scripted.with(|script| script.done = Act::Hang);
    let bench = Bench::over(scripted.adapter()).await;
    let ids = bench.submit_many("p", &["a", "b"]).await;
    settle().await;
    assert_eq!(scripted.calls().last().unwrap(), "done");
    assert!(scripted.wire().is_empty());
    assert!(ids.iter().all(|&id| bench.state(id) == DeliveryState::Leased));
    assert_eq!(bench.in_flight(), 2);
}

#[tokio::test(start_paused = true)]
async fn sent_and_pending_may_stand_in_one_batch() {
    let scripted = Scripted::new().treat("b", Treat::Pending);
    let bench = Bench::over(scripted.adapter()).await;
    let ids = bench.submit_many("p", &["a", "b", "c"]).await;
    settle().await;
    let states: Vec<_> = ids.iter().map(|&id| bench.state(id)).collect();
    assert_eq!(states, [DeliveryState::Done, DeliveryState::Leased, DeliveryState::Done]);
    let mut batch = scripted.proxy().batch().unwrap();
    scripted.take_kept().into_iter().for_each(|message| batch.delete(message));
    assert!(batch.done().await.unwrap().iter().all(super::super::ItemStatus::is_applied));
    assert_eq!(bench.state(ids[1]), DeliveryState::Done);
    assert_eq!(bench.in_flight(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_message_that_transmit_refuses_pays_alone() {
    let scripted = Scripted::new().treat("b", Treat::Refuse);
    let bench = Bench::over(scripted.adapter()).await;
    let ids = bench.submit_many("p", &["a", "b", "c"]).await;
    settle().await;
    assert_eq!(scripted.wire(), ["a", "c"]);
    let states: Vec<_> = ids.iter().map(|&id| bench.state(id)).collect();
    assert_eq!(states, [DeliveryState::Done, DeliveryState::RetryWait, DeliveryState::Done]);
    assert_eq!(bench.failures(ids[1]), ["refused b"]);
}

#[tokio::test(start_paused = true)]
async fn a_batch_of_which_everything_was_refused_is_cleared() {
    let scripted = Scripted::new().treat("a", Treat::Refuse);
    let bench = Bench::over(scripted.adapter()).await;
    let id = bench.submit("p", "a").await;
    settle().await;
    assert_eq!(scripted.calls(), ["initialize", "get_batch", "begin", "transmit a", "clear"]);
    assert_eq!(bench.failures(id), ["refused a"]);
}

#[tokio::test(start_paused = true)]
async fn a_panic_in_transmit_costs_that_message_only() {
    let scripted = Scripted::new().treat("b", Treat::Panic);
    let bench = Bench::over(scripted.adapter()).await;
    let ids = bench.submit_many("p", &["a", "b", "c"]).await;
    settle().await;
    assert_eq!(bench.failures(ids[1]), ["the adapter panicked: choked on b"]);
    assert_eq!(scripted.wire(), ["a", "c"]);
    for id in [ids[0], ids[2]] {
        assert_eq!(bench.record(id).attempts.len(), 1, "cleared without a charge, then delivered");
        assert_eq!(bench.state(id), DeliveryState::Done);
    }
}

#[tokio::test(start_paused = true)]
async fn a_failed_done_fails_every_message_of_the_batch() {
    let scripted = Scripted::new().treat("b", Treat::Pending);
    scripted.with(|script| script.done = Act::Fail);
    let bench = Bench::over(scripted.adapter()).await;
    let ids = bench.submit_many("p", &["a", "b"]).await;
    settle().await;
    for &id in &ids {
        assert_eq!(bench.failures(id), ["done failed"]);
        assert_eq!(bench.state(id), DeliveryState::RetryWait);
    }
    assert_eq!(bench.in_flight(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_panic_in_done_fails_every_message_of_the_batch() {
    let scripted = Scripted::new();
    scripted.with(|script| script.done = Act::Panic);
    let bench = Bench::over(scripted.adapter()).await;
    let ids = bench.submit_many("p", &["a", "b"]).await;
    settle().await;
    for &id in &ids {
        assert_eq!(bench.failures(id), ["the adapter panicked: done went wrong"]);
    }
    scripted.with(|script| script.done = Act::Fine);
    seconds(1).await;
    assert_eq!(scripted.wire().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn only_the_messages_that_done_names_as_failed_pay() {
    let scripted = Scripted::new().treat("b", Treat::SentFailed);
    let bench = Bench::over(scripted.adapter()).await;
    let ids = bench.submit_many("p", &["a", "b", "c"]).await;
    settle().await;
    assert_eq!(bench.failures(ids[1]), ["could not send b"]);
    assert!(bench.failures(ids[0]).is_empty() && bench.failures(ids[2]).is_empty());
    assert_eq!(bench.store.inner().commits.last(), Some(&3), "all three in one commit");
}

#[tokio::test(start_paused = true)]
async fn a_batch_that_takes_none_takes_one() {
    let scripted = Scripted::new();
    scripted.with(|script| script.messages_max = 0);
    let bench = Bench::over(scripted.adapter()).await;
    bench.submit_many("p", &["a", "b", "c"]).await;
    settle().await;
    let batches = scripted.calls().iter().filter(|call| *call == "done").count();
    assert_eq!(batches, 3);
    assert_eq!(scripted.wire(), ["a", "b", "c"]);
}

#[tokio::test(start_paused = true)]
async fn the_announced_maximum_bounds_batches_and_leases() {
    let scripted = Scripted::new();
    scripted.with(|script| script.messages_max = 2);
    let bench = Bench::over(scripted.adapter()).await;
    bench.submit_many("p", &["a", "b", "c", "d", "e"]).await;
    settle().await;
    assert_eq!(scripted.wire().len(), 5);
    assert_eq!(scripted.with(|script| script.batches.clone()), [2, 2, 1]);
    bench.submit("p", "f").await;
    settle().await;
    assert_eq!(bench.store.inner().leased_limits.last(), Some(&2));
}

/// What fails before `done` is no message's fault.
async fn costs_nothing(act: Act, said: &str, set: impl Fn(&Scripted, Act)) {
    let scripted = Scripted::new();
    set(&scripted, act);
    let bench = Bench::over(scripted.adapter()).await;
    let ids = bench.submit_many("p", &["a", "b"]).await;
    seconds(if act == Act::Hang { 62 } else { 3 }).await;
    let trouble = bench.trouble(Route::Primary).unwrap();
    assert!(trouble.contains(said), "{trouble}");
    let tried = scripted.calls().len();
    assert!(tried < 20, "it backs off, but made {tried} calls");
    set(&scripted, Act::Fine);
    seconds(100).await;
    for &id in &ids {
        assert_eq!(bench.state(id), DeliveryState::Done);
        assert_eq!(bench.record(id).attempts.len(), 1, "no attempt was charged");
    }
    assert_eq!(bench.trouble(Route::Primary), None);
}

#[tokio::test(start_paused = true)]
async fn a_failing_get_batch_charges_nothing_and_backs_off() {
    costs_nothing(Act::Fail, "get_batch failed", |scripted, act| scripted.with(|s| s.get_batch = act)).await;
    costs_nothing(Act::Panic, "get_batch went wrong", |scripted, act| scripted.with(|s| s.get_batch = act))
        .await;
    costs_nothing(Act::Hang, "no answer within 60s", |scripted, act| scripted.with(|s| s.get_batch = act))
        .await;
}

#[tokio::test(start_paused = true)]
async fn a_failing_begin_charges_nothing_and_backs_off() {
    costs_nothing(Act::Fail, "begin failed", |scripted, act| scripted.with(|s| s.begin = act)).await;
}

#[tokio::test(start_paused = true)]
async fn a_failing_initialize_charges_nothing_and_backs_off() {
    costs_nothing(Act::Fail, "initialize failed", |scripted, act| scripted.with(|s| s.initialize = act))
        .await;
    costs_nothing(Act::Hang, "not open within 60s", |scripted, act| scripted.with(|s| s.initialize = act))
        .await;
}

#[tokio::test(start_paused = true)]
async fn the_back_off_grows_to_half_a_minute() {
    let scripted = Scripted::new();
    scripted.with(|script| script.get_batch = Act::Fail);
    let bench = Bench::over(scripted.adapter()).await;
    bench.submit("p", "a").await;
    seconds(3_600).await;
    let calls = scripted.calls().iter().filter(|call| *call == "get_batch").count();
    assert!((100..200).contains(&calls), "{calls} calls in an hour");
}

#[tokio::test(start_paused = true)]
async fn an_adapter_that_asks_for_it_is_created_at_start() {
    let scripted = Scripted::new();
    scripted.with(|script| (script.init_at_start, script.initialize) = (true, Act::Fail));
    let bench = Bench::over(scripted.adapter()).await;
    settle().await;
    assert_eq!(scripted.calls(), ["initialize"]);
    assert!(!bench.runtime.ports()[0].routes[0].open);
    scripted.with(|script| script.initialize = Act::Fine);
    seconds(1).await;
    assert_eq!(scripted.calls(), ["initialize", "initialize"]);
    assert!(bench.runtime.ports()[0].routes[0].open);
}

#[tokio::test(start_paused = true)]
async fn batches_are_bounded_by_count_and_bytes() {
    let scripted = Scripted::new();
    let config = RouteConfig::new(scripted.adapter()).retry(steady(3)).batch(3, 5);
    let bench = Bench::start([Port::new(name("p"), config)]).await;
    bench.submit_many("p", &["aaa", "bbb", "c", "d", "e", "f"]).await;
    settle().await;
    assert_eq!(scripted.with(|script| script.batches.clone()), [2, 3, 1]);
}

#[tokio::test(start_paused = true)]
async fn batches_that_fail_together_back_off_once() {
    let scripted = Scripted::new();
    scripted.with(|script| (script.get_batch, script.init_at_start) = (Act::Fail, true));
    let config = RouteConfig::new(scripted.adapter()).batch(1, 1);
    let bench = Bench::start([Port::new(name("p"), config)]).await;
    settle().await;
    bench.submit_many("p", &["a", "b", "c", "d", "e"]).await;
    settle().await;
    assert!(scripted.calls().len() > 3, "several were under way");
    scripted.with(|script| script.get_batch = Act::Fine);
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(scripted.wire().len(), 5);
}
