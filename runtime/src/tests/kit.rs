//! What the tests share: virtual time, a bench with a store and a runtime, a scripted adapter that records its calls.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use pillarbox_store::{Batch, Clock, DeliveryId, DeliveryState, IdSource, PortName, Route, Store, Timestamp};
use tokio::time::Instant;

use super::watched::{Record, WatchedBox};
use crate::adapter::{
    Adapter, BatchTransmitter, Begun, Capabilities, CommitConfirm, Done, Outgoing, SendError, TransmitBatch,
    Transmitted, Transport, TransportControl, TransportInfo,
};
use crate::{Port, Proxy, RetryPolicy, RouteConfig, Runtime};

/// tokio's virtual time as the box's.
#[derive(Debug)]
pub(super) struct TestClock(pub(super) Instant);

impl Clock for TestClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_micros(1_700_000_000_000_000).plus(self.0.elapsed())
    }
}

pub(super) fn name(text: &str) -> PortName {
    PortName::new(text).unwrap()
}

pub(super) fn info(kind: &'static str) -> TransportInfo {
    TransportInfo {
        kind,
        name: kind,
        version: "1",
        description: "for tests",
        capabilities: Capabilities::default(),
        uri_prefixes: &[],
    }
}

/// A policy without jitter: 100 ms, 200 ms, 400 ms, ...
pub(super) fn steady(attempts: u32) -> RetryPolicy {
    RetryPolicy { attempts, first: Duration::from_millis(100), jitter: 0.0, ..RetryPolicy::default() }
}

/// A store and a runtime over it.
pub(super) struct Bench {
    pub(super) store: Arc<WatchedBox>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) ids: IdSource,
    pub(super) runtime: Arc<Runtime>,
}

impl Bench {
    pub(super) async fn start(ports: impl IntoIterator<Item = Port>) -> Self {
        let clock: Arc<dyn Clock> = Arc::new(TestClock(Instant::now()));
        let ids = IdSource::seeded(Arc::clone(&clock), 42);
        let store = Arc::new(WatchedBox::new(Arc::clone(&clock), ids.clone()));
        let runtime = Self::run(&store, &clock, &ids, ports).await;
        Self { store, clock, ids, runtime: Arc::new(runtime) }
    }

    pub(super) async fn run(
        store: &Arc<WatchedBox>,
        clock: &Arc<dyn Clock>,
        ids: &IdSource,
        ports: impl IntoIterator<Item = Port>,
    ) -> Runtime {
        let builder =
            Runtime::builder(Arc::clone(store) as Arc<dyn Store>).clock(Arc::clone(clock)).ids(ids.clone());
        ports.into_iter().fold(builder, |builder, port| builder.port(port)).start().await.unwrap()
    }

    /// A port `p` with one route over this adapter.
    pub(super) async fn over(adapter: Adapter) -> Self {
        Self::start([Port::new(name("p"), RouteConfig::new(adapter).retry(steady(3)))]).await
    }

    pub(super) async fn submit(&self, port: &str, body: &str) -> DeliveryId {
        let message = self.runtime.new_message(body.to_owned());
        self.runtime.submit(&name(port), message).await.unwrap().delivery
    }

    /// Puts messages into the box in one batch, so that they are leased together.
    pub(super) async fn submit_many(&self, port: &str, bodies: &[&str]) -> Vec<DeliveryId> {
        let mut batch = Batch::new(self.ids.batch());
        for body in bodies {
            batch = batch.submit(&name(port), self.runtime.new_message((*body).to_owned()));
        }
        let committed = self.store.commit(&batch).await.unwrap();
        let first = |result: &_| match result {
            pillarbox_store::OpResult::Submitted { first } => *first,
            other => panic!("{other:?}"),
        };
        committed.results().iter().map(first).collect()
    }

    pub(super) fn record(&self, id: DeliveryId) -> Record {
        self.store.record(id)
    }

    pub(super) fn state(&self, id: DeliveryId) -> DeliveryState {
        self.record(id).state
    }

    /// The failures of a delivery's attempts.
    pub(super) fn failures(&self, id: DeliveryId) -> Vec<String> {
        let attempts = self.record(id).attempts;
        attempts.iter().filter_map(|attempt| Some(attempt.failure.as_ref()?.text())).collect()
    }

    pub(super) fn trouble(&self, route: Route) -> Option<String> {
        let routes = self.runtime.ports().remove(0).routes;
        routes.into_iter().find(|status| status.route == route).unwrap().trouble
    }

    pub(super) fn in_flight(&self) -> usize {
        self.runtime.ports()[0].routes[0].in_flight
    }
}

/// Lets everything run that can run without time passing (much).
pub(super) async fn settle() {
    tokio::time::sleep(Duration::from_millis(5)).await;
}

pub(super) async fn seconds(seconds: u64) {
    tokio::time::sleep(Duration::from_secs(seconds)).await;
}

/// How a scripted adapter treats a message, by its body. Anything else is [`Treat::Sent`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Treat {
    Sent,
    Pending,
    /// `transmit` refuses it.
    Refuse,
    /// `transmit` panics.
    Panic,
    /// `transmit` keeps it as `Pending` and lets go of it at once.
    Drop,
    /// `Sent`, and then told as failed by `done`.
    SentFailed,
}

/// What `get_batch`, `begin` and `done` do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Act {
    #[default]
    Fine,
    Fail,
    Panic,
    Hang,
}

#[derive(Debug, Default)]
pub(super) struct Script {
    pub(super) treats: BTreeMap<String, Treat>,
    pub(super) messages_max: usize,
    pub(super) initialize: Act,
    pub(super) get_batch: Act,
    pub(super) begin: Act,
    pub(super) done: Act,
    pub(super) terminate: Act,
    pub(super) init_at_start: bool,
    pub(super) calls: Vec<String>,
    /// How many messages each batch had when it was done.
    pub(super) batches: Vec<usize>,
    /// What was really sent.
    pub(super) wire: Vec<String>,
    /// What is pending.
    pub(super) kept: Vec<Outgoing>,
    pub(super) proxy: Option<Proxy>,
    pub(super) on_transmit: Option<Hook>,
}

/// Something to do in the middle of `transmit`.
pub(super) struct Hook(pub(super) Box<dyn FnMut() + Send>);

impl fmt::Debug for Hook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Hook")
    }
}

/// An adapter that records its calls and does what its script says.
#[derive(Debug, Clone, Default)]
pub(super) struct Scripted(Arc<Mutex<Script>>);

impl Scripted {
    pub(super) fn new() -> Self {
        let scripted = Self::default();
        scripted.with(|script| script.messages_max = 100);
        scripted
    }

    pub(super) fn treat(self, body: &str, treat: Treat) -> Self {
        self.with(|script| script.treats.insert(body.to_owned(), treat));
        self
    }

    pub(super) fn with<T>(&self, act: impl FnOnce(&mut Script) -> T) -> T {
        act(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub(super) fn adapter(&self) -> Adapter {
        Adapter::batch_transmitter(self.clone())
    }

    pub(super) fn calls(&self) -> Vec<String> {
        self.with(|script| script.calls.clone())
    }

    pub(super) fn wire(&self) -> Vec<String> {
        self.with(|script| script.wire.clone())
    }

    pub(super) fn take_kept(&self) -> Vec<Outgoing> {
        self.with(|script| std::mem::take(&mut script.kept))
    }

    pub(super) fn proxy(&self) -> Proxy {
        self.with(|script| script.proxy.clone()).unwrap()
    }

    fn note(&self, call: impl Into<String>) {
        self.with(|script| script.calls.push(call.into()));
    }

    async fn act(&self, call: &str, act: Act) -> Result<(), SendError> {
        self.note(call);
        match act {
            Act::Fine => Ok(()),
            Act::Fail => Err(SendError::temporary(format!("{call} failed"))),
            Act::Panic => panic!("{call} went wrong"),
            Act::Hang => std::future::pending().await,
        }
    }
}

pub(super) fn body(message: &Outgoing) -> String {
    String::from_utf8(message.body().to_bytes().unwrap().to_vec()).unwrap()
}

impl Transport for Scripted {
    fn describe(&self) -> TransportInfo {
        let mut info = info("scripted");
        info.capabilities.init_at_start = self.with(|script| script.init_at_start);
        info
    }
}

#[async_trait]
impl TransportControl for Scripted {
    async fn initialize(&self, proxy: Proxy) -> Result<(), SendError> {
        self.with(|script| script.proxy = Some(proxy));
        let act = self.with(|script| script.initialize);
        self.act("initialize", act).await
    }

    async fn terminate(&self) {
        let act = self.with(|script| script.terminate);
        let _ended = self.act("terminate", act).await;
    }
}

#[async_trait]
impl BatchTransmitter for Scripted {
    async fn get_batch(&self) -> Result<Box<dyn TransmitBatch>, SendError> {
        let act = self.with(|script| script.get_batch);
        self.act("get_batch", act).await?;
        Ok(Box::new(ScriptedBatch { script: self.clone(), sent: Vec::new(), kept: Vec::new() }))
    }
}

#[derive(Debug)]
struct ScriptedBatch {
    script: Scripted,
    sent: Vec<Outgoing>,
    kept: Vec<Outgoing>,
}

#[async_trait]
impl TransmitBatch for ScriptedBatch {
    async fn begin(&mut self) -> Result<Begun, SendError> {
        let act = self.script.with(|script| script.begin);
        self.script.act("begin", act).await?;
        Ok(Begun::at_most(self.script.with(|script| script.messages_max)))
    }

    fn transmit(&mut self, message: Outgoing) -> Result<Transmitted, SendError> {
        let text = body(&message);
        self.script.note(format!("transmit {text}"));
        if let Some(mut hook) = self.script.with(|script| script.on_transmit.take()) {
            (hook.0)();
        }
        let treat = self.script.with(|script| script.treats.get(&text).copied()).unwrap_or(Treat::Sent);
        match treat {
            Treat::Sent | Treat::SentFailed => {
                self.sent.push(message);
                Ok(Transmitted::Sent)
            }
            Treat::Pending => {
                self.kept.push(message);
                Ok(Transmitted::Pending)
            }
            Treat::Refuse => Err(SendError::temporary(format!("refused {text}"))),
            Treat::Panic => panic!("choked on {text}"),
            Treat::Drop => Ok(Transmitted::Pending),
        }
    }

    async fn done(self: Box<Self>, confirm: Option<Box<dyn CommitConfirm>>) -> Result<Done, SendError> {
        assert!(confirm.is_none());
        let act = self.script.with(|script| script.done);
        let Self { script, sent, kept } = *self;
        script.with(|script| script.batches.push(sent.len() + kept.len()));
        script.with(|script| script.kept.extend(kept));
        script.act("done", act).await?;
        let mut done = Done::default();
        for message in sent {
            let text = body(&message);
            let treat = script.with(|script| script.treats.get(&text).copied());
            if treat == Some(Treat::SentFailed) {
                done.failed.push((message, SendError::temporary(format!("could not send {text}"))));
            } else {
                script.with(|script| script.wire.push(text));
            }
        }
        Ok(done)
    }

    fn clear(&mut self) {
        self.script.note("clear");
        self.sent.clear();
        self.kept.clear();
    }
}
