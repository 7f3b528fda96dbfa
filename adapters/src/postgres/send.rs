//! Executes statements for messages.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use pillarbox_runtime::adapter::{
    BatchSender, ErrorClass, Outgoing, Reconciled, SendError, Transport, TransportInfo,
};
use tokio::time::timeout;
use tokio_postgres::types::Type;

use super::info;
use super::pool::Pool;
use super::refusal::{Refusal, too_late};
use super::session::Row;
use super::settings::PostgresSettings;
use crate::on_thread::on_thread;
use crate::parcel::Parcel;

/// Executes a statement for each message.
pub(super) struct PostgresSender {
    settings: PostgresSettings,
    types: Vec<Type>,
    pool: Arc<Pool>,
}

impl PostgresSender {
    /// A sender that is connected, to a server that has the ledger and takes the statement.
    ///
    /// # Errors
    /// Temporary: a secret cannot be read, the server does not answer, refuses us, or is not set up for it.
    pub(super) async fn open(settings: PostgresSettings) -> Result<Self, SendError> {
        let read = settings.clone();
        let pool = on_thread(move || Pool::new(read)).await?;
        let lent = pool.lend().await?;
        let types = lent.session.statement(&settings).await?.params().to_vec();
        lent.give_back();
        Ok(Self { settings, types, pool })
    }

    /// Executes the statement for each message, all in one transaction where the server takes them all; else each in
    /// one of its own.
    pub(super) async fn deliver(&self, parcels: &[Parcel<'_>]) -> Vec<Result<(), SendError>> {
        let rows: Vec<Result<Row, SendError>> =
            parcels.iter().map(|parcel| row(&self.settings, &self.types, parcel)).collect();
        let good: Vec<&Row> = rows.iter().filter_map(|row| row.as_ref().ok()).collect();
        let mut outcomes = self.attempt_all(&good).await.into_iter();
        let missing = || Err(SendError::temporary("the batch has no outcome for this message"));
        rows.into_iter().map(|row| row.and_then(|_sent| outcomes.next().unwrap_or_else(missing))).collect()
    }

    /// Asks the ledger for a message.
    ///
    /// # Errors
    /// Temporary: it did not say.
    pub(super) async fn ask(&self, send_key: &str) -> Result<Reconciled, SendError> {
        let (address, span) = (&self.settings.address, self.settings.timeout);
        let lent = self.pool.lend().await?;
        let Ok(told) = timeout(span, lent.session.has(send_key)).await else {
            return Err(too_late(address, span));
        };
        let told = told.map_err(|error| {
            SendError::temporary(format!("{address}: the ledger does not say what it has")).caused_by(error)
        })?;
        lent.give_back();
        Ok(match told {
            Some(true) => Reconciled::Landed,
            // Whoever was about to record it has ended.
            Some(false) => Reconciled::NotLanded,
            None => Reconciled::Unknown,
        })
    }

    /// One outcome for each row.
    async fn attempt_all(&self, rows: &[&Row]) -> Vec<Result<(), SendError>> {
        if rows.is_empty() {
            return Vec::new();
        }
        let refusal = match self.attempt(rows).await {
            Ok(()) => return rows.iter().map(|_| Ok(())).collect(),
            Err(refusal) => refusal,
        };
        if rows.len() == 1 || !refusal.is_one_messages {
            return rows.iter().map(|_| Err(same(&refusal.error))).collect();
        }
        let mut outcomes = Vec::with_capacity(rows.len());
        for row in rows {
            match self.attempt(&[row]).await {
                Ok(()) => outcomes.push(Ok(())),
                Err(refusal) if refusal.is_one_messages => outcomes.push(Err(refusal.error)),
                Err(refusal) => {
                    // Nobody waits for every one of them what one has waited for.
                    let left = rows.len() - outcomes.len();
                    outcomes.extend((0..left).map(|_| Err(same(&refusal.error))));
                    break;
                }
            }
        }
        outcomes
    }

    async fn attempt(&self, rows: &[&Row]) -> Result<(), Refusal> {
        let address = &self.settings.address;
        let lent = self.pool.lend().await.map_err(Refusal::of_all)?;
        let statement = lent.session.statement(&self.settings).await.map_err(Refusal::of_all)?;
        let work = async {
            let done = lent.session.transact(statement, rows).await;
            // Where the server has refused something, the session is as good as new after this.
            let failed = done.as_ref().err().is_some_and(|error| error.as_db_error().is_some());
            let reusable = if failed { lent.session.roll_back().await.is_ok() } else { done.is_ok() };
            (done, reusable)
        };
        let Ok((done, reusable)) = timeout(self.settings.timeout, work).await else {
            return Err(Refusal::of_all(too_late(address, self.settings.timeout)));
        };
        if reusable {
            lent.give_back();
        }
        done.map_err(|error| Refusal::of(address, error))
    }
}

/// A message as the statement wants it, whose parameters have these types.
///
/// # Errors
/// Permanent: it cannot be made one.
pub(super) fn row(
    settings: &PostgresSettings,
    types: &[Type],
    parcel: &Parcel<'_>,
) -> Result<Row, SendError> {
    let (length, most) = (parcel.body.len(), settings.body_bytes_max);
    if length > most {
        return Err(SendError::permanent(format!(
            "the message's body has {length} bytes, more than {most} (setting body_bytes_max)"
        )));
    }
    let values = settings.parameters.iter().zip(types);
    let values = values.map(|(parameter, wanted)| parameter.of(parcel, wanted));
    Ok(Row { send_key: parcel.send_key.to_owned(), values: values.collect::<Result<_, _>>()? })
}

/// The same failure for another message.
fn same(error: &SendError) -> SendError {
    let chain = error.to_failure().chain;
    let text = chain.first().cloned().unwrap_or_default();
    let again = match error.class() {
        ErrorClass::Permanent => SendError::permanent(text),
        _ => SendError::temporary(text),
    };
    if chain.len() > 1 { again.caused_by(chain[1..].join(": ")) } else { again }
}

impl fmt::Debug for PostgresSender {
    /// Without the pool, which knows the password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PostgresSender").field("settings", &self.settings).finish_non_exhaustive()
    }
}

impl Transport for PostgresSender {
    fn describe(&self) -> TransportInfo {
        info(self.settings.body_bytes_max)
    }
}

#[async_trait]
impl BatchSender for PostgresSender {
    fn messages_max(&self) -> usize {
        self.settings.batch_max
    }

    async fn send_batch(&self, messages: &[Outgoing]) -> Vec<Result<(), SendError>> {
        let parcels: Vec<Parcel<'_>> = messages.iter().map(Parcel::from).collect();
        self.deliver(&parcels).await
    }

    async fn reconcile(&self, message: &Outgoing) -> Result<Reconciled, SendError> {
        self.ask(message.send_key()).await
    }
}
