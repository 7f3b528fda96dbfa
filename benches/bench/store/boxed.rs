//! The box, used as a service uses it: headers, batch ids, leases with a time, attempts noted.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use pillarbox_benches::Bodies;
use pillarbox_store::{
    AttemptNote, Batch, BoxConfig, Clock, EngineKind, IdSource, Lease, Message, MessageBox, PortName,
    PortSpec, Route, Store, SystemClock, Timestamp, Want,
};

use crate::client::{Client, Counts, Fault, Target};

/// So many bytes go through a journal before it is measured: then its segments are those that it writes over.
const SETTLE_BYTES: u64 = 448 * 1024 * 1024;
const SETTLE_CLIENTS: u64 = 4;
const SETTLE_BATCH: u64 = 100;
const LEASE: Duration = Duration::from_secs(60);

/// A box with one port.
#[derive(Debug, Clone)]
pub(crate) struct Boxed {
    pub(crate) store: Arc<MessageBox>,
    pub(crate) ids: IdSource,
    pub(crate) port: PortName,
    bodies: Bodies,
}

impl Boxed {
    /// Opens the box in `folder` and makes its port known.
    pub(crate) async fn open(folder: &Path, engine: EngineKind, body_bytes: usize) -> Result<Self, Fault> {
        let config = BoxConfig { engine, ..BoxConfig::new(folder.join("box")) };
        let ids = config.ids.clone();
        let store = Arc::new(MessageBox::open(config)?);
        let port = PortName::new("out")?;
        store.commit(&Batch::new(ids.batch()).define_port(&port, PortSpec::default())).await?;
        Ok(Self { store, ids, port, bodies: Bodies::new(body_bytes) })
    }

    /// Sends bytes through until the journal's segments are used again, as in a box that has been at work for long.
    pub(crate) async fn settle(&self) -> Result<(), Fault> {
        let each = SETTLE_BYTES / (SETTLE_CLIENTS * SETTLE_BATCH * self.bodies.body_bytes() as u64);
        let tasks: Vec<_> = (0..SETTLE_CLIENTS)
            .map(|_| {
                let mut client = self.worker();
                let bodies: Vec<Bytes> = (0..SETTLE_BATCH).map(|number| self.bodies.get(number)).collect();
                tokio::spawn(async move {
                    for _ in 0..each.max(1) {
                        client.submit(&bodies).await?;
                        let mut open = bodies.len();
                        while open > 0 {
                            open -= client.take(open).await?;
                            client.complete().await?;
                        }
                    }
                    Ok::<(), Fault>(())
                })
            })
            .collect();
        for task in tasks {
            task.await??;
        }
        Ok(())
    }

    pub(crate) fn worker(&self) -> Worker {
        Worker { on: self.clone(), taken: Vec::new() }
    }

    /// A message as a service makes it.
    pub(crate) fn message(&self, body: Bytes) -> Result<Message, Fault> {
        Ok(Message::new(self.ids.message(), body).header("content-type", "application/octet-stream")?)
    }

    /// A batch that submits these bodies.
    pub(crate) fn batch(&self, bodies: &[Bytes]) -> Result<Batch, Fault> {
        let mut batch = Batch::new(self.ids.batch());
        for body in bodies {
            batch = batch.submit(&self.port, self.message(body.clone())?);
        }
        Ok(batch)
    }

    pub(crate) fn want(&self, limit: usize) -> Want {
        Want { port: self.port.clone(), route: Route::Primary, limit, bytes_max: u64::MAX, lease_for: LEASE }
    }

    /// Commits; a refused operation is a fault.
    pub(crate) async fn commit(&self, batch: &Batch) -> Result<(), Fault> {
        let committed = self.store.commit(batch).await?;
        match committed.results().iter().find(|result| !result.is_applied()) {
            Some(refused) => Err(format!("the box refused: {refused:?}").into()),
            None => Ok(()),
        }
    }
}

#[async_trait]
impl Target for Boxed {
    async fn client(&self) -> Result<Box<dyn Client>, Fault> {
        Ok(Box::new(self.worker()))
    }

    fn counts(&self) -> Counts {
        let stats = self.store.stats();
        Counts { commits: stats.batches, flushes: Some(stats.disk.flushes) }
    }

    fn more(&self) -> Vec<(&'static str, f64)> {
        vec![("disk_mib", self.store.stats().disk.disk_bytes as f64 / crate::front::MIB)]
    }

    async fn close(&self) -> Result<(), Fault> {
        Ok(self.store.close().await?)
    }
}

/// One client of the box.
#[derive(Debug)]
pub(crate) struct Worker {
    on: Boxed,
    taken: Vec<(Lease, Timestamp)>,
}

#[async_trait]
impl Client for Worker {
    async fn submit(&mut self, bodies: &[Bytes]) -> Result<(), Fault> {
        let batch = self.on.batch(bodies)?;
        self.on.commit(&batch).await
    }

    async fn take(&mut self, count: usize) -> Result<usize, Fault> {
        let leased = self.on.store.lease(&self.on.want(count)).await?;
        let started = SystemClock.now();
        for delivery in &leased {
            if !self.on.bodies.know(&delivery.message.body.to_bytes()?) {
                return Err(format!("delivery {} came back changed", delivery.lease.delivery()).into());
            }
        }
        self.taken.clear();
        self.taken.extend(leased.iter().map(|delivery| (delivery.lease, started)));
        Ok(self.taken.len())
    }

    async fn complete(&mut self) -> Result<(), Fault> {
        let now = SystemClock.now();
        let mut batch = Batch::new(self.on.ids.batch());
        for (lease, started) in self.taken.drain(..) {
            batch =
                batch.delete(lease, Some(AttemptNote { started, took: now.since(started), failure: None }));
        }
        self.on.commit(&batch).await
    }
}
