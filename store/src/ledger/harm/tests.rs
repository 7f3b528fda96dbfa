//! What damage costs, told from the records that are left.

use super::*;
use crate::engine::{Write, WriteSet};
use crate::message_box::keys::applied::AppliedRecord;
use crate::message_box::keys::delivery::{DeliveryHead, DeliveryRest};
use crate::message_box::keys::finished::Trace;
use crate::message_box::keys::message::MessageHead;
use crate::message_box::keys::port::PortRecord;
use crate::{Attempt, AttemptOutcome, BatchId, Counts, MessageId, PortName, Retention, Route, Timestamp};

/// The records that are left.
#[derive(Default)]
struct Left(WriteSet);

impl Left {
    fn new() -> Self {
        let mut left = Self::default();
        let name = PortName::new("orders").unwrap();
        let record = PortRecord { name, backup: true, defined: true, paused: false };
        keys::port::write(&mut left.0, 0, &record);
        left
    }

    fn message(mut self, number: u64, deliveries: usize, fragments: u64) -> Self {
        let fixed = MessageHead {
            id: MessageId::from_bytes([number as u8; 16]),
            submitted: Timestamp::EPOCH,
            not_before: Timestamp::EPOCH,
            body_len: 5,
            fragments,
        };
        keys::message::write(&mut self.0, number, &fixed, &vec![0; deliveries], &[], bytes::Bytes::new());
        self
    }

    fn delivery(mut self, number: u64, state: DeliveryState) -> Self {
        let fixed = DeliveryHead {
            state,
            route: Route::Backup,
            attempts: 3,
            attempts_on_route: 2,
            due: Timestamp::from_micros(9),
        };
        keys::delivery::write(&mut self.0, number, &fixed, &DeliveryRest::default());
        self
    }

    fn attempt(mut self, delivery: u64) -> Self {
        let attempt = Attempt {
            number: 1,
            route: Route::Primary,
            started: Timestamp::EPOCH,
            took: std::time::Duration::ZERO,
            outcome: AttemptOutcome::Resubmitted,
            failure: None,
        };
        keys::attempt::write(&mut self.0, delivery, &attempt);
        self
    }

    /// A page with the outcome of one delivery after the other, each the `ordinal`-th of its message.
    fn page(mut self, page: u64, outcomes: &[(u64, u16)]) -> Self {
        let mut rows = keys::finished::Page::default();
        for (delivery, ordinal) in outcomes {
            let trace = Trace {
                delivery: *delivery,
                message: MessageId::from_bytes([(delivery - u64::from(*ordinal)) as u8; 16]),
                port: 0,
                ordinal: *ordinal,
                state: DeliveryState::Done,
                route: Route::Primary,
                attempts: 1,
                submitted: Timestamp::EPOCH,
                finished: Timestamp::EPOCH,
                body_len: 5,
                started: Timestamp::EPOCH,
                took_micros: 0,
                reason: String::new(),
            };
            rows.push(&trace);
        }
        rows.write(&mut self.0, page);
        self
    }

    fn applied(mut self, sequence: u64, first: u64, next_number: u64) -> Self {
        let id = BatchId::from_bytes([sequence as u8; 16]);
        let record = AppliedRecord { id, next_number, first, ops: 1, refusals: Vec::new() };
        let mut rows = keys::applied::Page::default();
        rows.push(&record);
        rows.write(&mut self.0, sequence);
        self
    }

    fn recover(&self, damages: &[Damage]) -> (Ledger, Harm, Vec<Key>) {
        let mut recovery = Recovery::new(Retention::default());
        for write in self.0.iter() {
            if let Write::Put { key, head, .. } = write {
                recovery.visit(key, head).unwrap();
            }
        }
        recovery.check_ports().unwrap();
        let recovered = recovery.finish(damages);
        (recovered.ledger, recovered.harm, recovered.orphans)
    }
}

fn damage(loss: Loss, key: Option<Key>) -> Damage {
    Damage { file: "f".to_owned(), offset: 0, bytes: 1, key, what: "w".to_owned(), loss }
}

fn counts(ledger: &Ledger) -> Counts {
    ledger.ports()[0].counts()
}

fn missing(harm: &Harm) -> Vec<(u64, u64)> {
    harm.missing.iter().map(|range| (range.start, range.end)).collect()
}

#[test]
fn what_is_missing_is_what_nobody_knows() {
    let known = |ranges: &[(u64, u64)]| ranges.iter().map(|(from, to)| *from..*to).collect::<Vec<_>>();
    assert_eq!(without(known(&[(4, 6), (1, 2), (5, 7)]), 1..10), known(&[(2, 4), (7, 10)]));
    assert_eq!(without(known(&[]), 1..3), known(&[(1, 3)]));
    assert_eq!(without(known(&[(1, 9)]), 1..3), known(&[]));
    assert_eq!(without(known(&[(5, 9)]), 1..3), known(&[(1, 3)]));
}

#[test]
fn a_delivery_whose_record_is_lost_is_parked_and_no_other_one() {
    use DeliveryState::{Done, Ready, RetryWait, Suspended};
    let left = Left::new().message(1, 5, 0).delivery(2, RetryWait).page(0, &[(3, 2)]);
    let lost = |number| damage(Loss::Record, Some(keys::delivery::key(number)));
    let damages = [
        lost(1),
        lost(1),
        // One that is there all the same, one that has ended, and one that nobody knows.
        lost(2),
        lost(3),
        lost(77),
        damage(Loss::Record, Some(keys::message::key(4))),
        damage(Loss::None, Some(keys::delivery::key(4))),
        damage(Loss::Unknown, Some(keys::delivery::key(5))),
    ];
    let (mut ledger, harm, orphans) = left.recover(&damages);
    assert_eq!((harm.parked, orphans), (vec![1], vec![]));
    let states: Vec<_> = ledger.deliveries_from(0).map(|(_, row)| row.state).collect();
    assert_eq!(states, [Suspended, RetryWait, Done, Ready, Ready]);
    let row = ledger.delivery(crate::DeliveryId::new(1)).unwrap();
    assert!(row.has_record() && row.due == 0);
    assert_eq!((counts(&ledger).suspended, counts(&ledger).ready), (1, 2));
    // And it is not leased with the others.
    let want = crate::Want {
        port: PortName::new("orders").unwrap(),
        route: Route::Primary,
        limit: 9,
        bytes_max: 99,
        lease_for: std::time::Duration::from_secs(1),
    };
    let now = crate::clock::Moment { wall: Timestamp::EPOCH, steady: Timestamp::EPOCH };
    let leased: Vec<u64> = ledger.lease(&want, now).iter().map(|one| one.lease.delivery().number()).collect();
    assert_eq!(leased, [4, 5]);
}

#[test]
fn a_failed_attempt_without_the_record_that_goes_with_it_parks_its_delivery() {
    let left = Left::new().message(1, 4, 0).page(0, &[(3, 2)]);
    let left = left.attempt(1).attempt(2).delivery(2, DeliveryState::Ready).attempt(3).attempt(9);
    // Without any damage it is how a box of an engine that loses nothing looks: nobody asks.
    let (ledger, harm, orphans) = left.recover(&[]);
    assert_eq!((harm.parked.len(), counts(&ledger).suspended), (0, 0));
    assert_eq!(orphans, [keys::attempt::key(9, 1)]);
    let (ledger, harm, _) = left.recover(&[damage(Loss::None, None)]);
    assert_eq!((harm.parked.len(), counts(&ledger).suspended), (0, 0));
    let (ledger, harm, _) = left.recover(&[damage(Loss::Unknown, None)]);
    assert_eq!((harm.parked, counts(&ledger).suspended), (vec![1], 1));
}

#[test]
fn only_damage_that_may_hide_deliveries_makes_any_missing() {
    // Number 4 is of a body, 5 to 7 were given to bodies put in ahead, of 8 and 9 nothing is left.
    let left = Left::new().message(1, 3, 4).page(7, &[(10, 0)]).applied(1, 1, 5).applied(2, 8, 12);
    let none = [
        damage(Loss::None, None),
        damage(Loss::None, Some(keys::message::key(8))),
        // The message is there: an earlier state of it is what was damaged.
        damage(Loss::Record, Some(keys::message::key(1))),
        damage(Loss::Record, Some(keys::delivery::key(8))),
        damage(Loss::Record, Some(keys::port::key(3))),
        damage(Loss::Record, Some(Key::new(keys::fragment::FAMILY, 8, 0))),
    ];
    let (ledger, harm, _) = left.recover(&none);
    assert_eq!((missing(&harm), harm.hidden, harm.may_be_forgotten), (vec![], 0..0, false));
    assert_eq!(ledger.next_numbers(), (3, 12));
    let some = [
        damage(Loss::Unknown, None),
        damage(Loss::Unknown, Some(keys::delivery::key(1))),
        damage(Loss::Record, None),
        damage(Loss::Record, Some(keys::message::key(8))),
        damage(Loss::Record, Some(keys::finished::key(3))),
        damage(Loss::Record, Some(Key::new(keys::applied::FAMILY, 1, 0))),
    ];
    for (index, damage) in some.into_iter().enumerate() {
        let (ledger, harm, _) = left.recover(&[damage]);
        assert_eq!(missing(&harm), [(8, 10), (11, 12)], "{index}");
        // The numbers behind the last one may have been given, and are left out.
        let next = 12 + (1 << 20);
        assert_eq!((harm.hidden, ledger.next_numbers()), (12..next, (3, next)), "{index}");
        assert!(harm.may_be_forgotten, "the first page is not the first one there was");
    }
}

#[test]
fn numbers_between_batches_are_no_gaps_where_a_batch_is_forgotten() {
    let lost = [damage(Loss::Unknown, None)];
    let of = |left: Left| missing(&left.message(1, 1, 0).recover(&lost).1);
    assert_eq!(of(Left::new().applied(1, 1, 2).applied(2, 5, 6)), [(5, 6)]);
    assert_eq!(of(Left::new().applied(1, 1, 2).applied(3, 5, 6)), [(2, 6)]);
    assert_eq!(of(Left::new().applied(2, 2, 2).applied(1, 1, 2)), []);
    assert_eq!(of(Left::new().applied(1, 1, 3).applied(2, 3, 5)), [(2, 5)]);
}

#[test]
fn traces_may_be_forgotten_where_their_first_page_is_not_there() {
    let lost = [damage(Loss::Unknown, None)];
    for (page, may_be) in [(None, true), (Some(0), false), (Some(1), true)] {
        let left = Left::new().message(1, 1, 0);
        let left = page.into_iter().fold(left, |left, page| left.page(page, &[(5, 0)]));
        assert_eq!(left.recover(&lost).1.may_be_forgotten, may_be, "{page:?}");
    }
}

#[test]
fn a_message_tells_which_of_its_deliveries_are_open() {
    let left = Left::new().message(1, 7, 0).message(20, 1, 30).page(0, &[(3, 2), (6, 5), (40, 1)]);
    let (ledger, _, orphans) = left.delivery(5, DeliveryState::Suspended).recover(&[]);
    assert_eq!(orphans, []);
    assert_eq!(ledger.traces(), 3);
    let rows: Vec<(u64, MessageRow)> =
        ledger.messages_with_record().map(|(number, row)| (number, *row)).collect();
    assert_eq!(rows.iter().map(|(number, _)| *number).collect::<Vec<_>>(), [1, 20]);
    assert_eq!(ledger.open_deliveries(1, &rows[0].1), [1..3, 4..6, 7..8]);
    assert_eq!(ledger.open_deliveries(20, &rows[1].1), vec![20..21; 1]);
    let of = [1, 3, 7, 20, 40, 41].map(|delivery| ledger.message_of(delivery));
    assert_eq!(of, [Some(1), Some(1), Some(1), Some(20), Some(39), None]);
    assert_eq!(ledger.long_bodies().collect::<Vec<_>>(), [(20, 30)]);
    assert_eq!(ledger.next_numbers(), (0, 41));
}

/// A delete that was lost brings the record of a message back whose every delivery has ended.
#[test]
fn a_message_that_came_back_after_its_last_outcome_is_told_and_not_sent() {
    let left = Left::new().message(1, 2, 9).message(5, 2, 0).page(0, &[(1, 0), (2, 1), (5, 0)]);
    let (ledger, harm, _) = left.recover(&[]);
    assert_eq!(harm.ended, [keys::message::key(1)]);
    assert_eq!(ledger.messages_with_record().map(|(number, _)| number).collect::<Vec<_>>(), [5]);
    assert_eq!(ledger.long_bodies().count(), 0);
    assert_eq!((counts(&ledger).done, counts(&ledger).ready), (3, 1));
    let (one, other) = (ledger.message(1).unwrap(), ledger.message(5).unwrap());
    assert_eq!((one.live, one.known, other.live, other.known), (0, 2, 1, 2));
}

/// Its trace is gone, and its message is there for others: the record of its outcome says that it has ended.
#[test]
fn a_delivery_that_ended_and_is_forgotten_stays_so() {
    let left =
        Left::new().message(1, 3, 0).delivery(2, DeliveryState::Done).delivery(9, DeliveryState::Ready);
    let (ledger, _, orphans) = left.recover(&[]);
    assert_eq!(orphans, [keys::delivery::key(9)]);
    let known: Vec<u64> = ledger.deliveries_from(0).map(|(number, _)| number).collect();
    assert_eq!((known, counts(&ledger).ready), (vec![1, 3], 2));
    let row = ledger.message(1).unwrap();
    assert_eq!((row.live, row.known, row.count), (2, 2, 3));
}

#[test]
fn a_record_puts_its_delivery_as_it_was() {
    let left = Left::new().message(1, 2, 0).delivery(2, DeliveryState::RetryWait).message(11, 1, 0);
    let (ledger, harm, _) = left.recover(&[]);
    assert!(harm.id_is_lost, "there are messages, and no record says whose box it is");
    assert!(harm.nameless.is_empty());
    let row = ledger.delivery(crate::DeliveryId::new(2)).unwrap();
    assert_eq!((row.attempts, row.attempts_on_route, row.due), (3, 2, 9));
    assert_eq!((row.route(), row.has_record(), row.has_history()), (Route::Backup, true, false));
    let now = crate::clock::Moment { wall: Timestamp::EPOCH, steady: Timestamp::EPOCH };
    let due = [Route::Primary, Route::Backup].map(|route| ledger.ports()[0].next_due(route, now));
    assert_eq!(due, [None, Some(Timestamp::from_micros(9))]);
    assert_eq!(ledger.ports()[0].info().next_due, Some(Timestamp::from_micros(9)));
    let (_, harm, _) = Left::default().recover(&[]);
    assert!(!harm.id_is_lost, "a new box has none yet");
    let (ledger, harm, _) = Left::default().message(1, 1, 0).recover(&[]);
    assert_eq!((harm.id_is_lost, harm.nameless), (true, vec![0]));
    assert_eq!(ledger.ports()[0].info().name.as_str(), "damaged-port-0");
    assert!(Left::new().recover(&[]).1.id_is_lost, "there is a port");
}
