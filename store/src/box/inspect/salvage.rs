//! Copying what is whole into a new box.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use bytes::Bytes;
use hashbrown::HashMap;

use super::report::{Finding, Report};
use super::source::Source;
use super::survey::Survey;
use super::{Progress, Watcher};
use crate::engine::{Engine, Key, Record, WriteSet};
use crate::message_box::keys::applied::AppliedRecord;
use crate::message_box::keys::port::PortRecord;
use crate::message_box::{folder, harm, keys, open};
use crate::{BoxConfig, DeliveryId, Durability, Error, ErrorKind, IdSource, MessageId, PortName};

/// The file in the new data folder that lists what was left behind.
pub const LEFT_BEHIND: &str = "left-behind.txt";
/// Copied with one apply.
const GROUP_BYTES: usize = 4 * 1024 * 1024;

/// The name of a port whose record is lost.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Naming {
    /// The port's number, as a check tells it.
    pub number: u32,
    /// Its name. Where the box has a port of this name already, the deliveries go over to that one.
    pub name: PortName,
}

/// Something that was not copied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Left {
    /// A message that is there by half, with its open deliveries.
    Message {
        /// Its id.
        id: MessageId,
        /// Its deliveries that had not ended.
        deliveries: Vec<DeliveryId>,
    },
    /// Records that belong to nothing any more: the rest of a lost message, or a body that was never submitted.
    Rest {
        /// How many.
        records: u64,
    },
}

/// What a salvage did.
#[derive(Debug, Clone)]
pub struct Salvaged {
    /// What was found in the old box.
    pub report: Report,
    /// Records that were copied.
    pub records: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Messages that were copied with their body.
    pub messages: u64,
    /// What was left behind.
    pub left: Vec<Left>,
}

impl Salvaged {
    /// What was left behind and what else was lost, a line each.
    #[must_use]
    pub fn told(&self) -> String {
        let mut text = String::new();
        for left in &self.left {
            let _ = match left {
                Left::Message { id, deliveries } => {
                    let numbers: Vec<String> = deliveries.iter().map(ToString::to_string).collect();
                    writeln!(text, "left behind: message {id}, deliveries {}", numbers.join(", "))
                }
                Left::Rest { records } => {
                    writeln!(text, "left behind: {records} records that belong to no message any more")
                }
            };
        }
        for finding in &self.report.findings {
            let _ = writeln!(text, "{}", line(finding));
        }
        text
    }
}

fn line(finding: &Finding) -> String {
    let mut text = format!("damaged ({} lost): {}", finding.loses.as_str(), finding.what);
    if let Some(id) = finding.message {
        let _ = write!(
            text,
            "; message {id}{}",
            if finding.is_message_sure { "" } else { ", as far as it can be read" }
        );
    }
    if !finding.deliveries.is_empty() {
        let _ = write!(text, "; deliveries {}", finding.deliveries_told());
    }
    if !finding.file.is_empty() {
        let _ = write!(text, "; {} at {}, {} bytes", finding.file, finding.offset, finding.bytes);
    }
    text
}

/// Copies what is whole in the config's data folder into a new box at `to`, and lists the rest there in
/// [`LEFT_BEHIND`]. The old folder is not changed. Until the copy is complete the new folder says that it is
/// unfinished, and is refused by [`crate::MessageBox::open`].
///
/// # Errors
/// As [`super::check`]; and [`ErrorKind::Invalid`] where `to` is there and not empty, or a name is given to a port that
/// has one; [`ErrorKind::Full`] and [`ErrorKind::Unavailable`] where the new box cannot be written.
pub fn salvage(
    config: &BoxConfig,
    to: &Path,
    scratch: &Path,
    names: &[Naming],
    watch: &mut Watcher<'_>,
) -> Result<Salvaged, Error> {
    let source = Source::open(&config.folder, scratch)?;
    folder::begin_salvage(to)?;
    let _lock = folder::lock(to)?;
    let target = BoxConfig { folder: to.to_owned(), engine: source.kind, ..config.clone() };
    let engine = open::open_engine(&target)?;
    let mut salvaged = salvage_engine(&*source.engine, &*engine, names, &config.ids, watch)?;
    engine.close()?;
    salvaged.report.findings.extend(source.findings.iter().cloned());
    let told = to.join(LEFT_BEHIND);
    fs::write(&told, salvaged.told())
        .and_then(|()| fs::File::open(&told)?.sync_all())
        .map_err(|error| Error::io("list what was left behind", error).with("file", told.display()))?;
    folder::end_salvage(to, source.kind)?;
    Ok(salvaged)
}

/// The same from one engine to another, which is empty. `ids` gives the box a new id where its own is lost.
///
/// # Errors
/// As [`salvage`].
pub fn salvage_engine(
    from: &dyn Engine,
    to: &dyn Engine,
    names: &[Naming],
    ids: &IdSource,
    watch: &mut Watcher<'_>,
) -> Result<Salvaged, Error> {
    let survey = Survey::of(from, watch)?;
    let renumbered = renumbered(&survey, names)?;
    let mut writes = WriteSet::default();
    write_anew(&survey, names, &renumbered, ids, &mut writes);
    to.apply(&writes, Durability::Flushed)?;
    let mut salvaged = Salvaged {
        records: 0,
        bytes: 0,
        messages: survey.report.contents.messages,
        left: Vec::new(),
        report: survey.report.clone(),
    };
    writes.clear();
    let mut rest = 0;
    let of = survey.keys.len() as u64;
    for (index, key) in (0..).zip(&survey.keys) {
        match fate(&survey, *key) {
            Fate::Copied => {
                // It could be read a moment ago.
                let Some(record) = from.get(*key)? else { continue };
                salvaged.records += 1;
                salvaged.bytes += (record.head.len() + record.body.len()) as u64;
                let head = with_ports(*key, &record, &renumbered);
                writes.put(*key, record.body, |out| out.extend_from_slice(&head));
            }
            Fate::Anew => salvaged.records += 1,
            Fate::Dropped => rest += 1,
        }
        if writes.payload_bytes() >= GROUP_BYTES {
            to.reserve(writes.payload_bytes() as u64, 0)?;
            to.apply(&writes, Durability::Flushed)?;
            writes.clear();
            watch(Progress { doing: "copying", records: index + 1, of, bytes: salvaged.bytes });
        }
    }
    to.apply(&writes, Durability::Flushed)?;
    watch(Progress { doing: "copying", records: of, of, bytes: salvaged.bytes });
    salvaged.left = left_behind(&survey, rest);
    Ok(salvaged)
}

/// What becomes of a record.
enum Fate {
    Copied,
    /// It is written from what is known of it.
    Anew,
    Dropped,
}

fn fate(survey: &Survey, key: Key) -> Fate {
    let is_open = |message: u64| !survey.broken.contains(&message);
    let is_kept = match key.family {
        keys::meta::FAMILY | keys::port::FAMILY => return Fate::Anew,
        _ if survey.orphans.contains(&key) || survey.harm.ended.contains(&key) => false,
        keys::message::FAMILY => is_open(key.number),
        keys::fragment::FAMILY => survey.owners.get(&key.number).is_some_and(|message| is_open(*message)),
        keys::delivery::FAMILY => survey.ledger.message_of(key.number).is_some_and(is_open),
        // The history of a delivery that has ended goes with its trace.
        keys::attempt::FAMILY => {
            let has_ended = survey.ledger.delivery(DeliveryId::new(key.number));
            has_ended.is_some_and(|row| row.state.is_terminal())
                || survey.ledger.message_of(key.number).is_some_and(is_open)
        }
        _ => true,
    };
    if is_kept { Fate::Copied } else { Fate::Dropped }
}

/// What is not copied but written from what is known: the box's id, the ports, the deliveries that damage parks, and
/// the next free number.
fn write_anew(
    survey: &Survey,
    names: &[Naming],
    renumbered: &HashMap<u32, u32>,
    ids: &IdSource,
    writes: &mut WriteSet,
) {
    keys::meta::write(writes, survey.report.id.unwrap_or_else(|| ids.mailbox()));
    for (number, port) in (0..).zip(survey.ledger.ports()) {
        // One whose deliveries go over to another keeps its made-up name: nothing is left of it but its number.
        if !port.is_nameless() || renumbered.contains_key(&number) {
            keys::port::write(writes, number, &port.record);
        }
    }
    for naming in names.iter().filter(|naming| !renumbered.contains_key(&naming.number)) {
        let record = PortRecord { name: naming.name.clone(), backup: false, defined: false, paused: false };
        keys::port::write(writes, naming.number, &record);
    }
    harm::park(
        survey.harm.parked.iter().copied().filter(|number| {
            survey.ledger.message_of(*number).is_some_and(|message| !survey.broken.contains(&message))
        }),
        writes,
    );
    if survey.report.findings.is_empty() {
        return;
    }
    if survey.ledger.decisions().lost_until.is_some() {
        // What was begun before is not to be rolled back for want of a decision.
        keys::decision::write_lost(writes, survey.ledger.next_decision(), ids.batch().made());
    }
    // Numbers that damage hides must not be given again.
    let (sequence, next) = survey.ledger.next_numbers();
    let record =
        AppliedRecord { id: ids.batch(), next_number: next, first: next, ops: 0, refusals: Vec::new() };
    let mut page = keys::applied::Page::default();
    page.push(&record);
    page.write(writes, sequence);
}

/// The numbers of nameless ports that turn out to be another port, and that one's number.
fn renumbered(survey: &Survey, names: &[Naming]) -> Result<HashMap<u32, u32>, Error> {
    let mut renumbered = HashMap::new();
    for (index, naming) in names.iter().enumerate() {
        let is_nameless = survey.harm.nameless.contains(&naming.number);
        let is_second =
            names.iter().take(index).any(|other| other.number == naming.number || other.name == naming.name);
        if !is_nameless || is_second {
            let reason = if is_second { "it is named twice" } else { "the port's name is not lost" };
            return Err(Error::new(ErrorKind::Invalid, "name a port")
                .with("number", naming.number)
                .with("name", &naming.name)
                .with("reason", reason));
        }
        if let Some(same) = survey.ledger.port_number(&naming.name) {
            renumbered.insert(naming.number, same);
        }
    }
    Ok(renumbered)
}

/// The record's head, with the numbers of ports changed where that is asked for.
fn with_ports(key: Key, record: &Record, renumbered: &HashMap<u32, u32>) -> Bytes {
    if renumbered.is_empty() {
        return record.head.clone();
    }
    let change = |port: u32| renumbered.get(&port).copied().unwrap_or(port);
    match key.family {
        keys::message::FAMILY => keys::message::with_ports(&record.head, change),
        keys::finished::FAMILY => keys::finished::with_ports(&record.head, change),
        _ => record.head.clone(),
    }
}

fn left_behind(survey: &Survey, rest: u64) -> Vec<Left> {
    let mut broken: Vec<u64> = survey.broken.iter().copied().collect();
    broken.sort_unstable();
    let message = |number: u64| {
        let id = survey.message_id(number)?;
        let row = survey.ledger.message(number)?;
        let open = survey.ledger.open_deliveries(number, row);
        Some(Left::Message { id, deliveries: open.into_iter().flatten().map(DeliveryId::new).collect() })
    };
    let mut left: Vec<Left> = broken.into_iter().filter_map(message).collect();
    if rest > 0 {
        left.push(Left::Rest { records: rest });
    }
    left
}
