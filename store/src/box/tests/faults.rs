//! The box over a disk that fills up, fails, and forgets.

use std::sync::Arc;

use super::*;
use crate::Counts;
use crate::engine::journal::tests::fault_disk::{FaultDisk, Keep, Plan};
use crate::engine::journal::{Journal, JournalConfig};

fn try_open(disk: &FaultDisk) -> Result<MessageBox, crate::Error> {
    let settings = JournalConfig { segment_bytes: 64 * 1024, ..Default::default() };
    let journal = Journal::open(Arc::new(disk.clone()), settings)?;
    let config = BoxConfig { committing: Committing::Inline, ..BoxConfig::in_memory() };
    MessageBox::with_engine(Arc::new(journal), config)
}

fn open(disk: &FaultDisk) -> MessageBox {
    try_open(disk).unwrap()
}

async fn defined(disk: &FaultDisk) -> MessageBox {
    let mailbox = open(disk);
    let batch = Batch::new(ids().batch()).define_port(&port("orders"), PortSpec { backup: false });
    mailbox.commit(&batch).await.unwrap();
    mailbox
}

fn submission(body: usize) -> Batch {
    Batch::new(ids().batch()).submit(&port("orders"), Message::new(ids().message(), vec![7; body]))
}

#[tokio::test]
async fn a_full_disk_refuses_messages_and_takes_completions_and_then_goes_on() {
    let disk = FaultDisk::new();
    let mailbox = defined(&disk).await;
    disk.set_capacity(512 * 1024);
    let mut accepted = 0;
    let refused = loop {
        let batch = submission(10_000);
        match mailbox.commit(&batch).await {
            Ok(_) => accepted += 1,
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::Full, "{error}");
                break batch;
            }
        }
    };
    assert!(accepted > 10, "{accepted}");
    assert_eq!(mailbox.failed().map(|error| error.to_string()), None);
    assert_eq!(mailbox.ports()[0].counts.ready, accepted);
    // Everything that was acknowledged can be sent and completed although the disk is full.
    let mut completed = 0;
    while let Some(leased) = mailbox.lease(&Want { limit: 1, ..want("orders") }).await.unwrap().pop() {
        assert_eq!(leased.message.body.len(), 10_000);
        let batch = Batch::new(ids().batch()).delete(leased.lease, sent());
        assert!(mailbox.commit(&batch).await.unwrap().all_applied());
        completed += 1;
    }
    assert_eq!(completed, accepted);
    // That made room: the very batch that was refused is taken now, once.
    let committed = mailbox.commit(&refused).await.unwrap();
    assert!(committed.all_applied() && !committed.was_repeated());
    drop(mailbox);
    let counts = open(&disk).ports()[0].counts;
    assert_eq!((counts.ready, counts.done), (1, accepted));
}

/// Leaves a commit so much room and no more, from none to enough: whatever the group was, leases and staged bodies
/// outlive it, and the same batch is applied once when there is room.
#[tokio::test]
async fn a_group_that_finds_no_room_leaves_no_trace() {
    let mut refusals = 0;
    for room in (0..).step_by(5_000) {
        let disk = FaultDisk::new();
        let mailbox = defined(&disk).await;
        let (_, first) = submit(&mailbox, b"leased").await;
        let lease = mailbox.lease(&want("orders")).await.unwrap()[0].lease;
        let mut writer = mailbox.stage().unwrap();
        writer.write(Bytes::from(vec![3; 300_000])).await.unwrap();
        let long = Message::new(ids().message(), writer.finish().await.unwrap());
        let batch = Batch::new(ids().batch())
            .delete(lease, sent())
            .submit(&port("orders"), long)
            .submit(&port("orders"), Message::new(ids().message(), vec![1; 100_000]));
        disk.set_capacity(disk.used() + room);
        let refused = mailbox.commit(&batch).await.err();
        disk.set_capacity(usize::MAX);
        if let Some(error) = &refused {
            refusals += 1;
            assert_eq!(error.kind(), ErrorKind::Full, "room={room}: {error}");
            let state = mailbox.delivery(first).await.unwrap().unwrap().info.state;
            assert_eq!((state, mailbox.ports()[0].counts.live()), (DeliveryState::Leased, 1), "room={room}");
            let committed = mailbox.commit(&batch).await.unwrap();
            assert!(committed.all_applied(), "room={room}: {committed:?}");
        }
        let leased = mailbox.lease(&want("orders")).await.unwrap();
        let lens: Vec<u64> = leased.iter().map(|leased| leased.message.body.len()).collect();
        assert_eq!(lens, [300_000, 100_000], "room={room}");
        assert!(leased[0].message.body.to_bytes().unwrap().iter().all(|byte| *byte == 3));
        if refused.is_none() {
            break;
        }
    }
    assert!(refusals > 3, "{refusals}");
}

/// A delivery that was leased because its time had come is on the disk as waiting for it. A group that finds no room
/// must not give it to a second holder.
#[tokio::test]
async fn a_full_disk_takes_no_lease_from_a_delivery_whose_time_had_come() {
    let mut refusals = 0;
    for n in 0.. {
        let disk = FaultDisk::new();
        let mailbox = defined(&disk).await;
        let message = Message::new(ids().message(), "due long ago");
        let mut batch = Batch::new(ids().batch());
        let not_before = Some(Timestamp::from_micros(1));
        batch.push(crate::Op::Submit { message, ports: vec![port("orders")], not_before });
        mailbox.commit(&batch).await.unwrap();
        let lease = mailbox.lease(&want("orders")).await.unwrap()[0].lease;
        disk.plan(Plan::FullAt(disk.operations() + n));
        let refused = mailbox.commit(&submission(100)).await.err();
        disk.plan(Plan::Nothing);
        let Some(error) = refused else { break };
        if error.kind() == ErrorKind::Unavailable {
            continue;
        }
        refusals += 1;
        let counts = mailbox.ports()[0].counts;
        assert_eq!((counts.leased, counts.live()), (1, 1), "n={n}");
        assert_eq!(mailbox.lease(&want("orders")).await.unwrap().len(), 0, "n={n}");
        let batch = Batch::new(ids().batch()).delete(lease, sent());
        assert!(mailbox.commit(&batch).await.unwrap().all_applied(), "n={n}");
    }
    assert!(refusals > 0, "no write was reached");
}

/// Fails the n-th operation of a commit, for every n: the caller hears that the outcome is unknown, the box stops,
/// and after reopening the same batch is there exactly once.
#[tokio::test]
async fn a_failed_flush_stops_the_box_and_reopening_settles_the_batch() {
    for n in 0.. {
        let disk = FaultDisk::new();
        let mailbox = defined(&disk).await;
        let batch = submission(100);
        disk.plan(Plan::FailAt(disk.operations() + n));
        let failed = mailbox.commit(&batch).await;
        disk.plan(Plan::Nothing);
        let Err(error) = failed else {
            assert!(n > 0, "no operation was reached");
            break;
        };
        assert_eq!(error.kind(), ErrorKind::Unavailable, "n={n}");
        let late = mailbox.commit(&submission(1)).await.unwrap_err();
        assert_eq!(late.kind(), ErrorKind::Unavailable);
        assert!(mailbox.lease(&want("orders")).await.is_err());
        for keep in [Keep::All, Keep::Synced, Keep::Sectors(n)] {
            let mailbox = open(&disk.crash(keep));
            let committed = mailbox.commit(&batch).await.unwrap();
            assert!(committed.all_applied(), "n={n} {keep:?}: {committed:?}");
            assert_eq!(mailbox.ports()[0].counts.live(), 1, "n={n} {keep:?}");
        }
    }
}

/// The failed batch may come to nothing: until that is settled nobody may be told what it did.
#[tokio::test]
async fn what_may_not_last_is_told_to_nobody_after_a_failed_flush() {
    let disk = FaultDisk::new();
    let mailbox = defined(&disk).await;
    let id = ids().message();
    let submit = Batch::new(ids().batch()).submit(&port("orders"), Message::new(id, "body"));
    assert!(mailbox.commit(&submit).await.unwrap().all_applied());
    let leased = mailbox.lease(&want("orders")).await.unwrap();
    // The write and the flush of the completion: the second one fails.
    disk.plan(Plan::FailAt(disk.operations() + 1));
    let done = Batch::new(ids().batch()).delete(leased[0].lease, None);
    let failed = mailbox.commit(&done).await.unwrap_err();
    assert_eq!(failed.kind(), ErrorKind::Unavailable);
    assert_eq!(mailbox.message(id).await.unwrap_err().kind(), ErrorKind::Unavailable);
    let delivery = leased[0].lease.delivery();
    assert_eq!(mailbox.delivery(delivery).await.unwrap_err().kind(), ErrorKind::Unavailable);
    let listed = mailbox.deliveries(&Filter::default()).await.unwrap_err();
    assert_eq!(listed.kind(), ErrorKind::Unavailable);
    assert_eq!(mailbox.body(id, 0).await.unwrap_err().kind(), ErrorKind::Unavailable);
}

/// Stops at every operation of a life with every kind of step. After reopening the box is as the last acknowledged
/// step left it, or as the one that was cut off would have: never anything else, and never damaged.
#[tokio::test]
async fn a_crash_at_every_operation_leaves_the_box_as_it_was_acknowledged() {
    let healthy = FaultDisk::new();
    let steps = life(&healthy).await;
    assert_eq!(steps.len(), 9, "{steps:?}");
    for n in 0..healthy.operations() {
        let disk = FaultDisk::new();
        disk.plan(Plan::StopAt(n));
        let acknowledged = life(&disk).await.len();
        let may = &steps[acknowledged.saturating_sub(1)..(acknowledged + 1).min(steps.len())];
        for keep in [Keep::All, Keep::Synced, Keep::Sectors(n)] {
            let mailbox = open(&disk.crash(keep));
            let counts = mailbox.ports().first().map(|port| port.counts);
            let as_before = counts.is_none() && acknowledged == 0;
            assert!(
                as_before || counts.is_some_and(|counts| may.contains(&counts)),
                "n={n} {keep:?}: {counts:?}"
            );
            assert_eq!(mailbox.damage(), [], "n={n} {keep:?}");
        }
    }
}

/// Submits, sends, fails, parks, resumes and ends. Gives the counts after each acknowledged step.
async fn life(disk: &FaultDisk) -> Vec<Counts> {
    let Ok(mailbox) = try_open(disk) else { return Vec::new() };
    let mut counts = Vec::new();
    for step in 0..9 {
        let batch = Batch::new(ids().batch());
        let batch = match step {
            0 => batch.define_port(&port("orders"), PortSpec { backup: true }),
            1..=3 => submission(30_000),
            4..=6 => {
                let want = Want { limit: 1, ..want("orders") };
                let Some(leased) = mailbox.lease(&want).await.ok().and_then(|mut leased| leased.pop()) else {
                    break;
                };
                match step {
                    4 => batch.delete(leased.lease, sent()),
                    5 => batch.suspend(leased.lease, "no", failed("no")),
                    _ => batch.resubmit(
                        leased.lease,
                        Timestamp::from_micros(i64::MAX),
                        failed("no"),
                        Headers::default(),
                    ),
                }
            }
            7 => batch.resume(DeliveryId::new(2)),
            _ => batch.terminate(DeliveryId::new(2), "enough"),
        };
        if mailbox.commit(&batch).await.is_err() {
            break;
        }
        counts.push(mailbox.ports()[0].counts);
    }
    counts
}
