//! A real box in memory that counts what it is asked, and refuses what a test tells it to.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::FutureExt;
use pillarbox_store::engine::Engine;
use pillarbox_store::{
    Answered, Attempt, Batch, BodyWriter, BoxConfig, BoxId, BoxStats, Clock, Committed, Committing,
    Decisions, DeliveryDetail, DeliveryId, DeliveryInfo, DeliveryState, Durability, Error, ErrorKind, Filter,
    IdSource, Lease, Leased, MessageBox, MessageId, MessageInfo, Op, PortInfo, PortName, Route, Store,
    Timestamp, Want, Watch,
};

#[derive(Debug)]
pub(super) struct WatchedBox {
    real: MessageBox,
    ids: IdSource,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
pub(super) struct Inner {
    /// How many operations each commit had.
    pub(super) commits: Vec<usize>,
    /// How many messages each commit said to be about to be sent. Beside the others: they are no outcomes.
    pub(super) intents: Vec<usize>,
    /// How durably each of those was to be recorded.
    pub(super) intents_durable: Vec<Durability>,
    /// Whether all deliveries of such a batch were to be sent in transactions that the box decides.
    pub(super) intents_transacted: Vec<bool>,
    pub(super) lease_calls: u64,
    pub(super) leased_limits: Vec<usize>,
    /// What the next commits answer instead of working.
    pub(super) refuse_commits: Vec<ErrorKind>,
    /// What every lease answers instead of working.
    pub(super) refuse_leases: Option<ErrorKind>,
    /// Damage may have taken decisions about what was begun up to then.
    pub(super) decisions_lost_until: Option<Timestamp>,
    leases: BTreeMap<DeliveryId, Lease>,
    /// Asked before each commit; where it says no, the commit fails and nothing is written.
    pub(super) gate: Option<Gate>,
}

/// Something to ask before a commit.
pub(super) struct Gate(pub(super) Box<dyn Fn(&Batch) -> bool + Send>);

impl std::fmt::Debug for Gate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Gate")
    }
}

/// A delivery, as the tests look at it.
#[derive(Debug, Clone)]
pub(super) struct Record {
    pub(super) state: DeliveryState,
    pub(super) route: Route,
    pub(super) attempts: Vec<Attempt>,
    pub(super) due: Option<Timestamp>,
    pub(super) reason: Option<String>,
}

impl WatchedBox {
    pub(super) fn new(clock: Arc<dyn Clock>, ids: IdSource) -> Self {
        let committing = Committing::Inline;
        let config = BoxConfig { clock, ids: ids.clone(), committing, ..BoxConfig::in_memory() };
        Self { real: MessageBox::open(config).unwrap(), ids, inner: Mutex::default() }
    }

    /// A box over records that outlive it.
    pub(super) fn over(engine: Arc<dyn Engine>, clock: Arc<dyn Clock>, ids: IdSource) -> Self {
        let committing = Committing::Inline;
        let config = BoxConfig { clock, ids: ids.clone(), committing, ..BoxConfig::in_memory() };
        Self { real: MessageBox::with_engine(engine, config).unwrap(), ids, inner: Mutex::default() }
    }

    pub(super) fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn record(&self, id: DeliveryId) -> Record {
        let detail = self.real.delivery(id).now_or_never().unwrap().unwrap().unwrap();
        let DeliveryInfo { state, route, due, reason, .. } = detail.info;
        Record { state, route, attempts: detail.attempts, due, reason }
    }

    /// Ends the lease of the oldest delivery that was leased.
    pub(super) fn revoke_oldest(&self) {
        let oldest = *self.inner().leases.keys().next().unwrap();
        self.revoke(oldest);
    }

    /// Ends the lease of a delivery: somebody else has decided about it.
    pub(super) fn revoke(&self, id: DeliveryId) {
        let lease = self.inner().leases[&id];
        let batch = Batch::new(self.ids.batch()).suspend(lease, "revoked", None);
        assert!(self.real.commit(&batch).now_or_never().unwrap().unwrap().all_applied());
    }
}

#[async_trait]
impl Store for WatchedBox {
    fn id(&self) -> BoxId {
        self.real.id()
    }

    async fn commit(&self, batch: &Batch) -> Result<Committed, Error> {
        if batch.ops().iter().all(|op| matches!(op, Op::Intend { .. })) {
            self.inner().intents.push(batch.ops().len());
            self.inner().intents_durable.push(batch.asked_durability());
            let transacted = |op: &Op| matches!(op, Op::Intend { transacted: true, .. });
            self.inner().intents_transacted.push(batch.ops().iter().all(transacted));
            return self.real.commit(batch).await;
        }
        let refusal = {
            let mut inner = self.inner();
            let may = inner.gate.as_ref().is_none_or(|gate| (gate.0)(batch));
            let refusal = if may { inner.refuse_commits.pop() } else { Some(ErrorKind::Unavailable) };
            if refusal.is_none() {
                inner.commits.push(batch.ops().len());
            }
            refusal
        };
        match refusal {
            Some(kind) => Err(Error::new(kind, "commit a batch")),
            None => self.real.commit(batch).await,
        }
    }

    async fn lease(&self, want: &Want) -> Result<Vec<Leased>, Error> {
        {
            let mut inner = self.inner();
            inner.lease_calls += 1;
            inner.leased_limits.push(want.limit);
            if let Some(kind) = inner.refuse_leases {
                return Err(Error::new(kind, "lease deliveries"));
            }
        }
        let leased = self.real.lease(want).await?;
        let leases = leased.iter().map(|leased| (leased.lease.delivery(), leased.lease));
        self.inner().leases.extend(leases);
        Ok(leased)
    }

    fn release(&self, leases: &[Lease]) {
        self.real.release(leases);
    }

    fn watch(&self, port: &PortName) -> Option<Watch> {
        self.real.watch(port)
    }

    fn next_due(&self, port: &PortName, route: Route) -> Option<Timestamp> {
        self.real.next_due(port, route)
    }

    fn stage(&self) -> Result<BodyWriter, Error> {
        self.real.stage()
    }

    async fn message(&self, id: MessageId) -> Result<Option<MessageInfo>, Error> {
        self.real.message(id).await
    }

    async fn delivery(&self, id: DeliveryId) -> Result<Option<DeliveryDetail>, Error> {
        self.real.delivery(id).await
    }

    async fn body(&self, id: MessageId, fragment: u32) -> Result<Option<Bytes>, Error> {
        self.real.body(id, fragment).await
    }

    async fn answer(&self, id: DeliveryId) -> Result<Option<Answered>, Error> {
        self.real.answer(id).await
    }

    async fn decisions(&self) -> Result<Decisions, Error> {
        let decisions = self.real.decisions().await?;
        Ok(Decisions { lost_until: self.inner().decisions_lost_until, ..decisions })
    }

    async fn deliveries(&self, filter: &Filter) -> Result<Vec<DeliveryInfo>, Error> {
        self.real.deliveries(filter).await
    }

    fn ports(&self) -> Vec<PortInfo> {
        self.real.ports()
    }

    fn stats(&self) -> BoxStats {
        self.real.stats()
    }

    fn failed(&self) -> Option<Error> {
        self.real.failed()
    }

    async fn close(&self) -> Result<(), Error> {
        self.real.close().await
    }
}
