//! Decisions: with the end of their deliveries or not at all, there until they are forgotten, and never thought complete
//! where damage may have taken one.

use super::*;
use crate::engine::hooked::Hooked;
use crate::engine::{Damage, Loss};
use crate::message_box::keys;
use crate::{BatchId, Decision, Durability};

fn transaction(number: u8) -> BatchId {
    BatchId::from_bytes([number; 16])
}

async fn decided(mailbox: &MessageBox) -> Vec<BatchId> {
    mailbox.decisions().await.unwrap().known.iter().map(|decision| decision.transaction).collect()
}

fn open(engine: &Hooked) -> MessageBox {
    let config = BoxConfig { committing: Committing::Inline, ..BoxConfig::in_memory() };
    MessageBox::with_engine(Arc::new(engine.clone()), config).unwrap()
}

/// A box with two messages, both leased.
async fn with_two() -> (Hooked, MessageBox, Vec<crate::Leased>) {
    let engine = Hooked::in_memory();
    let mailbox = open(&engine);
    let ids = IdSource::system();
    let batch = Batch::new(ids.batch()).define_port(&port("orders"), PortSpec { backup: false });
    let batch = batch.submit(&port("orders"), Message::new(ids.message(), "a"));
    let batch = batch.submit(&port("orders"), Message::new(ids.message(), "b"));
    assert!(mailbox.commit(&batch).await.unwrap().all_applied());
    let leased = mailbox.lease(&want("orders")).await.unwrap();
    assert_eq!(leased.len(), 2);
    (engine, mailbox, leased)
}

#[tokio::test]
async fn a_decision_is_kept_with_the_end_of_its_deliveries_or_not_at_all() {
    let (engine, mailbox, leased) = with_two().await;
    let ids = IdSource::system();
    let both = |batch: Batch| {
        leased.iter().fold(batch.decide(transaction(1), "there"), |batch, one| batch.delete(one.lease, None))
    };
    let late = Batch::new(ids.batch()).suspend(leased[0].lease, "revoked", None);
    assert!(mailbox.commit(&late).await.unwrap().all_applied());
    let refused = mailbox.commit(&both(Batch::new(ids.batch()).all_or_none())).await.unwrap();
    assert!(refused.results().iter().all(|result| !result.is_applied()), "{refused:?}");
    assert_eq!(decided(&mailbox).await, []);
    let batch =
        Batch::new(ids.batch()).all_or_none().decide(transaction(2), "there").delete(leased[1].lease, None);
    assert!(mailbox.commit(&batch).await.unwrap().all_applied());
    drop(mailbox);
    let again = open(&engine);
    let decisions = again.decisions().await.unwrap();
    assert_eq!(decisions.lost_until, None);
    assert!(decisions.has(transaction(2)) && !decisions.has(transaction(1)));
    let [Decision { transaction: number, destination, .. }] = decisions.known.as_slice() else {
        panic!("{decisions:?}")
    };
    assert_eq!((*number, destination.as_str()), (transaction(2), "there"));
}

#[tokio::test]
async fn a_decision_is_forgotten_once_and_for_all_without_a_flush() {
    let (engine, mailbox, _) = with_two().await;
    let ids = IdSource::system();
    let batch = Batch::new(ids.batch()).decide(transaction(1), "a").decide(transaction(2), "b");
    assert!(mailbox.commit(&batch).await.unwrap().all_applied());
    let forget = Batch::new(ids.batch()).durability(Durability::Written).forget(transaction(1));
    for _ in 0..2 {
        let forgotten = mailbox.commit(&forget).await.unwrap();
        assert!(forgotten.all_applied() && !forgotten.was_repeated(), "it is not worth remembering");
    }
    assert_eq!(decided(&mailbox).await, [transaction(2)]);
    drop(mailbox);
    assert_eq!(decided(&open(&engine)).await, [transaction(2)]);
}

#[tokio::test]
async fn a_destination_with_too_long_a_name_is_refused() {
    let (_engine, mailbox, _) = with_two().await;
    let name = "x".repeat(Decision::DESTINATION_BYTES_MAX + 1);
    let batch = Batch::new(IdSource::system().batch()).decide(transaction(1), name);
    assert_eq!(mailbox.commit(&batch).await.unwrap_err().kind(), ErrorKind::Invalid);
}

#[tokio::test]
async fn where_damage_may_have_taken_a_decision_the_box_says_so() {
    for (loss, key, is_lost) in [
        (Loss::None, None, false),
        (Loss::Record, Some(keys::attempt::key(1, 1)), false),
        (Loss::Record, Some(keys::decision::key(1)), true),
        (Loss::Record, None, true),
        (Loss::Unknown, None, true),
    ] {
        let (engine, mailbox, _) = with_two().await;
        drop(mailbox);
        let damage =
            Damage { file: "a".to_owned(), offset: 0, bytes: 1, key, what: "it is".to_owned(), loss };
        let mailbox =
            MessageBox::with_engine(Arc::new(engine.damaged(damage)), BoxConfig::in_memory()).unwrap();
        let decisions = mailbox.decisions().await.unwrap();
        assert_eq!(decisions.may_have_lost(IdSource::system().batch()), is_lost, "{loss:?} {key:?}");
    }
}

#[tokio::test]
async fn a_salvaged_box_knows_until_when_decisions_may_be_lost() {
    let (engine, mailbox, _) = with_two().await;
    let batch = Batch::new(ids().batch()).decide(transaction(1), "there");
    assert!(mailbox.commit(&batch).await.unwrap().all_applied());
    drop(mailbox);
    let before = IdSource::system().batch();
    let what = "it is".to_owned();
    let damage = Damage { file: "a".to_owned(), offset: 0, bytes: 1, key: None, what, loss: Loss::Unknown };
    let to = Hooked::in_memory();
    let salvaged =
        crate::inspect::salvage_engine(&engine.damaged(damage), &to, &[], &IdSource::system(), &mut |_| {});
    assert!(salvaged.is_ok(), "{salvaged:?}");
    for _opened_again in 0..2 {
        let mailbox = open(&to);
        let decisions = mailbox.decisions().await.unwrap();
        assert_eq!(decided(&mailbox).await, [transaction(1)]);
        assert!(decisions.may_have_lost(before));
        let later = decisions.lost_until.unwrap().plus(Duration::from_millis(1));
        let bytes = (later.as_micros() / 1_000).to_be_bytes();
        let later = [[bytes[2], bytes[3], bytes[4], bytes[5]], [bytes[6], bytes[7], 0, 0], [0; 4], [0; 4]];
        let later: [u8; 16] = later.concat().try_into().unwrap();
        assert!(!decisions.may_have_lost(BatchId::from_bytes(later)), "it was begun in the new box");
    }
}
