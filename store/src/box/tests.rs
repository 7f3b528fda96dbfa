//! The box as its callers see it, over the journal unless the test says otherwise.

mod answers;
mod decisions;
mod doubts;
mod every;
mod faults;

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use bytes::Bytes;

use crate::{
    AttemptNote, Batch, BoxConfig, Clock, Committing, DeliveryId, DeliveryState, ErrorKind, Failure, Filter,
    Headers, IdSource, Message, MessageBox, OpResult, PortName, PortSpec, Refusal, Route, Store, Timestamp,
    Want,
};

fn config(folder: &std::path::Path) -> BoxConfig {
    BoxConfig { segment_bytes: 1024 * 1024, ..BoxConfig::new(folder) }
}

fn port(name: &str) -> PortName {
    PortName::new(name).unwrap()
}

fn ids() -> IdSource {
    IdSource::system()
}

fn want(name: &str) -> Want {
    Want {
        port: port(name),
        route: Route::Primary,
        limit: 100,
        bytes_max: 1 << 30,
        lease_for: Duration::from_secs(60),
    }
}

fn failed(text: &str) -> Option<AttemptNote> {
    Some(AttemptNote {
        started: Timestamp::from_micros(5),
        took: Duration::from_millis(3),
        failure: Some(Failure::new(false, vec![text.to_owned()])),
    })
}

fn sent() -> Option<AttemptNote> {
    Some(AttemptNote { failure: None, ..failed("").unwrap() })
}

async fn with_port(config: BoxConfig, backup: bool) -> MessageBox {
    let mailbox = MessageBox::open(config).unwrap();
    let batch = Batch::new(ids().batch()).define_port(&port("orders"), PortSpec { backup });
    assert!(mailbox.commit(&batch).await.unwrap().all_applied());
    mailbox
}

async fn submit(mailbox: &MessageBox, body: &[u8]) -> (Message, DeliveryId) {
    let message = Message::new(ids().message(), Bytes::copy_from_slice(body)).header("kind", "test").unwrap();
    let batch = Batch::new(ids().batch()).submit(&port("orders"), message.clone());
    let committed = mailbox.commit(&batch).await.unwrap();
    match committed.results() {
        [OpResult::Submitted { first }] => (message, *first),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn what_was_submitted_is_there_after_reopening_and_is_leased_in_order() {
    let folder = tempfile::tempdir().unwrap();
    let mut bodies = Vec::new();
    {
        let mailbox = with_port(config(folder.path()), false).await;
        for number in 0..50u8 {
            let body = vec![number; usize::from(number) * 40];
            submit(&mailbox, &body).await;
            bodies.push(body);
        }
    }
    let mailbox = MessageBox::open(config(folder.path())).unwrap();
    let leased = mailbox.lease(&want("orders")).await.unwrap();
    let have: Vec<Vec<u8>> = leased.iter().map(|l| l.message.body.to_bytes().unwrap().to_vec()).collect();
    assert_eq!(have, bodies);
    assert_eq!(leased[0].message.headers.get("Kind").unwrap().to_string(), "test");
    let mut batch = Batch::new(ids().batch());
    for leased in &leased {
        batch = batch.delete(leased.lease, sent());
    }
    assert!(mailbox.commit(&batch).await.unwrap().all_applied());
    let counts = mailbox.ports()[0].counts;
    assert_eq!((counts.live(), counts.done), (0, 50));
}

#[tokio::test]
async fn a_folder_has_one_opener_and_the_error_names_it() {
    let folder = tempfile::tempdir().unwrap();
    let _first = with_port(config(folder.path()), false).await;
    let second = MessageBox::open(config(folder.path())).unwrap_err();
    assert_eq!(second.kind(), ErrorKind::Locked);
    assert!(second.to_string().contains(&format!("process {}", std::process::id())), "{second}");
}

#[cfg(feature = "sled")]
#[tokio::test]
async fn a_folder_of_another_engine_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    drop(with_port(config(folder.path()), false).await);
    let other = BoxConfig { engine: crate::EngineKind::Sled, ..config(folder.path()) };
    let error = MessageBox::open(other).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Incompatible);
}

#[tokio::test]
async fn the_same_batch_again_is_applied_once_even_after_reopening() {
    let folder = tempfile::tempdir().unwrap();
    let message = Message::new(ids().message(), "hello");
    let batch = Batch::new(ids().batch())
        .submit(&port("orders"), message)
        .submit(&port("nowhere"), Message::new(ids().message(), "lost"))
        .submit(&port("orders"), Message::new(ids().message(), "second"))
        .submit(&port("orders"), Message::new(ids().message(), "third"));
    let first = {
        let mailbox = with_port(config(folder.path()), false).await;
        let first = mailbox.commit(&batch).await.unwrap();
        let again = mailbox.commit(&batch).await.unwrap();
        assert!(again.was_repeated() && !first.was_repeated());
        assert_eq!(first.results(), again.results());
        assert_eq!(first.results()[1], OpResult::Refused(Refusal::NoSuchPort));
        first
    };
    let mailbox = MessageBox::open(config(folder.path())).unwrap();
    let again = mailbox.commit(&batch).await.unwrap();
    assert!(again.was_repeated());
    assert_eq!(first.results(), again.results());
    assert_eq!(mailbox.ports()[0].counts.ready, 3);
}

#[tokio::test]
async fn an_all_or_none_batch_is_void_when_one_operation_is_refused() {
    let mailbox = with_port(BoxConfig::in_memory(), false).await;
    let batch = Batch::new(ids().batch())
        .all_or_none()
        .submit(&port("orders"), Message::new(ids().message(), "a"))
        .submit(&port("nowhere"), Message::new(ids().message(), "b"));
    let committed = mailbox.commit(&batch).await.unwrap();
    assert_eq!(
        committed.results(),
        [OpResult::Refused(Refusal::Voided), OpResult::Refused(Refusal::NoSuchPort)]
    );
    assert_eq!(mailbox.ports()[0].counts.live(), 0);
}

#[tokio::test]
async fn a_failed_delivery_goes_down_the_ladder_and_its_history_tells_each_step() {
    let folder = tempfile::tempdir().unwrap();
    let id = {
        let mailbox = with_port(config(folder.path()), true).await;
        let (_, id) = submit(&mailbox, b"x").await;
        let lease = mailbox.lease(&want("orders")).await.unwrap()[0].lease;
        let soon = Timestamp::EPOCH;
        let mut carried = Headers::default();
        carried.set("offset", 7i64).unwrap();
        let batch = Batch::new(ids().batch()).resubmit(lease, soon, failed("one"), carried);
        assert!(mailbox.commit(&batch).await.unwrap().all_applied());
        let leased = mailbox.lease(&want("orders")).await.unwrap().remove(0);
        assert_eq!((leased.attempts, leased.attempts_on_route), (1, 1));
        assert_eq!(leased.carried.get("offset").unwrap().to_string(), "7");
        let batch = Batch::new(ids().batch()).move_to_backup(leased.lease, failed("two"));
        assert!(mailbox.commit(&batch).await.unwrap().all_applied());
        assert!(mailbox.lease(&want("orders")).await.unwrap().is_empty());
        id
    };
    let mailbox = MessageBox::open(config(folder.path())).unwrap();
    let backup = Want { route: Route::Backup, ..want("orders") };
    let leased = mailbox.lease(&backup).await.unwrap().remove(0);
    assert_eq!((leased.attempts, leased.attempts_on_route, leased.route), (2, 0, Route::Backup));
    let batch = Batch::new(ids().batch()).suspend(leased.lease, "all spent", failed("three"));
    assert!(mailbox.commit(&batch).await.unwrap().all_applied());
    let detail = mailbox.delivery(id).await.unwrap().unwrap();
    assert_eq!(detail.info.state, DeliveryState::Suspended);
    assert_eq!(detail.info.reason.as_deref(), Some("all spent"));
    let texts: Vec<_> = detail.attempts.iter().map(|a| a.failure.as_ref().unwrap().text()).collect();
    assert_eq!(texts, ["one", "two", "three"]);
    drop(mailbox);
    let mailbox = MessageBox::open(config(folder.path())).unwrap();
    assert_eq!(mailbox.delivery(id).await.unwrap().unwrap(), detail);
    assert!(mailbox.commit(&Batch::new(ids().batch()).resume(id)).await.unwrap().all_applied());
    let leased = mailbox.lease(&want("orders")).await.unwrap().remove(0);
    assert_eq!((leased.attempts, leased.attempts_on_route, leased.route), (3, 0, Route::Primary));
    let batch = Batch::new(ids().batch()).delete(leased.lease, sent());
    assert!(mailbox.commit(&batch).await.unwrap().all_applied());
    let detail = mailbox.delivery(id).await.unwrap().unwrap();
    assert_eq!((detail.info.state, detail.attempts.len()), (DeliveryState::Done, 4));
    drop(mailbox);
    let mailbox = MessageBox::open(config(folder.path())).unwrap();
    assert_eq!(mailbox.delivery(id).await.unwrap().unwrap(), detail);
}

#[tokio::test]
async fn a_settled_lease_settles_nothing_more() {
    let mailbox = with_port(BoxConfig::in_memory(), false).await;
    let (_, id) = submit(&mailbox, b"x").await;
    let lease = mailbox.lease(&want("orders")).await.unwrap()[0].lease;
    let refused = Batch::new(ids().batch()).move_to_backup(lease, failed("no"));
    let refused = mailbox.commit(&refused).await.unwrap();
    assert_eq!(refused.results(), [OpResult::Refused(Refusal::NoBackup)]);
    let batch = Batch::new(ids().batch()).delete(lease, sent()).suspend(lease, "late", None);
    let committed = mailbox.commit(&batch).await.unwrap();
    assert_eq!(committed.results(), [OpResult::Applied, OpResult::Refused(Refusal::NotOwned)]);
    assert_eq!(mailbox.delivery(id).await.unwrap().unwrap().info.state, DeliveryState::Done);
}

#[tokio::test]
async fn a_lease_that_was_given_back_settles_nothing_although_another_is_held() {
    let mailbox = with_port(BoxConfig::in_memory(), true).await;
    let (_, id) = submit(&mailbox, b"x").await;
    let first = mailbox.lease(&want("orders")).await.unwrap()[0].lease;
    mailbox.release(&[first]);
    let second = mailbox.lease(&want("orders")).await.unwrap()[0].lease;
    let stale = Batch::new(ids().batch())
        .delete(first, sent())
        .resubmit(first, Timestamp::EPOCH, failed("late"), Headers::default())
        .move_to_backup(first, failed("late"))
        .suspend(first, "late", None);
    let committed = mailbox.commit(&stale).await.unwrap();
    assert_eq!(committed.results(), vec![OpResult::Refused(Refusal::NotOwned); 4]);
    assert_eq!(mailbox.delivery(id).await.unwrap().unwrap().info.state, DeliveryState::Leased);
    let settled = mailbox.commit(&Batch::new(ids().batch()).delete(second, sent())).await.unwrap();
    assert!(settled.all_applied());
}

#[tokio::test]
async fn a_terminated_delivery_leaves_a_trace_and_a_finished_message_no_body() {
    let folder = tempfile::tempdir().unwrap();
    let mailbox = with_port(config(folder.path()), false).await;
    let (message, id) = submit(&mailbox, b"x").await;
    assert!(mailbox.body(message.id, 0).await.unwrap().is_some());
    assert!(
        mailbox.commit(&Batch::new(ids().batch()).terminate(id, "not wanted")).await.unwrap().all_applied()
    );
    drop(mailbox);
    let mailbox = MessageBox::open(config(folder.path())).unwrap();
    let info = mailbox.message(message.id).await.unwrap().unwrap();
    assert_eq!(info.headers, None);
    assert_eq!(info.deliveries[0].info.state, DeliveryState::Terminated);
    assert_eq!(info.deliveries[0].info.reason.as_deref(), Some("not wanted"));
    assert_eq!(mailbox.body(message.id, 0).await.unwrap(), None);
    let again = Batch::new(ids().batch()).submit(&port("orders"), message);
    let again = mailbox.commit(&again).await.unwrap();
    assert_eq!(again.results(), [OpResult::Refused(Refusal::Duplicate { first: id })]);
}

#[tokio::test]
async fn a_long_body_goes_in_and_out_by_fragments_and_its_room_comes_back() {
    let folder = tempfile::tempdir().unwrap();
    let body: Vec<u8> = (0..3_000_000u32).map(|n| (n * 7 % 251) as u8).collect();
    let message = ids().message();
    {
        let mailbox = with_port(config(folder.path()), false).await;
        let mut writer = mailbox.stage().unwrap();
        for part in body.chunks(100_000) {
            writer.write(Bytes::copy_from_slice(part)).await.unwrap();
        }
        let staged = writer.finish().await.unwrap();
        let batch = Batch::new(ids().batch()).submit(&port("orders"), Message::new(message, staged));
        assert!(mailbox.commit(&batch).await.unwrap().all_applied());
        // One that is given up half way.
        let mut writer = mailbox.stage().unwrap();
        writer.write(Bytes::from(body.clone())).await.unwrap();
    }
    let mailbox = MessageBox::open(config(folder.path())).unwrap();
    let leased = mailbox.lease(&want("orders")).await.unwrap().remove(0);
    assert_eq!(leased.message.body.len(), body.len() as u64);
    assert!(leased.message.body.to_bytes().unwrap() == body);
    let records = mailbox.stats().disk.records;
    let batch = Batch::new(ids().batch()).delete(leased.lease, sent());
    assert!(mailbox.commit(&batch).await.unwrap().all_applied());
    assert_eq!(
        records - mailbox.stats().disk.records,
        12 + 1 - 2,
        "fragments and message go, trace and batch come"
    );
    assert_eq!(leased.message.body.fragment(0).unwrap_err().kind(), ErrorKind::Invalid);
}

#[tokio::test]
async fn finished_deliveries_are_forgotten_past_the_retention() {
    let mut config = BoxConfig::in_memory();
    config.retention.count = 10;
    let mailbox = with_port(config, false).await;
    for _ in 0..100 {
        submit(&mailbox, b"x").await;
        let lease = mailbox.lease(&want("orders")).await.unwrap()[0].lease;
        let batch = Batch::new(ids().batch()).delete(lease, sent());
        assert!(mailbox.commit(&batch).await.unwrap().all_applied());
    }
    // What one batch finishes too much is forgotten with the next.
    assert_eq!(mailbox.ports()[0].counts.done, 11);
    submit(&mailbox, b"x").await;
    assert_eq!(mailbox.ports()[0].counts.done, 10);
    let done = Filter { state: Some(DeliveryState::Done), ..Filter::default() };
    assert_eq!(mailbox.deliveries(&done).await.unwrap().len(), 10);
}

#[tokio::test]
async fn a_box_committing_inline_behaves_the_same() {
    let config = BoxConfig { committing: Committing::Inline, ..BoxConfig::in_memory() };
    let mailbox = with_port(config, false).await;
    submit(&mailbox, b"x").await;
    assert_eq!(mailbox.lease(&want("orders")).await.unwrap().len(), 1);
    mailbox.close().await.unwrap();
    let late = Batch::new(ids().batch()).submit(&port("orders"), Message::new(ids().message(), "late"));
    assert_eq!(mailbox.commit(&late).await.unwrap_err().kind(), ErrorKind::Closed);
}

#[tokio::test]
async fn watchers_hear_of_what_becomes_ready() {
    let mailbox = with_port(BoxConfig::in_memory(), false).await;
    let mut watch = mailbox.watch(&port("orders")).unwrap();
    let (_, ()) = tokio::join!(submit(&mailbox, b"x"), watch.changed());
    let (_, ()) = tokio::join!(submit(&mailbox, b"y"), watch.changed());
    // Also of what is given back.
    let leases: Vec<_> = mailbox.lease(&want("orders")).await.unwrap().iter().map(|l| l.lease).collect();
    let ((), ()) = tokio::join!(async { mailbox.release(&leases) }, watch.changed());
    assert_eq!(mailbox.lease(&want("orders")).await.unwrap().len(), 2);
}

#[tokio::test]
async fn a_batch_past_its_limits_is_refused_and_the_box_goes_on() {
    let mailbox = with_port(BoxConfig::in_memory(), false).await;
    let mut many = Batch::new(ids().batch());
    for _ in 0..=Batch::OPS_MAX {
        many = many.resume(DeliveryId::new(1));
    }
    let error = mailbox.commit(&many).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
    assert!(error.to_string().contains("split it"), "{error}");
    let body = Bytes::from(vec![0; 64 * 1024 * 1024]);
    let mut large = Batch::new(ids().batch());
    for _ in 0..9 {
        large = large.submit(&port("orders"), Message::new(ids().message(), body.clone()));
    }
    assert_eq!(mailbox.commit(&large).await.unwrap_err().kind(), ErrorKind::Invalid);
    submit(&mailbox, b"fine").await;
    assert_eq!(mailbox.ports()[0].counts.ready, 1);
}

#[tokio::test]
async fn a_batch_of_as_many_refusals_as_fit_is_remembered() {
    let mailbox = with_port(BoxConfig::in_memory(), false).await;
    let mut batch = Batch::new(ids().batch()).submit(&port("orders"), Message::new(ids().message(), "one"));
    for number in 1..Batch::OPS_MAX as u64 {
        batch = batch.terminate(DeliveryId::new(u64::MAX - number), "no");
    }
    let first = mailbox.commit(&batch).await.unwrap();
    let again = mailbox.commit(&batch).await.unwrap();
    assert!(again.was_repeated());
    assert_eq!(first.results(), again.results());
}

#[tokio::test]
async fn what_an_adapter_says_is_cut_to_its_bound() {
    let mailbox = with_port(BoxConfig::in_memory(), false).await;
    let (_, id) = submit(&mailbox, b"x").await;
    let lease = mailbox.lease(&want("orders")).await.unwrap()[0].lease;
    let failure = Failure { permanent: true, chain: vec!["é".repeat(2_000_000)] };
    let note = Some(AttemptNote { failure: Some(failure), ..failed("").unwrap() });
    let batch = Batch::new(ids().batch()).suspend(lease, "x".repeat(2_000_000), note);
    assert!(mailbox.commit(&batch).await.unwrap().all_applied());
    let detail = mailbox.delivery(id).await.unwrap().unwrap();
    assert_eq!(detail.info.reason.unwrap().len(), Failure::BYTES_MAX);
    assert_eq!(detail.attempts[0].failure.as_ref().unwrap().text().len(), Failure::BYTES_MAX);
}

#[tokio::test]
async fn a_port_that_loses_its_backup_route_changes_nothing_on_its_primary_or_at_other_ports() {
    let mailbox = with_port(BoxConfig::in_memory(), true).await;
    let define = Batch::new(ids().batch()).define_port(&port("other"), PortSpec { backup: true });
    assert!(mailbox.commit(&define).await.unwrap().all_applied());
    let (_, waits) = submit(&mailbox, b"x").await;
    let message = Message::new(ids().message(), Bytes::from_static(b"y"));
    let committed = mailbox.commit(&Batch::new(ids().batch()).submit(&port("other"), message)).await.unwrap();
    let [OpResult::Submitted { first: elsewhere }] = *committed.results() else { panic!("{committed:?}") };
    let lease = mailbox.lease(&want("orders")).await.unwrap()[0].lease;
    let other = mailbox.lease(&want("other")).await.unwrap()[0].lease;
    // All of it in one group, so that what it put into the queues is not queued yet.
    let late = Timestamp::from_micros(i64::MAX / 2);
    let batch = Batch::new(ids().batch())
        .resubmit(lease, late, failed("no"), Headers::default())
        .move_to_backup(other, failed("no"))
        .define_port(&port("orders"), PortSpec { backup: false });
    assert!(mailbox.commit(&batch).await.unwrap().all_applied());
    let waits = mailbox.delivery(waits).await.unwrap().unwrap().info;
    assert_eq!((waits.state, waits.due), (DeliveryState::RetryWait, Some(late)));
    let elsewhere = mailbox.delivery(elsewhere).await.unwrap().unwrap().info;
    assert_eq!((elsewhere.state, elsewhere.route), (DeliveryState::Ready, Route::Backup));
    let backup = Want { route: Route::Backup, ..want("other") };
    assert_eq!(mailbox.lease(&backup).await.unwrap().len(), 1);
}

/// Found by the conformance suite: what the same group had just moved there was left behind.
#[tokio::test]
async fn a_port_that_loses_its_backup_route_sends_everything_by_its_primary() {
    let mailbox = with_port(BoxConfig::in_memory(), true).await;
    for _ in 0..2 {
        submit(&mailbox, b"x").await;
    }
    let leased = mailbox.lease(&want("orders")).await.unwrap();
    let first = Batch::new(ids().batch()).move_to_backup(leased[0].lease, failed("no"));
    assert!(mailbox.commit(&first).await.unwrap().all_applied());
    let both = Batch::new(ids().batch())
        .move_to_backup(leased[1].lease, failed("no"))
        .define_port(&port("orders"), PortSpec { backup: false });
    assert!(mailbox.commit(&both).await.unwrap().all_applied());
    let leased = mailbox.lease(&want("orders")).await.unwrap();
    let on_route: Vec<_> = leased.iter().map(|leased| (leased.route, leased.attempts_on_route)).collect();
    assert_eq!(on_route, [(Route::Primary, 0), (Route::Primary, 0)]);
}

/// A message for two ports: one delivery has ended and its trace is past the retention, the other one is parked.
#[tokio::test]
async fn a_delivery_that_ended_does_not_come_back_when_its_trace_goes_before_its_message() {
    let folder = tempfile::tempdir().unwrap();
    let mut config = config(folder.path());
    config.retention.count = 1;
    let mailbox = with_port(config.clone(), false).await;
    let define = Batch::new(ids().batch()).define_port(&port("bills"), PortSpec::default());
    mailbox.commit(&define).await.unwrap();
    let mut both = Batch::new(ids().batch());
    let ports = vec![port("orders"), port("bills")];
    both.push(crate::Op::Submit { message: Message::new(ids().message(), "both"), ports, not_before: None });
    let committed = mailbox.commit(&both).await.unwrap();
    let [OpResult::Submitted { first }] = *committed.results() else { panic!("{committed:?}") };
    let parked = DeliveryId::new(first.number() + 1);
    mailbox.commit(&Batch::new(ids().batch()).hold(parked, "later")).await.unwrap();
    for _ in 0..5 {
        submit(&mailbox, b"another").await;
        for leased in mailbox.lease(&want("orders")).await.unwrap() {
            let batch = Batch::new(ids().batch()).delete(leased.lease, sent());
            assert!(mailbox.commit(&batch).await.unwrap().all_applied());
        }
    }
    assert_eq!(mailbox.delivery(first).await.unwrap(), None);
    for _ in 0..2 {
        mailbox.close().await.unwrap();
        let mailbox = MessageBox::open(config.clone()).unwrap();
        assert_eq!(mailbox.delivery(first).await.unwrap(), None);
        let live: Vec<u64> = mailbox.ports().iter().map(|port| port.counts.live()).collect();
        assert_eq!(live, [1, 0], "bills, orders");
    }
    // With the message's end nothing is left that says so.
    let mailbox = MessageBox::open(config).unwrap();
    let keys = || {
        let mut keys = Vec::new();
        let engine = &mailbox.handle.shared.engine;
        engine
            .recover(&mut |key, _head| {
                keys.push(key);
                Ok(())
            })
            .unwrap();
        keys.retain(|key| {
            [super::keys::message::FAMILY, super::keys::delivery::FAMILY].contains(&key.family)
        });
        keys.len()
    };
    assert_eq!(keys(), 3, "the message, the parked delivery, and that the other one has ended");
    mailbox.commit(&Batch::new(ids().batch()).terminate(parked, "enough")).await.unwrap();
    assert_eq!(keys(), 0);
}

/// On one thread a run then repeats itself.
#[tokio::test]
async fn watchers_wake_in_the_order_in_which_they_came() {
    let mailbox =
        with_port(BoxConfig { committing: Committing::Inline, ..BoxConfig::in_memory() }, false).await;
    let woken = std::rc::Rc::new(std::cell::RefCell::new(Vec::new()));
    let local = tokio::task::LocalSet::new();
    for number in 0..16 {
        let (mut watch, woken) = (mailbox.watch(&port("orders")).unwrap(), woken.clone());
        local.spawn_local(async move {
            watch.changed().await;
            woken.borrow_mut().push(number);
        });
    }
    // All of them wait when the change comes.
    local.run_until(tokio::task::yield_now()).await;
    submit(&mailbox, b"x").await;
    local.await;
    assert_eq!(*woken.borrow(), (0..16).collect::<Vec<_>>());
}

/// A clock whose time of day is set, as an operator or a time server does it, while its steady scale goes on.
#[derive(Debug, Default)]
struct SetClock {
    wall: AtomicI64,
    steady: AtomicI64,
}

impl Clock for SetClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_micros(self.wall.load(Ordering::SeqCst))
    }

    fn steady(&self) -> Timestamp {
        Timestamp::from_micros(self.steady.load(Ordering::SeqCst))
    }
}

/// Found by chaos: a clock set forward ended every lease, and what was being sent was sent a second time.
#[tokio::test]
async fn a_clock_that_is_set_ends_no_lease() {
    const HOUR: i64 = 3_600_000_000;
    let clock = Arc::new(SetClock::default());
    clock.wall.store(100 * HOUR, Ordering::SeqCst);
    let config = BoxConfig { clock: clock.clone(), ..BoxConfig::in_memory() };
    let mailbox = with_port(config, false).await;
    submit(&mailbox, b"x").await;
    let leased = mailbox.lease(&want("orders")).await.unwrap().remove(0);
    for wall in [103 * HOUR, 97 * HOUR] {
        clock.wall.store(wall, Ordering::SeqCst);
        assert!(mailbox.lease(&want("orders")).await.unwrap().is_empty(), "somebody works on it");
        let due = mailbox.next_due(&port("orders"), Route::Primary);
        assert_eq!(due, Some(Timestamp::from_micros(wall + 60_000_000)), "the lease ends in its 60 s");
    }
    clock.steady.fetch_add(60_000_000, Ordering::SeqCst);
    let again = mailbox.lease(&want("orders")).await.unwrap().remove(0);
    assert_eq!(again.lease.delivery(), leased.lease.delivery());
    let late = Batch::new(ids().batch()).delete(leased.lease, sent());
    assert_eq!(mailbox.commit(&late).await.unwrap().results(), [OpResult::Refused(Refusal::NotOwned)]);
}
