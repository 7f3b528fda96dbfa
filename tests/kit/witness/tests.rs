//! A whole story breaks nothing; each rule is broken by a small one.

use super::*;
use crate::bodies::hash;
use pillarbox_sim::history::Invariant;

/// A story told in steps of time.
#[derive(Default)]
struct Story {
    facts: Vec<(Timestamp, Fact)>,
    now: u64,
}

const PORT: &str = "orders";

impl Story {
    /// A server that runs, and one message that it has taken as delivery 7.
    fn new() -> Self {
        let mut story = Self::default();
        story.then(Fact::Began(1)).then(offered(1)).then(Fact::Answered(1, Answer::Taken(7)));
        story
    }

    fn then(&mut self, fact: Fact) -> &mut Self {
        self.now += 1;
        self.facts.push((Timestamp::from_micros(i64::try_from(self.now).unwrap() * 1_000), fact));
        self
    }

    fn later(&mut self, millis: u64) -> &mut Self {
        self.now += millis;
        self
    }

    /// It arrives in this life by this attempt, is kept, and that is said.
    fn kept(&mut self, life: u32, attempt: u32) -> &mut Self {
        let number = self.facts.len() as u64;
        self.then(arrived(number, life, attempt)).then(Fact::Said(number))
    }

    /// It arrives and is kept in silence.
    fn kept_in_silence(&mut self, life: u32, attempt: u32) -> &mut Self {
        let number = self.facts.len() as u64;
        self.then(arrived(number, life, attempt))
    }

    fn killed(&mut self, life: u32) -> &mut Self {
        self.then(Fact::Ended(life, End::Killed)).then(Fact::Began(life + 1))
    }

    /// Everything has ended, and that is what is told of the message.
    fn end(&mut self, last: Option<Last>) -> Findings {
        let done = u64::from(matches!(&last, Some(last) if last.state == DeliveryState::Done));
        let suspended = u64::from(matches!(&last, Some(last) if last.state == DeliveryState::Suspended));
        self.then(Fact::Calm(Duration::from_secs(1))).then(Fact::Finished).then(Fact::Last(1, last));
        self.then(Fact::Counts(PORT, [done, suspended, 0]));
        check(&self.facts)
    }

    fn breaks(&mut self, last: Option<Last>, wanted: Invariant) {
        let found = self.end(last);
        let broken: Vec<_> = found.violations.iter().map(|violation| violation.invariant).collect();
        assert_eq!(broken, [wanted], "{:#?}", found.violations);
    }
}

fn offered(message: Number) -> Fact {
    Fact::Offered { message, port: PORT, body: hash(b"x"), is_bad: false, not_before: None, batch: None }
}

fn arrived(arrival: u64, life: u32, attempt: u32) -> Fact {
    let (message, key, body) = (1, "key".to_owned(), hash(b"x"));
    Fact::Arrived { arrival, message, port: PORT, life, attempt, key, body, is_kept: true }
}

fn done(attempts: u32) -> Option<Last> {
    Some(Last { delivery: 7, state: DeliveryState::Done, attempts, late: Vec::new(), body: None })
}

fn doubles(found: &Findings) -> Vec<(Cause, u64)> {
    assert!(found.violations.is_empty(), "{:#?}", found.violations);
    found.doubles.iter().map(|(cause, times)| (*cause, *times)).collect()
}

#[test]
fn a_whole_story_breaks_nothing() {
    let found = Story::new().kept(1, 1).end(done(1));
    assert_eq!(doubles(&found), []);
    assert_eq!((found.accepted, found.delivered, found.lost), (1, 1, 0));
}

#[test]
fn a_repeat_has_a_cause() {
    let killed = Story::new().kept(1, 1).killed(1).kept(2, 1).end(done(1));
    assert_eq!(doubles(&killed), [(Cause::Killed, 1)]);
    let silent = Story::new().kept_in_silence(1, 1).kept(1, 2).end(done(2));
    assert_eq!(doubles(&silent), [(Cause::AnswerLost, 1)]);
    let stopped = Story::new().then(Fact::Stopped).kept(1, 1).then(Fact::Continued).kept(1, 2).end(done(2));
    assert_eq!(doubles(&stopped), [(Cause::Stopped, 1)]);
    let full = Story::new().then(Fact::Full).kept(1, 1).then(Fact::Roomy).kept(1, 1).end(done(1));
    assert_eq!(doubles(&full), [(Cause::Full, 1)]);
    let mut cut = Story::new();
    cut.kept(1, 1).then(Fact::Ended(1, End::Cut)).then(Fact::Began(2));
    assert_eq!(doubles(&cut.kept(2, 1).end(done(1))), [(Cause::Cut, 1)]);
    let late = done(2).map(|last| Last { late: vec![(1, Duration::from_secs(1))], ..last });
    assert_eq!(doubles(&Story::new().kept(1, 1).kept(1, 2).end(late)), [(Cause::Late, 1)]);
}

#[test]
fn a_repeat_without_a_cause_is_found() {
    Story::new().kept(1, 1).kept(1, 2).breaks(done(2), Invariant::I5);
    // Recorded long before the kill, and sent again after it.
    Story::new().kept(1, 1).later(4_000).killed(1).kept(2, 1).breaks(done(1), Invariant::I5);
    let mut drained = Story::new();
    drained.kept(1, 1).then(Fact::Ended(1, End::Drained)).then(Fact::Began(2)).kept(2, 1);
    drained.breaks(done(1), Invariant::I5);
    let mut told = Story::new();
    told.kept(1, 1).then(Fact::Told(7, DeliveryState::Done)).killed(1).kept(2, 1);
    told.breaks(done(1), Invariant::I3);
}

#[test]
fn a_kill_puts_no_more_in_doubt_than_was_being_sent() {
    let mut story = Story::new();
    story.then(Fact::Port(PORT, 1)).kept(1, 1).killed(1).kept(2, 1);
    assert_eq!(doubles(&story.end(done(1))), [(Cause::Killed, 1)]);
    let mut story = Story::new();
    story.then(Fact::Port(PORT, 0)).kept(1, 1).killed(1).kept(2, 1).breaks(done(1), Invariant::I5);
}

#[test]
fn a_loss_is_found() {
    Story::new().kept(1, 1).breaks(None, Invariant::I1);
    Story::new().breaks(done(1), Invariant::I1);
    let mut other = Story::new();
    other.then(Fact::File(1, PORT, hash(b"y")));
    other.breaks(done(1), Invariant::I1);
}

#[test]
fn a_bad_message_is_parked_whole() {
    let bad = || {
        let mut story = Story::default();
        let (body, not_before, batch) = (hash(b"x"), None, None);
        story.then(Fact::Offered { message: 1, port: PORT, body, is_bad: true, not_before, batch });
        story.then(Fact::Answered(1, Answer::Taken(7)));
        story
    };
    let parked = |body| {
        Some(Last { delivery: 7, state: DeliveryState::Suspended, attempts: 1, late: Vec::new(), body })
    };
    assert_eq!(bad().end(parked(Some(hash(b"x")))).suspended, 1);
    bad().breaks(parked(None), Invariant::I1);
    Story::new().breaks(parked(Some(hash(b"x"))), Invariant::I4);
    let mut moved = bad();
    moved.then(Fact::Told(7, DeliveryState::Suspended)).kept(1, 1);
    assert!(moved.end(done(1)).violations.iter().any(|one| one.invariant == Invariant::I3));
}

#[test]
fn what_was_refused_is_gone() {
    let refused = || {
        let mut story = Story::default();
        story.then(offered(1)).then(Fact::Answered(1, Answer::Refused));
        story
    };
    assert_eq!(refused().end(None).refused, 1);
    refused().kept(1, 1).breaks(None, Invariant::I2);
    refused().kept(1, 1).breaks(done(1), Invariant::I2);
    let mut stranger = Story::new();
    stranger.kept(1, 1).then(Fact::Last(2, done(1)));
    stranger.breaks(done(1), Invariant::I2);
}

#[test]
fn a_lost_answer_leaves_both_open() {
    let lost = || {
        let mut story = Story::default();
        story.then(offered(1)).then(Fact::Answered(1, Answer::Lost));
        story
    };
    assert!(lost().end(None).violations.is_empty());
    assert!(lost().kept(1, 1).end(done(1)).violations.is_empty());
    let mut repeated = lost();
    repeated.then(Fact::Answered(1, Answer::Repeated(7))).kept(1, 1);
    assert!(repeated.end(done(1)).violations.is_empty());
}

#[test]
fn a_message_is_taken_once() {
    let mut twice = Story::new();
    twice.then(Fact::Answered(1, Answer::Taken(8))).kept(1, 1);
    assert!(twice.end(done(1)).violations.iter().all(|one| one.invariant == Invariant::I3));
    let mut repeated = Story::default();
    repeated.then(offered(1)).then(Fact::Answered(1, Answer::Repeated(7))).kept(1, 1);
    repeated.breaks(done(1), Invariant::I3);
}

#[test]
fn attempts_are_counted() {
    Story::new().kept_in_silence(1, 2).kept(1, 1).breaks(done(2), Invariant::I4);
    let turned = |number| match arrived(number, 1, 1) {
        Fact::Arrived { arrival, message, port, life, attempt, key, body, .. } => {
            Fact::Arrived { arrival, message, port, life, attempt, key, body, is_kept: false }
        }
        other => other,
    };
    let mut again = Story::new();
    again.then(turned(9)).then(Fact::Said(9)).kept(1, 1);
    again.breaks(done(1), Invariant::I4);
}

/// Its time was up, it was sent again, and the destination read both in the other order.
#[test]
fn a_late_attempt_may_be_read_last() {
    let late = done(2).map(|last| Last { late: vec![(1, Duration::from_secs(1))], ..last });
    let found = Story::new().kept(1, 2).kept(1, 1).end(late);
    assert_eq!(doubles(&found), [(Cause::Late, 1)]);
}

#[test]
fn the_rest_is_found_too() {
    let at = Timestamp::from_micros(3_600_000_000);
    let early = || {
        let mut story = Story::default();
        let (port, body, batch) = (PORT, hash(b"x"), Some(5));
        story.then(Fact::Offered { message: 1, port, body, is_bad: false, not_before: Some(at), batch });
        story.then(Fact::Answered(1, Answer::Taken(7)));
        story
    };
    early().kept(1, 1).breaks(done(1), Invariant::I8);
    let mut set = early();
    assert!(set.then(Fact::Clock(3_600)).kept(1, 1).end(done(1)).violations.is_empty());
    let mut half = early();
    let (port, body, not_before, batch) = ("files", hash(b"y"), None, Some(5));
    half.then(Fact::Offered { message: 2, port, body, is_bad: false, not_before, batch });
    half.then(Fact::Answered(2, Answer::Lost)).then(Fact::Clock(3_600)).kept(1, 1).then(Fact::Last(2, None));
    half.breaks(done(1), Invariant::I10);
    Story::new().kept(1, 1).then(Fact::Size(2, 1)).breaks(done(1), Invariant::I16);
    Story::new().kept(1, 1).then(Fact::Counts(PORT, [2, 0, 0])).breaks(done(1), Invariant::I17);
    Story::new().kept(1, 1).then(Fact::Trouble("damage".to_owned())).breaks(done(1), Invariant::I18);
    let mut slow = Story::new();
    slow.kept(1, 1).then(Fact::Calm(Duration::from_millis(1))).later(50);
    slow.facts.push((Timestamp::from_micros(90_000_000), Fact::Finished));
    assert!(check(&slow.facts).violations.iter().any(|one| one.invariant == Invariant::I14));
}

#[test]
fn ids_stand_for_numbers() {
    assert_eq!(number_of(&id_of(4_711)), Some(4_711));
    assert_eq!(number_of("01a20913-0d4e-718c-8553-50e42f62ec41"), None);
    assert_eq!(number_of("x"), None);
}
