//! Opens the box after a cut and holds it against its history; then settles what the cut left unknown.

use std::collections::{BTreeMap, HashMap};
use std::io::BufRead;

use pillarbox_store::{
    AttemptNote, Batch, Clock, DeliveryId, DeliveryInfo, DeliveryState, Error, Failure, Filter, Headers,
    Lease, Message, MessageBox, Op, PortName, Route, Store, SystemClock, Want,
};

use super::findings::Findings;
use super::history::{History, Place, Reached, Standing, Told};
use super::numbers;
use super::record::{Deed, Doing, NOWHERE};
use super::work::{Work, port_names};

/// How many acknowledged batches are committed once more, to see that they are not applied again.
const REPEATED: usize = 5;

/// Checks the box of `work` against the lines that `record` holds, and closes it. Where nothing is wrong, what was
/// unknown was applied.
///
/// It is a process of its own that does this, as an engine may hang, and nobody who serves a mount may wait for it.
pub fn check(work: &Work, record: impl BufRead) -> Findings {
    let mut history = History::default();
    record
        .lines()
        .map_while(Result::ok)
        .filter_map(|line| line.parse().ok())
        .for_each(|line| history.note(&line));
    check_history(work, &mut history)
}

fn check_history(work: &Work, history: &mut History) -> Findings {
    let mut findings = Findings::default();
    let store = match work.open() {
        Ok(store) => store,
        Err(error) => {
            findings.did_not_open = 1;
            findings.note(format!("it does not open: {}", chain(&error)));
            return findings;
        }
    };
    let outcome = match tokio::runtime::Builder::new_current_thread().build() {
        Ok(runtime) => runtime.block_on(compare_and_settle(&store, history, &mut findings)),
        Err(error) => Err(Error::io("start a runtime", error)),
    };
    if let Err(error) = outcome {
        findings.other += 1;
        findings.note(format!("a call failed: {}", chain(&error)));
    }
    for damage in store.damage() {
        findings.other += 1;
        findings.note(format!("damage: {damage:?}"));
    }
    findings
}

/// An error with its causes.
fn chain(error: &Error) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

async fn compare_and_settle(
    store: &MessageBox,
    history: &mut History,
    findings: &mut Findings,
) -> Result<(), Error> {
    if history.has_ports && store.ports().len() < port_names()?.len() {
        findings.lost += 1;
        findings.note(format!("ports are missing: {:?}", store.ports()));
        return Ok(());
    }
    let listed = list(store).await?;
    compare_counts(store, &listed, findings);
    findings.checked = listed.len() as u64;
    let reached = history.compare(&standings(&listed, findings), findings);
    check_bodies(store, history, &listed, findings).await?;
    if !findings.are_none() {
        return Ok(());
    }
    repeat_acknowledged(store, history, findings).await?;
    commit_unknown(store, history, &reached, findings).await?;
    history.acknowledge_all();
    if findings.are_none() {
        let listed = list(store).await?;
        history.compare(&standings(&listed, findings), findings);
        compare_counts(store, &listed, findings);
    }
    store.close().await
}

async fn list(store: &MessageBox) -> Result<Vec<DeliveryInfo>, Error> {
    let mut listed = Vec::new();
    let mut after = None;
    loop {
        let page = store.deliveries(&Filter { after, limit: 1_000, ..Filter::default() }).await?;
        let Some(last) = page.last() else { return Ok(listed) };
        after = Some(last.id);
        listed.extend(page);
    }
}

fn place(info: &DeliveryInfo) -> Option<Place> {
    let port = port_names().ok()?.iter().position(|port| *port == info.port)?;
    Some((numbers::message_number(info.message)?, u8::try_from(port).ok()?))
}

fn standings(listed: &[DeliveryInfo], findings: &mut Findings) -> BTreeMap<Place, Standing> {
    let mut standings = BTreeMap::new();
    for info in listed {
        let is_new = place(info).is_some_and(|place| standings.insert(place, Standing::of(info)).is_none());
        if !is_new {
            findings.came_back += 1;
            findings.note(format!("not ours, or there twice: {info:?}"));
        }
    }
    standings
}

/// The counts of each port against its listing.
fn compare_counts(store: &MessageBox, listed: &[DeliveryInfo], findings: &mut Findings) {
    for port in store.ports() {
        let of_port = || listed.iter().filter(|info| info.port == port.name);
        let count = |state| of_port().filter(|info| info.state == state).count() as u64;
        let counts = port.counts;
        let told = [
            (DeliveryState::Ready, counts.ready),
            (DeliveryState::Scheduled, counts.scheduled),
            (DeliveryState::RetryWait, counts.retry_wait),
            (DeliveryState::Leased, counts.leased),
            (DeliveryState::Suspended, counts.suspended),
            (DeliveryState::Done, counts.done),
            (DeliveryState::Terminated, counts.terminated),
        ];
        // What waits becomes ready by itself between the two looks.
        let is_wrong = told.iter().any(|(state, told)| {
            let waits = matches!(state, DeliveryState::Ready | DeliveryState::RetryWait);
            !waits && count(*state) != *told
        });
        let waiting = count(DeliveryState::Ready) + count(DeliveryState::RetryWait);
        if is_wrong || waiting != counts.ready + counts.retry_wait {
            findings.other += 1;
            findings.note(format!("{}: counts {counts:?} do not agree with the listing", port.name));
        }
    }
}

/// Every body that is still to be sent.
async fn check_bodies(
    store: &MessageBox,
    history: &History,
    listed: &[DeliveryInfo],
    findings: &mut Findings,
) -> Result<(), Error> {
    for info in listed.iter().filter(|info| !info.state.is_terminal()) {
        let Some(number) = numbers::message_number(info.message) else { continue };
        let Some(bytes) = history.bytes(number) else { continue };
        let mut found = Vec::with_capacity(bytes);
        while found.len() < bytes {
            let fragment = (found.len() / pillarbox_store::FRAGMENT_BYTES) as u32;
            match store.body(info.message, fragment).await? {
                Some(part) if !part.is_empty() => found.extend_from_slice(&part),
                _ => break,
            }
        }
        if found != numbers::body(number, bytes) || info.body_len != bytes as u64 {
            findings.wrong_body += 1;
            findings.note(format!(
                "message {number}: its body of {bytes} bytes is another one of {}",
                found.len()
            ));
        }
    }
    Ok(())
}

/// Some of the last acknowledged batches again: nothing happens.
async fn repeat_acknowledged(
    store: &MessageBox,
    history: &History,
    findings: &mut Findings,
) -> Result<(), Error> {
    // One of which nothing was applied is not remembered.
    let applied = |told: &&Told| told.deeds.iter().any(|deed| deed.doing != Doing::Refused);
    for told in history.acknowledged().rev().filter(applied).take(REPEATED) {
        repeat(store, history, told, findings).await?;
    }
    Ok(())
}

/// A batch that was applied, again under its id: it must be known.
async fn repeat(
    store: &MessageBox,
    history: &History,
    told: &Told,
    findings: &mut Findings,
) -> Result<(), Error> {
    let mut batch = Batch::new(numbers::batch_id(told.number));
    for deed in &told.deeds {
        batch.push(match deed.doing {
            Doing::Submit { .. } => submit(history, deed)?,
            _ => Op::Resume { delivery: DeliveryId::new(u64::MAX) },
        });
    }
    let committed = store.commit(&batch).await?;
    if !committed.was_repeated() || committed.results().len() != told.deeds.len() {
        findings.other += 1;
        findings.note(format!("batch {} was applied and is not known: {committed:?}", told.number));
    }
    Ok(())
}

fn submit(history: &History, deed: &Deed) -> Result<Op, Error> {
    let names = port_names()?;
    let ports: Vec<PortName> =
        deed.doing.ports().filter_map(|port| names.get(usize::from(port)).cloned()).collect();
    let bytes = history.bytes(deed.message).unwrap_or(0);
    let message = Message::new(numbers::message_id(deed.message), numbers::body(deed.message, bytes));
    let message = message.header("number", deed.message as i64)?;
    let later = matches!(deed.doing, Doing::Submit { later: true, .. });
    let not_before = later.then(|| SystemClock.now().plus(std::time::Duration::from_secs(24 * 3600)));
    Ok(Op::Submit { message, ports, not_before })
}

/// The batches of unknown outcome, each again under its id.
async fn commit_unknown(
    store: &MessageBox,
    history: &History,
    reached: &Reached,
    findings: &mut Findings,
) -> Result<(), Error> {
    let unknown = history.unknown(reached);
    for (told, is_applied) in unknown {
        findings.unknown += 1;
        if is_applied == Some(true) {
            repeat(store, history, &told, findings).await?;
            continue;
        }
        let leases = if told.deeds.iter().any(|deed| deed.doing.needs_lease()) {
            lease_all(store).await?
        } else {
            HashMap::new()
        };
        let mut batch = Batch::new(numbers::batch_id(told.number));
        for deed in &told.deeds {
            match op(store, history, &leases, &told, deed).await? {
                Some(op) => batch.push(op),
                None => {
                    findings.lost += 1;
                    findings.note(format!("batch {}: {deed} cannot be done any more", told.number));
                }
            }
        }
        let committed = store.commit(&batch).await?;
        let as_told = committed.results().iter().zip(&told.deeds);
        let is_fine = |(result, deed): (&pillarbox_store::OpResult, &Deed)| {
            result.is_applied() == (deed.doing != Doing::Refused)
        };
        // A batch of which nothing can be seen may have been applied before.
        let is_known = committed.was_repeated() && is_applied.is_some();
        if is_known || !as_told.into_iter().all(is_fine) {
            findings.other += 1;
            findings.note(format!("batch {} was not applied, and is now {committed:?}", told.number));
        }
        let leases: Vec<Lease> = leases.into_values().collect();
        store.release(&leases);
    }
    Ok(())
}

/// Everything that can be leased.
async fn lease_all(store: &MessageBox) -> Result<HashMap<Place, Lease>, Error> {
    let mut leases = HashMap::new();
    for (name, port) in port_names()?.iter().zip(0..) {
        for route in [Route::Primary, Route::Backup] {
            let lease_for = std::time::Duration::from_secs(600);
            let want = Want { port: name.clone(), route, limit: 100_000, bytes_max: u64::MAX, lease_for };
            for leased in store.lease(&want).await? {
                if let Some(number) = numbers::message_number(leased.message.id) {
                    leases.insert((number, port), leased.lease);
                }
            }
        }
    }
    Ok(leases)
}

/// The operation of a deed, as a client would ask for it now.
async fn op(
    store: &MessageBox,
    history: &History,
    leases: &HashMap<Place, Lease>,
    told: &Told,
    deed: &Deed,
) -> Result<Option<Op>, Error> {
    let started = SystemClock.now();
    let took = std::time::Duration::from_millis(1);
    let failure = Some(Failure::new(false, vec!["again".to_owned()]));
    let failed = Some(AttemptNote { started, took, failure });
    let sent = Some(AttemptNote { started, took, failure: None });
    let reason = format!("b{}", told.number);
    let lease = |port| leases.get(&(deed.message, port)).copied();
    Ok(match deed.doing {
        Doing::Submit { .. } => Some(submit(history, deed)?),
        Doing::Refused => {
            let message = Message::new(numbers::message_id(deed.message), "refused");
            Some(Op::Submit { message, ports: vec![PortName::new(NOWHERE)?], not_before: None })
        }
        Doing::Delete(port) => lease(port).map(|lease| Op::Delete { lease, attempt: sent }),
        Doing::Resubmit(port) => lease(port).map(|lease| Op::Resubmit {
            lease,
            at: started,
            attempt: failed,
            carried: Headers::default(),
        }),
        Doing::MoveToBackup(port) => lease(port).map(|lease| Op::MoveToBackup { lease, attempt: failed }),
        Doing::Suspend(port) => lease(port).map(|lease| Op::Suspend { lease, reason, attempt: failed }),
        Doing::Hold(port) => number(store, deed, port).await?.map(|delivery| Op::Hold { delivery, reason }),
        Doing::Resume(port) => number(store, deed, port).await?.map(|delivery| Op::Resume { delivery }),
        Doing::Terminate(port) => {
            number(store, deed, port).await?.map(|delivery| Op::Terminate { delivery, reason })
        }
    })
}

async fn number(store: &MessageBox, deed: &Deed, port: u8) -> Result<Option<DeliveryId>, Error> {
    let message = store.message(numbers::message_id(deed.message)).await?;
    let deliveries = message.into_iter().flat_map(|message| message.deliveries);
    Ok(deliveries
        .map(|delivery| delivery.info)
        .find(|info| place(info) == Some((deed.message, port)))
        .map(|info| info.id))
}
