//! The checker: what was seen, message by message, against the invariants that can be seen from outside.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use pillarbox_store::{DeliveryState, Timestamp};

use super::doubt::{Arrival, Times};
use super::{Answer, Cause, Fact, Last, Number, id_of};
use crate::bodies::Hash;
use pillarbox_sim::history::{Invariant, Violation};

/// What was found.
#[derive(Debug, Clone, Default)]
pub struct Findings {
    /// Where an invariant is broken.
    pub violations: Vec<Violation>,
    /// Messages that were taken.
    pub accepted: u64,
    /// Messages that a destination keeps.
    pub delivered: u64,
    /// Messages that are parked because the destination refused them for good.
    pub suspended: u64,
    /// Messages whose submission was refused and never taken.
    pub refused: u64,
    /// Submissions without an answer.
    pub unanswered: u64,
    /// Messages taken and gone.
    pub lost: u64,
    /// Repeats of what a destination had, by what put it in doubt.
    pub doubles: BTreeMap<Cause, u64>,
    /// From the beginning of the calm to the last outcome.
    pub calm: Duration,
    /// The bytes that the files took at the end, and the most that they might have taken.
    pub size: (u64, u64),
}

/// Holds what was seen against every invariant that can be seen from outside.
#[must_use]
pub fn check(facts: &[(Timestamp, Fact)]) -> Findings {
    let mut checker = Checker { times: Times::of(facts), ..Checker::default() };
    for (place, (at, fact)) in facts.iter().enumerate() {
        (checker.now, checker.event) = (*at, place);
        checker.take(fact);
    }
    let accounts = std::mem::take(&mut checker.accounts);
    for (number, account) in &accounts {
        checker.judge(*number, account);
    }
    checker.check_cut_off();
    checker.check_batches(&accounts);
    checker.check_counts(&accounts);
    if !checker.is_finished {
        checker.broken(Invariant::I14, "not everything reached an outcome");
    }
    checker.findings
}

#[derive(Debug, Default)]
struct Account {
    port: &'static str,
    body: Hash,
    is_bad: bool,
    not_before: Option<Timestamp>,
    batch: Option<u64>,
    refusals: u32,
    lost_answers: u32,
    /// The delivery, from the first answer that told of one.
    delivery: Option<u64>,
    /// Arrivals in their order.
    arrivals: Vec<Arrival>,
    key: Option<String>,
    in_folder: bool,
    /// What is wrong with an arrival behind a later attempt's, unless that attempt's time was up.
    overtaken: Vec<(u32, Invariant, &'static str, Timestamp, usize)>,
    /// It was told to be done or suspended.
    told: Option<DeliveryState>,
    /// `None` until the last look; `Some(None)` where the server knows nothing of it.
    last: Option<Option<Last>>,
}

#[derive(Debug, Default)]
struct Checker {
    now: Timestamp,
    event: usize,
    times: Times,
    findings: Findings,
    accounts: BTreeMap<Number, Account>,
    /// Of which message an arrival was, and which of its arrivals.
    arrivals: BTreeMap<u64, (Number, usize)>,
    deliveries: BTreeMap<u64, Number>,
    keys: BTreeMap<String, (Number, &'static str)>,
    counts: Vec<(&'static str, [u64; 3])>,
    in_flight: BTreeMap<&'static str, u64>,
    /// How many messages of a port the end of a life put in doubt.
    cut_off: BTreeMap<(u32, &'static str), u64>,
    /// How far ahead the server's clock has been.
    ahead: i64,
    calm: Option<(Timestamp, Duration)>,
    is_finished: bool,
}

impl Checker {
    fn broken(&mut self, invariant: Invariant, text: impl Into<String>) {
        let (at, event) = (self.now, self.event);
        self.findings.violations.push(Violation { invariant, at, event, text: text.into() });
    }

    fn take(&mut self, fact: &Fact) {
        match fact {
            Fact::Port(port, in_flight) => {
                self.in_flight.insert(port, *in_flight);
            }
            Fact::Offered { message, port, body, is_bad, not_before, batch } => {
                let (body, is_bad, not_before, batch) = (*body, *is_bad, *not_before, *batch);
                let account = Account { port, body, is_bad, not_before, batch, ..Account::default() };
                self.accounts.insert(*message, account);
            }
            Fact::Answered(message, answer) => self.answered(*message, *answer),
            Fact::Arrived { .. } => self.arrived(fact),
            Fact::Said(arrival) => {
                let now = self.now;
                let of = self.arrivals.get(arrival).copied();
                let account = of.and_then(|(message, place)| Some((self.accounts.get_mut(&message)?, place)));
                if let Some(arrival) = account.and_then(|(account, place)| account.arrivals.get_mut(place)) {
                    arrival.said = Some(now);
                }
            }
            Fact::File(message, port, body) => self.file(*message, port, *body),
            Fact::Clock(ahead) => self.ahead = self.ahead.max(*ahead),
            Fact::Told(delivery, state) => self.told(*delivery, *state),
            Fact::Trouble(text) => self.broken(Invariant::I18, text),
            Fact::Calm(bound) => self.calm = Some((self.now, *bound)),
            Fact::Last(message, last) => {
                if let Some(account) = self.accounts.get_mut(message) {
                    account.last = Some(last.clone());
                } else {
                    self.broken(Invariant::I2, format!("the box has {}, never submitted", id_of(*message)));
                }
            }
            Fact::Counts(port, counts) => self.counts.push((port, *counts)),
            Fact::Size(bytes, most) => {
                self.findings.size = self.findings.size.max((*bytes, *most));
                if bytes > most {
                    let text = format!("the files take {bytes} bytes, at most {most} are due");
                    self.broken(Invariant::I16, text);
                }
            }
            Fact::Finished => self.finished(),
            Fact::Began(_) | Fact::Ended(..) => {}
            Fact::Stopped | Fact::Continued | Fact::Full | Fact::Roomy => {}
        }
    }

    fn finished(&mut self) {
        self.is_finished = true;
        if let Some((since, bound)) = self.calm {
            self.findings.calm = self.now.since(since);
            if self.findings.calm > bound {
                let text = format!("it took {:?}, at most {bound:?} are due", self.findings.calm);
                self.broken(Invariant::I14, text);
            }
        }
    }

    fn answered(&mut self, message: Number, answer: Answer) {
        let Some(account) = self.accounts.get_mut(&message) else { return };
        let wrong = match answer {
            Answer::Taken(_) if account.delivery.is_some() => Some("was taken twice"),
            Answer::Repeated(_) if account.delivery.is_none() && account.lost_answers == 0 => {
                Some("is told to have been taken before; no answer of it was lost")
            }
            _ => None,
        };
        match answer {
            Answer::Taken(delivery) | Answer::Repeated(delivery) => {
                let before = *account.delivery.get_or_insert(delivery);
                let other = *self.deliveries.entry(delivery).or_insert(message);
                if before != delivery || other != message {
                    let text = format!("{} is delivery {before} and {delivery}", id_of(message));
                    self.broken(Invariant::I3, text);
                }
            }
            Answer::Refused => account.refusals += 1,
            Answer::Lost => {
                account.lost_answers += 1;
                self.findings.unanswered += 1;
            }
        }
        if let Some(wrong) = wrong {
            self.broken(Invariant::I3, format!("{} {wrong}", id_of(message)));
        }
    }

    fn arrived(&mut self, fact: &Fact) {
        let Fact::Arrived { arrival, message, port, life, attempt, key, body, is_kept } = fact else {
            return;
        };
        let (now, ahead) = (self.now, self.ahead);
        let id = id_of(*message);
        if self.keys.entry(key.clone()).or_insert((*message, port)) != &(*message, *port) {
            self.broken(Invariant::I5, format!("{id} has the send key {key} of another message"));
        }
        let Some(account) = self.accounts.get_mut(message) else {
            return self.broken(Invariant::I2, format!("{id} arrived and was never submitted"));
        };
        let mut wrong = Vec::new();
        if account.body != *body || account.port != *port {
            wrong.push((Invariant::I1, "arrived with another body or at another port"));
        }
        if account.key.get_or_insert_with(|| key.clone()) != key {
            wrong.push((Invariant::I5, "arrived with another send key than before"));
        }
        let clock = now.plus(Duration::from_secs(u64::try_from(ahead).unwrap_or(0)));
        if account.not_before.is_some_and(|due| clock < due) {
            wrong.push((Invariant::I8, "arrived before its time"));
        }
        if account.told.is_some() {
            wrong.push((Invariant::I3, "arrived after it was told to have ended"));
        }
        let (life, attempt, is_kept) = (*life, *attempt, *is_kept);
        let again = Arrival { at: now, life, attempt, is_kept, said: None };
        if let Some(before) = account.arrivals.last() {
            if attempt < before.attempt {
                wrong.push((Invariant::I4, "arrived by an attempt that was counted before"));
            }
            if attempt == before.attempt && before.said.is_some() && !self.times.unrecorded(before, &again) {
                wrong.push((Invariant::I4, "failed and was sent again without being counted"));
            }
        }
        self.arrivals.insert(*arrival, (*message, account.arrivals.len()));
        account.arrivals.push(again);
        // A request whose time was up may still be on its way, and be read behind the one that followed it.
        let overtaken = account.arrivals.iter().any(|before| before.attempt > attempt);
        if overtaken {
            let event = self.event;
            account
                .overtaken
                .extend(wrong.into_iter().map(|(invariant, why)| (attempt, invariant, why, now, event)));
            return;
        }
        for (invariant, why) in wrong {
            self.broken(invariant, format!("{id} {why}"));
        }
    }

    fn file(&mut self, message: Number, port: &'static str, body: Hash) {
        let id = id_of(message);
        match self.accounts.get_mut(&message) {
            None => self.broken(Invariant::I2, format!("the file {id} is there and was never submitted")),
            Some(account) => {
                account.in_folder = true;
                if account.body != body || account.port != port {
                    let text = format!("the file {id} has another body or is in another port's folder");
                    self.broken(Invariant::I1, text);
                }
            }
        }
    }

    fn told(&mut self, delivery: u64, state: DeliveryState) {
        let Some(message) = self.deliveries.get(&delivery) else { return };
        let id = id_of(*message);
        let Some(account) = self.accounts.get_mut(message) else { return };
        let before = *account.told.get_or_insert(state);
        if before != state {
            self.broken(Invariant::I3, format!("{id} was told to be {before:?}, then {state:?}"));
        }
    }

    /// The rules about one message, once everything is known of it.
    fn judge(&mut self, number: Number, account: &Account) {
        self.judge_repeats(number, account);
        let id = id_of(number);
        let kept = account.in_folder || account.arrivals.iter().any(|arrival| arrival.is_kept);
        let seen = account.in_folder || !account.arrivals.is_empty();
        let Some(last) = &account.last else {
            return self.broken(Invariant::I14, format!("{id} was never looked for at the end"));
        };
        self.findings.delivered += u64::from(kept);
        let Some(last) = last else {
            if account.delivery.is_some() {
                self.findings.lost += 1;
                self.broken(Invariant::I1, format!("{id} was taken and is gone"));
            } else if seen {
                self.broken(Invariant::I2, format!("{id} was sent and is not in the box"));
            }
            self.findings.refused += u64::from(account.lost_answers == 0);
            return;
        };
        if account.delivery.is_none() && account.lost_answers == 0 {
            self.broken(Invariant::I2, format!("{id} was refused and is in the box"));
        }
        self.findings.accepted += 1;
        if let Some(delivery) = account.delivery.filter(|delivery| *delivery != last.delivery) {
            self.broken(Invariant::I3, format!("{id} was delivery {delivery} and is now {last:?}"));
        }
        if let Some(told) = account.told.filter(|told| *told != last.state) {
            self.broken(Invariant::I3, format!("{id} was told to be {told:?} and is now {last:?}"));
        }
        match (last.state, account.is_bad) {
            (DeliveryState::Done, _) if !kept => {
                self.findings.lost += 1;
                self.broken(Invariant::I1, format!("{id} is done, and no destination keeps it: {last:?}"));
            }
            // A bad one too: where nobody who refuses it has read it, it may go to the backup's folder.
            (DeliveryState::Done, _) => {}
            (DeliveryState::Suspended, true) => {
                self.findings.suspended += 1;
                if last.body != Some(account.body) {
                    self.broken(Invariant::I1, format!("{id} is suspended with another body"));
                }
            }
            (DeliveryState::Suspended, false) => {
                self.broken(Invariant::I4, format!("{id} is suspended with nothing wrong: {last:?}"));
            }
            _ => self.broken(Invariant::I14, format!("{id} has another outcome than is due: {last:?}")),
        }
    }

    fn judge_repeats(&mut self, number: Number, account: &Account) {
        let late: Vec<u32> = match &account.last {
            Some(Some(last)) => last.late.iter().map(|(attempt, _)| *attempt).collect(),
            _ => Vec::new(),
        };
        for (attempt, invariant, why, at, event) in &account.overtaken {
            if !late.contains(attempt) {
                let (invariant, at, event) = (*invariant, *at, *event);
                let text = format!("{} {why}", id_of(number));
                self.findings.violations.push(Violation { invariant, at, event, text });
            }
        }
        for pair in account.arrivals.windows(2) {
            let [before, again] = pair else { continue };
            if !before.is_kept {
                continue;
            }
            let cause = self.times.cause(before, again, &late);
            *self.findings.doubles.entry(cause).or_default() += 1;
            if matches!(cause, Cause::Killed | Cause::Cut) {
                *self.cut_off.entry((before.life, account.port)).or_default() += 1;
            }
            if cause == Cause::Nothing {
                let text = format!(
                    "{} had been sent, and nothing put that in doubt: {before:?}, then {again:?}",
                    id_of(number)
                );
                self.broken(Invariant::I5, text);
            }
        }
    }

    /// What is said and not recorded is still held: never more than may be sent at once.
    fn check_cut_off(&mut self) {
        for ((life, port), messages) in std::mem::take(&mut self.cut_off) {
            let most = self.in_flight.get(port).copied().unwrap_or(u64::MAX);
            if messages > most {
                let text = format!(
                    "the end of life {life} had {messages} messages of {port} sent again that the destination had \
                     answered for; at most {most} can have been unrecorded"
                );
                self.broken(Invariant::I5, text);
            }
        }
    }

    fn check_batches(&mut self, accounts: &BTreeMap<Number, Account>) {
        let mut batches: BTreeMap<u64, BTreeSet<bool>> = BTreeMap::new();
        for account in accounts.values() {
            if let (Some(batch), Some(last)) = (account.batch, &account.last) {
                batches.entry(batch).or_default().insert(last.is_some());
            }
        }
        for (batch, _) in batches.iter().filter(|(_, there)| there.len() > 1) {
            let text = format!("of the all-or-none batch {batch} some messages are in the box");
            self.broken(Invariant::I10, text);
        }
    }

    fn check_counts(&mut self, accounts: &BTreeMap<Number, Account>) {
        for (port, told) in std::mem::take(&mut self.counts) {
            let mut counted = [0; 3];
            for account in accounts.values().filter(|account| account.port == port) {
                match account.last.as_ref().and_then(Option::as_ref).map(|last| last.state) {
                    Some(DeliveryState::Done) => counted[0] += 1,
                    Some(DeliveryState::Suspended) => counted[1] += 1,
                    Some(_) => counted[2] += 1,
                    None => {}
                }
            }
            if told != counted {
                let text = format!("{port} counts {told:?} done, suspended, others; it has {counted:?}");
                self.broken(Invariant::I17, text);
            }
        }
    }
}
