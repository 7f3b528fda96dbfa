//! A box whose owner dies at a step: before or after its n-th commit.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use bytes::Bytes;
use pillarbox_store::{
    Answered, Batch, BodyWriter, BoxId, BoxStats, Committed, Decisions, DeliveryDetail, DeliveryId,
    DeliveryInfo, Error, Filter, Lease, Leased, MessageId, MessageInfo, PortInfo, PortName, Route, Store,
    Timestamp, Want, Watch,
};
use tokio::sync::watch;

/// Passes everything on, until it is time to die: that call, and every commit after it, never returns.
#[derive(Debug)]
pub(crate) struct Steps {
    store: Arc<dyn Store>,
    /// Twice the number of the commit to die at, plus 1 to die after it.
    dies_at: u64,
    commits: AtomicU64,
    died: watch::Sender<bool>,
}

impl Steps {
    pub(crate) fn new(store: Arc<dyn Store>, dies_at: Option<u64>) -> Arc<Self> {
        let (dies_at, died) = (dies_at.unwrap_or(u64::MAX), watch::Sender::new(false));
        Arc::new(Self { store, dies_at, commits: AtomicU64::new(0), died })
    }

    /// Waits for the step.
    pub(crate) async fn died(&self) {
        let mut died = self.died.subscribe();
        drop(died.wait_for(|died| *died).await);
    }

    async fn die(&self) {
        self.died.send_replace(true);
        std::future::pending::<()>().await;
    }
}

#[async_trait]
impl Store for Steps {
    fn id(&self) -> BoxId {
        self.store.id()
    }

    async fn commit(&self, batch: &Batch) -> Result<Committed, Error> {
        let step = 2 * self.commits.fetch_add(1, Ordering::SeqCst);
        if step >= self.dies_at {
            self.die().await;
        }
        let committed = self.store.commit(batch).await;
        if step + 1 >= self.dies_at {
            self.die().await;
        }
        committed
    }

    async fn lease(&self, want: &Want) -> Result<Vec<Leased>, Error> {
        self.store.lease(want).await
    }

    fn release(&self, leases: &[Lease]) {
        self.store.release(leases);
    }

    fn watch(&self, port: &PortName) -> Option<Watch> {
        self.store.watch(port)
    }

    fn next_due(&self, port: &PortName, route: Route) -> Option<Timestamp> {
        self.store.next_due(port, route)
    }

    fn stage(&self) -> Result<BodyWriter, Error> {
        self.store.stage()
    }

    async fn message(&self, id: MessageId) -> Result<Option<MessageInfo>, Error> {
        self.store.message(id).await
    }

    async fn delivery(&self, id: DeliveryId) -> Result<Option<DeliveryDetail>, Error> {
        self.store.delivery(id).await
    }

    async fn body(&self, id: MessageId, fragment: u32) -> Result<Option<Bytes>, Error> {
        self.store.body(id, fragment).await
    }

    async fn answer(&self, id: DeliveryId) -> Result<Option<Answered>, Error> {
        self.store.answer(id).await
    }

    async fn decisions(&self) -> Result<Decisions, Error> {
        self.store.decisions().await
    }

    async fn deliveries(&self, filter: &Filter) -> Result<Vec<DeliveryInfo>, Error> {
        self.store.deliveries(filter).await
    }

    fn ports(&self) -> Vec<PortInfo> {
        self.store.ports()
    }

    fn stats(&self) -> BoxStats {
        self.store.stats()
    }

    fn failed(&self) -> Option<Error> {
        self.store.failed()
    }

    async fn close(&self) -> Result<(), Error> {
        self.store.close().await
    }
}
