//! What was told of a box: every batch, in order, and so how each delivery may stand after a cut.
//!
//! A delivery is changed by one batch at a time, and a batch is told of before it is committed. So the batches that
//! concern one delivery form a chain, and what is found must be how it stood after some link of it: not before the
//! last one that was acknowledged, and for every delivery of a batch on the same side of it.

use std::collections::{BTreeMap, HashMap};

use pillarbox_store::{DeliveryInfo, DeliveryState, Route};

use super::findings::Findings;
use super::record::{Deed, Doing, Line, PORTS};

/// A message's number and a port's.
pub(super) type Place = (u64, u8);

/// Where a delivery stands, as far as a cut cannot change it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Standing {
    stage: Stage,
    is_on_backup: bool,
    attempts: u32,
    /// The batch that parked or ended it.
    by: Option<u64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Waiting,
    Scheduled,
    Suspended,
    Done,
    Terminated,
}

impl Standing {
    /// What the box tells of a delivery.
    pub(super) fn of(info: &DeliveryInfo) -> Self {
        let stage = match info.state {
            DeliveryState::Ready | DeliveryState::RetryWait | DeliveryState::Leased => Stage::Waiting,
            DeliveryState::Scheduled => Stage::Scheduled,
            DeliveryState::Suspended | DeliveryState::InDoubt => Stage::Suspended,
            DeliveryState::Done => Stage::Done,
            DeliveryState::Terminated => Stage::Terminated,
        };
        let number = |reason: &str| reason.strip_prefix('b')?.parse().ok();
        let by = info.reason.as_deref().map(|reason| number(reason).unwrap_or(u64::MAX));
        Self { stage, is_on_backup: info.route == Route::Backup, attempts: info.attempts, by }
    }

    fn new(is_later: bool) -> Self {
        let stage = if is_later { Stage::Scheduled } else { Stage::Waiting };
        Self { stage, is_on_backup: false, attempts: 0, by: None }
    }

    fn after(self, doing: Doing, batch: u64) -> Self {
        let Self { is_on_backup, attempts, .. } = self;
        let at = |stage, attempts, by| Self { stage, is_on_backup, attempts, by };
        match doing {
            Doing::Submit { later, .. } => Self::new(later),
            Doing::Delete(_) => at(Stage::Done, attempts + 1, None),
            Doing::Resubmit(_) => at(Stage::Waiting, attempts + 1, None),
            Doing::MoveToBackup(_) => Self { is_on_backup: true, ..at(Stage::Waiting, attempts + 1, None) },
            Doing::Suspend(_) => at(Stage::Suspended, attempts + 1, Some(batch)),
            Doing::Hold(_) => at(Stage::Suspended, attempts, Some(batch)),
            Doing::Resume(_) => Self { is_on_backup: false, ..at(Stage::Waiting, attempts, None) },
            Doing::Terminate(_) => at(Stage::Terminated, attempts, Some(batch)),
            Doing::Refused => self,
        }
    }

    fn is_over(self) -> bool {
        matches!(self.stage, Stage::Done | Stage::Terminated)
    }
}

/// A batch that was told of.
#[derive(Debug, Clone)]
pub(super) struct Told {
    pub(super) number: u64,
    pub(super) deeds: Vec<Deed>,
    pub(super) is_acknowledged: bool,
}

#[derive(Debug, Clone, Copy)]
struct Link {
    batch: usize,
    standing: Standing,
}

/// Everything told of one database.
#[derive(Debug, Default)]
pub(super) struct History {
    batches: Vec<Told>,
    by_number: HashMap<u64, usize>,
    chains: BTreeMap<Place, Vec<Link>>,
    bytes: HashMap<u64, u32>,
    /// The ports were defined.
    pub(super) has_ports: bool,
}

/// How far each chain was found to have come.
pub(super) type Reached = HashMap<Place, usize>;

impl History {
    /// Takes a line; what is wrong with it, if anything.
    pub(super) fn note(&mut self, line: &Line) {
        match line {
            Line::Ports => self.has_ports = true,
            Line::Intent { batch, deeds } => self.intend(*batch, deeds),
            Line::Acknowledged { batch } => {
                let told = self.by_number.get(batch).and_then(|place| self.batches.get_mut(*place));
                if let Some(told) = told {
                    told.is_acknowledged = true;
                }
            }
            Line::Begin | Line::Opened | Line::WrongBody { .. } | Line::Failed(_) => {}
        }
    }

    fn intend(&mut self, number: u64, deeds: &[Deed]) {
        let batch = self.batches.len();
        self.by_number.insert(number, batch);
        self.batches.push(Told { number, deeds: deeds.to_vec(), is_acknowledged: false });
        for deed in deeds {
            if let Doing::Submit { bytes, .. } = deed.doing {
                self.bytes.insert(deed.message, bytes);
            }
            for port in deed.doing.ports() {
                let chain = self.chains.entry((deed.message, port)).or_default();
                let before = chain.last().map_or(Standing::new(false), |link| link.standing);
                chain.push(Link { batch, standing: before.after(deed.doing, number) });
            }
        }
    }

    /// The length of a message's body.
    pub(super) fn bytes(&self, message: u64) -> Option<usize> {
        self.bytes.get(&message).map(|bytes| *bytes as usize)
    }

    /// Batches that were acknowledged.
    pub(super) fn acknowledged(&self) -> impl DoubleEndedIterator<Item = &Told> {
        self.batches.iter().filter(|told| told.is_acknowledged)
    }

    /// The batches whose outcome was never told, with whether they were found applied; `None` where nothing of
    /// them can be seen.
    pub(super) fn unknown(&self, reached: &Reached) -> Vec<(Told, Option<bool>)> {
        let unknown = self.batches.iter().enumerate().filter(|(_, told)| !told.is_acknowledged);
        unknown.map(|(batch, told)| (told.clone(), self.applied(batch, reached).first().copied())).collect()
    }

    /// They were committed again and acknowledged.
    pub(super) fn acknowledge_all(&mut self) {
        self.batches.iter_mut().for_each(|told| told.is_acknowledged = true);
    }

    /// For each delivery of a batch, whether it was found to be past it.
    fn applied(&self, batch: usize, reached: &Reached) -> Vec<bool> {
        let deeds = self.batches.get(batch).map(|told| told.deeds.as_slice()).unwrap_or_default();
        let places = deeds.iter().flat_map(|deed| deed.doing.ports().map(|port| (deed.message, port)));
        places
            .filter_map(|place| {
                let at = self.chains.get(&place)?.iter().position(|link| link.batch == batch)?;
                Some(reached.get(&place).copied().unwrap_or(0) > at)
            })
            .collect()
    }

    /// Holds what was found against what was told.
    pub(super) fn compare(&self, found: &BTreeMap<Place, Standing>, findings: &mut Findings) -> Reached {
        let mut reached = Reached::new();
        for (place, chain) in &self.chains {
            reached.insert(*place, self.reached(*place, chain, found.get(place).copied(), findings));
        }
        for place in found.keys().filter(|place| !self.chains.contains_key(place)) {
            findings.came_back += 1;
            findings.note(format!("{}: nobody submitted it, or it was voided", show(*place)));
        }
        for (batch, told) in self.batches.iter().enumerate().filter(|(_, told)| !told.is_acknowledged) {
            let applied = self.applied(batch, &reached);
            if applied.contains(&true) && applied.contains(&false) {
                findings.torn += 1;
                findings
                    .note(format!("batch {} was applied by half: {:?} {applied:?}", told.number, told.deeds));
            }
        }
        reached
    }

    /// How many links of a chain were applied.
    fn reached(
        &self,
        place: Place,
        chain: &[Link],
        found: Option<Standing>,
        findings: &mut Findings,
    ) -> usize {
        let is_acknowledged =
            |link: &Link| self.batches.get(link.batch).is_some_and(|told| told.is_acknowledged);
        let least = chain.iter().rposition(is_acknowledged).map_or(0, |at| at + 1);
        let due = least.checked_sub(1).and_then(|at| chain.get(at)).map(|link| link.standing);
        let came_to = match found {
            // The trace of a delivery that ended may have gone by its age.
            None if due.is_some_and(Standing::is_over) => least,
            None => 0,
            Some(found) => match chain.iter().position(|link| link.standing == found) {
                Some(at) => at + 1,
                None => {
                    findings.lost += 1;
                    findings
                        .note(format!("{}: stands at {found:?}, where it never was: {chain:?}", show(place)));
                    return least;
                }
            },
        };
        if came_to < least {
            let what = format!("{}: is {found:?}, acknowledged was {due:?}", show(place));
            if found.is_some() && due.is_some_and(Standing::is_over) {
                findings.came_back += 1;
            } else {
                findings.lost += 1;
            }
            findings.note(what);
        }
        came_to
    }
}

fn show((message, port): Place) -> String {
    format!("message {message} to {}", PORTS.get(usize::from(port)).unwrap_or(&"?"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn history(lines: &[&str]) -> History {
        let mut history = History::default();
        for line in lines {
            history.note(&line.parse().unwrap());
        }
        history
    }

    const WAITING: Standing = Standing { stage: Stage::Waiting, is_on_backup: false, attempts: 0, by: None };
    const DONE: Standing = Standing { stage: Stage::Done, is_on_backup: false, attempts: 1, by: None };

    fn findings(history: &History, found: &[(Place, Standing)]) -> (u64, u64, u64) {
        let mut findings = Findings::default();
        history.compare(&found.iter().copied().collect(), &mut findings);
        (findings.lost, findings.torn, findings.came_back)
    }

    #[test]
    fn what_was_acknowledged_must_be_there() {
        let history = history(&["intent 1 s10:3:5:0", "ack 1"]);
        assert_eq!(findings(&history, &[((10, 0), WAITING), ((10, 1), WAITING)]), (0, 0, 0));
        assert_eq!(findings(&history, &[((10, 0), WAITING)]), (1, 0, 0));
        assert_eq!(findings(&history, &[((10, 0), WAITING), ((10, 1), DONE)]), (1, 0, 0), "nobody sent it");
    }

    #[test]
    fn what_was_only_intended_is_there_or_not_but_not_by_half() {
        let history = history(&["intent 1 s10:1:5:0 s11:1:5:0"]);
        assert_eq!(findings(&history, &[]), (0, 0, 0));
        assert_eq!(findings(&history, &[((10, 0), WAITING), ((11, 0), WAITING)]), (0, 0, 0));
        assert_eq!(findings(&history, &[((10, 0), WAITING)]), (0, 1, 0));
    }

    #[test]
    fn what_is_done_does_not_come_back() {
        let history = history(&["intent 1 s10:1:5:0", "ack 1", "intent 2 d10:0", "ack 2"]);
        assert_eq!(findings(&history, &[((10, 0), DONE)]), (0, 0, 0));
        assert_eq!(findings(&history, &[]), (0, 0, 0), "its trace may have gone");
        assert_eq!(findings(&history, &[((10, 0), WAITING)]), (0, 0, 1));
        assert_eq!(findings(&history, &[((10, 0), DONE), ((99, 0), WAITING)]), (0, 0, 1));
    }

    #[test]
    fn a_delivery_may_stand_anywhere_behind_what_was_acknowledged() {
        let lines =
            ["intent 1 s10:1:5:0", "ack 1", "intent 2 p10:0", "ack 2", "intent 3 u10:0", "intent 4 x9"];
        let history = history(&lines);
        let parked = Standing { stage: Stage::Suspended, attempts: 1, by: Some(2), ..WAITING };
        let resumed = Standing { attempts: 1, ..WAITING };
        for (found, expected) in [(parked, (0, 0, 0)), (resumed, (0, 0, 0)), (WAITING, (1, 0, 0))] {
            assert_eq!(findings(&history, &[((10, 0), found)]), expected, "{found:?}");
        }
        let reached = Reached::from([((10, 0), 3)]);
        let unknown: Vec<_> =
            history.unknown(&reached).into_iter().map(|(told, is)| (told.number, is)).collect();
        assert_eq!(unknown, [(3, Some(true)), (4, None)]);
    }
}
