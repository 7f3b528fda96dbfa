//! Reads every record, holds the parts of the box against each other, and says what damage costs.

use std::ops::Range;

use hashbrown::{HashMap, HashSet};

use super::report::{Contents, Finding, Loses, Report};
use super::{Progress, Watcher};
use crate::engine::{Damage, Engine, Key, Loss};
use crate::ledger::{Harm, Ledger, MessageRow, PortState, Recovery};
use crate::message_box::harm::{hidden_because, missing_because};
use crate::message_box::keys;
use crate::{Error, ErrorKind, FRAGMENT_BYTES, MessageId, Retention};

/// Records between two calls of the watcher.
const WATCHED_RECORDS: u64 = 256;

/// Everything that was found.
#[derive(Debug)]
pub(super) struct Survey {
    pub(super) report: Report,
    /// Records that can be read whole, in the order in which they lie.
    pub(super) keys: Vec<Key>,
    pub(super) ledger: Ledger,
    pub(super) harm: Harm,
    /// Records that belong to nothing.
    pub(super) orphans: HashSet<Key>,
    /// Numbers of messages that are there by half.
    pub(super) broken: HashSet<u64>,
    /// Number of a long body -> number of its message.
    pub(super) owners: HashMap<u64, u64>,
}

/// What reading every record gave.
#[derive(Debug, Default)]
struct Read {
    keys: Vec<Key>,
    unread: HashSet<Key>,
    bytes: u64,
    /// Of messages whose body is their record's own: its length.
    bodies: HashMap<u64, u64>,
    /// Of long bodies: pieces and bytes that are there.
    pieces: HashMap<u64, (u64, u64)>,
}

impl Survey {
    /// Reads everything.
    pub(super) fn of(engine: &dyn Engine, watch: &mut Watcher<'_>) -> Result<Self, Error> {
        // Nothing is to be forgotten while it is only looked at.
        let mut recovery = Recovery::new(Retention::default());
        let mut found = Vec::new();
        engine.recover(&mut |key, head| {
            found.push(key);
            recovery.visit(key, head)
        })?;
        let read = read_all(engine, found, watch)?;
        recovery.check_ports()?;
        let damages = engine.damage();
        let recovered = recovery.finish(&damages);
        let owners: HashMap<u64, u64> =
            recovered.ledger.long_bodies().map(|(message, body)| (body, message)).collect();
        let mut survey = Self {
            report: Report { engine: engine.name(), id: recovered.id, ..Report::default() },
            keys: Vec::new(),
            ledger: recovered.ledger,
            harm: recovered.harm,
            orphans: recovered.orphans.into_iter().collect(),
            broken: HashSet::new(),
            owners,
        };
        for damage in damages {
            let finding = survey.finding(engine, damage);
            survey.report.findings.push(finding);
        }
        survey.hold_together(engine, &read);
        survey.tell_harm();
        survey.report.files = engine.files();
        survey.report.torn_tail = engine.torn_tail();
        survey.report.contents = survey.contents(&read);
        survey.report.findings.sort_by(|a, b| (&a.file, a.offset, a.key).cmp(&(&b.file, b.offset, b.key)));
        survey.keys = read.keys;
        Ok(survey)
    }

    /// What a damaged place means.
    fn finding(&self, engine: &dyn Engine, damage: Damage) -> Finding {
        let mut finding = Finding {
            file: damage.file,
            offset: damage.offset,
            bytes: damage.bytes,
            key: damage.key,
            what: damage.what,
            loses: Loses::Unknown,
            message: None,
            is_message_sure: false,
            deliveries: Vec::new(),
        };
        match (damage.loss, damage.key) {
            (Loss::None, _) => finding.loses = Loses::Nothing,
            (Loss::Unknown, _) | (Loss::Record, None) => {}
            (Loss::Record, Some(key)) => self.about(engine, key, &mut finding),
        }
        finding
    }

    /// Says which message and deliveries a lost record was about.
    fn about(&self, engine: &dyn Engine, key: Key, finding: &mut Finding) {
        match key.family {
            keys::message::FAMILY => {
                finding.loses = Loses::Message;
                match self.ledger.message(key.number) {
                    Some(row) => self.of_message(key.number, row, finding),
                    None => {
                        finding.message = engine.peek(key).and_then(|head| keys::message::peek_id(&head));
                        finding.deliveries = std::iter::once(key.number..key.number + 1).collect();
                    }
                }
            }
            keys::fragment::FAMILY => {
                let owner = self.owners.get(&key.number);
                match owner.and_then(|number| Some((*number, self.ledger.message(*number)?))) {
                    Some((number, row)) => {
                        finding.loses = Loses::Message;
                        self.of_message(number, row, finding);
                    }
                    // Of a body that nobody submitted, or of a message that is told of by itself.
                    None => finding.loses = Loses::Nothing,
                }
            }
            keys::delivery::FAMILY | keys::attempt::FAMILY | keys::answer::FAMILY => {
                finding.loses = match key.family {
                    keys::delivery::FAMILY => Loses::State,
                    keys::attempt::FAMILY => Loses::Attempt,
                    _ => Loses::Answer,
                };
                finding.deliveries = std::iter::once(key.number..key.number + 1).collect();
                if let Some(message) = self.ledger.message_of(key.number) {
                    finding.message = self.ledger.message(message).map(|row| row.id);
                    finding.is_message_sure = true;
                }
            }
            keys::decision::FAMILY => finding.loses = Loses::Decision,
            keys::intent::FAMILY | keys::doubt::FAMILY => finding.loses = Loses::Doubt,
            keys::finished::FAMILY => finding.loses = Loses::Traces,
            keys::applied::FAMILY => finding.loses = Loses::Batches,
            keys::port::FAMILY => {
                let is_lost = self.harm.nameless.iter().any(|number| u64::from(*number) == key.number);
                finding.loses = if is_lost { Loses::Port } else { Loses::Nothing };
            }
            keys::meta::FAMILY => {
                finding.loses = if self.harm.id_is_lost { Loses::BoxId } else { Loses::Nothing };
            }
            _ => {}
        }
    }

    fn of_message(&self, number: u64, row: &MessageRow, finding: &mut Finding) {
        finding.message = Some(row.id);
        finding.is_message_sure = true;
        finding.deliveries = self.ledger.open_deliveries(number, row);
    }

    /// Each message against its record and its body's pieces.
    fn hold_together(&mut self, engine: &dyn Engine, read: &Read) {
        let mut findings = Vec::new();
        for (number, row) in self.ledger.messages_with_record() {
            let key = keys::message::key(number);
            let (have, unread) = match self.ledger.fragments_of(number) {
                None => (read.bodies.get(&number).copied(), read.unread.contains(&key)),
                Some(body) => {
                    let (pieces, bytes) = read.pieces.get(&body).copied().unwrap_or_default();
                    let wanted = row.body_len.div_ceil(FRAGMENT_BYTES as u64);
                    let is_known = read
                        .unread
                        .iter()
                        .any(|key| key.family == keys::fragment::FAMILY && key.number == body);
                    let have = (pieces == wanted && read.bodies.contains_key(&number)).then_some(bytes);
                    (have, is_known || read.unread.contains(&key))
                }
            };
            if have == Some(row.body_len) {
                continue;
            }
            self.broken.insert(number);
            if !unread {
                let place = engine.locate(key);
                let mut finding = Finding {
                    file: place.as_ref().map(|place| place.file.clone()).unwrap_or_default(),
                    offset: place.as_ref().map_or(0, |place| place.offset),
                    bytes: place.as_ref().map_or(0, |place| place.bytes),
                    key: Some(key),
                    what: "a part of the message's body is missing".to_owned(),
                    loses: Loses::Message,
                    message: None,
                    is_message_sure: true,
                    deliveries: Vec::new(),
                };
                self.of_message(number, row, &mut finding);
                findings.push(finding);
            }
        }
        self.report.findings.append(&mut findings);
    }

    /// What damage makes of the box as a whole.
    fn tell_harm(&mut self) {
        let known: HashSet<Key> = self.report.findings.iter().filter_map(|finding| finding.key).collect();
        let mut tell = |key: Option<Key>, what: String, loses, deliveries: Vec<Range<u64>>| {
            self.report.findings.push(Finding {
                file: String::new(),
                offset: 0,
                bytes: 0,
                key,
                what,
                loses,
                message: None,
                is_message_sure: false,
                deliveries,
            });
        };
        if self.harm.id_is_lost {
            tell(None, "the box's id is lost".to_owned(), Loses::BoxId, Vec::new());
        }
        for number in &self.harm.nameless {
            let what =
                format!("the name of port {number} is lost; its deliveries wait under damaged-port-{number}");
            tell(Some(keys::port::key(*number)), what, Loses::Port, Vec::new());
        }
        for number in self.harm.parked.iter().filter(|number| !known.contains(&keys::delivery::key(**number)))
        {
            let what = "the delivery's own record is lost, though its attempts are there".to_owned();
            let deliveries = std::iter::once(*number..number + 1).collect();
            tell(Some(keys::delivery::key(*number)), what, Loses::State, deliveries);
        }
        if !self.harm.missing.is_empty() {
            let what = format!("nothing is left of these deliveries: {}", missing_because(&self.harm));
            tell(None, what, Loses::Unknown, self.harm.missing.clone());
        }
        if !self.harm.hidden.is_empty() {
            let deliveries = std::iter::once(self.harm.hidden.clone()).collect();
            tell(None, hidden_because(&self.harm), Loses::Unknown, deliveries);
        }
    }

    fn contents(&self, read: &Read) -> Contents {
        let count = |family: u8| read.keys.iter().filter(|key| key.family == family).count() as u64;
        let whole = self.ledger.messages_with_record().filter(|(number, _)| !self.broken.contains(number));
        let mut ports: Vec<_> = self.ledger.ports().iter().map(PortState::info).collect();
        ports.sort_by(|a, b| a.name.cmp(&b.name));
        Contents {
            records: read.keys.len() as u64,
            bytes: read.bytes,
            messages: whole.count() as u64,
            fragments: count(keys::fragment::FAMILY),
            attempts: count(keys::attempt::FAMILY),
            traces: self.ledger.traces(),
            answers: self.ledger.answers(),
            decisions: self.ledger.decisions_kept(),
            batches: self.ledger.remembered(),
            leftovers: self.orphans.len() as u64,
            ports,
        }
    }

    /// The message of this number, as far as it is known.
    pub(super) fn message_id(&self, number: u64) -> Option<MessageId> {
        self.ledger.message(number).map(|row| row.id)
    }
}

/// Reads every record with its body. What is damaged is listed by the engine.
fn read_all(engine: &dyn Engine, found: Vec<Key>, watch: &mut Watcher<'_>) -> Result<Read, Error> {
    let mut read = Read::default();
    let of = found.len() as u64;
    for (index, key) in (0..).zip(found) {
        if index % WATCHED_RECORDS == 0 {
            watch(Progress { doing: "reading", records: index, of, bytes: read.bytes });
        }
        let record = match engine.get(key) {
            Ok(Some(record)) => record,
            // It was there a moment ago.
            Ok(None) => continue,
            Err(error) if error.kind() == ErrorKind::Corrupt => {
                read.unread.insert(key);
                continue;
            }
            Err(error) => return Err(error),
        };
        let body_bytes = record.body.len() as u64;
        read.bytes += record.head.len() as u64 + body_bytes;
        match key.family {
            keys::message::FAMILY => {
                read.bodies.insert(key.number, body_bytes);
            }
            keys::fragment::FAMILY => {
                let (pieces, bytes) = read.pieces.entry(key.number).or_default();
                (*pieces, *bytes) = (*pieces + 1, *bytes + body_bytes);
            }
            _ => {}
        }
        read.keys.push(key);
    }
    watch(Progress { doing: "reading", records: of, of, bytes: read.bytes });
    Ok(read)
}
