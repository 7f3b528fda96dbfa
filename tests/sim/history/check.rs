//! The checker: replays a history and notes where it breaks an invariant.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

use pillarbox_store::{BatchId, DeliveryId, MessageId, PortName, Refusal, Route, Timestamp};

use super::rows::{Failed, Held, Row, State};
use super::transacted::Prepared;
use super::{Answer, Event, History, How, Invariant, PortLimits, RouteLimits, Said, To, Told, What};

/// Where a history breaks an invariant.
#[derive(Debug, Clone)]
pub struct Violation {
    /// Which.
    pub invariant: Invariant,
    /// When.
    pub at: Timestamp,
    /// The event at which it was noticed, by its place in the history.
    pub event: usize,
    /// How.
    pub text: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { invariant, at, event, text } = self;
        write!(f, "{invariant} ({}) at {at:?}, event {event}: {text}", invariant.text())
    }
}

/// Holds a finished history against every invariant that applies. Empty where none is broken.
#[must_use]
pub fn check(history: &History) -> Vec<Violation> {
    let mut checker = Checker::default();
    for (place, event) in history.events().iter().enumerate() {
        checker.event = place;
        checker.now = event.at;
        checker.take(event);
        // What follows the first few is mostly their echo.
        if checker.violations.len() >= 20 {
            break;
        }
    }
    checker.check_leased();
    checker.violations
}

/// What is known of a submitted message.
#[derive(Debug, Default)]
pub(super) struct Message {
    pub(super) ports: Vec<PortName>,
    pub(super) body: u64,
    /// Every answer so far says that it is not in the box.
    pub(super) is_refused: bool,
    pub(super) is_accepted: bool,
    pub(super) was_seen: bool,
}

/// A batch and what it said.
#[derive(Debug, Clone)]
pub(super) struct Batch {
    pub(super) id: BatchId,
    pub(super) strict: bool,
    pub(super) ops: Vec<Said>,
    /// The deliveries that it changes, as they are if it is applied.
    pub(super) after: BTreeMap<DeliveryId, Row>,
}

pub(super) type Results = Vec<Result<Option<DeliveryId>, Refusal>>;

/// What a destination sees beside the message.
#[derive(Clone, Copy)]
struct Seen<'a> {
    attempt: u32,
    send_key: &'a str,
    body: u64,
    in_doubt: bool,
}

#[derive(Debug, Default)]
pub(super) struct Checker {
    pub(super) now: Timestamp,
    event: usize,
    pub(super) violations: Vec<Violation>,
    pub(super) ports: BTreeMap<PortName, PortLimits>,
    pub(super) paused: BTreeMap<PortName, bool>,
    pub(super) messages: BTreeMap<MessageId, Message>,
    pub(super) rows: BTreeMap<DeliveryId, Row>,
    pub(super) places: BTreeMap<To, DeliveryId>,
    pub(super) leases: BTreeMap<u64, DeliveryId>,
    send_keys: BTreeMap<String, To>,
    open: BTreeMap<BatchId, Batch>,
    /// What batches that were applied were answered; `None` where only a look into the box told.
    pub(super) applied: BTreeMap<BatchId, Option<Results>>,
    /// Batches of which nobody knows, in order.
    pub(super) doubts: Vec<Batch>,
    pub(super) traces_kept: bool,
    /// What destinations hold prepared.
    pub(super) prepared: Prepared,
    is_draining: bool,
    /// When the box last took nothing: outcomes then wait, one behind the other.
    last_refusal: Timestamp,
    /// Routes of which something was leased just now.
    leased: BTreeSet<(PortName, Route)>,
    calm: Option<(Timestamp, Duration)>,
}

impl Checker {
    pub(super) fn broken(&mut self, invariant: Invariant, text: impl Into<String>) {
        self.violations.push(Violation { invariant, at: self.now, event: self.event, text: text.into() });
    }

    pub(super) fn limits(&self, port: &PortName, route: Route) -> Option<RouteLimits> {
        self.ports.get(port).map(|limits| limits.of(route))
    }

    pub(super) const fn is_draining(&self) -> bool {
        self.is_draining
    }

    fn take(&mut self, event: &Event) {
        if !matches!(event.what, What::Lease { .. } | What::Abandon(_)) {
            self.check_leased();
        }
        match &event.what {
            What::Port(name, limits) => {
                self.ports.insert(name.clone(), *limits);
            }
            What::Commit { batch, strict, ops } => self.commit(*batch, *strict, ops),
            What::Answered(batch, answer) => self.answered(*batch, answer),
            What::Lease { lease, delivery, to, route, attempts, ends } => {
                self.lease(*lease, *delivery, to, *route, *attempts, *ends);
            }
            What::Release(lease) => self.release(*lease),
            What::Abandon(lease) => {
                if let Some(held) = self.holder_of(*lease).and_then(|row| row.held.as_mut()) {
                    held.is_abandoned = true;
                }
            }
            What::Seen { to, route, attempt, send_key, body, in_doubt } => {
                let (attempt, body, in_doubt) = (*attempt, *body, *in_doubt);
                self.seen(to, *route, Seen { attempt, send_key, body, in_doubt });
            }
            What::Prepared { transaction, parts } => self.prepare(transaction, parts),
            What::Committed(transaction) => self.committed(transaction),
            What::RolledBack(transaction) => self.rolled_back(transaction),
            What::Told { to, attempt, told } => self.told(to, *attempt, *told),
            What::Replied { to, attempt, answer } => {
                if let Some(row) = self.places.get(to).and_then(|delivery| self.rows.get_mut(delivery)) {
                    row.replies.push((*attempt, *answer));
                }
            }
            What::Audit { found, answers, counts, traces_kept } => {
                self.audit(found, counts, *traces_kept);
                self.check_answers(found, answers);
            }
            What::Crash { keeps_written, .. } => self.crash(*keeps_written),
            What::Opened(Ok(())) => self.is_draining = false,
            What::Opened(Err(why)) => {
                self.broken(Invariant::I18, format!("the box does not open: {why}"));
            }
            What::Drain => self.is_draining = true,
            What::Calm(bound) => self.calm = Some((self.now, *bound)),
            What::Finished => {
                self.finished();
                self.check_both_sides();
            }
            What::Size(bytes, most) => {
                if bytes > most {
                    self.broken(
                        Invariant::I16,
                        format!("the files take {bytes} bytes, at most {most} are due"),
                    );
                }
            }
            What::Note(_) => {}
        }
    }

    fn commit(&mut self, id: BatchId, strict: bool, ops: &[Said]) {
        for op in ops {
            if let Said::Submit { message, ports, body, .. } = op {
                let known = self.messages.entry(*message).or_insert_with(|| Message {
                    ports: ports.clone(),
                    body: *body,
                    is_refused: true,
                    ..Message::default()
                });
                known.is_refused &= known.is_accepted;
            }
        }
        let after = self.foretell(ops);
        self.open.insert(id, Batch { id, strict, ops: ops.to_vec(), after });
    }

    /// The deliveries that operations would change now.
    fn foretell(&self, ops: &[Said]) -> BTreeMap<DeliveryId, Row> {
        let mut after: BTreeMap<DeliveryId, Row> = BTreeMap::new();
        for op in ops {
            let delivery = match op {
                Said::Settle { lease, .. } => self.leases.get(lease),
                Said::Hold(delivery) | Said::Resume(delivery) | Said::Terminate(delivery) => Some(delivery),
                _ => None,
            };
            let Some(delivery) = delivery else { continue };
            let Some(mut row) = after.get(delivery).or_else(|| self.rows.get(delivery)).cloned() else {
                continue;
            };
            match op {
                Said::Settle { lease, how, charged } => {
                    let is_held = row.held.is_some_and(|held| held.lease == *lease);
                    let has_backup = self.ports.get(&row.to.port).is_some_and(|port| port.backup.is_some());
                    let can_move = has_backup && row.route == Route::Primary;
                    if !is_held || (*how == How::Backup && !can_move) {
                        continue;
                    }
                    row.is_transacted |= how.is_sent() && self.is_prepared(&row);
                    row.settle(*how, *charged, self.now);
                }
                // What is ready in the box need not be so on its disk: to resume it may be refused, or change nothing.
                Said::Resume(_) if row.is_due(self.now) => continue,
                command if row.allows(command, self.now) => row.command(command),
                _ => continue,
            }
            after.insert(*delivery, row);
        }
        after
    }

    fn answered(&mut self, id: BatchId, answer: &Answer) {
        let Some(batch) = self.open.remove(&id) else { return };
        match answer {
            Answer::Unknown => {
                self.abandon(&batch.ops);
                for op in &batch.ops {
                    if let Said::Pause(port, _) = op {
                        self.paused.remove(port);
                    }
                }
                self.doubts.push(batch);
            }
            Answer::Nothing => {
                self.last_refusal = self.now;
                self.abandon(&batch.ops);
                for op in &batch.ops {
                    self.refuse(op);
                }
            }
            Answer::Applied { results, repeated } => self.applied(&batch, results, *repeated),
        }
    }

    fn applied(&mut self, batch: &Batch, results: &Results, repeated: bool) {
        let some = results.iter().any(Result::is_ok);
        if batch.strict && some && results.iter().any(Result::is_err) {
            let text = format!("of the all-or-none batch {} some was applied: {results:?}", batch.id);
            self.broken(Invariant::I10, text);
        }
        let before = self.applied.get(&batch.id).cloned();
        match (repeated, before) {
            (true, Some(Some(before))) if before != *results => {
                let text = format!("batch {} again: {results:?} instead of {before:?}", batch.id);
                self.broken(Invariant::I3, text);
            }
            (true, Some(_)) => {}
            (true, None) => {
                let text = format!("batch {} is told to have been applied before; it never was", batch.id);
                self.broken(Invariant::I10, text);
            }
            (false, Some(_)) => {
                self.broken(Invariant::I3, format!("batch {} was applied twice", batch.id));
            }
            (false, None) => {
                for (op, result) in batch.ops.iter().zip(results) {
                    match result {
                        Ok(first) => self.apply(op, *first),
                        Err(refusal) => self.refused(op, refusal),
                    }
                }
                if some {
                    self.applied.insert(batch.id, Some(results.clone()));
                }
            }
        }
    }

    /// Nothing came of an operation, for sure.
    pub(super) fn refuse(&mut self, op: &Said) {
        if let Said::Submit { message, .. } = op
            && let Some(message) = self.messages.get_mut(message)
            && !message.is_accepted
        {
            message.is_refused = true;
        }
    }

    /// The holders of leases heard that their outcome was not recorded.
    fn abandon(&mut self, ops: &[Said]) {
        for op in ops {
            if let Said::Settle { lease, .. } = op
                && let Some(row) = self.holder_of(*lease)
                && let Some(held) = &mut row.held
            {
                held.is_abandoned = true;
                (row.in_doubt, row.is_shared) = (true, true);
            }
        }
    }

    fn refused(&mut self, op: &Said, refusal: &Refusal) {
        self.refuse(op);
        self.abandon(std::slice::from_ref(op));
        let now = self.now;
        if let Said::Settle { lease, .. } = op
            && *refusal == Refusal::NotOwned
            && let Some(row) = self.holder_of(*lease)
            && row.holder(now).is_some()
        {
            let text = format!("the holder of lease {lease} of {:?} was refused", row.to);
            self.broken(Invariant::I13, text);
        }
    }

    pub(super) fn holder_of(&mut self, lease: u64) -> Option<&mut Row> {
        let delivery = self.leases.get(&lease)?;
        self.rows.get_mut(delivery).filter(|row| row.held.is_some_and(|held| held.lease == lease))
    }

    fn apply(&mut self, op: &Said, first: Option<DeliveryId>) {
        match op {
            Said::Submit { .. } => {
                if let Some(first) = first {
                    self.accept(op, first);
                }
            }
            Said::Settle { lease, how, charged } => self.settle(*lease, *how, *charged),
            Said::Hold(delivery) | Said::Resume(delivery) | Said::Terminate(delivery) => {
                self.command(op, *delivery);
            }
            Said::Pause(port, paused) => {
                self.paused.insert(port.clone(), *paused);
            }
            Said::Other => {}
        }
    }

    /// A message is in the box, its deliveries numbered from `first` on.
    pub(super) fn accept(&mut self, op: &Said, first: DeliveryId) {
        let Said::Submit { message, ports, not_before, .. } = op else { return };
        let (message, not_before) = (*message, *not_before);
        let Some(known) = self.messages.get_mut(&message) else { return };
        known.is_accepted = true;
        known.is_refused = false;
        known.ports.clone_from(ports);
        for (place, port) in ports.iter().enumerate() {
            let to = To { message, port: port.clone() };
            let delivery = DeliveryId::new(first.number() + place as u64);
            let before = self.places.get(&to).and_then(|before| self.rows.get(before));
            if before.is_some_and(|row| !row.state.is_terminal() || self.traces_kept) {
                self.broken(Invariant::I3, format!("{to:?} was accepted twice"));
            }
            if let Some(other) = self.rows.get(&delivery) {
                let text = format!("number {delivery} of {:?} was given again, to {to:?}", other.to);
                self.broken(Invariant::I3, text);
            }
            self.places.insert(to.clone(), delivery);
            self.rows.insert(delivery, Row::new(to, delivery, not_before));
        }
    }

    fn command(&mut self, op: &Said, delivery: DeliveryId) {
        let now = self.now;
        let Some(row) = self.rows.get_mut(&delivery) else {
            return self.broken(Invariant::I3, format!("{op:?} was applied to an unknown delivery"));
        };
        if row.allows(op, now) {
            row.command(op);
        } else {
            let text = format!("{op:?} was applied to {:?}, which is {:?} {:?}", row.to, row.state, row.held);
            self.broken(Invariant::I3, text);
        }
    }

    fn lease(
        &mut self,
        lease: u64,
        delivery: DeliveryId,
        to: &To,
        route: Route,
        attempts: (u32, u32),
        ends: Timestamp,
    ) {
        let now = self.now;
        let Some(row) = self.rows.get(&delivery).filter(|row| row.to == *to) else {
            let text = format!("{to:?} was given out as {delivery} before its submission was answered");
            return self.broken(Invariant::I2, text);
        };
        let mut wrong = Vec::new();
        match row.state {
            State::Suspended => wrong.push((Invariant::I7, "it is suspended")),
            State::Done | State::Terminated => wrong.push((Invariant::I3, "it has ended")),
            State::Waiting { due, .. } if due > now => wrong.push((Invariant::I8, "it is not due")),
            _ => {}
        }
        if self.paused.get(&to.port) == Some(&true) {
            wrong.push((Invariant::I8, "its port is paused"));
        }
        match row.held {
            Some(held) if held.ends > now => wrong.push((Invariant::I13, "somebody else holds it")),
            Some(held) if !held.is_abandoned && self.last_refusal < held.at => {
                wrong.push((Invariant::I14, "it was left to the end of its lease"));
            }
            _ => {}
        }
        if (row.attempts, row.on_route) != attempts || row.route != route {
            wrong.push((Invariant::I4, "its attempts or its route are not those of the history"));
        }
        let text = format!("{to:?} with {attempts:?} attempts by {route:?} was given out: {row:?}");
        for (invariant, why) in wrong {
            self.broken(invariant, format!("{why}: {text}"));
        }
        self.leases.insert(lease, delivery);
        if let Some(row) = self.rows.get_mut(&delivery) {
            row.held = Some(Held { lease, at: now, ends, is_abandoned: false });
            (row.failed, row.asked) = (None, None);
        }
        self.leased.insert((to.port.clone(), route));
    }

    /// After a row of leases: the holder may have said by now that it lets some lie.
    fn check_leased(&mut self) {
        for (port, route) in std::mem::take(&mut self.leased) {
            self.check_in_flight(&port, route);
        }
    }

    fn check_in_flight(&mut self, port: &PortName, route: Route) {
        let Some(limits) = self.limits(port, route) else { return };
        let now = self.now;
        let held = |row: &&Row| {
            row.to.port == *port
                && row.route == route
                && row.holder(now).is_some_and(|held| !held.is_abandoned)
        };
        let in_flight = self.rows.values().filter(held).count();
        if in_flight > limits.in_flight {
            let text = format!("{in_flight} in flight on {port} {route:?}, at most {}", limits.in_flight);
            self.broken(Invariant::I9, text);
        }
    }

    fn release(&mut self, lease: u64) {
        let draining = self.is_draining;
        let Some(row) = self.holder_of(lease) else { return };
        row.held = None;
        if row.sent == Some(row.attempts + 1) && !draining && !row.in_doubt {
            let text = format!("{:?} was sent and then given back", row.to);
            self.broken(Invariant::I5, text);
        } else {
            row.in_doubt = true;
        }
    }

    fn seen(&mut self, to: &To, route: Route, seen: Seen<'_>) {
        let Seen { attempt, send_key, body, in_doubt } = seen;
        self.arrived(to, body);
        if self.send_keys.entry(send_key.to_owned()).or_insert_with(|| to.clone()) != to {
            self.broken(Invariant::I5, format!("{to:?} has another message's send key {send_key}"));
        }
        let Some(row) = self.places.get(to).and_then(|delivery| self.rows.get_mut(delivery)) else { return };
        let mut wrong = Vec::new();
        if let Some(key) = row.send_keys.get_mut(route as usize)
            && *key.get_or_insert_with(|| send_key.to_owned()) != send_key
        {
            wrong.push((Invariant::I5, "its send key changed"));
        }
        if attempt > row.attempts + 1 {
            wrong.push((Invariant::I4, "its attempt's number is ahead of the history"));
        }
        if row.sent.is_some() && !row.in_doubt && attempt == row.attempts + 1 {
            wrong.push((Invariant::I5, "it had been sent, and nothing put that in doubt"));
        }
        if attempt == row.attempts + 1 {
            if row.says_too_little(attempt, in_doubt) {
                wrong.push((
                    Invariant::I5,
                    "a crash cut it off while it was being sent, and it does not say so",
                ));
            }
            (row.sent, row.in_doubt) = (None, row.is_shared);
            (row.seen, row.is_cut_off) = (attempt, false);
        }
        let text = format!("{to:?} arrived by attempt {attempt}: {row:?}");
        for (invariant, why) in wrong {
            self.broken(invariant, format!("{why}: {text}"));
        }
    }

    /// A destination has something of this message.
    pub(super) fn arrived(&mut self, to: &To, body: u64) {
        let Some(message) = self.messages.get_mut(&to.message) else {
            return self.broken(Invariant::I2, format!("{to:?} arrived and was never submitted"));
        };
        message.was_seen = true;
        let (is_refused, expected) = (message.is_refused, message.body);
        let is_addressed = message.ports.contains(&to.port);
        if is_refused {
            self.broken(Invariant::I2, format!("{to:?} arrived although its submission was refused"));
        }
        if body != expected || !is_addressed {
            self.broken(Invariant::I1, format!("{to:?} arrived with another body or at another port"));
        }
    }

    fn told(&mut self, to: &To, attempt: u32, told: Told) {
        let now = self.now;
        let Some(row) = self.places.get(to).and_then(|delivery| self.rows.get_mut(delivery)) else { return };
        // An adapter that tells of an attempt long past changes nothing.
        if attempt != row.attempts + 1 || row.held.is_none() {
            return;
        }
        match told {
            Told::Sent => row.sent = Some(attempt),
            Told::Asked => row.asked = Some(attempt),
            Told::Failed { permanent, retry_after } => {
                row.failed.get_or_insert(Failed { attempt, at: now, permanent, retry_after });
                if row.failed.is_some_and(|failed| failed.attempt != attempt) {
                    row.failed = Some(Failed { attempt, at: now, permanent, retry_after });
                }
            }
        }
    }

    fn crash(&mut self, keeps_written: bool) {
        let cut_off = std::mem::take(&mut self.open);
        self.doubts.extend(cut_off.into_values());
        self.rows.values_mut().for_each(|row| row.crash(keeps_written));
        self.is_draining = false;
    }

    fn finished(&mut self) {
        let open: Vec<String> = self
            .rows
            .values()
            .filter(|row| !row.state.is_terminal())
            .take(5)
            .map(|row| format!("{row:?}"))
            .collect();
        if !open.is_empty() {
            self.broken(Invariant::I14, format!("without an outcome: {}", open.join("; ")));
        }
        if let Some((since, bound)) = self.calm
            && self.now.since(since) > bound
        {
            let text = format!("it took {:?}, at most {bound:?} are due", self.now.since(since));
            self.broken(Invariant::I14, text);
        }
    }

    /// Every port that a message names is one that can be submitted to, each once.
    pub(super) fn are_fine(&self, ports: &[PortName]) -> bool {
        let distinct: BTreeSet<&PortName> = ports.iter().collect();
        !ports.is_empty()
            && distinct.len() == ports.len()
            && ports.iter().all(|port| self.ports.contains_key(port))
    }
}
