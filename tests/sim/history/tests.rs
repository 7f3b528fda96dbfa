//! Each invariant that is checked is broken by a small history, and the whole one breaks none.

use super::*;
use pillarbox_store::{DeliveryState, MessageId};

const RETRY: Duration = Duration::from_millis(100);

fn port() -> PortName {
    PortName::new("p").expect("a name")
}

fn message() -> MessageId {
    MessageId::from_bytes([7; 16])
}

fn batch(number: u8) -> BatchId {
    BatchId::from_bytes([number; 16])
}

fn to() -> To {
    To { message: message(), port: port() }
}

fn at(millis: i64) -> Timestamp {
    Timestamp::from_micros(1_000_000_000 + millis * 1_000)
}

fn limits() -> PortLimits {
    let route = RouteLimits { attempts: 2, timeout: Duration::from_secs(5), in_flight: 1 };
    PortLimits { primary: route, backup: None }
}

fn submit() -> Said {
    Said::Submit { message: message(), ports: vec![port()], body: 5, not_before: None }
}

fn commit(number: u8, op: Said) -> What {
    What::Commit { batch: batch(number), strict: false, ops: vec![op] }
}

fn applied(number: u8, result: Option<u64>) -> What {
    let results = vec![Ok(result.map(DeliveryId::new))];
    What::Answered(batch(number), Answer::Applied { results, repeated: false })
}

fn lease(number: u64, attempts: (u32, u32)) -> What {
    let ends = at(100_000 + 10 * number.cast_signed());
    What::Lease {
        lease: number,
        delivery: DeliveryId::new(1),
        to: to(),
        route: Route::Primary,
        attempts,
        ends,
    }
}

fn seen(attempt: u32) -> What {
    What::Seen {
        to: to(),
        route: Route::Primary,
        attempt,
        send_key: "key".to_owned(),
        body: 5,
        in_doubt: false,
    }
}

fn told(attempt: u32, told: Told) -> What {
    What::Told { to: to(), attempt, told }
}

fn failed(attempt: u32) -> What {
    told(attempt, Told::Failed { permanent: false, retry_after: None })
}

fn settle(lease: u64, how: How) -> Said {
    Said::Settle { lease, how, charged: true }
}

fn info(state: DeliveryState, attempts: u32) -> DeliveryInfo {
    DeliveryInfo {
        id: DeliveryId::new(1),
        message: message(),
        port: port(),
        state,
        route: Route::Primary,
        attempts,
        submitted: at(0),
        due: None,
        finished: None,
        reason: None,
        body_len: 1,
        answer_len: None,
        doubt: None,
    }
}

fn audit(found: Option<DeliveryInfo>, counts: Counts) -> What {
    answered_audit(found, counts, None)
}

fn answered_audit(found: Option<DeliveryInfo>, counts: Counts, answer: Option<u64>) -> What {
    let answers = answer.map(|answer| (DeliveryId::new(1), answer)).into_iter().collect();
    let counts = [(port(), counts)].into();
    What::Audit { found: found.into_iter().collect(), answers, counts, traces_kept: true }
}

/// A delivery that is accepted, leased, fails, waits, is leased again, is sent and done. Ten milliseconds a step, the
/// retry after the sixth step waits longer.
fn whole() -> Vec<What> {
    vec![
        What::Port(port(), limits()),
        commit(1, submit()),
        applied(1, Some(1)),
        lease(1, (0, 0)),
        failed(1),
        commit(2, settle(1, How::Resubmit(at(50).plus(RETRY)))),
        applied(2, None),
        What::Note("time passes"),
        lease(2, (1, 1)),
        seen(2),
        told(2, Told::Sent),
        commit(3, settle(2, How::Delete)),
        applied(3, None),
        audit(Some(info(DeliveryState::Done, 2)), Counts { done: 1, ..Counts::default() }),
        What::Finished,
    ]
}

fn broken_by(whats: Vec<What>) -> Vec<Invariant> {
    let mut history = History::default();
    let mut now = at(0);
    for what in whats {
        now = now.plus(if matches!(what, What::Note(_)) { 2 * RETRY } else { Duration::from_millis(10) });
        history.record(now, what);
    }
    let mut broken: Vec<_> = check(&history).into_iter().map(|violation| violation.invariant).collect();
    broken.sort_unstable();
    broken.dedup();
    broken
}

fn changed(change: impl FnOnce(&mut Vec<What>)) -> Vec<Invariant> {
    let mut whats = whole();
    change(&mut whats);
    broken_by(whats)
}

#[test]
fn a_whole_history_breaks_nothing() {
    assert_eq!(broken_by(whole()), []);
}

#[test]
fn what_is_lost_or_ended_unsent_breaks_i1() {
    assert!(changed(|whats| whats[13] = audit(None, Counts::default())).contains(&Invariant::I1));
    assert!(changed(|whats| whats[10] = What::Note("")).contains(&Invariant::I1));
}

#[test]
fn what_was_refused_and_sent_breaks_i2() {
    let nothing = What::Answered(batch(1), Answer::Nothing);
    assert!(changed(|whats| whats[2] = nothing).contains(&Invariant::I2));
}

#[test]
fn what_is_unknown_and_sent_and_then_gone_breaks_i2() {
    let whats = vec![
        What::Port(port(), limits()),
        commit(1, submit()),
        What::Answered(batch(1), Answer::Unknown),
        seen(1),
        What::Crash { why: "power", keeps_written: true },
        What::Opened(Ok(())),
        audit(None, Counts::default()),
    ];
    assert_eq!(broken_by(whats), [Invariant::I2]);
}

#[test]
fn a_second_outcome_breaks_i3() {
    let broken = changed(|whats| {
        whats.insert(13, commit(4, settle(2, How::Suspend)));
        whats.insert(14, applied(4, None));
    });
    assert_eq!(broken, [Invariant::I3]);
}

#[test]
fn attempts_for_nothing_or_beyond_the_policy_break_i4() {
    assert_eq!(changed(|whats| whats[4] = What::Note("nothing failed")), [Invariant::I4]);
    let broken = changed(|whats| {
        whats[10] = failed(2);
        whats[11] = commit(3, settle(2, How::Resubmit(at(60_000))));
        whats.truncate(13);
    });
    assert_eq!(broken, [Invariant::I4]);
}

#[test]
fn a_send_without_doubt_after_a_send_breaks_i5() {
    assert_eq!(changed(|whats| whats.splice(11.., [seen(2)]).for_each(drop)), [Invariant::I5]);
}

#[test]
fn a_lease_of_what_is_suspended_breaks_i7() {
    let broken = changed(|whats| {
        whats[5] = commit(2, Said::Other);
        whats.insert(3, commit(4, Said::Hold(DeliveryId::new(1))));
        whats.insert(4, applied(4, None));
        whats.truncate(6);
    });
    assert_eq!(broken, [Invariant::I7]);
}

#[test]
fn a_lease_before_its_time_or_of_a_paused_port_breaks_i8() {
    let broken = changed(|whats| {
        whats[7] = What::Drain;
        whats.truncate(9);
    });
    assert_eq!(broken, [Invariant::I8]);
    let broken = changed(|whats| {
        whats.insert(3, commit(4, Said::Pause(port(), true)));
        whats.insert(4, applied(4, None));
        whats.truncate(6);
    });
    assert_eq!(broken, [Invariant::I8]);
}

#[test]
fn more_in_flight_than_allowed_breaks_i9() {
    let other = To { message: MessageId::from_bytes([8; 16]), port: port() };
    let said = Said::Submit { message: other.message, ports: vec![port()], body: 5, not_before: None };
    let (delivery, ends) = (DeliveryId::new(2), at(100_000));
    let another =
        What::Lease { lease: 9, delivery, to: other, route: Route::Primary, attempts: (0, 0), ends };
    let broken = changed(|whats| {
        whats.truncate(4);
        whats.extend([commit(9, said), applied(9, Some(2)), another]);
    });
    assert_eq!(broken, [Invariant::I9]);
}

#[test]
fn half_a_strict_batch_breaks_i10() {
    let results = vec![Ok(Some(DeliveryId::new(1))), Err(Refusal::NoSuchPort)];
    let broken = changed(|whats| {
        whats[1] = What::Commit { batch: batch(1), strict: true, ops: vec![submit(), Said::Other] };
        whats[2] = What::Answered(batch(1), Answer::Applied { results, repeated: false });
    });
    assert_eq!(broken, [Invariant::I10]);
}

#[test]
fn half_a_batch_after_a_crash_breaks_i10() {
    let other = MessageId::from_bytes([8; 16]);
    let said = Said::Submit { message: other, ports: vec![port()], body: 5, not_before: None };
    let whats = vec![
        What::Port(port(), limits()),
        What::Commit { batch: batch(1), strict: false, ops: vec![submit(), said] },
        What::Crash { why: "power", keeps_written: true },
        What::Opened(Ok(())),
        audit(Some(info(DeliveryState::Ready, 0)), Counts { ready: 1, ..Counts::default() }),
    ];
    assert!(broken_by(whats).contains(&Invariant::I10));
}

#[test]
fn a_second_holder_and_a_lease_that_was_over_break_i13() {
    assert_eq!(changed(|whats| whats.splice(4.., [lease(3, (0, 0))]).for_each(drop)), [Invariant::I13]);
    let broken = changed(|whats| {
        whats.insert(5, What::Release(1));
        whats.truncate(8);
    });
    assert_eq!(broken, [Invariant::I13]);
}

#[test]
fn what_is_left_at_the_end_breaks_i14() {
    assert_eq!(changed(|whats| whats.splice(9..14, []).for_each(drop)), [Invariant::I14]);
}

#[test]
fn too_large_files_break_i16() {
    assert_eq!(changed(|whats| whats.push(What::Size(11, 10))), [Invariant::I16]);
}

#[test]
fn other_counts_break_i17() {
    let counts = Counts { done: 1, leased: 1, ..Counts::default() };
    let broken = changed(|whats| whats[13] = audit(Some(info(DeliveryState::Done, 2)), counts));
    assert_eq!(broken, [Invariant::I17]);
}

#[test]
fn a_box_that_does_not_open_breaks_i18() {
    assert_eq!(changed(|whats| whats.push(What::Opened(Err("no".to_owned())))), [Invariant::I18]);
}

#[test]
fn another_answer_than_the_destinations_breaks_i11() {
    let answered = |replied: Option<u64>, recorded: How, kept: Option<u64>| {
        changed(|whats| {
            whats[11] = commit(3, settle(2, recorded));
            let done = (info(DeliveryState::Done, 2), Counts { done: 1, ..Counts::default() });
            whats[13] = answered_audit(Some(done.0), done.1, kept);
            whats.insert(11, What::Replied { to: to(), attempt: 2, answer: replied });
        })
    };
    assert_eq!(answered(Some(7), How::Respond(7), Some(7)), []);
    assert_eq!(answered(None, How::Delete, None), []);
    for (replied, recorded, kept) in [
        (Some(7), How::Respond(7), None),
        (Some(7), How::Respond(7), Some(8)),
        (Some(7), How::Respond(8), Some(8)),
        (Some(7), How::Delete, None),
        (None, How::Respond(7), Some(7)),
        (None, How::Delete, Some(7)),
    ] {
        assert_eq!(answered(replied, recorded, kept), [Invariant::I11], "{replied:?} {recorded:?} {kept:?}");
    }
    assert_eq!(changed(|whats| whats[11] = commit(3, settle(2, How::Respond(7)))), [Invariant::I11]);
}

fn prepared(name: &str, body: u64) -> What {
    What::Prepared {
        transaction: name.to_owned(),
        parts: vec![Part { to: to(), attempt: 1, body, in_doubt: false }],
    }
}

/// A delivery that is prepared at the destination, recorded as sent, and committed there.
fn transacted(change: impl FnOnce(&mut Vec<What>)) -> Vec<Invariant> {
    let mut whats = vec![
        What::Port(port(), limits()),
        commit(1, submit()),
        applied(1, Some(1)),
        lease(1, (0, 0)),
        prepared("t", 5),
        commit(2, settle(1, How::Delete)),
        applied(2, None),
        What::Committed("t".to_owned()),
        audit(Some(info(DeliveryState::Done, 1)), Counts { done: 1, ..Counts::default() }),
        What::Finished,
    ];
    change(&mut whats);
    broken_by(whats)
}

#[test]
fn a_two_phase_send_that_is_done_on_one_side_only_breaks_i12() {
    assert_eq!(transacted(|_| {}), []);
    let rolled_back = || What::RolledBack("t".to_owned());
    assert_eq!(transacted(|whats| whats[7] = rolled_back()), [Invariant::I12]);
    assert_eq!(transacted(|whats| whats[7] = What::Note("it is left prepared")), [Invariant::I12]);
    let early = transacted(|whats| {
        let committed = whats.remove(7);
        whats.insert(5, committed);
    });
    assert_eq!(early, [Invariant::I1, Invariant::I12], "committed before that");
    let again = [prepared("u", 5), What::Committed("u".to_owned())];
    assert_eq!(transacted(|whats| whats.splice(8..8, again).for_each(drop)), [Invariant::I12]);
    // What is left of an attempt that came to nothing is rolled back, and the next one counts.
    let before = [prepared("s", 5), What::RolledBack("s".to_owned())];
    assert_eq!(transacted(|whats| whats.splice(4..4, before).for_each(drop)), []);
}

#[test]
fn a_decision_that_only_a_look_into_the_box_shows_counts_for_i12() {
    let crashed = |end: What| {
        transacted(|whats| {
            let crash = What::Crash { why: "kill", keeps_written: true };
            let found = audit(Some(info(DeliveryState::Done, 1)), Counts { done: 1, ..Counts::default() });
            whats.splice(6..8, [crash, What::Opened(Ok(())), found, end]);
        })
    };
    assert_eq!(crashed(What::Committed("t".to_owned())), []);
    assert_eq!(crashed(What::RolledBack("t".to_owned())), [Invariant::I12]);
}

#[test]
fn a_two_phase_send_of_something_else_breaks_i1() {
    assert_eq!(transacted(|whats| whats[4] = prepared("t", 6)), [Invariant::I1]);
    assert!(transacted(|whats| whats[4] = What::Note("nothing is prepared")).contains(&Invariant::I1));
}

#[test]
fn an_invariant_is_checked_or_says_why_not() {
    let open: Vec<_> = Invariant::ALL.into_iter().filter(|one| one.not_yet().is_some()).collect();
    assert_eq!(open, [Invariant::I6, Invariant::I15]);
}

/// What the destination has seen before a crash that came before the box knew how it ended.
fn cut_off(keeps_written: bool) -> Vec<What> {
    vec![
        What::Port(port(), limits()),
        commit(1, submit()),
        applied(1, Some(1)),
        lease(1, (0, 0)),
        seen(1),
        What::Crash { why: "kill", keeps_written },
        What::Opened(Ok(())),
        lease(2, (0, 0)),
    ]
}

#[test]
fn a_repeat_after_a_crash_that_does_not_say_so_breaks_i5() {
    let life = |keeps_written, in_doubt| {
        let again = match seen(1) {
            What::Seen { to, route, attempt, send_key, body, .. } => {
                What::Seen { to, route, attempt, send_key, body, in_doubt }
            }
            other => other,
        };
        broken_by([cut_off(keeps_written), vec![again]].concat())
    };
    assert!(life(true, false).contains(&Invariant::I5));
    assert!(!life(true, true).contains(&Invariant::I5));
    assert!(!life(false, false).contains(&Invariant::I5), "the disk may have forgotten it");
}

#[test]
fn what_is_prepared_after_a_crash_cut_it_off_unprepared_says_so() {
    let life = |in_doubt| {
        let parts = vec![Part { to: to(), attempt: 1, body: 5, in_doubt }];
        let prepared = What::Prepared { transaction: "t".to_owned(), parts };
        broken_by([cut_off(true), vec![prepared]].concat())
    };
    assert!(life(false).contains(&Invariant::I5));
    assert!(!life(true).contains(&Invariant::I5));
}

#[test]
fn what_was_forgotten_comes_back_only_where_that_was_not_flushed() {
    let life = |keeps_written| {
        let of = |found: Option<DeliveryInfo>| {
            let counts = Counts { done: found.iter().count() as u64, ..Counts::default() };
            match audit(found, counts) {
                What::Audit { found, answers, counts, .. } => {
                    What::Audit { found, answers, counts, traces_kept: false }
                }
                other => other,
            }
        };
        broken_by(vec![
            What::Port(port(), limits()),
            commit(1, submit()),
            applied(1, Some(1)),
            lease(1, (0, 0)),
            seen(1),
            told(1, Told::Sent),
            commit(2, settle(1, How::Delete)),
            applied(2, None),
            of(None),
            What::Crash { why: "kill", keeps_written },
            What::Opened(Ok(())),
            of(Some(info(DeliveryState::Done, 1))),
        ])
    };
    assert_eq!(life(false), []);
    assert!(life(true).contains(&Invariant::I3));
}
