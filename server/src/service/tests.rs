//! The service over a box in memory.

use bytes::Bytes;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use pillarbox_store::{BoxConfig, DeliveryState, FRAGMENT_BYTES, Headers, MessageBox, PortSpec, Timestamp};

use super::*;
use crate::wire::{BatchMessage, BatchRequest};

const LIMIT: u64 = 1024 * 1024;

/// A service with the ports `orders` and `other`.
pub(crate) async fn service() -> Service {
    let store = MessageBox::open(BoxConfig::in_memory()).expect("a box in memory opens");
    let ids = IdSource::system();
    let mut batch = Batch::new(ids.batch());
    for name in ["orders", "other"] {
        batch = batch.define_port(&name.parse().expect("a name"), PortSpec::default());
    }
    assert!(store.commit(&batch).await.expect("it is taken").all_applied());
    Service::new(Arc::new(store), ids, LIMIT)
}

impl Service {
    /// Answers every ready message of a port, as an adapter would.
    pub(crate) async fn answer_in_test(&self, port: &str, answer: pillarbox_store::Answer) {
        let want = pillarbox_store::Want {
            port: port.parse().expect("a name"),
            route: pillarbox_store::Route::Primary,
            limit: 10,
            bytes_max: u64::MAX,
            lease_for: std::time::Duration::from_secs(60),
        };
        let mut batch = Batch::new(self.ids.batch());
        for leased in self.store.lease(&want).await.expect("it leases") {
            batch = batch.respond(leased.lease, answer.clone(), None);
        }
        assert!(self.store.commit(&batch).await.expect("it is taken").all_applied());
    }
}

impl Service {
    /// Leaves every ready message of a port in doubt, as a sender would that never says how it ended; held on request.
    pub(crate) async fn doubt_in_test(&self, port: &str, held: bool) {
        let want = pillarbox_store::Want {
            port: port.parse().expect("a name"),
            route: pillarbox_store::Route::Primary,
            limit: 10,
            bytes_max: u64::MAX,
            lease_for: std::time::Duration::from_secs(60),
        };
        let leased = self.store.lease(&want).await.expect("it leases");
        assert!(!leased.is_empty(), "something is ready");
        let intended = leased.iter().fold(Batch::new(self.ids.batch()), |batch, one| batch.intend(one.lease));
        assert!(self.store.commit(&intended).await.expect("it is taken").all_applied());
        self.store.release(&leased.iter().map(|one| one.lease).collect::<Vec<_>>());
        if held {
            let leased = self.store.lease(&want).await.expect("it leases");
            let batch = Batch::new(self.ids.batch());
            let hold = leased.iter().fold(batch, |batch, one| batch.hold_in_doubt(one.lease));
            assert!(self.store.commit(&hold).await.expect("it is taken").all_applied());
        }
    }
}

fn to(port: &str, message_id: Option<MessageId>) -> Submission {
    Submission {
        port: port.parse().expect("a name"),
        message_id,
        headers: Headers::default(),
        not_before: None,
    }
}

async fn submit(
    service: &Service,
    submission: Submission,
    body: &[u8],
) -> Result<crate::wire::Submitted, Problem> {
    let chunks = stream::iter([Ok(Bytes::copy_from_slice(body))]);
    let body = service.take_body(Some(body.len() as u64), chunks).await?;
    service.submit(submission, body).await
}

#[tokio::test]
async fn a_long_body_is_kept_in_fragments_and_read_back() {
    let service = service().await;
    let body: Vec<u8> = (0..FRAGMENT_BYTES * 2 + 17).map(|n| u8::try_from(n % 251).expect("small")).collect();
    // Pieces that do not fit the fragments, and no length given.
    let pieces: Vec<_> = body.chunks(100_001).map(|piece| Ok(Bytes::copy_from_slice(piece))).collect();
    let staged = service.take_body(None, stream::iter(pieces)).await.expect("it is taken");
    assert!(staged.whole().is_none(), "a long body is not held in memory");
    let taken = service.submit(to("orders", None), staged).await.expect("it is taken");
    let (len, chunks) = service.body(taken.message_id).await.expect("it is there");
    assert_eq!(len, body.len() as u64);
    let read: Vec<Bytes> = Box::pin(chunks).try_collect().await.expect("it can be read");
    assert_eq!(read.concat(), body);
}

#[tokio::test]
async fn an_empty_body_is_a_body() {
    let service = service().await;
    let taken = submit(&service, to("orders", None), b"").await.expect("it is taken");
    let (len, chunks) = service.body(taken.message_id).await.expect("it is there");
    assert_eq!((len, Box::pin(chunks).count().await), (0, 0));
}

#[tokio::test]
async fn the_limit_holds_whether_the_length_is_known_or_not() {
    let service = service().await;
    let never = stream::pending();
    let known = service.take_body(Some(LIMIT + 1), never).await.expect_err("too long, before a byte is read");
    assert_eq!((known.status, known.name()), (413, "too-large"));
    let piece = Bytes::from(vec![0; 300_000]);
    let endless = stream::repeat_with(|| Ok(piece.clone()));
    let met = service.take_body(None, Box::pin(endless)).await.expect_err("too long, while it is read");
    assert_eq!(met.status, 413);
    assert!(service.ports().await.ports.iter().all(|port| port.counts.live() == 0));
}

#[tokio::test]
async fn a_repeat_is_recognised_and_another_message_under_its_id_is_not_taken_for_one() {
    let service = service().await;
    let id = service.ids.message();
    let first = submit(&service, to("orders", Some(id)), b"abc").await.expect("it is taken");
    let again = submit(&service, to("orders", Some(id)), b"abc").await.expect("it is known");
    assert!(!first.duplicate && again.duplicate);
    assert_eq!(again.delivery_id, first.delivery_id);
    for (port, body) in [("other", &b"abc"[..]), ("orders", b"abcd")] {
        let error = submit(&service, to(port, Some(id)), body).await.expect_err("it is another");
        assert_eq!((error.status, error.name()), (409, "message-id-reused"));
    }
}

#[tokio::test]
async fn deliveries_are_resumed_and_terminated_by_their_state() {
    let service = service().await;
    let mut later = to("orders", None);
    later.not_before = Some(Timestamp::from_micros(i64::MAX / 2));
    let id = submit(&service, later, b"x").await.expect("it is taken").delivery_id;
    assert_eq!(service.delivery(id).await.expect("there").state, DeliveryState::Scheduled);
    assert_eq!(service.resume(id).await.expect("due now").state, DeliveryState::Ready);
    let ended = service.terminate(id, "enough").await.expect("it ends");
    assert_eq!((ended.state, ended.reason.as_deref()), (DeliveryState::Terminated, Some("enough")));
    let late = service.resume(id).await.expect_err("it has ended");
    assert_eq!((late.status, late.name()), (409, "wrong-state"));
    assert!(late.detail.contains("is terminated and cannot be resumed"), "{late}");
    assert_eq!(service.resume(DeliveryId::new(999)).await.expect_err("unknown").status, 404);
    let gone = service.body(ended.message_id).await.err().expect("its body is gone");
    assert_eq!(gone.status, 410);
}

#[tokio::test]
async fn a_delivery_in_doubt_is_settled_and_not_resumed() {
    let service = service().await;
    let id = submit(&service, to("orders", None), b"x").await.expect("it is taken").delivery_id;
    let certain = service.settle_doubt(id, DoubtVerdict::Landed).await.expect_err("it was never sent");
    assert_eq!((certain.status, certain.name()), (409, "not-in-doubt"));
    service.doubt_in_test("orders", true).await;
    let held = service.resume(id).await.expect_err("nobody knows");
    assert_eq!((held.status, held.name()), (409, "wrong-state"));
    assert!(held.detail.contains("settle its doubt as one of landed, resend, suspend"), "{held}");
    let next = crate::failure::Failure::from(held).next;
    assert_eq!(next, Some(format!("pillarbox indoubt settle {id} --as landed|resend|suspend")));
    let parked = service.settle_doubt(id, DoubtVerdict::Suspend).await.expect("it is settled");
    assert_eq!(parked.state, DeliveryState::Suspended);
    assert_eq!(service.resume(id).await.expect("it can be resumed now").state, DeliveryState::Ready);
    let unknown = service.settle_doubt(DeliveryId::new(999), DoubtVerdict::Landed).await;
    assert_eq!(unknown.expect_err("unknown").name(), "no-such-delivery");
}

#[tokio::test]
async fn pages_tell_where_to_go_on() {
    let service = service().await;
    for _ in 0..5 {
        submit(&service, to("orders", None), b"x").await.expect("it is taken");
    }
    let mut filter = Filter { limit: 2, ..Filter::default() };
    let mut seen = Vec::new();
    loop {
        let page = service.deliveries(&filter).await.expect("a page");
        seen.extend(page.deliveries.iter().map(|view| view.delivery_id.number()));
        if page.next.is_none() {
            break;
        }
        filter.after = page.next;
    }
    assert_eq!(seen.len(), 5);
    assert!(seen.is_sorted());
    let unknown = Filter { port: Some("nope".parse().expect("a name")), ..Filter::default() };
    assert_eq!(service.deliveries(&unknown).await.expect_err("no such port").name(), "unknown-port");
}

fn text(port: &str, id: Option<MessageId>, body: &str) -> BatchMessage {
    BatchMessage {
        port: port.to_owned(),
        message_id: id.map(|id| id.to_string()),
        body_text: Some(body.to_owned()),
        ..BatchMessage::default()
    }
}

#[tokio::test]
async fn a_batch_is_taken_whole_or_not_at_all() {
    let service = service().await;
    let (a, b) = (service.ids.message(), service.ids.message());
    let whole = BatchRequest { messages: vec![text("orders", Some(a), "1"), text("other", Some(b), "2")] };
    let taken = service.submit_batch(whole.clone()).await.expect("it is taken");
    assert_eq!(taken.messages.iter().map(|taken| taken.message_id).collect::<Vec<_>>(), [a, b]);
    let again = service.submit_batch(whole).await.expect("the whole again is a repeat");
    assert!(again.messages.iter().all(|taken| taken.duplicate));
    let mixed = BatchRequest { messages: vec![text("orders", None, "3"), text("orders", Some(a), "1")] };
    let refused = service.submit_batch(mixed).await.expect_err("one was there");
    assert_eq!((refused.status, refused.name()), (409, "batch-refused"));
    assert_eq!(refused.fields["messages"][0]["index"], 1);
    let live: u64 = service.ports().await.ports.iter().map(|port| port.counts.live()).sum();
    assert_eq!(live, 2, "nothing of the refused batch is there");
}

#[tokio::test]
async fn a_batch_tells_every_message_that_is_wrong() {
    let service = service().await;
    let mut both = text("orders", None, "1");
    both.body_base64 = Some("MQ==".to_owned());
    let mut bad_id = text("orders", None, "1");
    bad_id.message_id = Some("seven".to_owned());
    let messages = vec![text("nope", None, "1"), text("orders", None, "1"), both, bad_id];
    let refused = service.submit_batch(BatchRequest { messages }).await.expect_err("three are wrong");
    assert_eq!(refused.status, 422);
    let reasons = refused.fields["messages"].as_array().expect("a list");
    let which: Vec<_> = reasons.iter().map(|reason| reason["index"].as_u64()).collect();
    assert_eq!(which, [Some(0), Some(2), Some(3)]);
    let lost = BatchRequest { messages: vec![text("nope", None, "1")] };
    assert_eq!(service.submit_batch(lost).await.expect_err("no such port").status, 404);
    assert_eq!(service.submit_batch(BatchRequest::default()).await.expect_err("empty").status, 400);
}

#[tokio::test]
async fn a_draining_service_takes_nothing() {
    let service = service().await;
    service.drain();
    let error = submit(&service, to("orders", None), b"x").await.expect_err("it drains");
    assert_eq!((error.status, error.name()), (503, "draining"));
    assert_eq!(service.health().status, "draining");
}
