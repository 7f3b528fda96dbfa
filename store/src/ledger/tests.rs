//! The state machine by itself: what goes in, what comes out, and that it is the same when it is built anew from what it
//! wrote.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;

use super::*;
use crate::BatchId;
use crate::clock::Moment;
use crate::engine::memory::Memory;
use crate::engine::{Engine, Key, Write, WriteSet};
use crate::message_box::keys;
use crate::{
    AttemptNote, Batch, Body, Committed, Durability, FRAGMENT_BYTES, Failure, Headers, Lease, Message, Op,
    OpResult, PortSpec, Refusal, Staged, Want,
};

/// A ledger, and the engine that has what it wrote.
struct Bench {
    ledger: Ledger,
    engine: Memory,
    /// Of the last group.
    writes: WriteSet,
    retention: Retention,
    now: i64,
    ids: u8,
}

impl Bench {
    /// With the ports `a` and `b`, of which the first has a backup route.
    fn new(retention: Retention) -> Self {
        let ledger = Recovery::new(retention).finish(&[]).ledger;
        let engine = Memory::new();
        let mut bench = Self { ledger, engine, writes: WriteSet::default(), retention, now: 0, ids: 0 };
        let ports = bench.batch().define_port(&port("a"), PortSpec { backup: true });
        bench.commit(&ports.define_port(&port("b"), PortSpec { backup: false }));
        bench
    }

    fn batch(&mut self) -> Batch {
        self.ids += 1;
        Batch::new(BatchId::from_bytes([self.ids; 16]))
    }

    /// Applies a batch as a group of its own that is not durable yet.
    fn apply(&mut self, batch: &Batch) -> Committed {
        let mut prepared = Prepared::new(batch, u64::MAX).unwrap();
        self.apply_prepared(&mut prepared)
    }

    fn apply_prepared(&mut self, prepared: &mut Prepared) -> Committed {
        self.writes.clear();
        let now = Timestamp::from_micros(self.now);
        let committed = self.ledger.apply(prepared, now, &mut self.writes);
        self.ledger.end_group(now, &mut self.writes);
        self.ledger.forget_finished(now, &mut self.writes);
        self.ledger.seal();
        committed
    }

    fn publish(&mut self) -> Vec<u32> {
        self.engine.apply(&self.writes, Durability::Flushed).unwrap();
        self.ledger.publish()
    }

    fn commit(&mut self, batch: &Batch) -> Vec<OpResult> {
        let results = self.apply(batch).results().to_vec();
        self.publish();
        results
    }

    fn applied(&mut self, batch: &Batch) {
        assert!(self.commit(batch).iter().all(OpResult::is_applied));
    }

    /// Submits one message with the id `id` to `ports` and gives its first delivery.
    fn submit(&mut self, id: u8, ports: &[&str], bytes: usize) -> DeliveryId {
        let batch = self.batch();
        let batch = with_submit(batch, id, ports, None, Bytes::from(vec![id; bytes]).into());
        match self.commit(&batch)[..] {
            [OpResult::Submitted { first }] => first,
            ref other => panic!("{other:?}"),
        }
    }

    fn moment(&self) -> Moment {
        Moment { wall: Timestamp::from_micros(self.now), steady: Timestamp::from_micros(self.now) }
    }

    fn lease(&mut self, want: &Want) -> Vec<Lease> {
        let now = self.moment();
        self.ledger.lease(want, now).iter().map(|picked| picked.lease).collect()
    }

    fn recovered(&self) -> Recovered {
        let mut recovery = Recovery::new(self.retention);
        self.engine.recover(&mut |key, head| recovery.visit(key, head)).unwrap();
        recovery.finish(&[])
    }

    fn keys(&self, family: u8) -> Vec<(u64, u32)> {
        let mut keys = Vec::new();
        let mut visit = |key: Key, _head: &[u8]| {
            if key.family == family {
                keys.push((key.number, key.part));
            }
            Ok(())
        };
        self.engine.recover(&mut visit).unwrap();
        keys.sort_unstable();
        keys
    }

    /// Built anew from the engine it is the same. Nothing may be leased.
    fn assert_lasts(&self) {
        let recovered = self.recovered();
        assert_eq!(recovered.orphans, []);
        assert_eq!(picture(&recovered.ledger), picture(&self.ledger));
    }
}

use super::recover::Recovered;

fn port(name: &str) -> PortName {
    PortName::new(name).unwrap()
}

fn id(id: u8) -> MessageId {
    MessageId::from_bytes([id; 16])
}

fn with_submit(mut batch: Batch, of: u8, ports: &[&str], not_before: Option<i64>, body: Body) -> Batch {
    let ports = ports.iter().map(|name| port(name)).collect();
    let not_before = not_before.map(Timestamp::from_micros);
    batch.push(Op::Submit { message: Message::new(id(of), body), ports, not_before });
    batch
}

fn want(name: &str) -> Want {
    let lease_for = Duration::from_micros(1000);
    Want { port: port(name), route: Route::Primary, limit: 100, bytes_max: u64::MAX, lease_for }
}

fn note() -> Option<AttemptNote> {
    let failure = Some(Failure::new(false, vec!["no".to_owned()]));
    Some(AttemptNote { started: Timestamp::EPOCH, took: Duration::from_micros(3), failure })
}

/// All that is known by records, in words.
fn picture(ledger: &Ledger) -> Vec<String> {
    let mut lines = vec![format!("next {:?}, traces {}", ledger.next_numbers(), ledger.traces())];
    for (number, row) in ledger.deliveries_from(0) {
        let DeliveryRow { due, attempts, port, ordinal, state, .. } = row;
        let open = (row.attempts_on_route, row.has_record(), row.has(DeliveryRow::CARRIED));
        let open = (!state.is_terminal()).then_some(open);
        let (route, history) = (row.route(), row.has_history());
        lines.push(format!(
            "{number}: {state:?} {due} {attempts} {port} {ordinal} {route:?} {history} {open:?}"
        ));
    }
    for (number, row) in ledger.messages.range(0) {
        let (id, submitted, body_len, live, known) =
            (row.id, row.submitted, row.body_len, row.live, row.known);
        let count = if live > 0 { row.count } else { 0 };
        lines.push(format!("{number}: {id} {submitted:?} {body_len} {live} {known} {count}"));
        assert_eq!(ledger.number_of(id), Some(number));
    }
    assert_eq!(ledger.ids.len(), ledger.messages.range(0).count());
    lines.extend(ledger.ports().iter().map(|port| format!("{:?}", port.info())));
    let bodies: BTreeMap<u64, u64> = ledger.long_bodies().collect();
    lines.push(format!("{bodies:?} {:?}", ledger.applied.ids().collect::<Vec<_>>()));
    lines
}

#[test]
fn a_ledger_built_anew_is_the_one_that_was() {
    let mut bench = Bench::new(Retention::default());
    bench.now = 1_000_000;
    for of in 1..=6 {
        bench.submit(of, &["a", "b"], usize::from(of));
    }
    let later = bench.batch();
    let later = with_submit(later, 7, &["b"], Some(5_000_000), Bytes::from_static(b"later").into());
    let long = Bytes::from(vec![7; 2 * FRAGMENT_BYTES + 10]);
    bench.applied(&with_submit(later, 8, &["a"], None, long.into()));
    bench.assert_lasts();
    let leases = bench.lease(&want("a"));
    assert_eq!(leases.len(), 7);
    let mut carried = Headers::default();
    carried.set("page", "2").unwrap();
    let due = Timestamp::from_micros(9_000_000);
    let batch = bench.batch().delete(leases[0], note());
    let batch = batch.resubmit(leases[1], due, note(), carried.clone()).move_to_backup(leases[2], note());
    let batch = batch.suspend(leases[3], "parked", note()).resubmit(leases[4], due, None, Headers::default());
    bench.applied(&batch.delete(leases[5], None).delete(leases[6], None));
    bench.assert_lasts();
    assert_eq!(bench.keys(keys::fragment::FAMILY), [], "a long body goes with its last delivery");
    let held: Vec<u64> = bench.ledger.deliveries_from(0).map(|(number, _)| number).collect();
    let b_of_first = DeliveryId::new(held[1]);
    let scheduled = DeliveryId::new(13);
    let batch = bench
        .batch()
        .hold(b_of_first, "held")
        .hold(scheduled, "held as well")
        .terminate(DeliveryId::new(4), "t");
    bench.applied(&batch);
    bench.assert_lasts();
    let batch = bench.batch().resume(b_of_first).resume(leases[1].delivery()).retire_port(&port("b"));
    bench.applied(&batch.pause_port(&port("a")).terminate(leases[3].delivery(), "enough"));
    bench.assert_lasts();
    // The first message has ended altogether but for the delivery that was resumed.
    let batch = bench.batch().terminate(b_of_first, "x");
    bench.applied(&batch);
    assert!(!bench.keys(keys::message::FAMILY).contains(&(1, 0)));
    bench.assert_lasts();
    let counts: Vec<_> = bench.ledger.ports().iter().map(|port| port.counts().live()).collect();
    assert_eq!(counts, [3, 5]);
}

#[test]
fn traces_are_forgotten_past_their_age_and_their_ids_with_them() {
    let age = Duration::from_secs(10);
    let mut bench = Bench::new(Retention { count: 1000, age, ..Retention::default() });
    for (at, of) in [(0, 1), (5_000_000, 2)] {
        bench.now = at;
        let delivery = bench.submit(of, &["b"], 3);
        let batch = bench.batch().terminate(delivery, "x");
        bench.applied(&batch);
    }
    assert_eq!(bench.keys(keys::finished::FAMILY), [(0, 0), (1, 0)]);
    let known = |bench: &Bench| [1, 2].map(|of| bench.ledger.number_of(id(of)).is_some());
    let none = |bench: &mut Bench| {
        let batch = bench.batch().pause_port(&port("b")).unpause_port(&port("b"));
        bench.applied(&batch);
    };
    bench.now = 10_000_000;
    none(&mut bench);
    assert_eq!((known(&bench), bench.ledger.traces()), ([true, true], 2), "not older than that yet");
    bench.now += 1;
    none(&mut bench);
    assert_eq!((known(&bench), bench.ledger.traces()), ([false, true], 1));
    assert_eq!(bench.keys(keys::finished::FAMILY), [(1, 0)]);
    bench.assert_lasts();
    bench.submit(1, &["b"], 3);
    let again = bench.batch();
    let again = with_submit(again, 2, &["b"], None, Body::default());
    assert!(matches!(bench.commit(&again)[..], [OpResult::Refused(Refusal::Duplicate { .. })]));
    bench.now = 16_000_000;
    none(&mut bench);
    assert_eq!((known(&bench), bench.ledger.traces()), ([true, false], 0));
    assert_eq!(bench.keys(keys::finished::FAMILY), []);
    assert_eq!(bench.ledger.ports()[1].counts().terminated, 0);
}

#[test]
fn as_many_traces_stay_as_the_retention_says() {
    let mut bench =
        Bench::new(Retention { count: 3, age: Duration::from_secs(1000), ..Retention::default() });
    for of in 1..=8 {
        let delivery = bench.submit(of, &["b"], 0);
        let lease = bench.lease(&want("b"))[0];
        let batch = if of % 2 == 0 {
            bench.batch().delete(lease, note())
        } else {
            bench.batch().suspend(lease, "parked", note()).terminate(delivery, "x")
        };
        bench.applied(&batch);
        assert_eq!(bench.ledger.traces(), u64::from(of).min(3));
        assert_eq!(bench.ledger.deliveries_from(0).count(), usize::from(of).min(3));
        bench.assert_lasts();
    }
    // With a trace its history goes, of which only a failed attempt has one.
    let terminated: Vec<u64> = bench.ledger.deliveries_from(0).map(|(number, _)| number).collect();
    assert_eq!(terminated, [6, 7, 8]);
    assert_eq!(bench.keys(keys::attempt::FAMILY), [(7, 0)]);
}

#[test]
fn a_long_group_of_outcomes_makes_several_pages() {
    let mut bench =
        Bench::new(Retention { count: 60, age: Duration::from_secs(1000), ..Retention::default() });
    let mut all = bench.batch();
    for of in 1..=100 {
        all = with_submit(all, of, &["b"], None, Body::default());
    }
    bench.applied(&all);
    let mut all = bench.batch();
    for number in 1..=100 {
        all = all.terminate(DeliveryId::new(number), "y".repeat(4000));
    }
    bench.applied(&all);
    // A page ends with the first trace that takes it past 256 KiB: 66 of about 4,025 bytes.
    let pages: Vec<u32> = bench.ledger.pages.iter().map(|page| page.rows).collect();
    assert_eq!((pages, bench.ledger.traces()), (vec![66, 34], 100));
    bench.assert_lasts();
    let number = bench.submit(101, &["b"], 0);
    let one = bench.batch().terminate(number, "");
    bench.applied(&one);
    assert_eq!(bench.ledger.traces(), 101, "a page goes once the others are enough without it");
    for of in 102..=127 {
        let number = bench.submit(of, &["b"], 0);
        let one = bench.batch().terminate(number, "");
        bench.applied(&one);
        let others = u64::from(of) - 66;
        let left = if others < 60 { others + 66 } else { others };
        assert_eq!(bench.ledger.traces(), left, "after {of}");
    }
    bench.assert_lasts();
}

#[test]
fn a_lease_takes_what_was_asked_for_and_no_more() {
    let mut bench = Bench::new(Retention::default());
    for of in 1..=5 {
        bench.submit(of, &["b"], 10);
    }
    let mut all = bench.batch().pause_port(&port("b"));
    bench.applied(&all);
    assert_eq!(bench.lease(&want("b")), []);
    all = bench.batch().unpause_port(&port("b"));
    bench.applied(&all);
    for (limit, bytes_max, picked) in
        [(0, 100, 0), (2, 100, 2), (9, 0, 1), (9, 19, 2), (9, 20, 2), (9, 21, 3), (9, 50, 5)]
    {
        let leases = bench.lease(&Want { limit, bytes_max, ..want("b") });
        let numbers: Vec<u64> = leases.iter().map(|lease| lease.delivery().number()).collect();
        assert_eq!(numbers, (1..=picked).collect::<Vec<_>>(), "{limit} of {bytes_max} bytes");
        let leased = bench.ledger.ports()[1].counts();
        assert_eq!((leased.leased, leased.ready), (picked, 5 - picked));
        // Given back, they come first again and in the same order.
        assert_eq!(bench.ledger.release(&leases), if picked == 0 { vec![] } else { vec![1] });
        assert_eq!(bench.ledger.release(&leases), [], "they were given back before");
    }
    assert_eq!(bench.lease(&Want { route: Route::Backup, ..want("b") }), []);
    assert_eq!(bench.lease(&want("nowhere")), []);
    bench.assert_lasts();
}

#[test]
fn leases_given_back_name_each_of_their_ports_once() {
    let mut bench = Bench::new(Retention::default());
    for of in 1..=2 {
        bench.submit(of, &["a", "b"], 10);
    }
    let mut leases = bench.lease(&want("a"));
    leases.extend(bench.lease(&want("b")));
    let numbers: Vec<u64> = leases.iter().map(|lease| lease.delivery().number()).collect();
    assert_eq!(numbers, [1, 3, 2, 4]);
    assert_eq!(bench.ledger.release(&leases), [1, 0]);
    assert_eq!(bench.ledger.release(&leases), []);
}

#[test]
fn a_lease_ends_at_its_time_and_no_other_one_with_it() {
    let mut bench = Bench::new(Retention::default());
    for of in 1..=4 {
        bench.submit(of, &["b"], 10);
    }
    let due = |bench: &Bench| {
        let due = bench.ledger.ports()[1].next_due(Route::Primary, bench.moment());
        due.map(Timestamp::as_micros)
    };
    let numbers = |leases: &[Lease]| leases.iter().map(|lease| lease.delivery().number()).collect::<Vec<_>>();
    let for_micros = |limit, micros| Want { limit, lease_for: Duration::from_micros(micros), ..want("b") };
    assert_eq!(due(&bench), None);
    assert_eq!(numbers(&bench.lease(&for_micros(1, 1000))), [1]);
    assert_eq!(due(&bench), Some(1000));
    assert_eq!(numbers(&bench.lease(&for_micros(2, 500))), [2, 3]);
    assert_eq!(due(&bench), Some(500));
    assert_eq!(numbers(&bench.lease(&for_micros(1, 2000))), [4]);
    assert_eq!(due(&bench), Some(500));
    bench.now = 499;
    assert_eq!(bench.lease(&for_micros(9, 1)), []);
    bench.now = 500;
    let again = bench.lease(&for_micros(9, 10_000));
    assert_eq!((numbers(&again), due(&bench)), (vec![2, 3], Some(1000)));
    bench.now = 999;
    assert_eq!(bench.lease(&for_micros(9, 1)), []);
    bench.now = 1000;
    assert_eq!(numbers(&bench.lease(&for_micros(0, 1))), []);
    assert_eq!((due(&bench), bench.ledger.ports()[1].counts().ready), (Some(2000), 1));
    let done = bench.batch().delete(again[0], None).delete(again[1], None);
    bench.applied(&done);
    bench.now = 2000;
    let mut rest = numbers(&bench.lease(&for_micros(9, 1)));
    rest.sort_unstable();
    assert_eq!(rest, [1, 4]);
}

#[test]
fn what_waits_for_a_time_is_leased_from_then_on() {
    let mut bench = Bench::new(Retention::default());
    let batch = bench.batch();
    let batch = with_submit(batch, 1, &["b"], Some(200), Body::default());
    let batch = with_submit(batch, 2, &["b"], Some(100), Body::default());
    bench.applied(&with_submit(batch, 3, &["b"], Some(0), Body::default()));
    let counts = bench.ledger.ports()[1].counts();
    assert_eq!((counts.ready, counts.scheduled), (1, 2));
    let mut seen = Vec::new();
    for now in [0, 99, 100, 199, 200, 201] {
        bench.now = now;
        seen.push(bench.lease(&want("b")).iter().map(|lease| lease.delivery().number()).collect::<Vec<_>>());
    }
    assert_eq!(seen, [vec![3], vec![], vec![2], vec![], vec![1], vec![]]);
    let counts = bench.ledger.ports()[1].counts();
    assert_eq!((counts.ready, counts.scheduled, counts.leased), (0, 0, 3));
}

/// A group that the disk had no room for: the ledger is built anew, and those who hold leases go on.
#[test]
fn a_ledger_built_anew_after_a_full_disk_keeps_the_leases() {
    let mut bench = Bench::new(Retention::default());
    for of in 1..=4 {
        bench.submit(of, &["a"], 10);
    }
    let batch = bench.batch();
    bench.applied(&with_submit(batch, 5, &["b"], Some(300), Body::default()));
    bench.submit(6, &["b"], 10);
    bench.now = 300;
    let short = |limit, micros| Want { limit, lease_for: Duration::from_micros(micros), ..want("a") };
    let mut leases = bench.lease(&short(1, 900));
    leases.extend(bench.lease(&short(1, 700)));
    leases.extend(bench.lease(&short(1, 800)));
    let of_b = bench.lease(&want("b"));
    assert_eq!((leases.len(), of_b.len()), (3, 2));
    // One is settled by the group that is given up, one was parked for good before it.
    let lost = bench.batch().delete(leases[0], note());
    bench.apply(&lost);
    let mut rebuilt = bench.recovered().ledger;
    rebuilt.restore_leases(bench.ledger.held_leases());
    rebuilt.keep_staging(&bench.ledger);
    bench.ledger = rebuilt;
    let due = bench.ledger.ports()[0].next_due(Route::Primary, bench.moment());
    assert_eq!(due, Some(Timestamp::from_micros(1000)));
    let due = bench.ledger.ports()[1].next_due(Route::Primary, bench.moment());
    assert_eq!(due, Some(Timestamp::from_micros(1300)), "it is leased, and waits for its time no more");
    let counts = |bench: &Bench, port: usize| {
        let counts = bench.ledger.ports()[port].counts();
        [counts.ready, counts.leased, counts.scheduled, counts.done]
    };
    assert_eq!((counts(&bench, 0), counts(&bench, 1)), ([1, 3, 0, 0], [0, 2, 0, 0]));
    let fresh = bench.lease(&want("a"));
    assert_eq!(fresh.iter().map(|lease| lease.delivery().number()).collect::<Vec<_>>(), [4]);
    assert!(leases.iter().chain(&of_b).all(|lease| lease.token < fresh[0].token), "no token is given twice");
    let mut settle = bench.batch();
    for lease in leases.iter().chain(&of_b).chain(&fresh) {
        settle = settle.delete(*lease, None);
    }
    bench.applied(&settle);
    assert_eq!((counts(&bench, 0), counts(&bench, 1)), ([0, 0, 0, 4], [0, 0, 0, 2]));
    bench.assert_lasts();
    // Nothing is held any more, and what has ended is not leased again by an old list.
    assert_eq!(bench.ledger.held_leases().len(), 0);
}

#[test]
fn a_lease_is_not_put_back_on_what_waits_for_nobody() {
    let mut bench = Bench::new(Retention::default());
    bench.submit(1, &["a"], 10);
    let lease = bench.lease(&want("a"))[0];
    let held = bench.ledger.held_leases();
    let park = bench.batch().suspend(lease, "parked", None);
    bench.applied(&park);
    bench.ledger.restore_leases(held);
    let counts = bench.ledger.ports()[0].counts();
    assert_eq!((counts.suspended, counts.leased), (1, 0));
    bench.assert_lasts();
}

/// Puts `bytes` in ahead of a message.
fn stage(bench: &mut Bench, bytes: usize) -> u64 {
    let number = bench.ledger.begin_staging();
    for (index, piece) in (0..).zip(vec![1; bytes].chunks(FRAGMENT_BYTES)) {
        let id = BatchId::from_bytes([200; 16]);
        let mut fragment = Prepared::stage(id, number, index, Bytes::copy_from_slice(piece));
        assert_eq!(bench.apply_prepared(&mut fragment).results(), [OpResult::Applied]);
        bench.publish();
    }
    number
}

fn staged(number: u64, len: u64) -> Body {
    Body::staged(Staged { number, len, discard: None })
}

#[test]
fn a_body_put_in_ahead_is_taken_back_to_the_last_fragment_and_no_further() {
    let mut bench = Bench::new(Retention::default());
    let kept = stage(&mut bench, 10);
    let number = stage(&mut bench, FRAGMENT_BYTES + 10);
    assert_eq!((number, kept), (2, 1));
    let mut unstage = Prepared::unstage(BatchId::from_bytes([201; 16]), number);
    bench.apply_prepared(&mut unstage);
    let is_all =
        |write: Write<'_>| matches!(write, Write::DeleteNumbers { first, count: 1, .. } if first == number);
    assert!(bench.writes.len() == 1 && bench.writes.iter().all(is_all));
    bench.publish();
    assert_eq!(bench.keys(keys::fragment::FAMILY), [(kept, 0)]);
    // Gone is gone.
    let batch = bench.batch();
    let gone = with_submit(batch, 1, &["b"], None, staged(number, 10));
    assert_eq!(bench.commit(&gone), [OpResult::Refused(Refusal::NoSuchBody)]);
    let mut late = Prepared::stage(BatchId::from_bytes([202; 16]), number, 0, Bytes::new());
    assert_eq!(bench.apply_prepared(&mut late).results(), [OpResult::Refused(Refusal::NoSuchBody)]);
    let batch = bench.batch();
    let batch = with_submit(batch, 2, &["b"], None, staged(kept, 10));
    bench.applied(&batch);
    bench.assert_lasts();
}

#[test]
fn a_body_put_in_ahead_outlives_a_group_that_is_given_up() {
    let mut bench = Bench::new(Retention::default());
    let (waiting, taken) = (stage(&mut bench, 5), stage(&mut bench, 6));
    let batch = bench.batch();
    let lost = with_submit(batch, 1, &["b"], None, staged(taken, 6));
    assert!(bench.apply(&lost).all_applied());
    let next = bench.ledger.next_numbers().1;
    let mut rebuilt = bench.recovered().ledger;
    rebuilt.keep_staging(&bench.ledger);
    bench.ledger = rebuilt;
    assert_eq!(bench.ledger.next_numbers().1, next, "a number is not given twice");
    let batch = bench.batch();
    let both = with_submit(batch, 1, &["b"], None, staged(taken, 6));
    bench.applied(&with_submit(both, 2, &["b"], None, staged(waiting, 5)));
    bench.assert_lasts();
    assert_eq!(bench.ledger.long_bodies().collect::<BTreeMap<_, _>>(), [(4, taken), (5, waiting)].into());
}

#[test]
fn an_all_or_none_batch_is_refused_for_every_reason_that_an_operation_is() {
    let mut bench = Bench::new(Retention::default());
    let first = bench.submit(1, &["a"], 1);
    bench.submit(2, &["a"], 1);
    let leases = bench.lease(&Want { limit: 2, ..want("a") });
    let backup = bench.batch().move_to_backup(leases[1], note());
    bench.applied(&backup);
    let on_backup = bench.lease(&Want { route: Route::Backup, ..want("a") })[0];
    let of_b = bench.submit(3, &["b"], 1);
    let lease_of_b = bench.lease(&want("b"))[0];
    let waiting = bench.submit(4, &["b"], 1);
    let parked = bench.submit(5, &["b"], 1);
    let park = bench.batch().hold(parked, "x");
    bench.applied(&park);
    let retired = bench.batch().define_port(&port("c"), PortSpec::default()).retire_port(&port("c"));
    bench.applied(&retired);
    let body = Body::default;
    let leased = Refusal::WrongState { state: DeliveryState::Leased };
    type Add<'a> = &'a dyn Fn(Batch) -> Batch;
    let unknown = DeliveryId::new(1000);
    let refused: [(Add<'_>, Refusal); 22] = [
        (&|batch| with_submit(batch, 1, &["a"], None, body()), Refusal::Duplicate { first }),
        (&|batch| with_submit(batch, 9, &[], None, body()), Refusal::BadPorts),
        (&|batch| with_submit(batch, 9, &["a", "b", "a"], None, body()), Refusal::BadPorts),
        (&|batch| with_submit(batch, 9, &["a", "d"], None, body()), Refusal::NoSuchPort),
        (&|batch| with_submit(batch, 9, &["c"], None, body()), Refusal::NoSuchPort),
        (&|batch| with_submit(batch, 9, &["a"], None, staged(77, 1)), Refusal::NoSuchBody),
        (&|batch| batch.delete(leases[1], None), Refusal::NotOwned),
        (&|batch| batch.resubmit(leases[1], Timestamp::EPOCH, None, Headers::default()), Refusal::NotOwned),
        (&|batch| batch.suspend(leases[1], "x", None), Refusal::NotOwned),
        (&|batch| batch.move_to_backup(leases[1], None), Refusal::NotOwned),
        (&|batch| batch.move_to_backup(on_backup, None), Refusal::OnBackup),
        (&|batch| batch.move_to_backup(lease_of_b, None), Refusal::NoBackup),
        (&|batch| batch.hold(of_b, "x"), leased.clone()),
        (&|batch| batch.hold(parked, "x"), Refusal::WrongState { state: DeliveryState::Suspended }),
        (&|batch| batch.resume(of_b), leased.clone()),
        (&|batch| batch.resume(waiting), Refusal::WrongState { state: DeliveryState::Ready }),
        (&|batch| batch.terminate(of_b, "x"), leased),
        (&|batch| batch.terminate(unknown, "x"), Refusal::NoSuchDelivery),
        (&|batch| batch.hold(unknown, "x"), Refusal::NoSuchDelivery),
        (&|batch| batch.retire_port(&port("d")), Refusal::NoSuchPort),
        (&|batch| batch.pause_port(&port("d")), Refusal::NoSuchPort),
        (&|batch| batch.unpause_port(&port("d")), Refusal::NoSuchPort),
    ];
    let before = picture(&bench.ledger);
    for (index, (add, refusal)) in refused.into_iter().enumerate() {
        let fine = bench.batch().terminate(waiting, "x").all_or_none();
        let wanted = [OpResult::Refused(Refusal::Voided), OpResult::Refused(refusal.clone())];
        assert_eq!(bench.commit(&add(fine)), wanted, "{index}");
        assert_eq!(picture(&bench.ledger), before, "{index}");
        // And for itself alone where it is no such batch.
        let alone = add(bench.batch());
        assert_eq!(bench.commit(&alone), [OpResult::Refused(refusal)], "{index}");
        assert_eq!(picture(&bench.ledger), before, "{index}");
    }
    let twice = bench.batch().all_or_none();
    let twice = with_submit(with_submit(twice, 9, &["a"], None, body()), 9, &["a"], None, body());
    assert!(matches!(bench.commit(&twice)[..], [_, OpResult::Refused(Refusal::Duplicate { .. })]));
    let twice = bench.batch().all_or_none().terminate(waiting, "x").hold(waiting, "x");
    let wanted = [OpResult::Refused(Refusal::Voided), OpResult::Refused(Refusal::NotOwned)];
    assert_eq!(bench.commit(&twice), wanted);
    assert_eq!(picture(&bench.ledger), before);
    let ports =
        bench.batch().all_or_none().define_port(&port("e"), PortSpec::default()).pause_port(&port("a"));
    let ports = with_submit(ports.pause_port(&port("b")), 9, &["a", "b"], None, body());
    bench.applied(&ports.terminate(waiting, "x").delete(lease_of_b, None).resume(parked));
}

/// What a port was defined as before changes nothing, and a port is told of once, whatever a group did to it.
#[test]
fn a_group_names_each_port_that_it_changed_once() {
    let mut bench = Bench::new(Retention::default());
    let same = bench.batch().define_port(&port("b"), PortSpec { backup: false }).unpause_port(&port("b"));
    assert!(bench.apply(&same).all_applied());
    assert!(bench.writes.is_empty());
    assert_eq!(bench.publish(), []);
    assert!(!bench.apply(&same).was_repeated(), "there was nothing to remember");
    bench.publish();
    let all = bench.batch().pause_port(&port("b")).unpause_port(&port("b"));
    let all = with_submit(all, 1, &["b", "a"], None, Body::default());
    let all = with_submit(all, 2, &["a"], None, Body::default());
    bench.apply(&all);
    assert_eq!(bench.publish(), [1, 0]);
    let again = bench.apply(&all);
    assert!(again.was_repeated() && again.all_applied());
    assert_eq!(bench.publish(), []);
    let more = bench.batch().pause_port(&port("b"));
    bench.apply(&more);
    assert_eq!(bench.publish(), [1]);
}

#[test]
fn so_many_batches_are_remembered_and_none_before_them() {
    let mut bench = Bench::new(Retention::default());
    let batch = |number: u64| {
        let mut bytes = [255; 16];
        bytes[..8].copy_from_slice(&number.to_be_bytes());
        let batch = Batch::new(BatchId::from_bytes(bytes));
        if number.is_multiple_of(2) { batch.pause_port(&port("b")) } else { batch.unpause_port(&port("b")) }
    };
    let known = |bench: &Bench| bench.ledger.applied.len();
    // One is remembered already: what defined the ports.
    let mut writes = WriteSet::default();
    let apply = |bench: &mut Bench, writes: &mut WriteSet, number: u64| {
        bench
            .ledger
            .apply(&mut Prepared::new(&batch(number), 0).unwrap(), Timestamp::EPOCH, writes)
            .was_repeated()
    };
    for number in 0..keys::applied::KEPT - 1 {
        assert!(!apply(&mut bench, &mut writes, number));
    }
    bench.ledger.end_group(Timestamp::EPOCH, &mut writes);
    assert_eq!(known(&bench), keys::applied::KEPT);
    for number in 0..2 {
        apply(&mut bench, &mut writes, keys::applied::KEPT - 1 + number);
    }
    bench.ledger.end_group(Timestamp::EPOCH, &mut writes);
    bench.ledger.seal();
    assert_eq!(known(&bench), keys::applied::KEPT);
    bench.writes = writes;
    bench.publish();
    bench.assert_lasts();
    // Two are forgotten: one had a page of its own, the other is the first of a page that is still needed.
    assert_eq!(bench.keys(keys::applied::FAMILY).first(), Some(&(1, 0)));
    let mut writes = WriteSet::default();
    assert!(apply(&mut bench, &mut writes, 1) && apply(&mut bench, &mut writes, keys::applied::KEPT));
    assert!(!apply(&mut bench, &mut writes, 0), "it is forgotten");
}

#[test]
fn numbers_are_known_by_their_low_bits() {
    for highest in [5_u64, 1 << 48, (1 << 48) + 5, (7 << 48) - 1, u64::MAX] {
        for below in [0, 1, 5, 1 << 20, (1 << 48) - 1] {
            let Some(number) = highest.checked_sub(below) else { continue };
            assert_eq!(ShortNumber::of(number).number(highest), number, "{highest} less {below}");
        }
    }
}
