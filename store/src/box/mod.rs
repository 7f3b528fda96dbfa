//! The message box over any engine: group commit, recovery, leases, queries.
//!
//! `config` says how to open one, `open` opens and locks the folder and recovers the ledger, `commit` takes batches
//! in, `pipeline` makes groups of those that wait, `group` is one, `view` keeps queries apart from them, `load` reads what was leased, `recent` has what need not be read, `query` answers
//! questions, `stage` takes long bodies in, `keys` holds the layout of every record, `harm` says what damage means for
//! the box, `inspect` looks into a box that is not open and saves what is whole.

mod commit;
mod config;
mod folder;
mod group;
mod harm;
pub mod inspect;
pub(crate) mod keys;
mod load;
mod open;
mod pipeline;
mod query;
mod recent;
mod stage;
#[cfg(test)]
mod tests;
mod view;

use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;

use crate::clock::Moment;
use crate::engine::{Damage, Engine};
use crate::ledger::{Ledger, Prepared};
use crate::store::{Changes, Watch};
use crate::{
    Answered, Batch, BoxId, BoxStats, Committed, Decisions, DeliveryDetail, DeliveryId, DeliveryInfo, Error,
    ErrorKind, Filter, Lease, Leased, MessageId, MessageInfo, PortInfo, PortName, Route, Store, Timestamp,
    Want,
};
use commit::Committer;
pub use config::{AnswerRetention, BoxConfig, Committing, EngineKind, Retention};
pub use stage::BodyWriter;
use view::Reading;

/// A durable box of messages over one engine: the implementation of [`Store`] for a single process.
///
/// Cheap to clone; clones are the same box. Dropping the last one closes it.
#[derive(Debug, Clone)]
pub struct MessageBox {
    handle: Arc<Handle>,
}

/// Ends the committer when the last clone of a box goes.
#[derive(Debug)]
struct Handle {
    shared: Arc<Shared>,
    committer: Committer,
    /// Holds the data folder until the box is closed or gone.
    folder: Mutex<Option<folder::FolderLock>>,
}

/// What the box's callers and its committer share.
#[derive(Debug)]
struct Shared {
    id: BoxId,
    config: BoxConfig,
    engine: Arc<dyn Engine>,
    /// What damage made of the box as a whole at opening.
    harm: Vec<Damage>,
    state: Mutex<State>,
    recent: Mutex<recent::Recent>,
    /// Keeps queries away while the ledger is ahead of the disk.
    view: view::View,
    /// Why the box takes nothing any more.
    failed: OnceLock<Error>,
}

/// The ledger, and those who wait for its ports to change.
#[derive(Debug, Default)]
struct State {
    ledger: Ledger,
    watchers: Vec<Arc<Changes>>,
    groups: u64,
    batches: u64,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn recent(&self) -> MutexGuard<'_, recent::Recent> {
        self.recent.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn failed(&self) -> Option<Error> {
        self.failed.get().cloned()
    }

    /// Waits until the ledger holds nothing that may not last, and keeps it so for as long as the guard is held. After a
    /// failure nobody knows what will last, so that nothing is told; what a closed box holds is known.
    async fn look(&self) -> Result<Reading<'_>, Error> {
        let reading = self.view.read().await;
        match self.failed() {
            Some(error) if error.kind() != ErrorKind::Closed => Err(error),
            _ => Ok(reading),
        }
    }

    /// Refuses what a box that has stopped cannot do.
    fn check_alive(&self) -> Result<(), Error> {
        self.failed().map_or(Ok(()), Err)
    }

    /// Stops the box for good.
    fn fail(&self, error: &Error) {
        tracing::error!(%error, "the box has stopped; reopen it to settle what was being written");
        self.failed.get_or_init(|| error.clone());
        self.state().notify_all();
    }
}

impl State {
    /// Wakes those who wait for a change of these ports.
    fn notify(&mut self, ports: &[u32]) {
        while self.watchers.len() < self.ledger.ports().len() {
            self.watchers.push(Arc::default());
        }
        for port in ports {
            if let Some(watcher) = self.watchers.get(*port as usize) {
                watcher.announce();
            }
        }
    }

    fn notify_all(&mut self) {
        for watcher in &self.watchers {
            watcher.announce();
        }
    }
}

impl MessageBox {
    /// What was found damaged, at opening and since; empty on a healthy box. Everything else is whole.
    #[must_use]
    pub fn damage(&self) -> Vec<Damage> {
        let mut damages = self.handle.shared.engine.damage();
        damages.extend(self.handle.shared.harm.iter().cloned());
        damages
    }

    fn shared(&self) -> &Arc<Shared> {
        &self.handle.shared
    }
}

#[async_trait]
impl Store for MessageBox {
    fn id(&self) -> BoxId {
        self.shared().id
    }

    async fn commit(&self, batch: &Batch) -> Result<Committed, Error> {
        let shared = self.shared();
        shared.check_alive()?;
        let prepared = Prepared::new(batch, shared.config.body_bytes_max)?;
        self.handle.committer.commit(shared, prepared).await
    }

    async fn lease(&self, want: &Want) -> Result<Vec<Leased>, Error> {
        let shared = self.shared();
        shared.check_alive()?;
        let picked = shared.state().ledger.lease(want, Moment::of(shared.config.clock.as_ref()));
        let records = load::messages(shared, &picked);
        let mut leased = Vec::with_capacity(picked.len());
        for (picked, record) in picked.into_iter().zip(records) {
            match record.and_then(|record| load::leased(shared, &want.port, &picked, record)) {
                Ok(loaded) => leased.push(loaded),
                Err(error) => self.park_damaged(&picked.lease, &error).await?,
            }
        }
        Ok(leased)
    }

    fn release(&self, leases: &[Lease]) {
        let mut state = self.shared().state();
        let ports = state.ledger.release(leases);
        state.notify(&ports);
    }

    fn watch(&self, port: &PortName) -> Option<Watch> {
        let state = self.shared().state();
        let number = state.ledger.port_number(port)?;
        state.watchers.get(number as usize).map(Changes::watch)
    }

    fn next_due(&self, port: &PortName, route: Route) -> Option<Timestamp> {
        let shared = self.shared();
        let now = Moment::of(shared.config.clock.as_ref());
        let state = shared.state();
        state.ledger.port(state.ledger.port_number(port)?)?.next_due(route, now)
    }

    fn stage(&self) -> Result<BodyWriter, Error> {
        self.shared().check_alive()?;
        Ok(BodyWriter::new(self.clone()))
    }

    async fn message(&self, id: MessageId) -> Result<Option<MessageInfo>, Error> {
        let _durable = self.shared().look().await?;
        query::message(self.shared(), id)
    }

    async fn delivery(&self, id: DeliveryId) -> Result<Option<DeliveryDetail>, Error> {
        let _durable = self.shared().look().await?;
        query::delivery(self.shared(), id)
    }

    async fn body(&self, id: MessageId, fragment: u32) -> Result<Option<Bytes>, Error> {
        let _durable = self.shared().look().await?;
        query::body(self.shared(), id, fragment)
    }

    async fn answer(&self, id: DeliveryId) -> Result<Option<Answered>, Error> {
        let _durable = self.shared().look().await?;
        query::answer(self.shared(), id)
    }

    async fn decisions(&self) -> Result<Decisions, Error> {
        let _durable = self.shared().look().await?;
        self.shared().check_alive()?;
        Ok(self.shared().state().ledger.decisions())
    }

    async fn deliveries(&self, filter: &Filter) -> Result<Vec<DeliveryInfo>, Error> {
        let mut page = query::Page::new(filter);
        while !page.is_full() {
            // Let go of between portions, so that commits go on.
            let _durable = self.shared().look().await?;
            if !page.look_on(self.shared(), filter)? {
                break;
            }
        }
        Ok(page.found)
    }

    fn ports(&self) -> Vec<PortInfo> {
        let state = self.shared().state();
        let mut ports: Vec<PortInfo> =
            state.ledger.ports().iter().map(crate::ledger::PortState::info).collect();
        ports.sort_by(|a, b| a.name.cmp(&b.name));
        ports
    }

    fn stats(&self) -> BoxStats {
        let shared = self.shared();
        let (groups, batches) = {
            let state = shared.state();
            (state.groups, state.batches)
        };
        BoxStats { engine: shared.engine.name(), disk: shared.engine.stats(), groups, batches }
    }

    fn failed(&self) -> Option<Error> {
        self.shared().failed()
    }

    async fn close(&self) -> Result<(), Error> {
        self.write_down_intents().await;
        self.handle.committer.close(self.shared()).await?;
        self.handle.folder.lock().unwrap_or_else(PoisonError::into_inner).take();
        Ok(())
    }
}

impl MessageBox {
    /// What leases that were released since the last group say of attempts is written: else the next opening would take
    /// them for cut off by a crash.
    async fn write_down_intents(&self) {
        let shared = self.shared();
        if shared.check_alive().is_ok() && shared.state().ledger.has_unwritten_intents() {
            shared.state().ledger.write_intents_down();
            let nothing = Batch::new(shared.config.ids.batch());
            if let Err(error) = self.commit(&nothing).await {
                tracing::warn!(%error, "what was given back is in doubt at the next opening as after a crash");
            }
        }
    }

    /// A leased delivery whose bytes are damaged is parked with that reason; anything else is the caller's error.
    async fn park_damaged(&self, lease: &Lease, error: &Error) -> Result<(), Error> {
        if error.kind() != ErrorKind::Corrupt {
            self.release(&[*lease]);
            return Err(error.clone());
        }
        tracing::error!(delivery = %lease.delivery(), %error, "stored bytes are damaged; the delivery is suspended");
        let batch = Batch::new(self.shared().config.ids.batch());
        let batch = batch.suspend(*lease, format!("stored bytes are damaged: {error}"), None);
        self.commit(&batch).await.map(|_committed| ())
    }
}
