//! Solicit-response: the answer and the end of the delivery in one step.

use std::time::Duration;

use async_trait::async_trait;
use pillarbox_store::{Answer, DeliveryState, ErrorKind, Refusal, Route, Store};

use super::super::kit::{Bench, Scripted, Treat, body, info, name, seconds, settle, steady};
use super::world::{World, crashes, undisturbed};
use crate::adapter::{Adapter, Outgoing, Requester, SendError, Transport, TransportInfo};
use crate::{CompletionBatch, CompletionError, ItemStatus, Port, RouteConfig};

#[derive(Debug)]
struct Asking(World);

impl Transport for Asking {
    fn describe(&self) -> TransportInfo {
        info("asking")
    }
}

#[async_trait]
impl Requester for Asking {
    async fn request(&self, message: &Outgoing) -> Result<Option<Answer>, SendError> {
        let body = body(message);
        self.0.send(&body).await;
        self.0.step(format!("answered {body}")).await;
        if body == "no answer" {
            return Ok(None);
        }
        Ok(Some(Answer::new(format!("re: {body}")).unwrap()))
    }
}

fn make(world: &World) -> Adapter {
    Adapter::requester(Asking(world.clone()))
}

#[tokio::test(start_paused = true)]
async fn a_request_ends_with_its_answer_in_one_commit() {
    let (steps, wire) = undisturbed(make, &["a"]).await;
    assert_eq!(steps, ["send a", "answered a", "box: respond 1"]);
    assert_eq!(wire, ["a"]);
}

#[tokio::test(start_paused = true)]
async fn a_crash_leaves_the_answer_and_the_end_or_neither() {
    for crash in crashes(make, &["a", "b"]).await {
        let whole = |(body, (state, answer)): (&str, &(DeliveryState, Option<String>))| match state {
            DeliveryState::Done => *answer == Some(format!("re: {body}")),
            _ => answer.is_none(),
        };
        assert!(["a", "b"].into_iter().zip(&crash.stand).all(whole), "{crash:?}");
        assert!(["a", "b"].into_iter().zip(&crash.stand_at_end).all(whole), "{crash:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_submitter_reads_the_answer_to_its_own_message() {
    let bench = Bench::over(make(&World::default())).await;
    let ids =
        [bench.submit("p", "a").await, bench.submit("p", "b").await, bench.submit("p", "no answer").await];
    for (id, expected) in ids.iter().zip([Some("re: a"), Some("re: b"), None]) {
        let answered = bench.runtime.answer(*id).await.unwrap();
        let told = bench.store.delivery(*id).await.unwrap().unwrap().info;
        assert_eq!(told.state, DeliveryState::Done);
        assert_eq!(answered.as_ref().map(|one| one.message), expected.map(|_| told.message));
        let text = answered.map(|one| String::from_utf8(one.answer.body().to_vec()).unwrap());
        assert_eq!(text.as_deref(), expected);
    }
    let unknown = pillarbox_store::DeliveryId::new(99);
    assert_eq!(bench.runtime.answer(unknown).await.unwrap(), None);
}

async fn pending() -> (Scripted, Bench, Outgoing) {
    let scripted = Scripted::new().treat("a", Treat::Pending);
    let route = RouteConfig::new(scripted.adapter()).retry(steady(3)).timeout(Duration::from_secs(10));
    let bench = Bench::start([Port::new(name("p"), route)]).await;
    bench.submit("p", "a").await;
    settle().await;
    let message = scripted.take_kept().remove(0);
    (scripted, bench, message)
}

fn respond(scripted: &Scripted, message: &Outgoing, text: &str) -> CompletionBatch {
    let mut batch = scripted.proxy().batch().unwrap();
    batch.respond(message.clone(), Answer::new(text.to_owned()).unwrap());
    batch
}

#[tokio::test(start_paused = true)]
async fn an_answer_after_its_window_is_refused_and_the_next_attempts_counts() {
    let (scripted, bench, late) = pending().await;
    let id = late.delivery();
    seconds(11).await;
    assert_eq!(bench.failures(id), ["not completed within 10s"]);
    let refused = respond(&scripted, &late, "late").done().await.unwrap();
    assert_eq!(refused, [ItemStatus::Refused(Refusal::NotOwned)]);
    assert_eq!(bench.store.answer(id).await.unwrap(), None);
    let second = scripted.take_kept().remove(0);
    assert_eq!((second.attempt(), second.send_key()), (2, late.send_key()));
    assert_eq!(respond(&scripted, &second, "in time").done().await.unwrap(), [ItemStatus::Applied]);
    let answered = bench.store.answer(id).await.unwrap().unwrap();
    assert_eq!(answered.answer.body(), "in time");
}

#[tokio::test(start_paused = true)]
async fn a_request_that_is_never_answered_is_suspended_without_an_answer() {
    let (scripted, bench, message) = pending().await;
    let id = message.delivery();
    drop(message);
    for _ in 0..40 {
        seconds(1).await;
        drop(scripted.take_kept());
    }
    assert_eq!(bench.state(id), DeliveryState::Suspended);
    assert_eq!(bench.runtime.answer(id).await.unwrap(), None);
}

#[tokio::test(start_paused = true)]
async fn only_one_of_two_answers_counts() {
    let (scripted, bench, message) = pending().await;
    let mut batch = respond(&scripted, &message, "first");
    batch.respond(message.clone(), Answer::new("second").unwrap());
    let first = message.delivery();
    let statuses = batch.done().await.unwrap();
    assert_eq!(statuses, [ItemStatus::Applied, ItemStatus::Refused(Refusal::Duplicate { first })]);
    assert_eq!(bench.store.answer(first).await.unwrap().unwrap().answer.body(), "first");
    assert_eq!(bench.in_flight(), 0);
}

#[tokio::test(start_paused = true)]
async fn an_answer_waits_for_room_and_holds_up_no_deletion() {
    let scripted = Scripted::new().treat("a", Treat::Pending).treat("b", Treat::Pending);
    let bench = Bench::over(scripted.adapter()).await;
    let ids = bench.submit_many("p", &["a", "b"]).await;
    settle().await;
    let mut kept = scripted.take_kept();
    let mut batch = scripted.proxy().batch().unwrap();
    batch.respond(kept.remove(0), Answer::new("yes").unwrap());
    batch.delete(kept.remove(0));
    let before = bench.store.inner().commits.len();
    // The whole is refused, then the deletion goes through, then the answer waits.
    bench.store.inner().refuse_commits = vec![ErrorKind::Full];
    assert_eq!(batch.done().await.unwrap(), [ItemStatus::Applied, ItemStatus::Applied]);
    assert_eq!(bench.store.inner().commits[before..], [1, 1]);
    assert!(ids.iter().all(|id| bench.state(*id) == DeliveryState::Done));
    assert_eq!(bench.store.answer(ids[0]).await.unwrap().unwrap().answer.body(), "yes");
    assert_eq!((bench.in_flight(), bench.trouble(Route::Primary)), (0, None));
}

#[tokio::test(start_paused = true)]
async fn answers_that_are_too_large_together_are_not_taken_together() {
    let bodies: Vec<String> = (0..9).map(|number| number.to_string()).collect();
    let bodies: Vec<&str> = bodies.iter().map(String::as_str).collect();
    let scripted = bodies.iter().fold(Scripted::new(), |scripted, body| scripted.treat(body, Treat::Pending));
    let bench = Bench::over(scripted.adapter()).await;
    bench.submit_many("p", &bodies).await;
    settle().await;
    let kept = scripted.take_kept();
    let large = bytes::Bytes::from(vec![7; Answer::BODY_BYTES_MAX]);
    let mut batch = scripted.proxy().batch().unwrap();
    kept.iter().for_each(|message| batch.respond(message.clone(), Answer::new(large.clone()).unwrap()));
    let error = batch.done().await.unwrap_err();
    let bytes = 9 * Answer::BODY_BYTES_MAX as u64;
    assert!(matches!(error, CompletionError::AnswersTooLarge { bytes: told } if told == bytes));
    assert_eq!(bench.in_flight(), 9, "they are still the adapter's");
    let mut batch = scripted.proxy().batch().unwrap();
    batch.respond(kept[0].clone(), Answer::new(large).unwrap());
    assert_eq!(batch.done().await.unwrap(), [ItemStatus::Applied]);
}
