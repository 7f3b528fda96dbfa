//! Building the ledger anew from the records that an engine holds, given in any order.

mod nonsense;
#[cfg(test)]
mod tests;

use std::ops::Range;

use hashbrown::HashSet;

use super::answers::FoundAnswers;
use super::applied::Applied;
use super::decisions::FoundDecisions;
use super::intents::FoundIntents;
use super::{DeliveryRow, Ledger, MessageRow, Page, PortState};
use crate::engine::{Damage, Key, Loss};
use crate::message_box::keys;
use crate::message_box::keys::applied::AppliedRecord;
use crate::message_box::keys::delivery::DeliveryHead;
use crate::message_box::keys::finished::Trace;
use crate::message_box::keys::port::PortRecord;
use crate::{BoxId, DeliveryState, Error, ErrorKind, Retention, Route, Timestamp};

/// A ledger in the making. Feed it every record, then [`Recovery::finish`].
#[derive(Debug, Default)]
pub(crate) struct Recovery {
    pub(super) ledger: Ledger,
    id: Option<BoxId>,
    ports: Vec<(u64, u32, PortRecord)>,
    changed: Vec<(u64, DeliveryHead, bool)>,
    history: Vec<Key>,
    pages: Vec<(u64, Vec<Trace>)>,
    applied: Vec<(u64, AppliedRecord)>,
    applied_pages: Vec<u64>,
    fragments: Vec<Key>,
    pub(super) answers: FoundAnswers,
    pub(super) decisions: FoundDecisions,
    pub(super) intents: FoundIntents,
    pub(super) top: u64,
}

/// What came out of a recovery.
#[derive(Debug)]
pub(crate) struct Recovered {
    pub(crate) ledger: Ledger,
    /// `None` for a box that was just created.
    pub(crate) id: Option<BoxId>,
    /// Records that belong to nothing: fragments of bodies that were never submitted, and what a damaged record
    /// left behind. To be deleted, unless something is damaged: then they are the rest of what was lost.
    pub(crate) orphans: Vec<Key>,
    /// What damage makes of the box as a whole; empty where nothing is damaged.
    pub(crate) harm: Harm,
}

/// What follows from damage for deliveries that are there, and what can be told of those that are not.
#[derive(Debug, Default)]
pub(crate) struct Harm {
    /// Deliveries whose message is whole and whose own record is lost: suspended, since nobody knows how they stood.
    pub(crate) parked: Vec<u64>,
    /// Numbers of deliveries of which nothing is left.
    pub(crate) missing: Vec<Range<u64>>,
    /// Numbers that may have been given to deliveries of which nothing is left. They are not given again.
    pub(crate) hidden: Range<u64>,
    /// Traces were forgotten in the life of this box, so that some of what is missing has just ended long ago.
    pub(crate) may_be_forgotten: bool,
    /// Records of messages whose every delivery has ended: a delete that was lost brought them back. To be deleted, or
    /// they would be sent again once their traces are forgotten.
    pub(crate) ended: Vec<Key>,
    /// Ports whose record is lost, by their number.
    pub(crate) nameless: Vec<u32>,
    /// The box is not new, and its id is lost.
    pub(crate) id_is_lost: bool,
}

impl Recovery {
    pub(crate) fn new(retention: Retention) -> Self {
        let mut recovery = Self::default();
        recovery.ledger.retention = retention;
        recovery
    }

    /// Takes one record.
    pub(crate) fn visit(&mut self, key: Key, head: &[u8]) -> Result<(), Error> {
        let Key { number, .. } = key;
        nonsense::check_number(number)?;
        match key.family {
            keys::meta::FAMILY => self.id = Some(keys::meta::read(head)?),
            keys::port::FAMILY => self.ports.push((number, key.part, keys::port::read(head)?)),
            keys::message::FAMILY => self.message(number, head)?,
            keys::delivery::FAMILY => {
                let (fixed, rest) = keys::delivery::read(head)?;
                nonsense::check_delivery(&fixed)?;
                self.changed.push((number, fixed, !rest.carried.is_empty()));
            }
            keys::attempt::FAMILY => self.history.push(key),
            keys::finished::FAMILY => {
                let rows = keys::finished::rows(head).collect::<Result<Vec<_>, _>>()?;
                rows.iter().try_for_each(nonsense::check_trace)?;
                self.pages.push((number, rows));
            }
            keys::applied::FAMILY => {
                let rows = keys::applied::rows(head)?;
                nonsense::check_number(number)?;
                rows.iter().try_for_each(nonsense::check_applied)?;
                self.applied_pages.push(number);
                self.applied.extend((number..).zip(rows));
            }
            keys::fragment::FAMILY => self.fragments.push(key),
            keys::answer::FAMILY => self.answers.visit(key, head)?,
            keys::decision::FAMILY => self.decisions.visit(key, head)?,
            keys::intent::FAMILY | keys::doubt::FAMILY => self.intents.visit(key, head)?,
            other => {
                return Err(Error::new(ErrorKind::Incompatible, "read the box")
                    .with("reason", "it has records of a later version")
                    .with("family", other));
            }
        }
        Ok(())
    }

    /// A message, with the deliveries that it implies.
    fn message(&mut self, number: u64, head: &[u8]) -> Result<(), Error> {
        let parsed = keys::message::read(head)?;
        let fixed = parsed.fixed;
        nonsense::check_message(&fixed)?;
        let mut count = 0;
        for port in parsed.ports() {
            let row = DeliveryRow::new(port, count, fixed.not_before);
            self.ledger.deliveries.insert(number + u64::from(count), row);
            count = count.saturating_add(1);
        }
        if fixed.fragments != 0 {
            self.ledger.long_bodies.insert(number, fixed.fragments);
        }
        let row = MessageRow {
            id: fixed.id,
            submitted: fixed.submitted,
            body_len: fixed.body_len,
            live: count,
            known: count,
            count,
        };
        self.ledger.messages.insert(number, row);
        self.top = self.top.max(number + u64::from(count)).max(fixed.fragments + 1);
        Ok(())
    }

    /// Every record was given: refuses ports that cannot have been. To be asked before [`Recovery::finish`].
    pub(crate) fn check_ports(&self) -> Result<(), Error> {
        let defined = self.ports.iter().map(|port| port.0);
        let live = self.ledger.deliveries.range(0).map(|(_, row)| u64::from(row.port));
        let ended = self.pages.iter().flat_map(|(_, traces)| traces).map(|trace| u64::from(trace.port));
        let highest = defined.chain(live).chain(ended).max().unwrap_or(0);
        nonsense::check_ports(self.ports.len() as u64, highest)
    }

    /// Every record was given: puts the parts together. `damages` is what the engine found.
    pub(crate) fn finish(mut self, damages: &[Damage]) -> Recovered {
        let mut orphans = Vec::new();
        let has_known = !self.ports.is_empty() || self.ledger.deliveries.range(0).next().is_some();
        let mut harm = Harm { id_is_lost: self.id.is_none() && has_known, ..Harm::default() };
        self.finish_ports();
        self.finish_changed(&mut orphans);
        self.finish_pages();
        harm.ended = self.finish_ended();
        self.finish_history(&mut orphans);
        self.finish_fragments(&mut orphans);
        self.finish_answers(&mut orphans);
        self.finish_decisions(damages, &mut orphans);
        self.finish_intents(&mut orphans);
        let gaps = self.finish_applied();
        if damages.iter().any(|damage| damage.loss != Loss::None) {
            self.park(damages, &mut harm);
            self.find_missing(damages, &gaps, &mut harm);
        }
        self.queue();
        let nameless = |(number, port): (usize, &PortState)| {
            port.is_nameless().then(|| u32::try_from(number).unwrap_or(u32::MAX))
        };
        harm.nameless = self.ledger.ports.iter().enumerate().filter_map(nameless).collect();
        self.ledger.next = self.top.max(1);
        if !crate::mutant::is("duplicates-after-reopening") {
            self.ledger.know_all();
        }
        Recovered { ledger: self.ledger, id: self.id, orphans, harm }
    }

    fn finish_ports(&mut self) {
        self.ports.sort_unstable_by_key(|(number, copy, _)| (*number, *copy));
        self.ports.dedup_by_key(|(number, ..)| *number);
        for (number, _, record) in std::mem::take(&mut self.ports) {
            let place = u32::try_from(number).unwrap_or(u32::MAX);
            // A damaged port record leaves a gap; its deliveries stay under a name that says so.
            while (self.ledger.ports.len() as u64) < number {
                self.unnamed_port();
            }
            self.ledger.names.insert(record.name.clone(), place);
            self.ledger.ports.push(PortState::new(record));
        }
    }

    fn unnamed_port(&mut self) {
        let number = self.ledger.ports.len();
        let Ok(name) = crate::PortName::new(&format!("damaged-port-{number}")) else { return };
        self.ledger.names.insert(name.clone(), u32::try_from(number).unwrap_or(u32::MAX));
        let record = PortRecord { name, backup: false, defined: false, paused: true };
        self.ledger.ports.push(PortState::nameless(record));
    }

    fn finish_changed(&mut self, orphans: &mut Vec<Key>) {
        for (number, fixed, carried) in std::mem::take(&mut self.changed) {
            let Some(row) = self.ledger.deliveries.get(number) else {
                orphans.push(keys::delivery::key(number));
                continue;
            };
            if fixed.state.is_terminal() {
                let message = number - u64::from(row.ordinal);
                self.ended_and_forgotten(number, message);
                continue;
            }
            self.ledger.deliveries.update(number, |row| {
                row.state = fixed.state;
                row.attempts = fixed.attempts;
                row.attempts_on_route = fixed.attempts_on_route;
                row.due = if crate::mutant::is("due-time-forgotten") { 0 } else { fixed.due.as_micros() };
                row.set(DeliveryRow::BACKUP, fixed.route == Route::Backup);
                row.set(DeliveryRow::RECORD, true);
                row.set(DeliveryRow::CARRIED, carried);
            });
        }
    }

    /// A delivery whose trace is gone, while its message is still there for others.
    fn ended_and_forgotten(&mut self, number: u64, message: u64) {
        self.ledger.deliveries.remove(number);
        if let Some(of) = self.ledger.messages.get_mut(message) {
            of.live = of.live.saturating_sub(1);
            of.known = of.known.saturating_sub(1);
        }
    }

    fn finish_pages(&mut self) {
        self.pages.sort_unstable_by_key(|(sequence, _)| *sequence);
        for (sequence, traces) in std::mem::take(&mut self.pages) {
            let rows = u32::try_from(traces.len()).unwrap_or(u32::MAX);
            let newest = traces.iter().map(|trace| trace.finished).max().unwrap_or(Timestamp::EPOCH);
            for trace in traces {
                self.trace(sequence, &trace);
            }
            self.ledger.pages.push_back(Page { sequence, rows, newest });
            self.ledger.next_page = sequence + 1;
        }
    }

    fn finish_ended(&mut self) -> Vec<Key> {
        let has_ended =
            |(number, row): (u64, &MessageRow)| (row.count > 0 && row.live == 0).then_some(number);
        let ended: Vec<u64> = self.ledger.messages.range(0).filter_map(has_ended).collect();
        for number in &ended {
            if let Some(row) = self.ledger.messages.get_mut(*number) {
                row.count = 0;
            }
            self.ledger.long_bodies.remove(number);
        }
        ended.into_iter().map(keys::message::key).collect()
    }

    fn trace(&mut self, page: u64, trace: &Trace) {
        let message = trace.delivery - u64::from(trace.ordinal).min(trace.delivery);
        let mut row = DeliveryRow::new(trace.port, trace.ordinal, Timestamp::EPOCH);
        row.state = trace.state;
        row.attempts = trace.attempts;
        row.due = i64::try_from(page).unwrap_or(i64::MAX);
        row.set(DeliveryRow::BACKUP, trace.route == Route::Backup);
        let implied = self.ledger.deliveries.get(trace.delivery).is_some();
        self.ledger.deliveries.insert(trace.delivery, row);
        self.ledger.finished.push_back(trace.delivery);
        if !crate::mutant::is("number-used-again") {
            self.top = self.top.max(trace.delivery + 1);
        }
        match self.ledger.messages.get_mut(message) {
            // The message is still there for its other deliveries, and had implied this one as well.
            Some(of) if implied => of.live = of.live.saturating_sub(1),
            Some(of) => of.known = of.known.saturating_add(1),
            None => {
                let of = MessageRow {
                    id: trace.message,
                    submitted: trace.submitted,
                    body_len: trace.body_len,
                    live: 0,
                    known: 1,
                    count: 0,
                };
                self.ledger.messages.insert(message, of);
            }
        }
    }

    fn finish_history(&mut self, orphans: &mut Vec<Key>) {
        for key in std::mem::take(&mut self.history) {
            let noted = self.ledger.deliveries.update(key.number, |row| row.set(DeliveryRow::HISTORY, true));
            if noted.is_none() {
                orphans.push(key);
            }
        }
    }

    fn finish_fragments(&mut self, orphans: &mut Vec<Key>) {
        let owned: HashSet<u64> = self.ledger.long_bodies.values().copied().collect();
        for key in std::mem::take(&mut self.fragments) {
            self.top = self.top.max(key.number + 1);
            if !owned.contains(&key.number) && !crate::mutant::is("orphan-fragments-stay") {
                orphans.push(key);
            }
        }
    }

    /// Gives the numbers between remembered batches, where none was forgotten in between: bodies that were put in
    /// ahead, no deliveries.
    fn finish_applied(&mut self) -> Vec<Range<u64>> {
        self.applied.sort_unstable_by_key(|(sequence, _)| *sequence);
        let applied = std::mem::take(&mut self.applied);
        let mut gaps = Vec::new();
        for ((before, earlier), (after, later)) in applied.iter().zip(applied.iter().skip(1)) {
            if before + 1 == *after && earlier.next_number < later.first {
                gaps.push(earlier.next_number..later.first);
            }
        }
        if !crate::mutant::is("number-used-again") {
            let numbers = applied.iter().map(|(_, record)| record.next_number);
            self.top = self.top.max(numbers.max().unwrap_or(0));
        }
        self.applied_pages.sort_unstable();
        self.ledger.applied = Applied::recovered(applied, std::mem::take(&mut self.applied_pages));
        gaps
    }

    /// Counts every delivery and puts it where its state wants it, in order of number.
    fn queue(&mut self) {
        let ledger = &mut self.ledger;
        let highest = ledger.deliveries.range(0).map(|(_, row)| row.port as usize + 1).max().unwrap_or(0);
        while self.ledger.ports.len() < highest {
            self.unnamed_port();
        }
        let Ledger { deliveries, ports, .. } = &mut self.ledger;
        for (number, row) in deliveries.range(0) {
            debug_assert!(row.state != DeliveryState::Leased, "leases are never on disk");
            if let Some(port) = ports.get_mut(row.port as usize) {
                port.count(row.state, 1);
                port.enqueue(number, &row);
            }
        }
    }
}
