//! What is claimed of lives that end: the destination's, the adapter's, our own.

use std::time::Duration;

use bytes::Bytes;
use pillarbox_runtime::adapter::{DoubleSafety, Reconciled};
use pillarbox_store::DeliveryId;
use tempfile::TempDir;
use tokio::time::Instant;

use super::{ensure, spread};
use crate::Held;
use crate::bench::{Bench, Drive, Fail, Life, Outcome, Sent, open_box};
use crate::proxy::{Fault, Passed, Way};
use crate::spy::Spy;

const BODY: usize = 700;
/// How many messages a life sends.
const TOGETHER: usize = 3;
/// What a runtime that ends gives its adapter, and how much longer it may take.
const DRAIN: Duration = Duration::from_secs(2);
const DRAIN_GRACE: Duration = Duration::from_secs(4);

/// Nothing is lost by a destination that is killed and comes back.
pub(super) async fn crash_of_the_destination(bench: &mut Bench<'_>) -> Outcome {
    if !bench.destination.restarts() {
        return Err(Fail::NotChecked("the destination cannot be started again"));
    }
    let first = bench.bodies(30, BODY);
    let life = bench.open(&Drive { first: first.clone(), ..Drive::default() }).await?;
    let begun = *life.first.first().ok_or("nothing was submitted")?;
    life.attempted(begun).await?;
    bench.destination.kill().await;
    let late = bench.body(BODY);
    let delivery = bench.submit(&life, late.clone()).await?;
    life.in_trouble(delivery).await?;
    bench.destination.start_again().await;
    let mut sent = life.all(&first).await?;
    sent.push(Sent { body: late, detail: life.end(delivery).await? });
    for one in &sent {
        ensure(one.is_done(), || {
            format!("a crash of the destination suspends: {:?}", one.detail.info.reason)
        })?;
    }
    bench.judge(&sent).await
}

/// It ends when it is told to, also in the middle of a send, and what it was sending is sent by the next one: whether there
/// are connections left that are of use to that, or one more has to be made.
pub(super) async fn stop(bench: &mut Bench<'_>) -> Outcome {
    for idle in [1, 2] {
        stop_after(bench, idle).await?;
    }
    Ok(())
}

async fn stop_after(bench: &mut Bench<'_>, idle: usize) -> Outcome {
    let idle = bench.bodies(idle, BODY);
    let life = bench.open(&Drive { first: idle.clone(), ..Drive::default() }).await?;
    let mut sent = life.all(&idle).await?;
    let mut delivery = None;
    if let Some(proxy) = &bench.proxy {
        proxy.set(Fault::Hold { way: Way::Answer, after: 0 });
        let body = bench.body(BODY);
        let submitted = bench.submit(&life, body.clone()).await?;
        bench.proxy()?.struck().await;
        delivery = Some((submitted, body));
    }
    let runtime = life.runtime.as_ref().ok_or("the runtime has ended")?;
    let start = Instant::now();
    let report = runtime.shutdown(DRAIN).await;
    let took = start.elapsed();
    ensure(report.hung.is_empty(), || "told to end, it did not".to_owned())?;
    ensure(took < DRAIN + DRAIN_GRACE, || format!("told to end within {DRAIN:?}, it took {took:?}"))?;
    bench.calm();
    let next = bench.run(std::sync::Arc::clone(&life.store), &Drive::default()).await?;
    if let Some((delivery, body)) = delivery {
        sent.push(Sent { body, detail: next.end(delivery).await? });
    }
    bench.judge(&sent).await
}

/// Nothing is lost by a crash of ours, at whatever step: before and after everything that is recorded, and with
/// every part of an exchange on its way.
pub(super) async fn crash_of_ours(bench: &mut Bench<'_>) -> Outcome {
    let mut steps = 0;
    for dies_at in 0.. {
        if !lives(bench, Some(dies_at), None).await.map_err(|fail| at_step(fail, dies_at))? {
            break;
        }
        steps += 1;
    }
    ensure(steps > 2, || format!("there are only {steps} steps"))?;
    if bench.proxy.is_none() {
        return Ok(());
    }
    bench.calm();
    let life = bench.open(&Drive::default()).await?;
    let body = bench.body(BODY);
    let cold = bench.measure(&life, body).await?;
    life.crash().await?;
    for fault in places(bench, cold) {
        lives(bench, None, Some(fault)).await?;
    }
    Ok(())
}

/// Every part of an exchange, at which nothing goes on any more.
fn places(bench: &Bench<'_>, cold: Passed) -> Vec<Fault> {
    let count = bench.effort.rounds / 4 + 2;
    let of = |way, len| spread(len, count).into_iter().map(move |after| Fault::Hold { way, after });
    of(Way::Request, cold.request).chain(of(Way::Answer, cold.answer)).collect()
}

/// Says where our side died.
fn at_step(fail: Fail, dies_at: u64) -> Fail {
    let place = if dies_at.is_multiple_of(2) { "before" } else { "after" };
    match fail {
        Fail::Broken(reason) => Fail::Broken(format!("{reason}, having died {place} commit {}", dies_at / 2)),
        other => other,
    }
}

/// A life that ends early, another one that ends early, and one that goes on to the end. Tells whether the first was long
/// enough to be cut off.
async fn lives(bench: &mut Bench<'_>, dies_at: Option<u64>, fault: Option<Fault>) -> Outcome<bool> {
    let left = first_life(bench, dies_at, fault).await?;
    let between = dies_at.map_or(2, |step| step % 5);
    let second = bench.open(&Drive { dies_at: Some(between), ..left.drive() }).await?;
    second.died_or_all(&left.deliveries).await?;
    second.crash().await?;
    let last = bench.open(&left.drive()).await?;
    let sent = left.all(&last).await?;
    for one in &sent {
        ensure(one.is_done(), || format!("a crash suspends: {:?}", one.detail.info.reason))?;
    }
    bench.judge(&sent).await?;
    last.finish().await?;
    Ok(left.died)
}

/// What a life leaves behind.
struct Left {
    folder: TempDir,
    bodies: Vec<Bytes>,
    deliveries: Vec<DeliveryId>,
    /// It was cut off.
    died: bool,
}

impl Left {
    /// A next life over the same box.
    fn drive(&self) -> Drive {
        Drive { folder: Some(self.folder.path().to_owned()), ..Drive::default() }
    }

    /// Every delivery, once it has ended.
    async fn all(&self, life: &Life) -> Outcome<Vec<Sent>> {
        let mut sent = Vec::new();
        for (delivery, body) in self.deliveries.iter().zip(&self.bodies) {
            sent.push(Sent { body: body.clone(), detail: life.end(*delivery).await? });
        }
        Ok(sent)
    }
}

/// Lives until it dies at this step, is cut off at this part of an exchange, or everything is done.
async fn first_life(bench: &mut Bench<'_>, dies_at: Option<u64>, fault: Option<Fault>) -> Outcome<Left> {
    let folder = tempfile::tempdir()?;
    let bodies = bench.bodies(TOGETHER, BODY);
    let drive =
        Drive { folder: Some(folder.path().to_owned()), dies_at, first: bodies.clone(), ..Drive::default() };
    if let (Some(fault), Some(proxy)) = (fault, &bench.proxy) {
        proxy.set(fault);
        proxy.throw_out();
    }
    let life = bench.open(&drive).await?;
    let deliveries = life.first.clone();
    let died = match &bench.proxy {
        Some(proxy) if dies_at.is_none() => tokio::select! {
            biased;
            () = proxy.struck() => true,
            all = life.all(&bodies) => all.map(|_all| false)?,
        },
        _ => life.died_or_all(&deliveries).await?,
    };
    bench.learn(&life);
    life.crash().await?;
    bench.calm();
    Ok(Left { folder, bodies, deliveries, died })
}

/// Asked what became of a message in doubt, it does not say that one landed that is not there, nor that one did not that is,
/// and it knows of at least one.
pub(super) async fn reconciles(bench: &mut Bench<'_>) -> Outcome {
    let life = bench.open(&Drive::default()).await?;
    let body = bench.body(BODY);
    let sent = bench.send(&life, body).await?;
    bench.learn(&life);
    bench.judge(&[sent]).await?;
    life.finish().await?;
    if !bench.record().reconciles {
        return Err(Fail::NotChecked("it is not claimed that the destination can be asked"));
    }
    let mut knows = false;
    for dies_at in 0.. {
        let (died, knew) = asked(bench, Some(dies_at), None).await.map_err(|fail| at_step(fail, dies_at))?;
        knows |= knew;
        if !died {
            break;
        }
    }
    if bench.proxy.is_some() {
        for way in [Way::Request, Way::Answer] {
            let (_, knew) = asked(bench, None, Some(Fault::Hold { way, after: 0 })).await?;
            knows |= knew;
        }
    }
    ensure(knows, || "of what has landed it never says so".to_owned())
}

/// A life that ends early, and one that asks about what was on its way. Tells whether the first was long enough to be cut
/// off, and whether something was said to have landed.
async fn asked(bench: &mut Bench<'_>, dies_at: Option<u64>, fault: Option<Fault>) -> Outcome<(bool, bool)> {
    let left = first_life(bench, dies_at, fault).await?;
    let before = bench.destination.held().await;
    let next = bench.open(&left.drive()).await?;
    let sent = left.all(&next).await?;
    // Something that was still on its way may have come after the first look: what counts then is the last one.
    let after = bench.destination.held().await;
    let told = next.spy.notes().told;
    for (body, told) in &told {
        let there = |held: &[Held]| held.iter().any(|one| one.body == *body);
        ensure(*told != Reconciled::Landed || there(&after), || {
            format!("it says that a message has landed that is not there: {:?}", Held::new(body.clone()))
        })?;
        ensure(*told != Reconciled::NotLanded || !there(&before), || {
            format!("it says that a message has not landed that is there: {:?}", Held::new(body.clone()))
        })?;
    }
    bench.judge(&sent).await?;
    next.finish().await?;
    Ok((left.died, told.iter().any(|(_, told)| *told == Reconciled::Landed)))
}

/// A batch is there as a whole or not at all, whatever step a crash of ours comes at, and with every part of an exchange on
/// its way.
pub(super) async fn all_or_none(bench: &mut Bench<'_>) -> Outcome {
    if !bench.record().all_or_none {
        return Err(Fail::NotChecked("each message is sent by itself"));
    }
    for dies_at in 0.. {
        let died = whole(bench, Some(dies_at), None).await;
        if !died.map_err(|fail| at_step(fail, dies_at))? {
            break;
        }
    }
    if bench.proxy.is_none() {
        return Ok(());
    }
    // A batch in parts has an exchange for each.
    bench.calm();
    let first = bench.bodies(TOGETHER, BODY);
    let life = bench.open(&Drive { first: first.clone(), ..Drive::default() }).await?;
    let sent = life.all(&first).await?;
    // In peace: a destination may still have to be told of what was decided.
    life.finish().await?;
    let cold = bench.proxy()?.passed();
    bench.judge(&sent).await?;
    for fault in places(bench, cold) {
        whole(bench, None, Some(fault)).await?;
    }
    Ok(())
}

/// A life that ends early, and a next one that settles what it left behind, looks at it, and sends the rest. Tells whether
/// the first was long enough to be cut off.
async fn whole(bench: &mut Bench<'_>, dies_at: Option<u64>, fault: Option<Fault>) -> Outcome<bool> {
    let left = first_life(bench, dies_at, fault).await?;
    let spy = Spy::new();
    spy.let_begin(false);
    let store = open_box(Some(left.folder.path())).await?;
    let (kept, seen) = (std::sync::Arc::clone(&store), std::sync::Arc::clone(&spy));
    let life = bench.run_seen(kept, &left.drive(), seen).await?;
    let mut open = 0;
    for delivery in &left.deliveries {
        let known = store.delivery(*delivery).await?.ok_or("the box forgot a delivery")?;
        open += usize::from(!known.info.state.is_settled());
    }
    ensure(open == 0 || open == left.bodies.len(), || format!("{open} of a batch are open after a crash"))?;
    if open > 0 {
        // What was left is settled before anything is sent.
        spy.comes_to_begin().await;
        let held = bench.destination.held().await;
        let there = left.bodies.iter().filter(|body| held.iter().any(|one| one.body == **body)).count();
        // Where the box does not decide, all of it may be there without the box knowing.
        let decided_here = bench.record().double_safety == DoubleSafety::TwoPhase;
        ensure(there == 0 || (there == left.bodies.len() && !decided_here), || {
            format!("of an undecided batch {there} messages are there after a crash")
        })?;
    }
    spy.let_begin(true);
    bench.judge(&left.all(&life).await?).await?;
    life.finish().await?;
    Ok(left.died)
}
