//! Attempts in doubt: known after a crash, not mistaken for others, and gone with the next outcome.

use std::sync::atomic::AtomicBool;

use super::*;
use crate::engine::Engine;
use crate::engine::hooked::Hooked;
use crate::message_box::keys;
use crate::{AttemptNote, DoubtVerdict, Durability, Error, Headers, Lease, Leased};

/// A box that outlives its process.
struct Bench {
    engine: Hooked,
    clock: Arc<SetClock>,
    mailbox: MessageBox,
}

fn open(engine: &Hooked, clock: &Arc<SetClock>) -> MessageBox {
    let committing = Committing::Inline;
    let config = BoxConfig { committing, clock: clock.clone(), ..BoxConfig::in_memory() };
    MessageBox::with_engine(Arc::new(engine.clone()), config).unwrap()
}

impl Bench {
    /// With so many messages for one port.
    async fn new(messages: usize) -> Self {
        Self::over(Hooked::in_memory(), messages).await
    }

    async fn over(engine: Hooked, messages: usize) -> Self {
        let clock = Arc::new(SetClock::default());
        let mailbox = open(&engine, &clock);
        let define = Batch::new(ids().batch()).define_port(&port("orders"), PortSpec { backup: false });
        mailbox.commit(&define).await.unwrap();
        for _ in 0..messages {
            submit(&mailbox, b"x").await;
        }
        Self { engine, clock, mailbox }
    }

    /// Everything that was not flushed or written is gone.
    fn crash(&mut self) {
        self.mailbox = open(&self.engine, &self.clock);
    }

    async fn lease(&self) -> Vec<Leased> {
        self.mailbox.lease(&want("orders")).await.unwrap()
    }

    async fn intend(&self, leased: &[Leased]) {
        let batch = Batch::new(ids().batch()).durability(Durability::Written);
        let batch = leased.iter().fold(batch, |batch, leased| batch.intend(leased.lease));
        assert!(self.commit(batch).await);
    }

    async fn commit(&self, batch: Batch) -> bool {
        self.mailbox.commit(&batch).await.unwrap().all_applied()
    }

    /// Deliveries in doubt, and how many crashes put each there.
    async fn doubts(&self) -> Vec<(u64, u32)> {
        let filter = Filter { in_doubt: true, ..Filter::default() };
        let found = self.mailbox.deliveries(&filter).await.unwrap();
        found.iter().map(|info| (info.id.number(), info.doubt.unwrap().crashes)).collect()
    }

    /// How many records of attempts there are.
    fn records(&self) -> usize {
        let mut count = 0;
        let visit = &mut |key: crate::engine::Key, _head: &[u8]| {
            count += usize::from(matches!(key.family, keys::intent::FAMILY | keys::doubt::FAMILY));
            Ok(())
        };
        self.engine.recover(visit).unwrap();
        count
    }
}

fn failed() -> Option<AttemptNote> {
    let failure = Some(Failure::new(false, vec!["no".to_owned()]));
    Some(AttemptNote { started: Timestamp::EPOCH, took: Duration::ZERO, failure })
}

fn new_batch() -> Batch {
    Batch::new(ids().batch())
}

#[tokio::test]
async fn what_was_being_sent_at_a_crash_is_in_doubt_until_an_outcome_is_recorded() {
    let mut bench = Bench::new(1).await;
    for crashes in 0..3 {
        let leased = bench.lease().await;
        assert_eq!(leased[0].doubt.map(|doubt| doubt.crashes), (crashes > 0).then_some(crashes));
        bench.intend(&leased).await;
        bench.crash();
        assert_eq!(bench.doubts().await, [(1, crashes + 1)]);
    }
    bench.crash();
    assert_eq!(bench.doubts().await, [(1, 3)], "nothing was sent before that crash");
    let leased = bench.lease().await.remove(0);
    assert!(
        bench
            .commit(new_batch().resubmit(leased.lease, Timestamp::EPOCH, failed(), Headers::default()))
            .await
    );
    assert_eq!((bench.doubts().await, bench.records()), (vec![], 0));
    assert_eq!(bench.lease().await[0].doubt, None);
}

#[tokio::test]
async fn only_what_has_no_outcome_is_in_doubt() {
    let mut bench = Bench::new(5).await;
    let leased = bench.lease().await;
    bench.intend(&leased[..4]).await;
    let batch = new_batch().delete(leased[0].lease, None);
    let batch = batch.resubmit(leased[1].lease, Timestamp::EPOCH, None, Headers::default());
    assert!(bench.commit(batch.suspend(leased[2].lease, "no", None)).await);
    bench.crash();
    assert_eq!(bench.doubts().await, [(4, 1)]);
    // Its record goes with the first group after the opening.
    submit(&bench.mailbox, b"x").await;
    assert_eq!(bench.records(), 1);
}

#[tokio::test]
async fn what_was_given_back_or_ran_out_of_time_is_in_doubt_and_no_crash_is_counted() {
    let mut bench = Bench::new(3).await;
    let leased = bench.lease().await;
    bench.intend(&leased[..2]).await;
    bench.mailbox.release(&[leased[0].lease, leased[2].lease]);
    assert_eq!(bench.doubts().await, [(1, 0)]);
    bench.clock.steady.store(61_000_000, Ordering::SeqCst);
    let again = bench.lease().await;
    assert_eq!(again.len(), 3);
    assert_eq!(bench.doubts().await, [(1, 0), (2, 0)]);
    bench.mailbox.close().await.unwrap();
    bench.crash();
    assert_eq!(bench.doubts().await, [(1, 0), (2, 0)]);
    assert_eq!(bench.records(), 2, "the intent is gone");
}

#[tokio::test]
async fn an_intent_without_a_lease_is_refused_and_nothing_of_it_stays() {
    let mut bench = Bench::new(1).await;
    let leased = bench.lease().await;
    bench.mailbox.release(&[leased[0].lease]);
    let committed = bench.mailbox.commit(&new_batch().intend(leased[0].lease)).await.unwrap();
    assert_eq!(committed.results(), [OpResult::Refused(Refusal::NotOwned)]);
    bench.crash();
    assert_eq!((bench.doubts().await, bench.records()), (vec![], 0));
}

async fn held(bench: &mut Bench) -> Lease {
    let leased = bench.lease().await;
    bench.intend(&leased).await;
    bench.crash();
    let lease = bench.lease().await[0].lease;
    assert!(bench.commit(new_batch().hold_in_doubt(lease)).await);
    lease
}

#[tokio::test]
async fn a_delivery_held_in_doubt_waits_for_a_verdict() {
    for verdict in DoubtVerdict::ALL {
        let mut bench = Bench::new(1).await;
        let delivery = held(&mut bench).await.delivery();
        bench.crash();
        assert_eq!(bench.mailbox.ports()[0].counts.in_doubt, 1);
        assert!(bench.lease().await.is_empty());
        let refused = bench.mailbox.commit(&new_batch().resume(delivery)).await.unwrap();
        assert_eq!(
            refused.results(),
            [OpResult::Refused(Refusal::WrongState { state: DeliveryState::InDoubt })]
        );
        assert!(bench.commit(new_batch().settle_doubt(delivery, verdict)).await);
        let state = bench.mailbox.delivery(delivery).await.unwrap().unwrap().info.state;
        match verdict {
            DoubtVerdict::Landed => {
                assert_eq!((state, bench.doubts().await), (DeliveryState::Done, vec![]));
            }
            DoubtVerdict::Suspend => {
                assert_eq!(state, DeliveryState::Suspended);
                assert!(bench.commit(new_batch().resume(delivery)).await);
                assert!(bench.lease().await[0].doubt.unwrap().resend, "somebody decided");
            }
            DoubtVerdict::Resend => assert!(bench.lease().await[0].doubt.unwrap().resend),
        }
    }
}

#[tokio::test]
async fn what_is_not_in_doubt_is_neither_held_nor_settled() {
    let bench = Bench::new(1).await;
    let lease = bench.lease().await[0].lease;
    let delivery = lease.delivery();
    let batch = new_batch().hold_in_doubt(lease).settle_doubt(delivery, DoubtVerdict::Landed);
    let committed = bench.mailbox.commit(&batch).await.unwrap();
    let leased = Refusal::WrongState { state: DeliveryState::Leased };
    assert_eq!(committed.results(), [OpResult::Refused(Refusal::NotInDoubt), OpResult::Refused(leased)]);
    bench.mailbox.release(&[lease]);
    let batch = new_batch().settle_doubt(delivery, DoubtVerdict::Landed).all_or_none();
    let committed = bench.mailbox.commit(&batch).await.unwrap();
    assert_eq!(committed.results(), [OpResult::Refused(Refusal::NotInDoubt)]);
}

#[tokio::test]
async fn what_was_only_ever_sent_in_transactions_is_told_from_what_may_have_landed() {
    let mut bench = Bench::new(2).await;
    let transacted = |bench: &Bench| {
        let doubts = [1, 2].map(|number| bench.mailbox.shared().state().ledger.doubt(number).unwrap());
        doubts.map(|doubt| doubt.transacted)
    };
    let leased = bench.lease().await;
    let mixed = new_batch().durability(Durability::Written).intend(leased[0].lease);
    assert!(bench.commit(mixed.intend_transacted(leased[1].lease)).await);
    assert_eq!(bench.records(), 2, "a record is of one manner");
    bench.crash();
    assert_eq!(transacted(&bench), [false, true]);
    for _ in 0..2 {
        let batch = new_batch().durability(Durability::Written);
        let batch = bench.lease().await.iter().fold(batch, |batch, one| batch.intend_transacted(one.lease));
        assert!(bench.commit(batch).await);
        bench.crash();
        assert_eq!(transacted(&bench), [false, true], "the first may have landed before");
        // Their records are those of doubts from here on.
        bench.mailbox.close().await.unwrap();
        bench.crash();
        assert_eq!(transacted(&bench), [false, true]);
    }
    assert!(bench.commit(new_batch().settle_doubt(DeliveryId::new(1), DoubtVerdict::Resend)).await);
    let batch = new_batch().durability(Durability::Written);
    let batch = bench.lease().await.iter().fold(batch, |batch, one| batch.intend_transacted(one.lease));
    assert!(bench.commit(batch).await);
    bench.crash();
    assert_eq!(transacted(&bench), [false, true], "nor does a decision take that back");
}

#[tokio::test]
async fn a_group_that_finds_no_room_leaves_what_is_being_sent_as_it_was() {
    let is_full = Arc::new(AtomicBool::new(false));
    let full = Arc::clone(&is_full);
    let engine = Hooked::in_memory().before_apply(move |_writes, durability| {
        if full.load(Ordering::SeqCst) { Err(Error::new(ErrorKind::Full, "write")) } else { Ok(durability) }
    });
    let mut bench = Bench::over(engine, 3).await;
    let leased = bench.lease().await;
    bench.intend(&leased[..2]).await;
    bench.mailbox.release(&[leased[1].lease]);
    is_full.store(true, Ordering::SeqCst);
    let done = new_batch().delete(leased[0].lease, None).intend(leased[2].lease);
    assert_eq!(bench.mailbox.commit(&done).await.unwrap_err().kind(), ErrorKind::Full);
    is_full.store(false, Ordering::SeqCst);
    assert_eq!(bench.doubts().await, [(2, 0)], "one was given back, one is still being sent");
    bench.crash();
    assert_eq!(bench.doubts().await, [(1, 1), (2, 1)], "the third was never to be sent");
}

#[tokio::test]
async fn more_than_one_record_takes_are_all_known() {
    let count = keys::intent::DELIVERIES_MAX + 5;
    let mut bench = Bench::new(count).await;
    let all = Want { limit: count, ..want("orders") };
    let leased = bench.mailbox.lease(&all).await.unwrap();
    bench.intend(&leased).await;
    assert_eq!(bench.records(), 2);
    bench.crash();
    assert_eq!(bench.mailbox.shared().state().ledger.doubtful(0).count(), count);
}

/// Found by chaos: a server with messages in doubt did not start while its disk was full.
#[tokio::test]
async fn a_box_with_doubts_on_a_full_disk_opens_and_takes_what_changes_nothing() {
    let is_full = Arc::new(AtomicBool::new(false));
    let full = Arc::clone(&is_full);
    let engine = Hooked::in_memory().before_apply(move |_writes, durability| {
        if full.load(Ordering::SeqCst) { Err(Error::new(ErrorKind::Full, "write")) } else { Ok(durability) }
    });
    let mut bench = Bench::over(engine, 1).await;
    bench.intend(&bench.lease().await).await;
    is_full.store(true, Ordering::SeqCst);
    bench.crash();
    assert!(bench.commit(new_batch().define_port(&port("orders"), PortSpec { backup: false })).await);
    assert_eq!(bench.doubts().await, [(1, 1)]);
    is_full.store(false, Ordering::SeqCst);
    bench.mailbox.close().await.unwrap();
    bench.crash();
    assert_eq!(bench.doubts().await, [(1, 1)], "written down when it was closed");
}
