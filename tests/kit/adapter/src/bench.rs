//! What the claims are checked with: a destination, a proxy in front of it, boxes, and the count of what was sent.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::{BufMut as _, Bytes, BytesMut};
use pillarbox_runtime::adapter::{Capabilities, DoubleSafety, TransportInfo};
use pillarbox_runtime::{AdapterSource, Port, RetryPolicy, RouteConfig, Runtime};
use pillarbox_store::{
    Batch, Body, BoxConfig, DeliveryDetail, DeliveryId, DeliveryState, IdSource, MessageBox, OpResult,
    PortName, PortSpec, Store,
};
use tokio::time::{Instant, sleep, timeout};

use crate::proxy::{Fault, Passed, Proxy};
use crate::spy::{Seen, Spy};
use crate::steps::Steps;
use crate::{Destination, Effort, Held, Subject};

/// How long the last owner of a box may take to let go of it.
const OPENING: Duration = Duration::from_secs(30);
/// A look at something that tells nobody when it changes.
const LOOK: Duration = Duration::from_millis(2);

/// Why a claim is not kept, or not checked.
#[derive(Debug)]
pub(crate) enum Fail {
    Broken(String),
    NotChecked(&'static str),
}

impl<T: std::fmt::Display> From<T> for Fail {
    fn from(reason: T) -> Self {
        Self::Broken(reason.to_string())
    }
}

pub(crate) type Outcome<T = ()> = Result<T, Fail>;

/// A message and what became of it.
#[derive(Debug, Clone)]
pub(crate) struct Sent {
    pub(crate) body: Bytes,
    pub(crate) detail: DeliveryDetail,
}

impl Sent {
    pub(crate) fn is_done(&self) -> bool {
        self.detail.info.state == DeliveryState::Done
    }
}

/// How a box is opened and driven.
#[derive(Debug, Clone, Default)]
pub(crate) struct Drive {
    /// The box's folder; `None` for one in memory.
    pub(crate) folder: Option<PathBuf>,
    /// The step at which its owner dies.
    pub(crate) dies_at: Option<u64>,
    /// How long an attempt may take; a third of the patience unless told otherwise.
    pub(crate) timeout: Option<Duration>,
    /// What is in the box before the adapter is opened, all in one batch.
    pub(crate) first: Vec<Bytes>,
}

/// A destination, and everything that was sent to it.
#[derive(Debug)]
pub(crate) struct Bench<'a> {
    pub(crate) subject: &'a dyn Subject,
    pub(crate) destination: Box<dyn Destination>,
    pub(crate) proxy: Option<Proxy>,
    pub(crate) effort: Effort,
    /// What the adapter said of itself when it was opened.
    pub(crate) info: TransportInfo,
    /// Whatever was said about failures, and how things showed themselves.
    pub(crate) said: Said,
    /// Every copy at the destination that should not be there.
    pub(crate) doubles: Vec<String>,
    /// Whether the destination tells of attempts.
    pub(crate) labels: bool,
    number: u64,
    bodies: HashSet<Bytes>,
    strange: usize,
}

/// Texts that must have no secrets in them.
#[derive(Debug, Clone, Default)]
pub(crate) struct Said(Arc<Mutex<Vec<String>>>);

impl Said {
    pub(crate) fn note(&self, text: impl Into<String>) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(text.into());
    }

    pub(crate) fn all(&self) -> Vec<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl<'a> Bench<'a> {
    pub(crate) async fn start(subject: &'a dyn Subject, effort: &Effort) -> Bench<'a> {
        let mut destination = subject.start().await;
        let proxy = match destination.port() {
            Some(port) => Some(Proxy::start(port).await),
            None => None,
        };
        if let Some(proxy) = &proxy {
            destination.reached_by(proxy.port).await;
        }
        let info = subject.kind().describe();
        let (said, doubles, bodies) = (Said::default(), Vec::new(), HashSet::new());
        let (labels, number, strange) = (false, 0, 0);
        let effort = effort.clone();
        Bench { subject, destination, proxy, effort, info, said, doubles, labels, number, bodies, strange }
    }

    /// What another one found out that is not for it alone.
    pub(crate) fn take_over(&mut self, other: Self) {
        other.said.all().into_iter().for_each(|text| self.said.note(text));
        self.doubles.extend(other.doubles);
        self.labels |= other.labels;
    }

    pub(crate) fn record(&self) -> &Capabilities {
        &self.info.capabilities
    }

    /// The proxy, for what can only be tried where there is one.
    pub(crate) fn proxy(&self) -> Outcome<&Proxy> {
        self.proxy.as_ref().ok_or(Fail::NotChecked("the destination is not reached by TCP"))
    }

    /// Lets bytes pass again, over new connections.
    pub(crate) fn calm(&self) {
        if let Some(proxy) = &self.proxy {
            // What was held up does not go on.
            proxy.throw_out();
            proxy.set(Fault::Pass);
        }
    }

    /// A body of which there is no other.
    pub(crate) fn body(&mut self, len: usize) -> Bytes {
        self.number += 1;
        let mark = format!("kit-{:08} ", self.number);
        let mut body = BytesMut::with_capacity(len + mark.len());
        while body.len() < len {
            body.put_slice(mark.as_bytes());
            // Every byte there is, line ends and zeros among them.
            body.extend(0..=u8::MAX);
        }
        body.truncate(len);
        body.freeze()
    }

    /// Says that this body is among those that may arrive.
    pub(crate) fn expect(&mut self, body: &Bytes) {
        self.bodies.insert(body.clone());
    }

    pub(crate) fn bodies(&mut self, count: usize, len: usize) -> Vec<Bytes> {
        (0..count).map(|_| self.body(len)).collect()
    }

    /// Opens a box and starts to send what is in it.
    pub(crate) async fn open(&mut self, drive: &Drive) -> Outcome<Life> {
        self.bodies.extend(drive.first.iter().cloned());
        let store = open_box(drive.folder.as_deref()).await?;
        self.run(store, drive).await
    }

    /// Starts to send what is in a box.
    pub(crate) async fn run(&mut self, store: Arc<dyn Store>, drive: &Drive) -> Outcome<Life> {
        let spy = Spy::new();
        self.run_seen(store, drive, spy).await
    }

    /// The same, seen by this spy.
    pub(crate) async fn run_seen(
        &mut self,
        store: Arc<dyn Store>,
        drive: &Drive,
        spy: Arc<Spy>,
    ) -> Outcome<Life> {
        let port = PortName::new("kit")?;
        let mut batch = Batch::new(IdSource::system().batch()).define_port(&port, PortSpec { backup: false });
        for body in &drive.first {
            let message = pillarbox_store::Message::new(IdSource::system().message(), body.clone());
            batch = batch.submit(&port, message);
        }
        let committed = store.commit(&batch).await?;
        let first = |result: &OpResult| match result {
            OpResult::Submitted { first } => Some(*first),
            _ => None,
        };
        let first = committed.results().iter().filter_map(first).collect();
        let own = self.destination.port().unwrap_or(0);
        let settings = self.destination.settings(self.proxy.as_ref().map_or(own, |proxy| proxy.port));
        let checked = self.subject.kind().check(&settings)?;
        let source = AdapterSource::Checked(
            Arc::new(Seen { checked, spy: Arc::clone(&spy) }),
            self.subject.kind().describe(),
        );
        let (soon, later) = (Duration::from_millis(2), Duration::from_millis(50));
        let retry = RetryPolicy { attempts: 1_000, first: soon, max: later, ..RetryPolicy::default() };
        // Longer than any adapter's own timeout should be.
        let timeout = drive.timeout.unwrap_or(self.effort.patience / 3);
        let route = RouteConfig::new(source).retry(retry).timeout(timeout).batch(100, 1024 * 1024 * 1024);
        let steps = Steps::new(Arc::clone(&store), drive.dies_at);
        let running = Runtime::builder(Arc::clone(&steps) as Arc<dyn Store>);
        let running = running.port(Port::new(port.clone(), route)).start();
        // Its owner may die while it starts.
        let runtime = tokio::select! {
            started = running => Some(started?),
            () = steps.died() => None,
        };
        Ok(Life {
            store,
            steps,
            runtime,
            port,
            first,
            spy,
            said: self.said.clone(),
            patience: self.effort.patience,
        })
    }

    /// Sends one message and waits for its end.
    pub(crate) async fn send(&mut self, life: &Life, body: Bytes) -> Outcome<Sent> {
        let delivery = self.submit(life, body.clone()).await?;
        let detail = life.end(delivery).await?;
        // What it says of itself with these settings: the kind alone may not know whether it is two-phase.
        self.learn(life);
        Ok(Sent { body, detail })
    }

    pub(crate) async fn submit(&mut self, life: &Life, body: Bytes) -> Outcome<DeliveryId> {
        self.bodies.insert(body.clone());
        life.submit(body).await
    }

    /// What one exchange has of bytes, over a connection that is there.
    pub(crate) async fn measure(&mut self, life: &Life, body: Bytes) -> Outcome<Passed> {
        self.proxy()?.set(Fault::Pass);
        self.send(life, body).await?;
        Ok(self.proxy()?.passed())
    }

    /// Notes what the adapter says of itself.
    pub(crate) fn learn(&mut self, life: &Life) {
        let notes = life.spy.notes();
        notes.shown.into_iter().for_each(|shown| self.said.note(shown));
        if let Some(info) = notes.info {
            self.info = info;
        }
    }

    /// Holds what the destination has against what was sent. Lost or changed messages are errors; copies that should not be
    /// there are kept for the claim about doubles.
    pub(crate) async fn judge(&mut self, sent: &[Sent]) -> Outcome {
        let doubles = self.held_against(sent).await?;
        self.doubles.extend(doubles);
        Ok(())
    }

    /// What the destination holds. Where a transaction is decided in the box first, it is there a moment later.
    async fn held(&self, sent: &[Sent]) -> Vec<Held> {
        let late = Instant::now() + self.effort.patience / 6;
        loop {
            let held = self.destination.held().await;
            let all = sent.iter().all(|sent| !sent.is_done() || held.iter().any(|one| one.body == sent.body));
            let waits = self.info.capabilities.double_safety == DoubleSafety::TwoPhase;
            if all || !waits || Instant::now() > late {
                return held;
            }
            sleep(LOOK).await;
        }
    }

    async fn held_against(&mut self, sent: &[Sent]) -> Outcome<Vec<String>> {
        let mut doubles = Vec::new();
        let held = self.held(sent).await;
        let mut copies: HashMap<&Bytes, Vec<&Held>> = HashMap::new();
        held.iter().for_each(|one| copies.entry(&one.body).or_default().push(one));
        let strange: Vec<&Held> = held.iter().filter(|one| !self.bodies.contains(&one.body)).collect();
        if strange.len() > self.strange {
            let latest = strange.last();
            self.strange = strange.len();
            return Err(Fail::Broken(format!("a body arrived that was never sent: {latest:?}")));
        }
        self.labels |= held.iter().any(|one| one.is_labelled().is_some());
        for one in sent {
            let there = copies.get(&one.body).map_or(&[][..], Vec::as_slice);
            if one.is_done() && there.is_empty() {
                let shown = Held::new(one.body.clone());
                return Err(Fail::Broken(format!("a message is done and was never delivered: {shown:?}")));
            }
            if !one.is_done() && !there.is_empty() {
                return Err(Fail::Broken(format!(
                    "a message was refused and delivered: {:?}",
                    there.first()
                )));
            }
            doubles.extend(double(self.info.capabilities.double_safety, there));
        }
        let keys: HashSet<_> = sent.iter().filter_map(|one| key(&copies, &one.body)).collect();
        let keyed = sent.iter().filter(|one| key(&copies, &one.body).is_some()).count();
        if keys.len() < keyed {
            return Err(Fail::Broken("different messages came with the same key".to_owned()));
        }
        Ok(doubles)
    }
}

fn key(copies: &HashMap<&Bytes, Vec<&Held>>, body: &Bytes) -> Option<String> {
    copies.get(body)?.first()?.key.clone()
}

/// What is wrong with the copies of one message, by how the adapter says that it avoids doubles.
fn double(safety: DoubleSafety, copies: &[&Held]) -> Option<String> {
    let first = copies.first()?;
    if copies.len() < 2 {
        return None;
    }
    if let Some(other) = copies.iter().find(|one| one.key != first.key) {
        return Some(format!("a repeat came with another key: {first:?} and {other:?}"));
    }
    if safety != DoubleSafety::AtLeastOnce {
        return Some(format!("{} copies where there are to be none: {first:?}", copies.len()));
    }
    // The first attempt may come late, after the one that was made because of it.
    let unlabelled = copies.iter().filter(|one| one.is_labelled() == Some(false)).count();
    (unlabelled > 1)
        .then(|| format!("{unlabelled} copies that do not say that they may be repeats: {first:?}"))
}

/// A box with a runtime over it.
#[derive(Debug)]
pub(crate) struct Life {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) steps: Arc<Steps>,
    pub(crate) runtime: Option<Runtime>,
    pub(crate) spy: Arc<Spy>,
    /// The deliveries of what was in the box at the start.
    pub(crate) first: Vec<DeliveryId>,
    port: PortName,
    said: Said,
    patience: Duration,
}

impl Life {
    async fn submit(&self, body: impl Into<Body>) -> Outcome<DeliveryId> {
        let runtime = self.runtime.as_ref().ok_or("the runtime has ended")?;
        Ok(runtime.submit(&self.port, runtime.new_message(body)).await?.delivery)
    }

    /// Waits for the end of a delivery.
    pub(crate) async fn end(&self, delivery: DeliveryId) -> Outcome<DeliveryDetail> {
        self.known(delivery, |detail| detail.info.state.is_settled()).await
    }

    /// Waits for the end of an attempt, or of the delivery.
    pub(crate) async fn attempted(&self, delivery: DeliveryId) -> Outcome<DeliveryDetail> {
        let ended = |detail: &DeliveryDetail| detail.info.state.is_settled() || !detail.attempts.is_empty();
        self.known(delivery, ended).await
    }

    async fn known(
        &self,
        delivery: DeliveryId,
        enough: impl Fn(&DeliveryDetail) -> bool,
    ) -> Outcome<DeliveryDetail> {
        let mut watch = self.store.watch(&self.port).ok_or("the box does not know the port")?;
        let waiting = async {
            loop {
                let detail = self.store.delivery(delivery).await?.ok_or("the box forgot a delivery")?;
                if enough(&detail) {
                    return Ok::<_, Fail>(detail);
                }
                // A failed attempt need not be a change that is told.
                let _either = timeout(Duration::from_millis(20), watch.changed()).await;
            }
        };
        let Ok(detail) = timeout(self.patience, waiting).await else {
            let trouble = self.trouble();
            let detail = self.store.delivery(delivery).await?;
            let last = detail.and_then(|detail| Some(detail.attempts.last()?.failure.clone()?.text()));
            return Err(Fail::Broken(format!(
                "nothing became of a message within {:?} (route: {trouble:?}, last attempt: {last:?})",
                self.patience
            )));
        };
        let detail = detail?;
        for failure in detail.attempts.iter().filter_map(|attempt| attempt.failure.as_ref()) {
            self.said.note(failure.text());
        }
        Ok(detail)
    }

    /// What keeps the route from working.
    pub(crate) fn trouble(&self) -> Option<String> {
        let ports = self.runtime.as_ref()?.ports();
        ports.first()?.routes.first()?.trouble.clone()
    }

    /// Waits until the route is in trouble, or an attempt has ended.
    pub(crate) async fn in_trouble(&self, delivery: DeliveryId) -> Outcome {
        let waiting = async {
            loop {
                if let Some(trouble) = self.trouble() {
                    self.said.note(trouble);
                    return Ok::<_, Fail>(());
                }
                let detail = self.store.delivery(delivery).await?;
                if detail.is_some_and(|detail| !detail.attempts.is_empty()) {
                    return Ok(());
                }
                sleep(LOOK).await;
            }
        };
        timeout(self.patience, waiting)
            .await
            .map_err(|_late| "neither the route nor an attempt tells what is wrong")?
    }

    /// What became of everything that was in the box at the start.
    pub(crate) async fn all(&self, bodies: &[Bytes]) -> Outcome<Vec<Sent>> {
        let mut all = Vec::new();
        for (delivery, body) in self.first.iter().zip(bodies) {
            all.push(Sent { body: body.clone(), detail: self.end(*delivery).await? });
        }
        Ok(all)
    }

    /// Waits until its owner dies, or every one of these has ended. Tells whether it died.
    pub(crate) async fn died_or_all(&self, deliveries: &[DeliveryId]) -> Outcome<bool> {
        let all = async {
            for delivery in deliveries {
                self.end(*delivery).await?;
            }
            Ok::<_, Fail>(false)
        };
        tokio::select! {
            biased;
            () = self.steps.died() => Ok(true),
            all = all => all,
        }
    }

    /// Ends it in peace, with nothing left half done.
    pub(crate) async fn finish(mut self) -> Outcome {
        if let Some(runtime) = self.runtime.take() {
            let _report = runtime.shutdown(Duration::from_secs(5)).await;
        }
        self.store.close().await?;
        Ok(())
    }

    /// Ends it where it stands, as a crash of this process would.
    pub(crate) async fn crash(mut self) -> Outcome {
        drop(self.runtime.take());
        self.store.close().await?;
        Ok(())
    }
}

/// Opens a box; one that its last owner has not let go of yet is waited for.
pub(crate) async fn open_box(folder: Option<&Path>) -> Outcome<Arc<dyn Store>> {
    let Some(folder) = folder else { return Ok(Arc::new(MessageBox::open(BoxConfig::in_memory())?)) };
    let opening = async {
        loop {
            match MessageBox::open(BoxConfig::new(folder)) {
                Err(error) if error.kind() == pillarbox_store::ErrorKind::Locked => sleep(LOOK).await,
                opened => return opened,
            }
        }
    };
    let opened = timeout(OPENING, opening).await.map_err(|_late| "a box stays locked")?;
    Ok(Arc::new(opened?))
}
