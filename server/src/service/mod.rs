//! What can be asked of a box, in the API's own words: the one place where requests become batches and queries.
//! The HTTP API serves it, and the command line uses it directly where no server runs.

mod submit;

#[cfg(test)]
pub(crate) mod tests;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use futures_util::stream::{self, Stream};
use pillarbox_store::{
    Answered, Batch, Decision, DeliveryId, DeliveryState, DoubtVerdict, Filter, IdSource, MessageId,
    OpResult, PortName, Refusal, Store,
};

use crate::problem::Problem;
use crate::wire::{
    DeliveryPage, DeliveryView, Health, MessageView, PortList, PortView, RouteView, StrandedList,
    StrandedView,
};

pub use submit::Submission;
pub(crate) use submit::read_message_id;

/// The most deliveries of one page.
pub const PAGE_MAX: usize = 1_000;
/// Deliveries on a page where nobody says how many.
pub const PAGE_DEFAULT: usize = 100;

/// Tells how the routes of a running server fare.
pub trait RouteSource: fmt::Debug + Send + Sync + 'static {
    /// Every port's routes.
    fn routes(&self) -> Vec<(PortName, Vec<RouteView>)>;

    /// Whether one that is open settles what the destination of this name holds prepared; `None` where none does, and one
    /// may that is not open yet.
    fn settles(&self, destination: &str) -> Option<bool>;
}

/// What can be asked of a box. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Service {
    store: Arc<dyn Store>,
    ids: IdSource,
    body_bytes_max: u64,
    routes: Option<Arc<dyn RouteSource>>,
    draining: Arc<AtomicBool>,
    folder: Option<Arc<str>>,
}

impl Service {
    /// What can be asked of `store`, with bodies of at most `body_bytes_max` bytes.
    #[must_use]
    pub fn new(store: Arc<dyn Store>, ids: IdSource, body_bytes_max: u64) -> Self {
        Self { store, ids, body_bytes_max, routes: None, draining: Arc::default(), folder: None }
    }

    /// Adds what a running server knows of its routes.
    #[must_use]
    pub fn with_routes(mut self, routes: Arc<dyn RouteSource>) -> Self {
        self.routes = Some(routes);
        self
    }

    /// Adds what tells the box's data folder from others.
    #[must_use]
    pub fn with_folder(mut self, mark: Option<String>) -> Self {
        self.folder = mark.map(Arc::from);
        self
    }

    /// The box below.
    #[must_use]
    pub fn store(&self) -> &Arc<dyn Store> {
        &self.store
    }

    /// Takes no more messages from now on, for all clones.
    pub fn drain(&self) {
        self.draining.store(true, Ordering::Release);
    }

    /// Refuses where messages are no longer taken.
    ///
    /// # Errors
    /// The server is stopping, or the box has failed.
    pub fn check_open(&self) -> Result<(), Problem> {
        if let Some(error) = self.store.failed() {
            return Err(Problem::of_store(&error));
        }
        if self.draining.load(Ordering::Acquire) {
            return Err(Problem::draining());
        }
        Ok(())
    }

    /// The port of this name, where messages may be submitted to it.
    ///
    /// # Errors
    /// There is none; the known ones are named.
    pub fn port(&self, name: &str) -> Result<PortName, Problem> {
        match self.store.ports().into_iter().find(|port| port.name.as_str() == name) {
            Some(port) if port.defined => Ok(port.name),
            Some(_) => {
                let detail =
                    format!("the port '{name}' was retired and takes no more messages; configure it again");
                Err(Problem::new(404, "retired-port", "The port is retired", detail).with("port", name))
            }
            None => Err(self.no_such_port(name)),
        }
    }

    fn no_such_port(&self, name: &str) -> Problem {
        let known: Vec<String> = self.store.ports().into_iter().map(|port| port.name.to_string()).collect();
        let which = if known.is_empty() { "there are none".to_owned() } else { known.join(", ") };
        let detail = format!(
            "there is no port '{}'; the known ports: {which}. Add a [[port]] to the configuration and restart",
            name.escape_debug()
        );
        Problem::new(404, "unknown-port", "There is no such port", detail)
            .with("port", name)
            .with("known", known)
    }

    /// A message with its deliveries and their history.
    ///
    /// # Errors
    /// It is not known, or cannot be read.
    pub async fn message(&self, id: MessageId) -> Result<MessageView, Problem> {
        let info = self.store.message(id).await?.ok_or_else(|| no_such_message(id))?;
        Ok(MessageView::from(&info))
    }

    /// A message's body: its length and its bytes, a fragment at a time.
    ///
    /// # Errors
    /// The message is not known, its body is gone, or it cannot be read. The stream fails where that happens
    /// later.
    pub async fn body(
        &self,
        id: MessageId,
    ) -> Result<(u64, impl Stream<Item = Result<Bytes, Problem>> + Send + use<>), Problem> {
        let info = self.store.message(id).await?.ok_or_else(|| no_such_message(id))?;
        let gone = move || {
            let detail =
                format!("every delivery of the message {id} has ended and its body is no longer kept");
            Problem::new(410, "body-gone", "The body is gone", detail)
        };
        if info.headers.is_none() {
            return Err(gone());
        }
        let (store, len) = (self.store.clone(), info.body_len);
        let chunks = stream::try_unfold((0_u32, len), move |(fragment, left)| {
            let store = store.clone();
            async move {
                if left == 0 {
                    return Ok(None);
                }
                let bytes = store.body(id, fragment).await?.ok_or_else(gone)?;
                let left = left.saturating_sub(bytes.len() as u64);
                Ok::<_, Problem>(Some((bytes, (fragment + 1, left))))
            }
        });
        Ok((len, chunks))
    }

    /// A page of deliveries.
    ///
    /// # Errors
    /// The port is not known, or they cannot be read.
    pub async fn deliveries(&self, filter: &Filter) -> Result<DeliveryPage, Problem> {
        if let Some(port) = &filter.port
            && !self.store.ports().iter().any(|known| known.name == *port)
        {
            return Err(self.no_such_port(port.as_str()));
        }
        let limit = if filter.limit == 0 { PAGE_DEFAULT } else { filter.limit.min(PAGE_MAX) };
        let list = self.store.deliveries(&Filter { limit, ..filter.clone() }).await?;
        let next = list.last().filter(|_| list.len() == limit).map(|last| last.id);
        Ok(DeliveryPage { deliveries: list.iter().map(DeliveryView::from).collect(), next })
    }

    /// A delivery with its history.
    ///
    /// # Errors
    /// It is not known, or cannot be read.
    pub async fn delivery(&self, id: DeliveryId) -> Result<DeliveryView, Problem> {
        let detail = self.store.delivery(id).await?.ok_or_else(|| no_such_delivery(id))?;
        Ok(DeliveryView::from(&detail))
    }

    /// What the destination answered to a delivery.
    ///
    /// # Errors
    /// The delivery is not known, no answer is kept, or it cannot be read.
    pub async fn answer(&self, id: DeliveryId) -> Result<Answered, Problem> {
        if let Some(answered) = self.store.answer(id).await? {
            return Ok(answered);
        }
        let state = self.store.delivery(id).await?.ok_or_else(|| no_such_delivery(id))?.info.state;
        let why = match state {
            DeliveryState::Done => "it ended without an answer, or the answer is no longer kept",
            DeliveryState::Terminated => "it was ended unsent",
            DeliveryState::Suspended => "it is suspended; resume it, then ask again",
            _ => "it has not ended yet; ask again later",
        };
        let detail = format!("there is no answer to the delivery {id}: {why}");
        Err(Problem::new(404, "no-answer", "There is no answer", detail).with("state", state.as_str()))
    }

    /// Makes a suspended delivery ready again, or a waiting one due now.
    ///
    /// # Errors
    /// It is not known, or its state does not allow it.
    pub async fn resume(&self, id: DeliveryId) -> Result<DeliveryView, Problem> {
        self.apply_to(id, Batch::new(self.ids.batch()).resume(id), "resumed").await
    }

    /// Ends a delivery without sending it.
    ///
    /// # Errors
    /// It is not known, or its state does not allow it.
    pub async fn terminate(&self, id: DeliveryId, reason: &str) -> Result<DeliveryView, Problem> {
        self.apply_to(id, Batch::new(self.ids.batch()).terminate(id, reason), "terminated").await
    }

    /// Settles what became of a delivery in doubt.
    ///
    /// # Errors
    /// It is not known, is not in doubt, or is being sent.
    pub async fn settle_doubt(&self, id: DeliveryId, verdict: DoubtVerdict) -> Result<DeliveryView, Problem> {
        self.apply_to(id, Batch::new(self.ids.batch()).settle_doubt(id, verdict), "settled").await
    }

    async fn apply_to(&self, id: DeliveryId, batch: Batch, verb: &str) -> Result<DeliveryView, Problem> {
        let committed = self.store.commit(&batch).await?;
        if let Some(OpResult::Refused(refusal)) = committed.results().first() {
            return Err(match refusal {
                Refusal::NoSuchDelivery => no_such_delivery(id),
                Refusal::WrongState { state } => wrong_state(id, *state, verb),
                Refusal::NotInDoubt => {
                    let detail = format!("the delivery {id} is not in doubt: what became of it is known");
                    Problem::new(409, refusal.as_str(), "The delivery is not in doubt", detail)
                }
                _ => Problem::new(409, refusal.as_str(), "The box refused this", refusal.to_string()),
            });
        }
        self.delivery(id).await
    }

    /// Every port, with what was left prepared at destinations of ports that were.
    pub async fn ports(&self) -> PortList {
        PortList { ports: self.port_views(), stranded: self.stranded().await }
    }

    /// Forgets that a transaction is to be committed, since somebody has seen to that at its destination. Gives what is
    /// still left.
    ///
    /// # Errors
    /// None of this name is left without a route that settles it, or no server knows the routes.
    pub async fn forget(&self, transaction: &str) -> Result<StrandedList, Problem> {
        let no =
            |detail: String| Problem::new(409, "not-stranded", "It is not known to be left behind", detail);
        let kept = self.store.decisions().await?.known;
        let name = |decision: &Decision| StrandedView::new(self.store.id(), decision).transaction;
        let Some(decision) = kept.iter().find(|decision| name(decision) == transaction) else {
            return Err(no(format!("no transaction '{}' is left", transaction.escape_debug())));
        };
        match self.routes.as_ref().map(|source| source.settles(&decision.destination)) {
            None => Err(no("only a running server knows what no route settles; start it first".to_owned())),
            Some(None) => Err(no("a route that is not open yet may settle it; see why it is not".to_owned())),
            Some(Some(true)) => Err(no(format!("a route to {} settles it", decision.destination))),
            Some(Some(false)) => {
                self.store.commit(&Batch::new(self.ids.batch()).forget(decision.transaction)).await?;
                Ok(StrandedList { stranded: self.stranded().await })
            }
        }
    }

    /// A box that has stopped does not say what it decided: that is shown once it is opened again.
    async fn stranded(&self) -> Vec<StrandedView> {
        let kept = self.store.decisions().await.unwrap_or_default().known;
        let settles = |destination: &str| {
            self.routes.as_ref().and_then(|source| source.settles(destination)) == Some(true)
        };
        let left = kept.iter().filter(|decision| !settles(&decision.destination));
        left.map(|decision| StrandedView::new(self.store.id(), decision)).collect()
    }

    fn port_views(&self) -> Vec<PortView> {
        let mut routes = self.routes.as_ref().map(|source| source.routes()).unwrap_or_default();
        let mut view = |info: &pillarbox_store::PortInfo| {
            let mut view = PortView::from(info);
            if let Some(place) = routes.iter().position(|(name, _)| *name == info.name) {
                view.routes = Some(routes.swap_remove(place).1);
            }
            view
        };
        self.store.ports().iter().map(&mut view).collect()
    }

    /// Holds back a port's deliveries, or sends them again.
    ///
    /// # Errors
    /// The port is not known, or the box cannot commit.
    pub async fn pause(&self, name: &str, paused: bool) -> Result<PortView, Problem> {
        let port = self.store.ports().into_iter().find(|port| port.name.as_str() == name);
        let port = port.ok_or_else(|| self.no_such_port(name))?.name;
        let batch = Batch::new(self.ids.batch());
        let batch = if paused { batch.pause_port(&port) } else { batch.unpause_port(&port) };
        let committed = self.store.commit(&batch).await?;
        if let Some(OpResult::Refused(refusal)) = committed.results().first() {
            return Err(match refusal {
                Refusal::NoSuchPort => self.no_such_port(name),
                _ => Problem::new(409, refusal.as_str(), "The box refused this", refusal.to_string()),
            });
        }
        let view = self.port_views().into_iter().find(|view| view.name == port);
        view.ok_or_else(|| self.no_such_port(name))
    }

    /// How the server fares.
    #[must_use]
    pub fn health(&self) -> Health {
        let failed = self.store.failed();
        let status = match &failed {
            Some(_) => "failed",
            None if self.draining.load(Ordering::Acquire) => "draining",
            None => "ok",
        };
        Health {
            status: status.to_owned(),
            service: "pillarbox".to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            box_id: self.store.id().to_string(),
            engine: self.store.stats().engine.to_owned(),
            body_bytes_max: self.body_bytes_max,
            folder: self.folder.as_deref().map(str::to_owned),
            reason: failed.map(|error| crate::problem::chain(&error)),
        }
    }
}

fn no_such_message(id: MessageId) -> Problem {
    let detail =
        format!("no message {id} is known; it was never submitted here, or ended before the retention");
    Problem::new(404, "no-such-message", "There is no such message", detail)
}

fn wrong_state(id: DeliveryId, state: DeliveryState, verb: &str) -> Problem {
    let mut detail = format!("the delivery {id} is {} and cannot be {verb}", state.as_str());
    match state {
        DeliveryState::InDoubt => {
            let verdicts = DoubtVerdict::ALL.map(DoubtVerdict::as_str).join(", ");
            detail += &format!(
                ": nobody knows whether it was sent. See whether the destination has it, then settle its doubt \
                 as one of {verdicts}"
            );
        }
        DeliveryState::Leased => detail += ": it is being sent right now",
        _ => {}
    }
    Problem::new(409, "wrong-state", "The delivery's state does not allow this", detail)
        .with("delivery_id", id.number())
        .with("state", state.as_str())
}

fn no_such_delivery(id: DeliveryId) -> Problem {
    let detail = format!("no delivery {id} is known; it never was, or ended before the retention");
    Problem::new(404, "no-such-delivery", "There is no such delivery", detail)
}
