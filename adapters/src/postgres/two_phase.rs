//! Executes statements in transactions that end as the box's record of the deliveries does: prepared, and committed once
//! that is decided.

use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use pillarbox_runtime::adapter::{
    Outgoing, SendError, TransactionId, TransactionalSender, Transport, TransportInfo,
};
use tokio::time::timeout;
use tokio_postgres::Error;

use super::pool::{Lent, Pool};
use super::prepared::{End, Ended};
use super::refusal::{Refusal, too_late};
use super::send::row;
use super::session::Row;
use super::settings::PostgresSettings;
use super::{info, two_phase_info};
use crate::on_thread::on_thread;
use crate::parcel::Parcel;
use crate::within::within;

/// Sends in transactions that the server holds prepared.
pub(super) struct TwoPhase {
    settings: PostgresSettings,
    destination: String,
    pool: Arc<Pool>,
    begun: Mutex<BTreeMap<TransactionId, Begun>>,
    /// Steps until a test's crash.
    #[cfg(test)]
    pub(super) steps_left: Arc<std::sync::atomic::AtomicUsize>,
}

/// What is known of a transaction that was begun here and has not ended. Of one of which nothing is known, the server may
/// have something.
enum Begun {
    /// The server has nothing of it.
    Nothing,
    /// It is prepared. Its session is kept for its end, so that no more are held prepared than there are sessions.
    Prepared(Box<Lent>),
}

impl TwoPhase {
    /// A sender that is connected, to a server that holds prepared transactions and takes the statement.
    ///
    /// # Errors
    /// Temporary: a secret cannot be read, the server does not answer, refuses us, or is not set up for it.
    pub(super) async fn open(settings: PostgresSettings) -> Result<Self, SendError> {
        let read = settings.clone();
        let pool = on_thread(move || Pool::new(read)).await?;
        let lent = pool.lend().await?;
        let (address, span) = (&settings.address, settings.connect_timeout);
        within(span, address, lent.session.try_statement(&settings)).await?;
        let destination = bounded(&settings, lent.session.prepared().holder()).await?;
        lent.give_back();
        Ok(Self {
            settings,
            destination,
            pool,
            begun: Mutex::default(),
            #[cfg(test)]
            steps_left: Arc::new(usize::MAX.into()),
        })
    }

    /// A place in which a test may crash.
    #[cfg(test)]
    fn step(&self) -> Result<(), SendError> {
        use std::sync::atomic::Ordering::SeqCst;
        let left = self.steps_left.load(SeqCst);
        if left == 0 {
            return Err(SendError::temporary("crashed"));
        }
        self.steps_left.store(left - 1, SeqCst);
        Ok(())
    }

    #[cfg(not(test))]
    #[expect(clippy::unused_self, clippy::unnecessary_wraps, reason = "a test crashes here")]
    const fn step(&self) -> Result<(), SendError> {
        Ok(())
    }

    fn begun(&self) -> MutexGuard<'_, BTreeMap<TransactionId, Begun>> {
        self.begun.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note(&self, id: &TransactionId, begun: Begun) {
        self.begun().insert(id.clone(), begun);
    }

    fn take(&self, id: &TransactionId) -> Option<Begun> {
        self.begun().remove(id)
    }

    /// Leaves the transaction prepared, or something that is no prepared transaction.
    pub(super) async fn write(&self, id: &TransactionId, parcels: &[Parcel<'_>]) -> Result<(), SendError> {
        self.note(id, Begun::Nothing);
        let lent = self.pool.lend().await?;
        let writing = self.write_by(lent, id, parcels);
        let (address, span) = (&self.settings.address, self.settings.timeout);
        timeout(span, writing).await.unwrap_or_else(|_elapsed| Err(too_late(address, span)))
    }

    async fn write_by(
        &self,
        lent: Lent,
        id: &TransactionId,
        parcels: &[Parcel<'_>],
    ) -> Result<(), SendError> {
        let statement = lent.session.statement(&self.settings).await?;
        let types = statement.params();
        let rows = parcels.iter().map(|parcel| row(&self.settings, types, parcel));
        let rows = match rows.collect::<Result<Vec<Row>, SendError>>() {
            Ok(rows) => rows,
            Err(error) => {
                lent.give_back();
                return Err(error);
            }
        };
        let rows: Vec<&Row> = rows.iter().collect();
        // From here on the server may have something of it.
        self.take(id);
        let refused = |error| Refusal::of(&self.settings.address, error).error;
        let prepared = lent.session.prepared();
        let executing = async {
            self.step()?;
            prepared.begin(id).await.map_err(refused)?;
            self.step()?;
            lent.session.execute(statement, &rows).await.map_err(refused)
        };
        if let Err(error) = executing.await {
            self.step()?;
            // Where the server has refused something, the session is as good as new after this.
            if lent.session.roll_back().await.is_ok() {
                lent.give_back();
                self.note(id, Begun::Nothing);
            }
            return Err(error);
        }
        self.step()?;
        prepared.prepare(id).await.map_err(refused)?;
        self.step()?;
        self.note(id, Begun::Prepared(Box::new(lent)));
        Ok(())
    }

    /// Makes the transaction seen. What an earlier attempt did is done.
    pub(super) async fn publish(&self, id: &TransactionId) -> Result<(), SendError> {
        self.step()?;
        let begun = self.take(id);
        let is_first = matches!(begun, Some(Begun::Prepared(_)));
        let ended = self.end(End::Commit, id, begun).await?;
        self.step()?;
        if is_first && ended == Known::Missing {
            let text = format!(
                "{}: it is prepared there no more, and not by us; look whether its messages are there",
                self.settings.address
            );
            return Err(SendError::permanent(text));
        }
        Ok(())
    }

    /// Leaves nothing of the transaction.
    pub(super) async fn discard(&self, id: &TransactionId) -> Result<(), SendError> {
        self.step()?;
        match self.take(id) {
            Some(Begun::Nothing) => Ok(()),
            begun => self.end(End::RollBack, id, begun).await.map(drop),
        }
    }

    /// Ends it, by the session that prepared it where that is still there.
    async fn end(&self, end: End, id: &TransactionId, begun: Option<Begun>) -> Result<Known, SendError> {
        let lent = match begun {
            Some(Begun::Prepared(lent)) if lent.session.is_open() => *lent,
            _ => {
                let lent = self.pool.lend_for_an_end().await?;
                if end == End::RollBack {
                    bounded(&self.settings, lent.session.prepared().stop(id)).await?;
                    self.step()?;
                }
                lent
            }
        };
        let ended = bounded(&self.settings, lent.session.prepared().end(end, id)).await?;
        lent.give_back();
        match ended {
            Ended::Done => Ok(Known::Done),
            Ended::Missing => Ok(Known::Missing),
            Ended::Forbidden(error) => Err(SendError::permanent(format!(
                "{}: it is another role's; as that, or as a superuser: {}",
                self.settings.address,
                end.statement(id)
            ))
            .caused_by(error)),
        }
    }

    /// The transactions of which something is there, those too of which nothing is prepared yet: they are rolled back.
    pub(super) async fn list(&self, prefix: &str) -> Result<Vec<TransactionId>, SendError> {
        self.step()?;
        let lent = self.pool.lend_for_an_end().await?;
        let listed = bounded(&self.settings, lent.session.prepared().list(prefix)).await?;
        lent.give_back();
        Ok(listed)
    }
}

/// What is known after an end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Known {
    /// We have ended it.
    Done,
    /// It was not there any more.
    Missing,
}

/// Waits for the server, for as long as the settings say.
async fn bounded<T>(
    settings: &PostgresSettings,
    work: impl Future<Output = Result<T, Error>>,
) -> Result<T, SendError> {
    let (address, span) = (&settings.address, settings.timeout);
    let Ok(done) = timeout(span, work).await else { return Err(too_late(address, span)) };
    done.map_err(|error| match error.as_db_error() {
        // Whatever it refuses here, it is no message's fault.
        Some(_) => SendError::temporary(format!("{address}: the server does not do it")).caused_by(error),
        None => Refusal::of(address, error).error,
    })
}

impl fmt::Debug for TwoPhase {
    /// Without the pool, which knows the password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TwoPhase").field("settings", &self.settings).finish_non_exhaustive()
    }
}

impl Transport for TwoPhase {
    fn describe(&self) -> TransportInfo {
        two_phase_info(info(self.settings.body_bytes_max))
    }
}

#[async_trait]
impl TransactionalSender for TwoPhase {
    fn messages_max(&self) -> usize {
        self.settings.batch_max
    }

    async fn prepare(&self, transaction: &TransactionId, messages: &[Outgoing]) -> Result<(), SendError> {
        let parcels: Vec<Parcel<'_>> = messages.iter().map(Parcel::from).collect();
        self.write(transaction, &parcels).await
    }

    async fn commit(&self, transaction: &TransactionId) -> Result<(), SendError> {
        self.publish(transaction).await
    }

    async fn roll_back(&self, transaction: &TransactionId) -> Result<(), SendError> {
        self.discard(transaction).await
    }

    fn destination(&self) -> String {
        self.destination.clone()
    }

    async fn prepared(&self, prefix: &str) -> Result<Vec<TransactionId>, SendError> {
        self.list(prefix).await
    }
}
