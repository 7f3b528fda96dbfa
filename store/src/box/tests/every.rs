//! A life with every kind of step, gone wrong at every operation on the disk: a failed write or flush, a full disk, a
//! crash, and a crash while recovering from the first.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::*;
use crate::engine::Loss;
use crate::engine::journal::tests::fault_disk::{FaultDisk, Keep, Plan};
use crate::engine::journal::{Disk as _, Journal, JournalConfig};
use crate::{Answer, BatchId, MessageId, Op};

/// Steps of a life. With them segments are rolled, recycled, and emptied by moving what lives.
const STEPS: u32 = 97;
/// After so many steps the box is closed and opened.
const LIFE: u32 = 24;

fn try_open(disk: &FaultDisk) -> Result<MessageBox, crate::Error> {
    let settings = JournalConfig { segment_bytes: 64 * 1024, spare_segments_max: 1, salt: 9 };
    let journal = Journal::open(Arc::new(disk.clone()), settings)?;
    let config = BoxConfig { committing: Committing::Inline, ..BoxConfig::in_memory() };
    MessageBox::with_engine(Arc::new(journal), config)
}

fn open(disk: &FaultDisk) -> MessageBox {
    try_open(disk).unwrap()
}

/// The same ids each time: the n-th batch or message of a step.
fn id_bytes(step: u32, which: u8) -> [u8; 16] {
    let [a, b, c, d] = step.to_be_bytes();
    [1, 2, 3, 4, 5, 6, 0x70, 7, 0x80, 8, a, b, c, d, which, 9]
}

fn batch_id(step: u32, which: u8) -> BatchId {
    BatchId::from_bytes(id_bytes(step, which))
}

fn message(step: u32, which: u8, bytes: usize) -> Message {
    let body: Vec<u8> = (0..bytes).map(|at| (at as u32 * 31 + step * 7) as u8).collect();
    Message::new(MessageId::from_bytes(id_bytes(step, which)), body)
}

/// What a step does beside submitting: to which of the ready deliveries, the oldest first.
#[derive(Clone, Copy)]
enum Doing {
    Delete,
    Answer,
    Suspend,
    Retry,
    Backup,
}

fn doings(step: u32) -> &'static [Doing] {
    match step % 8 {
        3 => &[Doing::Delete],
        4 => &[Doing::Delete, Doing::Suspend],
        5 => &[Doing::Retry, Doing::Delete],
        6 => &[Doing::Backup, Doing::Delete],
        7 => &[Doing::Delete, Doing::Answer, Doing::Delete],
        _ => &[],
    }
}

fn submissions(step: u32) -> Vec<Op> {
    let submit = |which, bytes, ports: &[&str]| Op::Submit {
        message: message(step, which, bytes),
        ports: ports.iter().map(|name| port(name)).collect(),
        not_before: None,
    };
    match step % 8 {
        0 | 1 => vec![submit(1, 20_000, &["orders"])],
        2 => vec![submit(1, 30_000, &["orders", "copies"]), submit(2, 300, &["orders"])],
        4 | 6 => vec![submit(1, 14_000, &["orders"])],
        _ => Vec::new(),
    }
}

/// Of decisions one is there at any time.
fn decisions(step: u32) -> Vec<Op> {
    let transaction = |step| batch_id(step, 9);
    let decide = Op::Decide { transaction: transaction(step), destination: "a destination".to_owned() };
    let forget = Op::Forget { transaction: transaction(step.saturating_sub(8)) };
    if step % 8 == 3 { vec![decide, forget] } else { Vec::new() }
}

async fn lease(mailbox: &MessageBox, count: usize) -> Result<Vec<crate::Leased>, crate::Error> {
    mailbox.lease(&Want { limit: count, ..want("orders") }).await
}

/// The batch of a step, with leases for what it settles.
async fn batch_of(mailbox: &MessageBox, step: u32, which: u8) -> Result<Batch, crate::Error> {
    let mut batch = Batch::new(batch_id(step, which));
    if step == 0 {
        batch = batch.define_port(&port("orders"), PortSpec { backup: true });
        return Ok(batch.define_port(&port("copies"), PortSpec { backup: false }));
    }
    submissions(step).into_iter().chain(decisions(step)).for_each(|op| batch.push(op));
    add_doings(mailbox, batch, doings(step)).await
}

async fn add_doings(mailbox: &MessageBox, mut batch: Batch, doings: &[Doing]) -> Result<Batch, crate::Error> {
    for (leased, doing) in lease(mailbox, doings.len()).await?.into_iter().zip(doings) {
        let far = Timestamp::from_micros(i64::MAX);
        batch = match doing {
            Doing::Delete => batch.delete(leased.lease, sent()),
            Doing::Answer => batch.respond(leased.lease, Answer::new(vec![7; 9_000]).unwrap(), sent()),
            Doing::Suspend => batch.suspend(leased.lease, "no", failed("no")),
            Doing::Retry => batch.resubmit(leased.lease, far, failed("later"), Headers::default()),
            Doing::Backup => batch.move_to_backup(leased.lease, failed("elsewhere")),
        };
    }
    Ok(batch)
}

/// Every delivery by message and port, with its state, attempts, and the lengths of the body and the answer that can be
/// read; and every decision, as if it were one.
type Digest = BTreeMap<(MessageId, String), (DeliveryState, u32, usize, Option<usize>)>;

async fn digest(mailbox: &MessageBox) -> Digest {
    let mut all = Digest::new();
    let list = mailbox.deliveries(&Filter { limit: 1_000, ..Filter::default() }).await.unwrap();
    for info in list {
        let body = mailbox.body(info.message, 0).await.unwrap().map_or(0, |body| body.len());
        // Leases end with the process.
        let state = if info.state == DeliveryState::Leased { DeliveryState::Ready } else { info.state };
        let answer = mailbox.answer(info.id).await.unwrap().map(|answered| answered.answer.body().len());
        let before = all.insert((info.message, info.port.to_string()), (state, info.attempts, body, answer));
        assert_eq!(before, None, "delivery {} is there twice", info.id);
    }
    for decision in mailbox.decisions().await.unwrap().known {
        let transaction = MessageId::from_bytes(decision.transaction.to_bytes());
        all.insert((transaction, decision.destination), (DeliveryState::Done, 0, 0, None));
    }
    all
}

/// One life: the box, the step it is at, and the disk.
struct Living {
    disk: FaultDisk,
    mailbox: Option<MessageBox>,
    step: u32,
    /// The batch of the step whose outcome is unknown.
    pending: Option<Batch>,
}

impl Living {
    fn new(disk: FaultDisk) -> Self {
        Self { disk, mailbox: None, step: 0, pending: None }
    }

    /// Goes on up to the end or the first error; after one, the box may have stopped.
    async fn live(&mut self) -> Result<(), crate::Error> {
        while self.step < STEPS {
            self.step().await?;
        }
        Ok(())
    }

    async fn step(&mut self) -> Result<(), crate::Error> {
        if self.step % LIFE == LIFE - 1
            && let Some(mailbox) = self.mailbox.take()
        {
            mailbox.close().await?;
        }
        if self.mailbox.is_none() {
            self.mailbox = Some(try_open(&self.disk)?);
        }
        let mailbox = self.mailbox.as_ref().unwrap();
        let batch = batch_of(mailbox, self.step, 0).await?;
        self.pending = Some(batch.clone());
        let committed = mailbox.commit(&batch).await?;
        assert!(committed.all_applied() && !committed.was_repeated(), "{committed:?}");
        self.pending = None;
        self.step += 1;
        Ok(())
    }

    /// The same batch again: what of it was not applied is done now. What it settles, nobody has leased any more.
    async fn settle(&mut self) {
        let mailbox = self.mailbox.as_ref().unwrap();
        let Some(batch) = self.pending.take() else { return };
        let committed = mailbox.commit(&batch).await.unwrap();
        let refused = committed.results().iter().filter(|result| !result.is_applied()).count();
        if committed.was_repeated() {
            assert_eq!(refused, 0, "{committed:?}");
        }
        // All that it was to settle, or nothing of it.
        let missing = doings(self.step).get(..refused).unwrap();
        let others = submissions(self.step).len() + decisions(self.step).len();
        let settling = committed.results().len().saturating_sub(others);
        assert!(refused == 0 || refused == settling, "{committed:?}");
        let rest = add_doings(mailbox, Batch::new(batch_id(self.step, 1)), missing).await.unwrap();
        assert!(mailbox.commit(&rest).await.unwrap().all_applied());
        let again = mailbox.commit(&batch).await.unwrap();
        // A batch of which nothing could be applied is not remembered.
        assert!(again.was_repeated() || refused == again.results().len(), "{again:?}");
        self.step += 1;
    }
}

/// The state after each step of a life in which nothing goes wrong, and how many operations it takes.
async fn healthy() -> (Vec<Digest>, u64) {
    let mut living = Living::new(FaultDisk::new());
    let mut digests = vec![Digest::new()];
    while living.step < STEPS {
        living.step().await.unwrap();
        digests.push(digest(living.mailbox.as_ref().unwrap()).await);
    }
    let names = living.disk.list().unwrap();
    assert!(living.disk.renames() > 12, "rolled {} times", living.disk.renames());
    assert!(
        !names.contains(&"0000000000000001.seg".to_owned()),
        "the first segment was never freed: {names:?}"
    );
    assert!(living.mailbox.as_ref().unwrap().damage().is_empty());
    // What was suspended early lies in a segment that is there still: it was moved.
    let oldest = digests.last().unwrap().values().filter(|(state, ..)| *state == DeliveryState::Suspended);
    assert!(oldest.count() > 8);
    (digests, living.disk.operations())
}

/// Opens the box after a fault at `living.step`, sees that it is as before that step or as after it, and settles it.
async fn reopen_and_settle(living: &mut Living, digests: &[Digest], what: &str) {
    living.mailbox = None;
    living.mailbox = Some(open(&living.disk));
    let mailbox = living.mailbox.as_ref().unwrap();
    assert!(
        mailbox.damage().iter().all(|damage| damage.loss == Loss::None),
        "{what}: {:?}",
        mailbox.damage()
    );
    let (found, step) = (digest(mailbox).await, living.step as usize);
    let may = &digests[step..(step + 2).min(digests.len())];
    assert!(may.contains(&found), "{what}: step {step} is neither undone nor done");
    if living.pending.is_some() {
        living.settle().await;
        let found = digest(living.mailbox.as_ref().unwrap()).await;
        assert_eq!(found, digests[step + 1], "{what}: step {step}, settled");
    }
}

#[tokio::test]
async fn a_failed_operation_anywhere_in_a_life_is_settled_by_reopening() {
    let (digests, operations) = healthy().await;
    let mut told = 0;
    for n in 0..operations {
        let mut living = Living::new(FaultDisk::new());
        living.disk.plan(Plan::FailAt(n));
        let Err(error) = living.live().await else {
            // Freeing a segment fails after its apply was answered; the last one has nothing after it.
            assert!(n + 8 > operations, "operation {n} failed and nobody was told");
            continue;
        };
        told += 1;
        let what = format!("operation {n}");
        assert_eq!(error.kind(), ErrorKind::Unavailable, "{what}: {error}");
        if let Some(mailbox) = &living.mailbox {
            let late = Batch::new(ids().batch()).pause_port(&port("orders"));
            assert_eq!(mailbox.commit(&late).await.unwrap_err().kind(), ErrorKind::Unavailable, "{what}");
        }
        living.disk.plan(Plan::Nothing);
        reopen_and_settle(&mut living, &digests, &what).await;
        living.live().await.unwrap();
        let end = digest(living.mailbox.as_ref().unwrap()).await;
        assert_eq!(&end, digests.last().unwrap(), "{what}, at the end");
    }
    assert!(told > 150, "{told} of {operations}");
}

#[tokio::test]
async fn a_full_disk_anywhere_in_a_life_refuses_and_the_same_batch_is_taken_later() {
    let (digests, operations) = healthy().await;
    let mut refused = 0;
    for n in 0..operations {
        let mut living = Living::new(FaultDisk::new());
        living.disk.plan(Plan::FullAt(n));
        let what = format!("full at operation {n}");
        while let Err(error) = living.live().await {
            let is_full = error.kind() == ErrorKind::Full;
            assert!(is_full || error.kind() == ErrorKind::Unavailable, "{what}: {error}");
            refused += u64::from(is_full);
            living.disk.plan(Plan::Nothing);
            match (&living.mailbox, living.pending.take(), is_full) {
                (Some(mailbox), Some(batch), true) => {
                    // Nothing of it exists, and what was leased still is.
                    assert_eq!(digest(mailbox).await, digests[living.step as usize], "{what}");
                    let committed = mailbox.commit(&batch).await.unwrap();
                    assert!(committed.all_applied() && !committed.was_repeated(), "{what}: {committed:?}");
                    living.step += 1;
                }
                (_, pending, _) => {
                    living.pending = pending;
                    reopen_and_settle(&mut living, &digests, &what).await;
                }
            }
        }
        let end = digest(living.mailbox.as_ref().unwrap()).await;
        assert_eq!(&end, digests.last().unwrap(), "{what}, at the end");
    }
    assert!(refused > 50, "{refused} of {operations}");
}

#[tokio::test]
async fn a_crash_anywhere_and_another_while_recovering_leave_all_or_nothing_of_a_batch() {
    let (digests, operations) = healthy().await;
    let mut recoveries = 0;
    for n in 0..operations {
        let mut living = Living::new(FaultDisk::new());
        living.disk.plan(Plan::StopAt(n));
        if living.live().await.is_ok() {
            // As above.
            assert!(n + 8 > operations, "operation {n}");
            continue;
        }
        let keep = [Keep::All, Keep::Synced, Keep::Sectors(n)][n as usize % 3];
        let left = living.disk.crash(keep);
        for second in 0.. {
            let disk = left.crash(Keep::All);
            disk.plan(Plan::StopAt(second));
            let opened = try_open(&disk).is_ok();
            let what = format!("operation {n}, {keep:?}, then {second}");
            let next = [Keep::Sectors(second), Keep::Synced, Keep::All][second as usize % 3];
            let mut again = Living {
                disk: disk.crash(next),
                mailbox: None,
                step: living.step,
                pending: living.pending.clone(),
            };
            reopen_and_settle(&mut again, &digests, &what).await;
            recoveries += 1;
            if opened {
                break;
            }
        }
    }
    assert!(recoveries > 2 * operations, "{recoveries} recoveries of {operations} crashes");
}
