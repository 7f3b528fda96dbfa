//! The runtime: a store, ports, and a dispatcher for each of their routes.

use std::sync::Arc;
use std::time::Duration;

use pillarbox_store::{
    Answered, Batch, Body, Clock, Decision, DeliveryDetail, DeliveryId, Error, ErrorKind, IdSource, Message,
    MessageId, OpResult, PortName, PortSpec, Refusal, Route, Store, SystemClock,
};

use crate::core::{Core, Phase};
use crate::drain::{DrainReport, drain};
use crate::lane::Lane;
use crate::port::{Port, PortStatus};
use crate::{Tasks, dispatch, stranded};

/// What is needed to start a [`Runtime`].
#[derive(Debug)]
pub struct Builder {
    store: Arc<dyn Store>,
    clock: Arc<dyn Clock>,
    ids: Option<IdSource>,
    ports: Vec<Port>,
}

impl Builder {
    /// Sets the clock; it has to be the box's own. Default the host's. Waits are measured by tokio's timer.
    #[must_use]
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    /// Sets where ids and jitter come from. Default the host's random source.
    #[must_use]
    pub fn ids(mut self, ids: IdSource) -> Self {
        self.ids = Some(ids);
        self
    }

    /// Adds a port.
    #[must_use]
    pub fn port(mut self, port: Port) -> Self {
        self.ports.push(port);
        self
    }

    /// Makes the ports known to the box, retires those that it knows and that were not added (their deliveries
    /// stay), and starts to send. Must be called inside a tokio runtime with its timer enabled.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`]: two ports have one name, or a port's value is out of its limits; nothing was started.
    /// Else as [`Store::commit`].
    ///
    /// # Cancel
    /// If dropped, nothing is started; the ports may be defined.
    pub async fn start(self) -> Result<Runtime, Error> {
        check(&self.ports)?;
        let Self { store, clock, ids, ports } = self;
        let core = Arc::new(Core::new(store, clock, ids.unwrap_or_else(IdSource::system)));
        define(&core, &ports).await?;
        let left_some = !core.store.decisions().await?.known.is_empty();
        let lanes: Vec<_> = ports.into_iter().flat_map(|port| lanes_of(&core, port)).collect();
        for lane in &lanes {
            core.tasks.spawn(dispatch::run(Arc::clone(lane), core.flights.enter()));
        }
        if left_some {
            core.tasks.spawn(stranded::warn(Arc::clone(&core), lanes.clone()));
        }
        Ok(Runtime { core, lanes, drained: tokio::sync::Mutex::default() })
    }
}

fn check(ports: &[Port]) -> Result<(), Error> {
    let invalid = |name: &PortName, reason: String| {
        Error::new(ErrorKind::Invalid, "start the runtime").with("port", name).with("reason", reason)
    };
    let mut names: Vec<_> = ports.iter().map(Port::name).collect();
    names.sort_unstable();
    if let Some(&[name, _]) =
        names.windows(2).find(|pair| matches!(pair, [one, next] if one == next)).map(|p| p as &[_])
    {
        return Err(invalid(name, "two ports have this name; rename one".to_owned()));
    }
    ports.iter().try_for_each(|port| port.check().map_err(|reason| invalid(port.name(), reason)))
}

/// Tells the box which ports there are.
async fn define(core: &Core, ports: &[Port]) -> Result<(), Error> {
    let mut batch = Batch::new(core.ids.batch());
    for port in ports {
        batch = batch.define_port(&port.name, PortSpec { backup: port.backup.is_some() });
    }
    for known in core.store.ports() {
        if known.defined && !ports.iter().any(|port| port.name == known.name) {
            batch = batch.retire_port(&known.name);
        }
    }
    if batch.ops().is_empty() {
        return Ok(());
    }
    let committed = core.store.commit(&batch).await?;
    for (op, result) in batch.ops().iter().zip(committed.results()) {
        if let OpResult::Refused(refusal) = result {
            let error =
                Error::new(ErrorKind::Invalid, "define the ports").with("operation", format!("{op:?}"));
            return Err(error.caused_by(refusal.clone()));
        }
    }
    Ok(())
}

fn lanes_of(core: &Arc<Core>, port: Port) -> Vec<Arc<Lane>> {
    let has_backup = port.backup.is_some();
    let primary = Lane::new(core, port.name.clone(), Route::Primary, has_backup, port.primary);
    let backup = port.backup.map(|config| Lane::new(core, port.name, Route::Backup, has_backup, config));
    std::iter::once(primary).chain(backup).map(Arc::new).collect()
}

/// What became of a submitted message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Receipt {
    /// The message.
    pub message: MessageId,
    /// Its delivery; the first one where it has several.
    pub delivery: DeliveryId,
    /// Whether a message of this id was in the box already: then nothing was added.
    pub duplicate: bool,
}

/// Why a message was not accepted.
#[non_exhaustive]
#[derive(Debug, thiserror::Error)]
pub enum SubmitError {
    /// There is no such port. Correct the name.
    #[error("no port is named {0}")]
    NoSuchPort(PortName),
    /// The runtime drains or has ended. Submit to another one, or to this one's successor.
    #[error("the runtime is shutting down")]
    ShuttingDown,
    /// The box refused it for another reason.
    #[error("the box refused the message")]
    Refused(#[source] Refusal),
    /// The box failed; the error's kind says whether to try again. Of kind `Unavailable`: it may be in the box, and
    /// submitting it again under its id adds nothing then.
    #[error("the box did not take the message")]
    Store(#[source] Error),
}

/// Sends what is in a box. Dropping it without [`Runtime::shutdown`] ends every task where it stands, as a crash
/// would: what was being sent is sent again once its lease has ended.
#[derive(Debug)]
pub struct Runtime {
    core: Arc<Core>,
    lanes: Vec<Arc<Lane>>,
    drained: tokio::sync::Mutex<Option<DrainReport>>,
}

impl Runtime {
    /// Begins to describe a runtime over this box.
    pub fn builder(store: Arc<dyn Store>) -> Builder {
        Builder { store, clock: Arc::new(SystemClock), ids: None, ports: Vec::new() }
    }

    /// Puts a message into the box, on its way to a port. It is on the disk when this returns.
    ///
    /// # Errors
    /// [`SubmitError`]; except for `Store` of kind `Unavailable`, nothing was added.
    ///
    /// # Cancel
    /// A dropped call may still add the message; submitting it again under its id adds nothing then.
    pub async fn submit(&self, port: &PortName, message: Message) -> Result<Receipt, SubmitError> {
        if self.core.is(Phase::Draining) {
            return Err(SubmitError::ShuttingDown);
        }
        let id = message.id;
        let batch = Batch::new(self.core.ids.batch()).submit(port, message);
        let committed = self.core.store.commit(&batch).await.map_err(SubmitError::Store)?;
        match committed.results().first() {
            Some(&OpResult::Submitted { first }) => {
                Ok(Receipt { message: id, delivery: first, duplicate: false })
            }
            Some(&OpResult::Refused(Refusal::Duplicate { first })) => {
                Ok(Receipt { message: id, delivery: first, duplicate: true })
            }
            Some(OpResult::Refused(Refusal::NoSuchPort)) => Err(SubmitError::NoSuchPort(port.clone())),
            Some(OpResult::Refused(refusal)) => Err(SubmitError::Refused(refusal.clone())),
            Some(OpResult::Applied) | None => {
                let error = Error::new(ErrorKind::Corrupt, "submit a message");
                Err(SubmitError::Store(error.with("reason", "the box's answer is not one to a submission")))
            }
        }
    }

    /// Returns once a delivery is done, suspended or terminated, and tells how it stands then; `None` where the box
    /// does not know it (any more).
    ///
    /// # Errors
    /// What the box says when it cannot be asked.
    pub async fn outcome(&self, delivery: DeliveryId) -> Result<Option<DeliveryDetail>, Error> {
        let store = &self.core.store;
        let Some(known) = store.delivery(delivery).await? else { return Ok(None) };
        let Some(mut watch) = store.watch(&known.info.port) else { return Ok(None) };
        loop {
            match store.delivery(delivery).await? {
                Some(known) if !known.info.state.is_settled() => watch.changed().await,
                settled => return Ok(settled),
            }
            store.failed().map_or(Ok(()), Err)?;
        }
    }

    /// Returns once a delivery is done, suspended or terminated, and gives its answer; `None` where it ended without one,
    /// the answer was forgotten, or the box does not know the delivery (any more). A suspended one may still be answered
    /// once it is resumed: ask again then.
    ///
    /// # Errors
    /// What the box says when it cannot be asked.
    ///
    /// # Cancel
    /// A dropped call changes nothing: the answer stays in the box.
    pub async fn answer(&self, delivery: DeliveryId) -> Result<Option<Answered>, Error> {
        if self.outcome(delivery).await?.is_none() {
            return Ok(None);
        }
        self.core.store.answer(delivery).await
    }

    /// A message without headers under a new id.
    #[must_use]
    pub fn new_message(&self, body: impl Into<Body>) -> Message {
        Message::new(self.core.ids.message(), body)
    }

    /// The box.
    #[must_use]
    pub fn store(&self) -> &Arc<dyn Store> {
        &self.core.store
    }

    /// Where ids come from.
    #[must_use]
    pub fn ids(&self) -> &IdSource {
        &self.core.ids
    }

    /// The runtime's tasks.
    #[must_use]
    pub fn tasks(&self) -> &Tasks {
        &self.core.tasks
    }

    /// The configured ports, in the order in which they were added.
    #[must_use]
    pub fn ports(&self) -> Vec<PortStatus> {
        let mut ports: Vec<PortStatus> = Vec::new();
        for lane in &self.lanes {
            let name = &lane.name().port;
            match ports.last_mut() {
                Some(port) if port.name == *name => port.routes.push(lane.status()),
                _ => ports.push(PortStatus { name: name.clone(), routes: vec![lane.status()] }),
            }
        }
        ports
    }

    /// The decisions that nobody carries out: the box has recorded messages as sent whose transaction a destination may
    /// still hold prepared, and none of the routes that are open settles what that one holds. Those of a route that is
    /// not open yet are among them until it is.
    ///
    /// # Errors
    /// As [`Store::decisions`].
    pub async fn stranded(&self) -> Result<Vec<Decision>, Error> {
        let kept = self.core.store.decisions().await?;
        Ok(stranded::among(kept.known, |destination| self.settles(destination) == Some(true)))
    }

    /// Whether an open route settles what the destination of this name holds prepared; `None` where none does, and one may
    /// that is not open yet.
    #[must_use]
    pub fn settles(&self, destination: &str) -> Option<bool> {
        stranded::settles(&self.lanes, destination)
    }

    /// Takes no more work, lets what is being sent finish, ends the adapters, and gives back what is not settled by
    /// then without charging an attempt. Takes at most `deadline` and about two seconds. The box stays open. A second
    /// call waits for the first and gives its report.
    ///
    /// # Cancel
    /// If dropped, nothing more is leased; call it again to go on.
    pub async fn shutdown(&self, deadline: Duration) -> DrainReport {
        let mut drained = self.drained.lock().await;
        if let Some(report) = &*drained {
            return report.clone();
        }
        let report = drain(&self.core, &self.lanes, deadline).await;
        tracing::info!(completed = report.completed, released = report.released, "drained");
        *drained = Some(report.clone());
        report
    }
}

impl Drop for Runtime {
    fn drop(&mut self) {
        self.core.advance(Phase::Closed);
        self.core.tasks.abort_all();
    }
}
