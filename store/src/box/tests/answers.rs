//! Answers: with their delivery's end or not at all, found by their delivery, and bounded.

use super::*;
use crate::engine::hooked::Hooked;
use crate::engine::{Engine, Key, WriteSet};
use crate::message_box::keys;
use crate::{Answer, AnswerRetention, Answered, Durability, Retention};

/// The keys of the answers that are there.
fn answers(engine: &Hooked) -> Vec<Key> {
    let mut found = Vec::new();
    let visit = &mut |key: Key, _head: &[u8]| {
        found.extend((key.family == keys::answer::FAMILY).then_some(key));
        Ok(())
    };
    engine.recover(visit).unwrap();
    found.sort();
    found
}

const SECOND: i64 = 1_000_000;

struct Bench {
    engine: Hooked,
    clock: Arc<SetClock>,
    retention: Retention,
    mailbox: MessageBox,
}

fn open(engine: &Hooked, clock: &Arc<SetClock>, retention: Retention) -> MessageBox {
    let committing = Committing::Inline;
    let config = BoxConfig { clock: clock.clone(), retention, committing, ..BoxConfig::in_memory() };
    MessageBox::with_engine(Arc::new(engine.clone()), config).unwrap()
}

impl Bench {
    async fn new(retention: Retention) -> Self {
        let (engine, clock) = (Hooked::in_memory(), Arc::new(SetClock::default()));
        clock.wall.store(1_000 * SECOND, Ordering::SeqCst);
        let mailbox = open(&engine, &clock, retention);
        let batch = Batch::new(ids().batch()).define_port(&port("orders"), PortSpec { backup: false });
        mailbox.commit(&batch).await.unwrap();
        Self { engine, clock, retention, mailbox }
    }

    fn reopen(&mut self) {
        self.mailbox = open(&self.engine, &self.clock, self.retention);
    }

    fn wait(&self, seconds: i64) {
        self.clock.wall.fetch_add(seconds * SECOND, Ordering::SeqCst);
        self.clock.steady.fetch_add(seconds * SECOND, Ordering::SeqCst);
    }

    /// Submits, leases and answers a message.
    async fn answer(&self, text: &str) -> (Message, DeliveryId) {
        let (message, id) = submit(&self.mailbox, b"request").await;
        let leased = self.mailbox.lease(&want("orders")).await.unwrap().remove(0);
        let batch = Batch::new(ids().batch()).respond(leased.lease, answer(text), sent());
        assert!(self.mailbox.commit(&batch).await.unwrap().all_applied());
        (message, id)
    }

    async fn kept(&self, id: DeliveryId) -> Option<String> {
        let answered = self.mailbox.answer(id).await.unwrap();
        let text = answered.map(|answered| String::from_utf8(answered.answer.body().to_vec()).unwrap());
        let told = self.mailbox.delivery(id).await.unwrap().and_then(|detail| detail.info.answer_len);
        assert_eq!(told, text.as_ref().map(|text| text.len() as u64));
        text
    }
}

fn answer(text: &str) -> Answer {
    Answer::new(text.to_owned()).unwrap()
}

fn bounded(answers: AnswerRetention) -> Retention {
    Retention { answers, ..Retention::default() }
}

#[tokio::test]
async fn an_answer_names_what_it_answers_and_survives_reopening() {
    let folder = tempfile::tempdir().unwrap();
    let body: Vec<u8> = (0..700_000_u32).map(|at| (at % 241) as u8).collect();
    let said = Answer::new(body).unwrap().header("status", 200).unwrap();
    let (message, id, received) = {
        let mailbox = with_port(config(folder.path()), false).await;
        let (message, id) = submit(&mailbox, b"request").await;
        assert_eq!(mailbox.answer(id).await.unwrap(), None);
        let leased = mailbox.lease(&want("orders")).await.unwrap().remove(0);
        let batch = Batch::new(ids().batch()).respond(leased.lease, said.clone(), sent());
        assert_eq!(mailbox.commit(&batch).await.unwrap().results(), [OpResult::Applied]);
        (message.id, id, mailbox.answer(id).await.unwrap().unwrap().received)
    };
    let mailbox = MessageBox::open(config(folder.path())).unwrap();
    let answered = mailbox.answer(id).await.unwrap().unwrap();
    assert_eq!(answered, Answered { delivery: id, message, received, answer: said });
    let detail = mailbox.delivery(id).await.unwrap().unwrap();
    assert_eq!((detail.info.state, detail.info.answer_len), (DeliveryState::Done, Some(700_000)));
    assert_eq!((detail.attempts.len(), detail.info.attempts), (1, 1));
}

#[cfg(feature = "sled")]
#[tokio::test]
async fn the_second_engine_keeps_answers_too() {
    let folder = tempfile::tempdir().unwrap();
    let config = || BoxConfig { engine: crate::EngineKind::Sled, ..config(folder.path()) };
    let id = {
        let mailbox = with_port(config(), false).await;
        let (_, id) = submit(&mailbox, b"request").await;
        let leased = mailbox.lease(&want("orders")).await.unwrap().remove(0);
        let batch = Batch::new(ids().batch()).respond(leased.lease, answer("yes"), sent());
        assert!(mailbox.commit(&batch).await.unwrap().all_applied());
        id
    };
    let mailbox = MessageBox::open(config()).unwrap();
    assert_eq!(mailbox.answer(id).await.unwrap().unwrap().answer, answer("yes"));
}

#[tokio::test]
async fn an_answer_under_a_lease_that_ended_is_refused_and_not_kept() {
    let bench = Bench::new(Retention::default()).await;
    let (_, id) = submit(&bench.mailbox, b"request").await;
    let late = bench.mailbox.lease(&want("orders")).await.unwrap().remove(0);
    bench.wait(61);
    let second = bench.mailbox.lease(&want("orders")).await.unwrap().remove(0);
    let respond = |lease, text| Batch::new(ids().batch()).respond(lease, answer(text), sent());
    let committed = bench.mailbox.commit(&respond(late.lease, "late")).await.unwrap();
    assert_eq!(committed.results(), [OpResult::Refused(Refusal::NotOwned)]);
    assert_eq!((bench.kept(id).await, answers(&bench.engine)), (None, Vec::new()));
    assert!(bench.mailbox.commit(&respond(second.lease, "in time")).await.unwrap().all_applied());
    // Nobody answers twice.
    let committed = bench.mailbox.commit(&respond(second.lease, "again")).await.unwrap();
    assert_eq!(committed.results(), [OpResult::Refused(Refusal::NotOwned)]);
    assert_eq!(bench.kept(id).await.as_deref(), Some("in time"));
}

#[tokio::test]
async fn a_void_batch_keeps_neither_the_answer_nor_the_deletion() {
    let bench = Bench::new(Retention::default()).await;
    let (_, id) = submit(&bench.mailbox, b"request").await;
    let leased = bench.mailbox.lease(&want("orders")).await.unwrap().remove(0);
    let batch = Batch::new(ids().batch()).respond(leased.lease, answer("yes"), sent());
    let void = batch.pause_port(&port("nowhere")).all_or_none();
    let committed = bench.mailbox.commit(&void).await.unwrap();
    assert_eq!(
        committed.results(),
        [OpResult::Refused(Refusal::Voided), OpResult::Refused(Refusal::NoSuchPort)]
    );
    assert_eq!((bench.kept(id).await, answers(&bench.engine)), (None, Vec::new()));
    let state = bench.mailbox.delivery(id).await.unwrap().unwrap().info.state;
    assert_eq!(state, DeliveryState::Leased);
}

#[tokio::test]
async fn the_same_answer_again_is_applied_once() {
    let mut bench = Bench::new(Retention::default()).await;
    let (_, id) = submit(&bench.mailbox, b"request").await;
    let leased = bench.mailbox.lease(&want("orders")).await.unwrap().remove(0);
    let batch = Batch::new(ids().batch()).respond(leased.lease, answer("yes"), sent());
    bench.mailbox.commit(&batch).await.unwrap();
    bench.reopen();
    let again = bench.mailbox.commit(&batch).await.unwrap();
    assert!(again.was_repeated() && again.all_applied());
    assert_eq!((bench.kept(id).await.as_deref(), answers(&bench.engine).len()), (Some("yes"), 1));
}

#[tokio::test]
async fn of_too_many_answers_the_oldest_go() {
    let mut bench = Bench::new(bounded(AnswerRetention { count: 2, ..AnswerRetention::default() })).await;
    let (_, first) = bench.answer("first").await;
    let (_, second) = bench.answer("second").await;
    // A clock that is set back makes no answer older than those before it.
    bench.wait(-500);
    let (_, third) = bench.answer("third").await;
    for _ in 0..2 {
        let kept = [bench.kept(first).await, bench.kept(second).await, bench.kept(third).await];
        assert_eq!(kept, [None, Some("second".to_owned()), Some("third".to_owned())]);
        assert_eq!(answers(&bench.engine), [second, third].map(|id| keys::answer::key(id.number(), 0)));
        bench.reopen();
    }
    let (_, fourth) = bench.answer("fourth").await;
    assert_eq!((bench.kept(second).await, bench.kept(third).await.is_some()), (None, true));
    assert_eq!(bench.kept(fourth).await.as_deref(), Some("fourth"));
    assert!(bench.mailbox.delivery(first).await.unwrap().is_some(), "its trace stays");
}

#[tokio::test]
async fn answers_that_are_too_large_together_go() {
    let mut bench = Bench::new(bounded(AnswerRetention { bytes: 10, ..AnswerRetention::default() })).await;
    let (_, first) = bench.answer("12345").await;
    let (_, second) = bench.answer("67890").await;
    assert!(bench.kept(first).await.is_some() && bench.kept(second).await.is_some());
    bench.reopen();
    let (_, third) = bench.answer("x").await;
    assert_eq!((bench.kept(first).await, bench.kept(second).await.is_some()), (None, true));
    let (_, fourth) = bench.answer("more than all together").await;
    for id in [second, third, fourth] {
        assert_eq!(bench.kept(id).await, None);
    }
    assert!(answers(&bench.engine).is_empty());
}

#[tokio::test]
async fn an_answer_that_is_too_old_goes_with_the_next_commit() {
    let age = Duration::from_secs(100);
    let mut bench = Bench::new(bounded(AnswerRetention { age, ..AnswerRetention::default() })).await;
    let (_, id) = bench.answer("yes").await;
    bench.wait(100);
    bench.reopen();
    submit(&bench.mailbox, b"another").await;
    assert!(bench.kept(id).await.is_some());
    bench.wait(1);
    submit(&bench.mailbox, b"another").await;
    assert_eq!((bench.kept(id).await, answers(&bench.engine)), (None, Vec::new()));
}

#[tokio::test]
async fn an_answer_goes_with_its_deliverys_trace() {
    let retention = Retention { count: 1, ..Retention::default() };
    let mut bench = Bench::new(retention).await;
    let (_, first) = bench.answer("first").await;
    let (_, second) = bench.answer("second").await;
    // Forgotten with the next batch.
    submit(&bench.mailbox, b"another").await;
    assert_eq!(bench.mailbox.delivery(first).await.unwrap(), None);
    assert_eq!((bench.kept(first).await, bench.kept(second).await.as_deref()), (None, Some("second")));
    assert_eq!(answers(&bench.engine), [keys::answer::key(second.number(), 0)]);
    bench.reopen();
    assert_eq!(bench.kept(second).await.as_deref(), Some("second"));
}

#[tokio::test]
async fn an_answer_that_belongs_to_nothing_is_deleted_at_opening() {
    let mut bench = Bench::new(Retention::default()).await;
    let (_, id) = bench.answer("yes").await;
    let head = keys::answer::AnswerHead {
        sequence: 9,
        message: ids().message(),
        received: Timestamp::EPOCH,
        body_len: 3,
    };
    let mut writes = WriteSet::default();
    keys::answer::write(&mut writes, 77, &head, &answer("who"));
    bench.engine.apply(&writes, Durability::Flushed).unwrap();
    bench.reopen();
    assert_eq!(answers(&bench.engine), [keys::answer::key(id.number(), 0)]);
}

#[tokio::test]
async fn an_answer_with_a_lost_piece_is_said_to_be_damaged() {
    let bench = Bench::new(Retention::default()).await;
    let (_, id) = bench.answer(&"a".repeat(300_000)).await;
    let mut writes = WriteSet::default();
    writes.delete(keys::answer::key(id.number(), 1));
    bench.engine.apply(&writes, Durability::Flushed).unwrap();
    assert_eq!(bench.mailbox.answer(id).await.unwrap_err().kind(), ErrorKind::Corrupt);
}

#[test]
fn an_answer_has_a_longest_body() {
    assert!(Answer::new(vec![0; Answer::BODY_BYTES_MAX]).is_ok());
    let error = Answer::new(vec![0; Answer::BODY_BYTES_MAX + 1]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
}
