//! One outcome for each message: what comes second, late or not at all.

use std::sync::Arc;
use std::time::Duration;

use pillarbox_store::{DeliveryState, ErrorKind, Headers, Refusal, Timestamp};

use super::kit::{Bench, Hook, Scripted, Treat, name, seconds, settle, steady};
use crate::adapter::{Outgoing, SendError};
use crate::{CompletionError, ItemStatus, Port, RouteConfig};

/// A bench with one pending message for each body.
async fn pending(bodies: &[&str]) -> (Scripted, Bench, Vec<Outgoing>) {
    let scripted = bodies.iter().fold(Scripted::new(), |scripted, body| scripted.treat(body, Treat::Pending));
    let bench = Bench::over(scripted.adapter()).await;
    bench.submit_many("p", bodies).await;
    settle().await;
    let kept = scripted.take_kept();
    assert_eq!(kept.len(), bodies.len());
    (scripted, bench, kept)
}

fn refused(refusal: Refusal) -> ItemStatus {
    ItemStatus::Refused(refusal)
}

#[tokio::test(start_paused = true)]
async fn each_item_has_its_own_status() {
    let (scripted, bench, kept) = pending(&["a", "b", "c", "d", "e"]).await;
    let ids: Vec<_> = kept.iter().map(Outgoing::delivery).collect();
    bench.store.revoke(ids[2]);
    let mut batch = scripted.proxy().batch().unwrap();
    batch.delete(kept[0].clone());
    batch.delete(kept[0].clone());
    let at = bench.clock.now().plus(Duration::from_secs(7));
    batch.resubmit(kept[1].clone(), at, SendError::temporary("later"));
    batch.delete(kept[2].clone());
    batch.suspend(kept[3].clone(), SendError::temporary("odd"));
    batch.fail(kept[4].clone(), SendError::temporary("busy"));
    assert_eq!((batch.len(), batch.is_empty()), (6, false));
    let statuses = batch.done().await.unwrap();
    let applied = ItemStatus::Applied;
    let twice = refused(Refusal::Duplicate { first: ids[0] });
    let late = refused(Refusal::NotOwned);
    assert_eq!(statuses, [applied.clone(), twice, applied.clone(), late, applied.clone(), applied]);
    assert_eq!(bench.state(ids[0]), DeliveryState::Done);
    assert_eq!((bench.state(ids[1]), bench.record(ids[1]).due), (DeliveryState::RetryWait, Some(at)));
    assert_eq!(bench.state(ids[3]), DeliveryState::Suspended);
    assert_eq!(bench.record(ids[3]).reason.unwrap(), "odd");
    assert_eq!(bench.state(ids[4]), DeliveryState::RetryWait);
    assert_eq!(bench.in_flight(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_second_outcome_in_a_later_batch_is_refused() {
    let (scripted, bench, kept) = pending(&["a"]).await;
    let complete = |message: &Outgoing| {
        let mut batch = scripted.proxy().batch().unwrap();
        batch.delete(message.clone());
        batch.done()
    };
    assert_eq!(complete(&kept[0]).await.unwrap(), [ItemStatus::Applied]);
    let commits = bench.store.inner().commits.len();
    assert_eq!(complete(&kept[0]).await.unwrap(), [refused(Refusal::NotOwned)]);
    assert_eq!(bench.store.inner().commits.len(), commits, "the box is not asked");
}

#[tokio::test(start_paused = true)]
async fn a_hundred_completions_are_one_commit() {
    let bodies: Vec<String> = (0..60).map(|number| number.to_string()).collect();
    let bodies: Vec<&str> = bodies.iter().map(String::as_str).collect();
    let (scripted, bench, kept) = pending(&bodies).await;
    let before = bench.store.inner().commits.len();
    let mut batch = scripted.proxy().batch().unwrap();
    kept.into_iter().for_each(|message| batch.delete(message));
    batch.done().await.unwrap();
    assert_eq!(bench.store.inner().commits[before..], [60]);
}

#[tokio::test(start_paused = true)]
async fn a_message_that_is_dropped_has_failed() {
    let (_scripted, bench, kept) = pending(&["a", "b"]).await;
    let id = kept[0].delivery();
    let clone = kept[0].clone();
    let other = kept[1].clone();
    drop(kept);
    settle().await;
    assert_eq!(bench.state(id), DeliveryState::Leased, "a clone is left");
    drop(clone);
    settle().await;
    assert_eq!(bench.failures(id), ["the adapter dropped the message without an outcome"]);
    assert_eq!(bench.state(other.delivery()), DeliveryState::Leased);
    assert_eq!(bench.in_flight(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_message_dropped_before_done_returned_has_failed() {
    let scripted = Scripted::new().treat("a", Treat::Drop);
    let bench = Bench::over(scripted.adapter()).await;
    let ids = bench.submit_many("p", &["a", "b"]).await;
    settle().await;
    assert_eq!(bench.failures(ids[0]), ["the adapter dropped the message without an outcome"]);
    assert_eq!(bench.state(ids[1]), DeliveryState::Done);
}

#[tokio::test(start_paused = true)]
async fn a_batch_that_is_dropped_or_cleared_says_nothing() {
    let (scripted, bench, kept) = pending(&["a"]).await;
    let mut batch = scripted.proxy().batch().unwrap();
    batch.delete(kept[0].clone());
    drop(batch);
    let mut batch = scripted.proxy().batch().unwrap();
    batch.delete(kept[0].clone());
    batch.clear();
    assert_eq!(batch.done().await.unwrap(), []);
    assert_eq!(bench.state(kept[0].delivery()), DeliveryState::Leased);
}

#[tokio::test(start_paused = true)]
async fn what_is_not_completed_in_time_has_failed() {
    let scripted = Scripted::new().treat("a", Treat::Pending).treat("b", Treat::Pending);
    let config = RouteConfig::new(scripted.adapter()).retry(steady(3)).timeout(Duration::from_secs(10));
    let bench = Bench::start([Port::new(name("p"), config)]).await;
    let ids = bench.submit_many("p", &["a", "b"]).await;
    seconds(9).await;
    let mut kept = scripted.take_kept();
    let mut batch = scripted.proxy().batch().unwrap();
    batch.delete(kept.remove(0));
    batch.done().await.unwrap();
    seconds(1).await;
    settle().await;
    assert_eq!(bench.failures(ids[1]), ["not completed within 10s"]);
    assert_eq!((bench.state(ids[0]), bench.state(ids[1])), (DeliveryState::Done, DeliveryState::RetryWait));
    assert_eq!(bench.in_flight(), 0);
    // The adapter still has it, and is late.
    let mut batch = scripted.proxy().batch().unwrap();
    batch.delete(kept.remove(0));
    assert_eq!(batch.done().await.unwrap(), [refused(Refusal::NotOwned)]);
    assert_eq!(bench.record(ids[1]).attempts.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn without_a_backup_the_message_stays_with_the_adapter() {
    let (scripted, bench, kept) = pending(&["a", "b"]).await;
    let ids: Vec<_> = kept.iter().map(Outgoing::delivery).collect();
    let mut batch = scripted.proxy().batch().unwrap();
    batch.move_to_backup(kept[0].clone(), SendError::temporary("gone"));
    batch.delete(kept[1].clone());
    assert_eq!(batch.done().await.unwrap(), [refused(Refusal::NoBackup), ItemStatus::Applied]);
    assert_eq!(bench.state(ids[0]), DeliveryState::Leased);
    assert_eq!(bench.in_flight(), 1);
    let mut batch = scripted.proxy().batch().unwrap();
    batch.suspend(kept[0].clone(), SendError::temporary("gone"));
    assert_eq!(batch.done().await.unwrap(), [ItemStatus::Applied]);
    assert_eq!(bench.state(ids[0]), DeliveryState::Suspended);
    assert_eq!(bench.in_flight(), 0);
}

#[tokio::test(start_paused = true)]
async fn headers_are_carried_to_the_next_attempt() {
    let (scripted, bench, mut kept) = pending(&["a"]).await;
    let mut carried = Headers::default();
    carried.set("offset", 17_i64).unwrap();
    let mut batch = scripted.proxy().batch().unwrap();
    let error = || SendError::temporary("half");
    batch.resubmit_carrying(kept.remove(0), Timestamp::EPOCH, error(), carried.clone());
    batch.done().await.unwrap();
    settle().await;
    let again = scripted.take_kept().remove(0);
    assert_eq!((again.carried(), again.attempt(), again.retries_left()), (&carried, 2, 1));
    // The ladder keeps what is carried.
    let mut batch = scripted.proxy().batch().unwrap();
    batch.fail(again, error());
    batch.done().await.unwrap();
    seconds(1).await;
    let again = scripted.take_kept().remove(0);
    assert_eq!((again.carried(), again.retries_left()), (&carried, 0));
    drop(bench);
}

#[tokio::test(start_paused = true)]
async fn a_message_given_back_is_not_charged() {
    let (scripted, bench, mut kept) = pending(&["a"]).await;
    let message = kept.remove(0);
    let (id, key) = (message.delivery(), message.send_key().to_owned());
    let mut batch = scripted.proxy().batch().unwrap();
    batch.give_back(message);
    assert_eq!(batch.done().await.unwrap(), [ItemStatus::Applied]);
    settle().await;
    let again = scripted.take_kept().remove(0);
    assert_eq!((again.attempt(), again.send_key()), (1, key.as_str()));
    assert!(bench.record(id).attempts.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_full_box_is_waited_for() {
    let (scripted, bench, kept) = pending(&["a"]).await;
    bench.store.inner().refuse_commits = vec![ErrorKind::Full; 5];
    let mut batch = scripted.proxy().batch().unwrap();
    batch.delete(kept[0].clone());
    assert_eq!(batch.done().await.unwrap(), [ItemStatus::Applied]);
    assert_eq!(bench.state(kept[0].delivery()), DeliveryState::Done);
}

#[tokio::test(start_paused = true)]
async fn a_box_that_stays_full_leaves_the_messages_until_their_lease_ends() {
    let (scripted, bench, kept) = pending(&["a"]).await;
    bench.store.inner().refuse_commits = vec![ErrorKind::Full; 10_000];
    let mut batch = scripted.proxy().batch().unwrap();
    batch.delete(kept[0].clone());
    let error = batch.done().await.unwrap_err();
    assert!(matches!(error, CompletionError::Store(error) if error.kind() == ErrorKind::Full));
    bench.store.inner().refuse_commits.clear();
    scripted.with(|script| script.treats.clear());
    seconds(200).await;
    assert_eq!(bench.state(kept[0].delivery()), DeliveryState::Done);
    assert_eq!(bench.in_flight(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_failed_box_takes_the_messages_from_the_adapter() {
    let (scripted, bench, kept) = pending(&["a"]).await;
    bench.store.inner().refuse_commits = vec![ErrorKind::Unavailable];
    let mut batch = scripted.proxy().batch().unwrap();
    batch.delete(kept[0].clone());
    assert!(matches!(batch.done().await, Err(CompletionError::Store(_))));
    assert_eq!(bench.in_flight(), 0);
    let mut batch = scripted.proxy().batch().unwrap();
    batch.delete(kept[0].clone());
    assert_eq!(batch.done().await.unwrap(), [refused(Refusal::NotOwned)]);
}

#[tokio::test(start_paused = true)]
async fn a_completion_goes_on_when_nobody_waits_for_it() {
    let (scripted, bench, kept) = pending(&["a"]).await;
    let mut batch = scripted.proxy().batch().unwrap();
    batch.delete(kept[0].clone());
    let mut done = Box::pin(batch.done());
    tokio::select! {
        biased;
        _ = &mut done => panic!("a commit takes a moment"),
        () = std::future::ready(()) => {}
    }
    drop(done);
    settle().await;
    assert_eq!(bench.state(kept[0].delivery()), DeliveryState::Done);
    assert_eq!(bench.in_flight(), 0);
}

#[tokio::test(start_paused = true)]
async fn an_adapters_complaint_is_shown_until_a_message_is_delivered() {
    let (scripted, bench, kept) = pending(&["a"]).await;
    scripted.proxy().set_error(SendError::temporary("the link is slow"));
    let trouble = || bench.trouble(pillarbox_store::Route::Primary);
    assert_eq!(trouble().as_deref(), Some("the link is slow"));
    let mut batch = scripted.proxy().batch().unwrap();
    batch.delete(kept[0].clone());
    batch.done().await.unwrap();
    assert_eq!(trouble(), None);
}

#[tokio::test(start_paused = true)]
async fn what_lost_its_lease_before_its_intent_was_recorded_is_not_sent() {
    let scripted = Scripted::new();
    let bench = Bench::over(scripted.adapter()).await;
    let store = Arc::clone(&bench.store);
    let revoke = move || store.revoke_oldest();
    scripted.with(|script| script.on_transmit = Some(Hook(Box::new(revoke))));
    let ids = bench.submit_many("p", &["a", "b"]).await;
    seconds(5).await;
    assert_eq!(scripted.wire(), ["b"], "somebody else has decided about a");
    assert_eq!(bench.state(ids[0]), DeliveryState::Suspended);
    assert_eq!(bench.state(ids[1]), DeliveryState::Done);
    assert_eq!(bench.failures(ids[1]), [""; 0], "no attempt of b has failed");
    assert_eq!(bench.in_flight(), 0);
}
