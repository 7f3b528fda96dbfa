//! Two groups at once: what one does to the other.

#![expect(clippy::disallowed_methods, reason = "callers that wait at the same time")]

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::super::commit::Committer;
use super::{AHEAD_OPS, CALLER_OPS_MAX};
use crate::engine::hooked::Hooked;
use crate::{
    Batch, BoxConfig, Committing, Error, ErrorKind, Filter, IdSource, Message, MessageBox, MessageId,
    PortName, PortSpec, Refusal, Route, Store, Want,
};

/// A box with one port, whose groups end when and as the test says.
struct Bench {
    mailbox: MessageBox,
    ends: mpsc::Sender<Option<ErrorKind>>,
    ids: IdSource,
    port: PortName,
}

impl Bench {
    async fn new() -> Self {
        Self::over(Hooked::in_memory()).await
    }

    async fn over(engine: Hooked) -> Self {
        let (ends, told) = mpsc::channel();
        let told = Mutex::new(told);
        let engine =
            engine.before_apply(move |_writes, durability| match told.lock().unwrap().recv().unwrap() {
                None => Ok(durability),
                Some(kind) => Err(Error::new(kind, "write as the test wants it")),
            });
        // The box's own first record, and the port.
        ends.send(None).unwrap();
        ends.send(None).unwrap();
        let ids = IdSource::seeded(Arc::new(crate::SystemClock), 7);
        let config = BoxConfig { ids: ids.clone(), ..BoxConfig::in_memory() };
        let mailbox = MessageBox::with_engine(Arc::new(engine), config).unwrap();
        let port = PortName::new("out").unwrap();
        let define = Batch::new(ids.batch()).define_port(&port, PortSpec::default());
        assert!(mailbox.commit(&define).await.unwrap().all_applied());
        Self { mailbox, ends, ids, port }
    }

    fn submits(&self, messages: &[MessageId]) -> Batch {
        messages.iter().fold(Batch::new(self.ids.batch()), |batch, id| {
            batch.submit(&self.port, Message::new(*id, "body"))
        })
    }

    fn messages(&self, count: usize) -> Vec<MessageId> {
        (0..count).map(|_| self.ids.message()).collect()
    }

    fn commit(&self, batch: Batch) -> tokio::task::JoinHandle<Result<crate::Committed, Error>> {
        let mailbox = self.mailbox.clone();
        tokio::spawn(async move { mailbox.commit(&batch).await })
    }

    /// Waits until the writer has a group in its hands and nothing else waits, or, with `ahead`, until it was decided
    /// about what waits.
    async fn until(&self, ahead: bool) {
        let Committer::Threads { pipeline, .. } = &self.mailbox.handle.committer else {
            panic!("no threads")
        };
        let is_there = || {
            let line = pipeline.line();
            let is_there = line.is_writing && line.requests.is_empty() && line.is_open == ahead;
            drop(line);
            // Once nobody has the open group any more.
            is_there && pipeline.open.try_lock().is_ok()
        };
        // What was spawned comes first.
        tokio::task::yield_now().await;
        while !is_there() {
            tokio::task::yield_now().await;
        }
    }

    async fn leased(&self) -> usize {
        let want = Want {
            port: self.port.clone(),
            route: Route::Primary,
            limit: usize::MAX,
            bytes_max: u64::MAX,
            lease_for: Duration::from_secs(60),
        };
        self.mailbox.lease(&want).await.unwrap().len()
    }
}

#[tokio::test]
async fn what_is_decided_ahead_is_leased_only_once_it_is_written() {
    for count in [AHEAD_OPS, CALLER_OPS_MAX + 1] {
        is_leased_only_once_it_is_written(count).await;
    }
}

async fn is_leased_only_once_it_is_written(count: usize) {
    let bench = Bench::new().await;
    let first = bench.commit(bench.submits(&bench.messages(1)));
    bench.until(false).await;
    let second = bench.commit(bench.submits(&bench.messages(count)));
    bench.until(true).await;
    assert_eq!(bench.leased().await, 0);
    bench.ends.send(None).unwrap();
    assert!(first.await.unwrap().unwrap().all_applied());
    assert_eq!(bench.leased().await, 1);
    assert!(!second.is_finished());
    bench.ends.send(None).unwrap();
    assert!(second.await.unwrap().unwrap().all_applied());
    assert_eq!(bench.leased().await, count);
}

/// Which thread decides ahead about so many messages.
async fn decides(count: usize, has_room: bool) -> String {
    let name = Arc::new(Mutex::new(String::new()));
    let seen = name.clone();
    let engine = Hooked::in_memory().before_reserve(has_room, move || {
        *seen.lock().unwrap() = std::thread::current().name().unwrap_or_default().to_owned();
    });
    let bench = Bench::over(engine).await;
    let _first = bench.commit(bench.submits(&bench.messages(1)));
    bench.until(false).await;
    let _second = bench.commit(bench.submits(&bench.messages(count)));
    bench.until(true).await;
    let name = name.lock().unwrap().clone();
    bench.ends.send(None).unwrap();
    bench.ends.send(None).unwrap();
    name
}

#[tokio::test]
async fn a_caller_decides_unless_it_is_long_work_or_may_have_to_wait() {
    let caller = std::thread::current().name().unwrap().to_owned();
    assert_eq!(decides(AHEAD_OPS, true).await, caller);
    assert_eq!(decides(CALLER_OPS_MAX, true).await, caller);
    assert_eq!(decides(CALLER_OPS_MAX + 1, true).await, "pillarbox-decide");
    assert_eq!(decides(AHEAD_OPS, false).await, "pillarbox-decide");
}

#[tokio::test]
async fn what_was_decided_after_a_group_without_room_is_decided_anew() {
    let bench = Bench::new().await;
    let messages = bench.messages(AHEAD_OPS);
    let first = bench.commit(bench.submits(&messages[..1]));
    bench.until(false).await;
    // Against the first batch, its first message is one that is there already.
    let second = bench.commit(bench.submits(&messages));
    bench.until(true).await;
    bench.ends.send(Some(ErrorKind::Full)).unwrap();
    assert_eq!(first.await.unwrap().unwrap_err().kind(), ErrorKind::Full);
    bench.ends.send(None).unwrap();
    let second = second.await.unwrap().unwrap();
    assert!(second.all_applied(), "{second:?}");
    assert_eq!(bench.leased().await, AHEAD_OPS);
    assert_eq!(bench.mailbox.stats().batches, 2);
}

#[tokio::test]
async fn leases_settled_by_a_group_without_room_and_by_the_one_after_it_are_held_again() {
    let bench = Bench::new().await;
    bench.ends.send(None).unwrap();
    let count = AHEAD_OPS + 1;
    bench.commit(bench.submits(&bench.messages(count))).await.unwrap().unwrap();
    let want = Want {
        port: bench.port.clone(),
        route: Route::Primary,
        limit: count,
        bytes_max: u64::MAX,
        lease_for: Duration::from_secs(60),
    };
    let leases: Vec<_> =
        bench.mailbox.lease(&want).await.unwrap().into_iter().map(|leased| leased.lease).collect();
    let delete = |batch: Batch, lease: &crate::Lease| batch.delete(*lease, None);
    let first = bench.commit(leases[..1].iter().fold(Batch::new(bench.ids.batch()), delete));
    bench.until(false).await;
    let second = bench.commit(leases[1..].iter().fold(Batch::new(bench.ids.batch()), delete));
    bench.until(true).await;
    bench.ends.send(Some(ErrorKind::Full)).unwrap();
    assert_eq!(first.await.unwrap().unwrap_err().kind(), ErrorKind::Full);
    bench.ends.send(None).unwrap();
    assert!(second.await.unwrap().unwrap().all_applied());
    // The first lease is as it was: still held, and good for an outcome.
    assert_eq!(bench.leased().await, 0);
    bench.ends.send(None).unwrap();
    let again = leases[..1].iter().fold(Batch::new(bench.ids.batch()), delete);
    assert!(bench.commit(again).await.unwrap().unwrap().all_applied());
}

#[tokio::test]
async fn a_failed_write_stops_the_box_for_what_was_decided_ahead_too() {
    let bench = Bench::new().await;
    let first = bench.commit(bench.submits(&bench.messages(1)));
    bench.until(false).await;
    let second = bench.commit(bench.submits(&bench.messages(AHEAD_OPS)));
    bench.until(true).await;
    bench.ends.send(Some(ErrorKind::Unavailable)).unwrap();
    assert_eq!(first.await.unwrap().unwrap_err().kind(), ErrorKind::Unavailable);
    assert_eq!(second.await.unwrap().unwrap_err().kind(), ErrorKind::Unavailable);
    assert_eq!(bench.mailbox.failed().unwrap().kind(), ErrorKind::Unavailable);
}

#[tokio::test]
async fn a_query_tells_only_what_is_written_and_groups_go_on_after_it() {
    let bench = Bench::new().await;
    let messages = bench.messages(AHEAD_OPS + 1);
    let first = bench.commit(bench.submits(&messages[..1]));
    bench.until(false).await;
    let mailbox = bench.mailbox.clone();
    let asked = tokio::spawn(async move { mailbox.deliveries(&Filter::default()).await });
    tokio::task::yield_now().await;
    assert!(!asked.is_finished());
    // What comes now is decided about after the query.
    let second = bench.commit(bench.submits(&messages[1..]));
    bench.ends.send(None).unwrap();
    assert!(first.await.unwrap().unwrap().all_applied());
    assert_eq!(asked.await.unwrap().unwrap().len(), 1);
    bench.ends.send(None).unwrap();
    assert!(second.await.unwrap().unwrap().all_applied());
}

#[tokio::test]
async fn the_same_batch_twice_at_once_is_applied_once() {
    let bench = Bench::new().await;
    let batch = bench.submits(&bench.messages(AHEAD_OPS));
    let first = bench.commit(batch.clone());
    bench.until(false).await;
    let second = bench.commit(batch);
    bench.until(true).await;
    bench.ends.send(None).unwrap();
    let first = first.await.unwrap().unwrap();
    let second = second.await.unwrap().unwrap();
    assert!(!first.repeated && second.repeated);
    assert_eq!(first.results(), second.results());
    let refused =
        |result: &crate::OpResult| matches!(result, crate::OpResult::Refused(Refusal::Duplicate { .. }));
    assert!(!second.results().iter().any(refused));
}

#[tokio::test]
async fn closing_finishes_what_waits() {
    let bench = Bench::new().await;
    let first = bench.commit(bench.submits(&bench.messages(1)));
    bench.until(false).await;
    let second = bench.commit(bench.submits(&bench.messages(AHEAD_OPS)));
    bench.until(true).await;
    bench.ends.send(None).unwrap();
    bench.ends.send(None).unwrap();
    bench.mailbox.close().await.unwrap();
    assert!(first.await.unwrap().unwrap().all_applied());
    assert!(second.await.unwrap().unwrap().all_applied());
    let late = bench.commit(bench.submits(&bench.messages(1))).await.unwrap();
    assert_eq!(late.unwrap_err().kind(), ErrorKind::Closed);
}

#[tokio::test]
async fn a_panic_while_a_group_is_written_stops_the_box_and_leaves_nobody_waiting() {
    let groups = AtomicUsize::new(0);
    let engine = Hooked::in_memory().before_apply(move |_writes, durability| {
        assert!(groups.fetch_add(1, Ordering::Relaxed) < 2, "as the test wants it");
        Ok(durability)
    });
    let mailbox = MessageBox::with_engine(Arc::new(engine), BoxConfig::in_memory()).unwrap();
    let (ids, port) = (IdSource::system(), PortName::new("out").unwrap());
    let define = Batch::new(ids.batch()).define_port(&port, PortSpec::default());
    mailbox.commit(&define).await.unwrap();
    for _ in 0..2 {
        let submit = Batch::new(ids.batch()).submit(&port, Message::new(ids.message(), "body"));
        assert_eq!(mailbox.commit(&submit).await.unwrap_err().kind(), ErrorKind::Unavailable);
    }
    assert_eq!(mailbox.failed().unwrap().kind(), ErrorKind::Unavailable);
    // Whoever asks hears of it, though the group will never be settled.
    let refused = mailbox.deliveries(&Filter::default()).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Unavailable);
    assert!(mailbox.close().await.is_err());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn committed_inline_from_several_threads_one_group_is_written_at_a_time() {
    let writing = AtomicBool::new(false);
    let engine = Hooked::in_memory().before_apply(move |_writes, durability| {
        assert!(!writing.swap(true, Ordering::SeqCst), "another group is being written");
        std::thread::yield_now();
        writing.store(false, Ordering::SeqCst);
        Ok(durability)
    });
    let config = BoxConfig { committing: Committing::Inline, ..BoxConfig::in_memory() };
    let mailbox = MessageBox::with_engine(Arc::new(engine), config).unwrap();
    let (ids, port) = (IdSource::system(), PortName::new("out").unwrap());
    let define = Batch::new(ids.batch()).define_port(&port, PortSpec::default());
    mailbox.commit(&define).await.unwrap();
    let clients: Vec<_> = (0..4)
        .map(|_| {
            let (mailbox, ids, port) = (mailbox.clone(), ids.clone(), port.clone());
            tokio::spawn(async move {
                for _ in 0..200 {
                    let submit = Batch::new(ids.batch()).submit(&port, Message::new(ids.message(), "body"));
                    assert!(mailbox.commit(&submit).await.unwrap().all_applied());
                    mailbox.deliveries(&Filter { limit: 1, ..Filter::default() }).await.unwrap();
                }
            })
        })
        .collect();
    for client in clients {
        client.await.unwrap();
    }
    assert_eq!(mailbox.ports()[0].counts.ready, 800);
}
