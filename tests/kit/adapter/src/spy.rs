//! An adapter seen from the engine's side: the same calls, noted on their way.

use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use pillarbox_runtime::Proxy;
use pillarbox_runtime::adapter::{
    Adapter, BatchTransmitter, Begun, CheckedSettings, CommitConfirm, Done, OpenContext, Outgoing,
    PreparedTransactions, Reconciled, SendError, Shape, TransmitBatch, Transmitted, Transmitter, Transport,
    TransportControl, TransportInfo,
};
use tokio::sync::watch;

/// What was seen of an adapter.
#[derive(Debug, Clone, Default)]
pub(crate) struct Notes {
    /// What it said of itself when it was opened.
    pub(crate) info: Option<TransportInfo>,
    /// How it shows itself, secrets hopefully left out.
    pub(crate) shown: Vec<String>,
    /// How many messages each batch had.
    pub(crate) batches: Vec<usize>,
    /// What it said of messages in doubt, by their bodies.
    pub(crate) told: Vec<(Bytes, Reconciled)>,
    one_by_one: bool,
    transacts: bool,
    sent: bool,
    pending: bool,
}

/// Sees every call, and can keep batches from being begun.
#[derive(Debug)]
pub(crate) struct Spy {
    notes: Mutex<Notes>,
    gate: watch::Sender<bool>,
    /// Counts those that have come to the gate.
    came: watch::Sender<u64>,
}

impl Spy {
    pub(crate) fn new() -> Arc<Self> {
        let (gate, came) = (watch::Sender::new(true), watch::Sender::new(0));
        Arc::new(Self { notes: Mutex::default(), gate, came })
    }

    pub(crate) fn notes(&self) -> Notes {
        self.notes.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn note(&self, note: impl FnOnce(&mut Notes)) {
        note(&mut self.notes.lock().unwrap_or_else(PoisonError::into_inner));
    }

    fn note_told(&self, message: &Outgoing, told: &Result<Reconciled, SendError>) {
        if let (Ok(body), Ok(told)) = (message.body().to_bytes(), told) {
            self.note(|notes| notes.told.push((body, *told)));
        }
    }

    /// Whether batches may be begun.
    pub(crate) fn let_begin(&self, may: bool) {
        self.gate.send_replace(may);
    }

    /// Waits until a batch is about to begin.
    pub(crate) async fn comes_to_begin(&self) {
        let mut came = self.came.subscribe();
        drop(came.wait_for(|count| *count > 0).await);
    }

    /// The kind that it is, as far as could be seen. Whether answers are kept is seen in the box.
    pub(crate) fn shape(&self, answers: bool) -> Shape {
        let notes = self.notes();
        match (notes.one_by_one, notes.sent) {
            _ if answers => Shape::SolicitResponse,
            _ if notes.transacts => Shape::TransactionalBatch,
            (true, true) => Shape::Synchronous,
            (true, false) => Shape::Asynchronous,
            (false, true) => Shape::SynchronousBatch,
            (false, false) => Shape::AsynchronousBatch,
        }
    }
}

/// Checked settings whose adapter is seen.
#[derive(Debug)]
pub(crate) struct Seen {
    pub(crate) checked: Box<dyn CheckedSettings>,
    pub(crate) spy: Arc<Spy>,
}

#[async_trait]
impl CheckedSettings for Seen {
    fn describe(&self, kind: TransportInfo) -> TransportInfo {
        self.checked.describe(kind)
    }

    async fn open(&self, context: &OpenContext) -> Result<Adapter, SendError> {
        let adapter = self.checked.open(context).await?;
        let spy = Arc::clone(&self.spy);
        spy.note(|notes| {
            notes.info = Some(adapter.describe());
            notes.shown.push(format!("{:?} {adapter:?}", self.checked));
        });
        Ok(match adapter {
            Adapter::Each(inner) => Adapter::transmitter(Each { inner, spy }),
            Adapter::Batch(inner) => {
                let transacts = inner.prepared_transactions().is_some();
                spy.note(|notes| notes.transacts |= transacts);
                Adapter::batch_transmitter(Batches { inner, spy })
            }
        })
    }
}

#[derive(Debug)]
struct Each {
    inner: Arc<dyn Transmitter>,
    spy: Arc<Spy>,
}

impl Transport for Each {
    fn describe(&self) -> TransportInfo {
        self.inner.describe()
    }
}

#[async_trait]
impl TransportControl for Each {
    async fn initialize(&self, proxy: Proxy) -> Result<(), SendError> {
        self.inner.initialize(proxy).await
    }

    async fn terminate(&self) {
        self.inner.terminate().await;
    }
}

#[async_trait]
impl Transmitter for Each {
    async fn transmit(&self, message: Outgoing) -> Result<Transmitted, SendError> {
        let answer = self.inner.transmit(message).await?;
        self.spy.note(|notes| {
            notes.one_by_one = true;
            notes.sent |= answer == Transmitted::Sent;
            notes.pending |= answer == Transmitted::Pending;
            notes.batches.push(1);
        });
        Ok(answer)
    }

    async fn reconcile(&self, message: &Outgoing) -> Result<Reconciled, SendError> {
        let told = self.inner.reconcile(message).await;
        self.spy.note_told(message, &told);
        told
    }
}

#[derive(Debug)]
struct Batches {
    inner: Arc<dyn BatchTransmitter>,
    spy: Arc<Spy>,
}

impl Transport for Batches {
    fn describe(&self) -> TransportInfo {
        self.inner.describe()
    }
}

#[async_trait]
impl TransportControl for Batches {
    async fn initialize(&self, proxy: Proxy) -> Result<(), SendError> {
        self.inner.initialize(proxy).await
    }

    async fn terminate(&self) {
        self.inner.terminate().await;
    }
}

#[async_trait]
impl BatchTransmitter for Batches {
    async fn get_batch(&self) -> Result<Box<dyn TransmitBatch>, SendError> {
        self.spy.came.send_modify(|count| *count += 1);
        let mut gate = self.spy.gate.subscribe();
        drop(gate.wait_for(|open| *open).await);
        let inner = self.inner.get_batch().await?;
        Ok(Box::new(One { inner, spy: Arc::clone(&self.spy), taken: 0 }))
    }

    fn prepared_transactions(&self) -> Option<Arc<dyn PreparedTransactions>> {
        self.inner.prepared_transactions()
    }

    async fn reconcile(&self, message: &Outgoing) -> Result<Reconciled, SendError> {
        let told = self.inner.reconcile(message).await;
        self.spy.note_told(message, &told);
        told
    }
}

#[derive(Debug)]
struct One {
    inner: Box<dyn TransmitBatch>,
    spy: Arc<Spy>,
    taken: usize,
}

#[async_trait]
impl TransmitBatch for One {
    async fn begin(&mut self) -> Result<Begun, SendError> {
        let begun = self.inner.begin().await?;
        let transacts = begun.transaction.is_some();
        self.spy.note(|notes| notes.transacts |= transacts);
        Ok(begun)
    }

    fn transmit(&mut self, message: Outgoing) -> Result<Transmitted, SendError> {
        let answer = self.inner.transmit(message)?;
        self.taken += 1;
        self.spy.note(|notes| {
            notes.sent |= answer == Transmitted::Sent;
            notes.pending |= answer == Transmitted::Pending;
        });
        Ok(answer)
    }

    async fn done(self: Box<Self>, confirm: Option<Box<dyn CommitConfirm>>) -> Result<Done, SendError> {
        let Self { inner, spy, taken } = *self;
        spy.note(|notes| notes.batches.push(taken));
        inner.done(confirm).await
    }

    fn clear(&mut self) {
        self.inner.clear();
    }
}
