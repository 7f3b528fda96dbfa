//! What the worker process does: open the box on the mount and drive it with several clients until it fails.

use std::path::PathBuf;
use std::sync::Arc;

use pillarbox_store::engine::hooked::Hooked;
use pillarbox_store::engine::journal::{Journal, JournalConfig};
use pillarbox_store::engine::sled::Sled;
use pillarbox_store::{
    Batch, BoxConfig, Durability, Error, ErrorKind, MessageBox, PortName, PortSpec, Retention, Store,
};
use rand::SeedableRng;
use rand::rngs::StdRng;

use super::client::{Client, Teller};
use super::numbers;
use super::plan::Engine;
use super::record::{Line, PORTS};

/// A worker's orders.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Work {
    /// The box's folder.
    pub folder: PathBuf,
    /// Its engine.
    pub engine: Engine,
    /// How long a journal's segments are.
    pub segment_bytes: u64,
    /// How many traces of finished deliveries are kept.
    pub traces: u64,
    /// What the clients draw from.
    pub seed: u64,
    /// The round, part of every id.
    pub round: u32,
    /// How many clients there are; with none, the box is only opened.
    pub clients: u32,
    /// Whether flushes are asked for. Without them everything must be lost: that proves the harness.
    pub is_flushed: bool,
}

impl Work {
    /// As arguments of a program, for [`Work::parse`].
    #[must_use]
    pub fn to_args(&self) -> Vec<String> {
        let Self { folder, engine, segment_bytes, traces, seed, round, clients, is_flushed } = self;
        let numbers =
            [*segment_bytes, *traces, *seed, u64::from(*round), u64::from(*clients), u64::from(*is_flushed)];
        let mut args = vec![folder.display().to_string(), engine.as_str().to_owned()];
        args.extend(numbers.iter().map(u64::to_string));
        args
    }

    /// The orders in a program's arguments.
    #[must_use]
    pub fn parse(args: &[String]) -> Option<Self> {
        let [folder, engine, numbers @ ..] = args else { return None };
        let numbers: Vec<u64> = numbers.iter().map(|text| text.parse().ok()).collect::<Option<_>>()?;
        let [segment_bytes, traces, seed, round, clients, is_flushed] = numbers.as_slice() else {
            return None;
        };
        Some(Self {
            folder: folder.into(),
            engine: Engine::parse(engine)?,
            segment_bytes: *segment_bytes,
            traces: *traces,
            seed: *seed,
            round: u32::try_from(*round).ok()?,
            clients: u32::try_from(*clients).ok()?,
            is_flushed: *is_flushed == 1,
        })
    }

    fn config(&self) -> BoxConfig {
        BoxConfig {
            engine: self.engine.kind(),
            segment_bytes: self.segment_bytes,
            retention: Retention { count: self.traces, ..Retention::default() },
            ..BoxConfig::new(&self.folder)
        }
    }

    /// Opens the box, as everybody does.
    pub(super) fn open(&self) -> Result<MessageBox, Error> {
        MessageBox::open(self.config())
    }

    /// Opens it over an engine that flushes nothing. Its segments are long: each is flushed as a whole when the next one
    /// begins, and a cut soon after would find nothing amiss.
    fn open_unflushed(&self) -> Result<MessageBox, Error> {
        let folder = &self.folder;
        let engine: Arc<dyn pillarbox_store::engine::Engine> = match self.engine {
            Engine::Journal => {
                Arc::new(Journal::open_folder(&folder.join("journal"), JournalConfig::default())?)
            }
            Engine::Sled => Arc::new(Sled::open_folder(&folder.join("sled"))?),
        };
        let unflushed = Hooked::new(engine).before_apply(|_writes, _asked_for| Ok(Durability::Written));
        MessageBox::with_engine(Arc::new(unflushed), self.config())
    }
}

/// The ports' names.
pub(super) fn port_names() -> Result<Vec<PortName>, Error> {
    PORTS.iter().map(|name| PortName::new(name)).collect()
}

/// Does it, telling on the standard output, until something fails: the power, at the latest.
///
/// # Errors
/// What stopped it.
pub fn work(work: &Work) -> Result<(), Error> {
    let teller = Teller::default();
    let outcome = drive(work, &teller);
    if let Err(error) = &outcome {
        let mut text = error.to_string();
        let mut cause = std::error::Error::source(error);
        while let Some(error) = cause {
            text = format!("{text}: {error}");
            cause = error.source();
        }
        teller.tell(&Line::Failed(text))?;
    }
    outcome
}

fn drive(work: &Work, teller: &Teller) -> Result<(), Error> {
    teller.tell(&Line::Begin)?;
    let store = if work.is_flushed { work.open()? } else { work.open_unflushed()? };
    teller.tell(&Line::Opened)?;
    if work.clients == 0 {
        return Ok(());
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .map_err(|error| Error::new(ErrorKind::Unavailable, "start the clients").caused_by(error))?;
    runtime.block_on(async {
        define_ports(&store, work.round).await?;
        teller.tell(&Line::Ports)?;
        let mut clients = Vec::new();
        for client in 0..work.clients {
            let random = StdRng::seed_from_u64(work.seed ^ u64::from(work.round) << 8 ^ u64::from(client));
            let mut new = Client::new(store.clone(), teller, port_names()?, random);
            (new.round, new.client, new.clients) = (work.round, client + 1, work.clients);
            // The last one fills the disk, so that segments roll.
            new.messages_max = if client + 1 == work.clients { 40 } else { 6 };
            new.take_over().await?;
            clients.push(new);
        }
        Err(first_to_end(clients.into_iter().map(|client| Box::pin(client.run())).collect()).await)
    })
}

/// Polls all of them until one ends.
async fn first_to_end<F: Future<Output = Error> + Unpin>(mut clients: Vec<F>) -> Error {
    std::future::poll_fn(move |context| {
        for client in &mut clients {
            if let std::task::Poll::Ready(error) = std::pin::Pin::new(client).poll(context) {
                return std::task::Poll::Ready(error);
            }
        }
        std::task::Poll::Pending
    })
    .await
}

async fn define_ports(store: &MessageBox, round: u32) -> Result<(), Error> {
    let mut batch = Batch::new(numbers::batch_id(numbers::number(round, 0, 0)));
    for (place, port) in port_names()?.iter().enumerate() {
        batch = batch.define_port(port, PortSpec { backup: place != 1 });
    }
    store.commit(&batch).await.map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn orders_are_read_as_they_were_given() {
        let work = Work {
            folder: "a/b".into(),
            engine: Engine::Sled,
            segment_bytes: 65_536,
            traces: 300,
            seed: u64::MAX,
            round: 7,
            clients: 4,
            is_flushed: false,
        };
        assert_eq!(Work::parse(&work.to_args()), Some(work));
        assert_eq!(Work::parse(&["a".to_owned()]), None);
    }
}
