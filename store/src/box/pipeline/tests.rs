//! Two groups at once: what one does to the other.

#![expect(clippy::disallowed_methods, reason = "callers that wait at the same time")]

use std::sync::mpsc;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::super::commit::Committer;
use super::AHEAD_OPS;
use crate::engine::memory::Memory;
use crate::engine::{Damage, Engine, EngineStats, Key, Record, Visit, WriteSet};
use crate::{
    Batch, BoxConfig, Durability, Error, ErrorKind, Filter, IdSource, Message, MessageBox, MessageId,
    PortName, PortSpec, Refusal, Route, Store, Want,
};

/// An engine whose every apply waits to be told how it ends.
#[derive(Debug)]
struct Told {
    below: Memory,
    ends: Mutex<mpsc::Receiver<Option<ErrorKind>>>,
}

impl Engine for Told {
    fn name(&self) -> &'static str {
        "told"
    }

    fn recover(&self, visit: &mut Visit<'_>) -> Result<(), Error> {
        self.below.recover(visit)
    }

    fn get(&self, key: Key) -> Result<Option<Record>, Error> {
        self.below.get(key)
    }

    fn reserve(&self, bytes: u64, promised: u64) -> Result<(), Error> {
        self.below.reserve(bytes, promised)
    }

    fn apply(&self, writes: &WriteSet, durability: Durability) -> Result<(), Error> {
        match self.ends.lock().unwrap().recv().unwrap() {
            None => self.below.apply(writes, durability),
            Some(kind) => Err(Error::new(kind, "write as the test wants it")),
        }
    }

    fn stats(&self) -> EngineStats {
        self.below.stats()
    }

    fn damage(&self) -> Vec<Damage> {
        self.below.damage()
    }

    fn close(&self) -> Result<(), Error> {
        self.below.close()
    }
}

/// A box with one port, whose groups end when and as the test says.
struct Bench {
    mailbox: MessageBox,
    ends: mpsc::Sender<Option<ErrorKind>>,
    ids: IdSource,
    port: PortName,
}

impl Bench {
    async fn new() -> Self {
        let (ends, told) = mpsc::channel();
        let engine = Arc::new(Told { below: Memory::new(), ends: Mutex::new(told) });
        // The box's own first record, and the port.
        ends.send(None).unwrap();
        ends.send(None).unwrap();
        let ids = IdSource::seeded(Arc::new(crate::SystemClock), 7);
        let config = BoxConfig { ids: ids.clone(), ..BoxConfig::in_memory() };
        let mailbox = MessageBox::with_engine(engine, config).unwrap();
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

    /// Waits until the writer has a group in its hands and nothing else waits, or, with `ahead`, until the helper
    /// has decided about what waits.
    async fn until(&self, ahead: bool) {
        let Committer::Threads { pipeline, .. } = &self.mailbox.handle.committer else {
            panic!("no threads")
        };
        let is_there = || {
            let line = pipeline.line();
            line.is_writing && line.requests.is_empty() && line.is_open == ahead
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
            limit: 1000,
            bytes_max: u64::MAX,
            lease_for: Duration::from_secs(60),
        };
        self.mailbox.lease(&want).await.unwrap().len()
    }
}

#[tokio::test]
async fn what_is_decided_ahead_is_leased_only_once_it_is_written() {
    let bench = Bench::new().await;
    let first = bench.commit(bench.submits(&bench.messages(1)));
    bench.until(false).await;
    let second = bench.commit(bench.submits(&bench.messages(AHEAD_OPS)));
    bench.until(true).await;
    assert_eq!(bench.leased().await, 0);
    bench.ends.send(None).unwrap();
    assert!(first.await.unwrap().unwrap().all_applied());
    assert_eq!(bench.leased().await, 1);
    assert!(!second.is_finished());
    bench.ends.send(None).unwrap();
    assert!(second.await.unwrap().unwrap().all_applied());
    assert_eq!(bench.leased().await, AHEAD_OPS);
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
