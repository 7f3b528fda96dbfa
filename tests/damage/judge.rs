//! Opens, checks and salvages a harmed box, and says whether anything was lost without a word.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use pillarbox_sim::disk::SimDisk;
use pillarbox_store::engine::journal::Journal;
use pillarbox_store::inspect::{self, Finding, Loses, Report};
use pillarbox_store::{
    Batch, DeliveryId, DeliveryState, ErrorKind, IdSource, MessageBox, OpResult, Route, Store,
};

use crate::life::{self, Expected, Files, World, sent, want};

/// What came of one harm.
#[derive(Debug, Default)]
pub(crate) struct Verdict {
    /// The check told of damage.
    pub(crate) noticed: bool,
    /// The end of the newest file was taken for what a crash leaves: see `docs/damage.md`.
    pub(crate) torn: bool,
    /// Messages that are lost, and named.
    pub(crate) lost: usize,
    /// Deliveries that had ended and were sent again, where the damage was told.
    pub(crate) again: usize,
    /// What the check told.
    pub(crate) findings: Vec<Finding>,
    /// What must not be.
    pub(crate) problems: Vec<String>,
}

/// Opens, checks and salvages.
pub(crate) async fn judge(world: &World, files: &Files) -> Verdict {
    let mut verdict = Verdict::default();
    let report = match check(files, &mut verdict) {
        Ok(report) => report,
        Err(error) => {
            verdict.problems.push(format!("check: {error}"));
            return verdict;
        }
    };
    verdict.noticed = !report.is_whole();
    verdict.torn = ends_early(world, &report);
    match life::open(&SimDisk::holding(files)) {
        Ok(mailbox) => {
            let told = Told { report: &report, torn: verdict.torn };
            hold_against(world, &mailbox, &told, "opened", &mut verdict).await;
            if mailbox.damage().is_empty() && report.has_losses() {
                verdict.problems.push("the check tells of losses, the open box does not".to_owned());
            }
        }
        Err(error) => verdict.problems.push(format!("open: {error}")),
    }
    salvage(world, files, verdict.torn, &mut verdict).await;
    verdict.findings = report.findings;
    verdict
}

fn check(files: &Files, verdict: &mut Verdict) -> Result<Report, pillarbox_store::Error> {
    let disk = SimDisk::holding(files);
    let report = inspect::check_engine(&Journal::look(Arc::new(disk.clone()))?, &mut |_| {})?;
    if disk.files() != *files || disk.figures().operations > 0 {
        verdict.problems.push("the check has changed something".to_owned());
    }
    Ok(report)
}

async fn salvage(world: &World, files: &Files, torn: bool, verdict: &mut Verdict) {
    let old = SimDisk::holding(files);
    let new = SimDisk::new(1);
    let salvaged = Journal::look(Arc::new(old)).and_then(|from| {
        let to = life::open_journal(&new)?;
        let salvaged = inspect::salvage_engine(&from, &to, &[], &IdSource::system(), &mut |_| {})?;
        pillarbox_store::engine::Engine::close(&to)?;
        Ok(salvaged)
    });
    let salvaged = match salvaged {
        Ok(salvaged) => salvaged,
        Err(error) => return verdict.problems.push(format!("salvage: {error}")),
    };
    match life::open(&new) {
        Ok(mailbox) => {
            let told = Told { report: &salvaged.report, torn };
            let mut second = Verdict::default();
            hold_against(world, &mailbox, &told, "salvaged", &mut second).await;
            verdict.problems.append(&mut second.problems);
            let damage = mailbox.damage();
            // What has no name any more stays so.
            if damage.iter().any(|damage| !damage.what.contains("the name of port")) {
                verdict.problems.push(format!("the salvaged box is damaged: {damage:?}"));
            }
        }
        Err(error) => verdict.problems.push(format!("open the salvaged box: {error}")),
    }
}

/// Whether the newest file's groups end earlier than they did.
fn ends_early(world: &World, report: &Report) -> bool {
    let Some((newest, bytes)) = world.files.iter().rfind(|(name, _)| name.ends_with(".seg")) else {
        return false;
    };
    let now = report.files.iter().find(|file| file.file == *newest);
    report.torn_tail.is_some() || now.is_none_or(|file| file.used_bytes < bytes.len() as u64)
}

/// What was told of damage.
struct Told<'a> {
    report: &'a Report,
    torn: bool,
}

impl Told<'_> {
    fn any(&self, is: impl Fn(&Finding) -> bool) -> bool {
        self.torn || self.report.findings.iter().any(is)
    }

    /// Whether it is told of this very delivery or its message.
    fn names(&self, number: u64, expected: &Expected) -> bool {
        self.any(|finding| {
            finding.loses != Loses::Nothing
                && (finding.message == Some(expected.message)
                    || finding.deliveries.iter().any(|range| range.contains(&number)))
        })
    }

    fn tells(&self, loses: &[Loses]) -> bool {
        self.any(|finding| loses.contains(&finding.loses))
    }
}

/// Delivers all that can be delivered, and holds what became of each delivery against what was acknowledged.
async fn hold_against(
    world: &World,
    mailbox: &MessageBox,
    told: &Told<'_>,
    which: &str,
    verdict: &mut Verdict,
) {
    if mailbox.id() != world.id && !told.tells(&[Loses::BoxId]) {
        verdict.problems.push(format!("{which}: the box has another id"));
    }
    let arrived = deliver(world, mailbox, which, verdict).await;
    let mut lost = BTreeSet::new();
    for (number, expected) in &world.deliveries {
        let problem = match became(world, mailbox, *number, expected, &arrived).await {
            Fate::AsItWas => continue,
            Fate::Broken => {
                lost.insert(expected.message);
                (!told.names(*number, expected) && !told.tells(&[Loses::Port]))
                    .then_some("is lost in silence")
            }
            Fate::OlderState => (!told.tells(&[Loses::Unknown, Loses::State]))
                .then_some("was sent though it was parked or waiting"),
            Fate::SentAgain => {
                verdict.again += 1;
                (!told.tells(&[Loses::Unknown, Loses::Traces])).then_some("was sent again, untold")
            }
            Fate::Untrue => (!told.torn).then_some("has an outcome that it never had"),
        };
        if let Some(problem) = problem {
            verdict
                .problems
                .push(format!("{which}: delivery {number} ({}) {problem}", expected.state.as_str()));
        }
    }
    verdict.lost += lost.len();
    commit_again(world, mailbox, told, which, verdict).await;
}

/// What became of a delivery.
enum Fate {
    AsItWas,
    /// It cannot be sent, or nothing is known of it.
    Broken,
    /// It was sent, though it was to wait.
    OlderState,
    /// It had ended, and was sent once more.
    SentAgain,
    /// It ended, and was not sent.
    Untrue,
}

async fn became(
    world: &World,
    mailbox: &MessageBox,
    number: u64,
    expected: &Expected,
    arrived: &BTreeMap<u64, bool>,
) -> Fate {
    let state =
        mailbox.delivery(DeliveryId::new(number)).await.ok().flatten().map(|detail| detail.info.state);
    let had_ended = expected.state.is_terminal();
    match (arrived.get(&number), state) {
        (Some(false), _) => Fate::Broken,
        (Some(true), _) if had_ended => Fate::SentAgain,
        (Some(true), _) if expected.state != DeliveryState::Ready => Fate::OlderState,
        (Some(true), _) => Fate::AsItWas,
        (None, Some(state)) if state == expected.state && had_ended => Fate::AsItWas,
        (None, Some(state)) if state.is_terminal() => Fate::Untrue,
        (None, Some(state)) if state == expected.state && is_readable(world, mailbox, expected).await => {
            if state == DeliveryState::Ready {
                Fate::Broken
            } else {
                Fate::AsItWas
            }
        }
        (None, _) => Fate::Broken,
    }
}

/// Whether the message of a delivery that waits is there as it was submitted.
async fn is_readable(world: &World, mailbox: &MessageBox, expected: &Expected) -> bool {
    let Some(message) = world.messages.get(&expected.message) else { return false };
    let mut body = Vec::new();
    for index in 0..message.body.fragments() {
        match mailbox.body(expected.message, index).await {
            Ok(Some(bytes)) => body.extend_from_slice(&bytes),
            _ => return false,
        }
    }
    message.body.to_bytes().is_ok_and(|wanted| *wanted == *body)
}

/// Sends what is ready: which deliveries arrived, and whether their body could be read.
async fn deliver(
    world: &World,
    mailbox: &MessageBox,
    which: &str,
    verdict: &mut Verdict,
) -> BTreeMap<u64, bool> {
    let mut arrived = BTreeMap::new();
    let ids = IdSource::system();
    for port in mailbox.ports() {
        for route in [Route::Primary, Route::Backup] {
            loop {
                let leased = match mailbox.lease(&want(&port.name, route)).await {
                    Ok(leased) => leased,
                    Err(error) => {
                        verdict.problems.push(format!("{which}: lease: {error}"));
                        break;
                    }
                };
                if leased.is_empty() {
                    break;
                }
                let mut batch = Batch::new(ids.batch());
                for leased in leased {
                    let number = leased.lease.delivery().number();
                    let known = world.messages.get(&leased.message.id);
                    let same = |body: &[u8]| {
                        known.is_some_and(|known| {
                            known.headers == leased.message.headers
                                && known.body.to_bytes().is_ok_and(|wanted| *wanted == *body)
                        })
                    };
                    match leased.message.body.to_bytes() {
                        Ok(body) => {
                            if !same(&body) || !world.deliveries.contains_key(&number) {
                                verdict
                                    .problems
                                    .push(format!("{which}: delivery {number} brought something else"));
                            }
                            arrived.insert(number, true);
                            batch = batch.delete(leased.lease, sent());
                        }
                        Err(error) => {
                            if error.kind() != ErrorKind::Corrupt {
                                verdict.problems.push(format!("{which}: body of {number}: {error}"));
                            }
                            arrived.insert(number, false);
                            batch = batch.suspend(leased.lease, "its body is damaged", None);
                        }
                    }
                }
                if let Err(error) = mailbox.commit(&batch).await {
                    verdict.problems.push(format!("{which}: commit: {error}"));
                    break;
                }
            }
        }
    }
    arrived
}

/// Commits every batch a second time: none may be applied again, unless the damage that made it so is told.
async fn commit_again(
    world: &World,
    mailbox: &MessageBox,
    told: &Told<'_>,
    which: &str,
    verdict: &mut Verdict,
) {
    for batch in &world.batches {
        match mailbox.commit(batch).await {
            Ok(committed) if committed.was_repeated() => {}
            Ok(committed) => {
                let is_new = committed.results().iter().any(|result| !matches!(result, OpResult::Refused(_)));
                if is_new && !told.any(|finding| finding.loses != Loses::Nothing) {
                    verdict.problems.push(format!("{which}: a batch was applied again, untold"));
                }
            }
            Err(error) => verdict.problems.push(format!("{which}: commit again: {error}")),
        }
    }
}
