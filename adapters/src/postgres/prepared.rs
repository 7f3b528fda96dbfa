//! What a server holds prepared, and the sessions that may still prepare something.
//!
//! A transaction is prepared under the name `pillarbox:BOX/NUMBER`. Until then its session says whose it is by
//! `application_name`, which the server takes back in the same step in which the transaction is prepared: at every moment
//! it can be seen by one of the two. 73 bytes are too long for that, so it is `pillarbox:` and the two numbers in base 64.

use std::time::Duration;

use pillarbox_runtime::adapter::{SendError, TransactionId};
use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, Error};

use crate::address::Address;

/// How the names of transactions begin, and of the sessions that may prepare one.
const OURS: &str = "pillarbox:";
/// How long it is waited for a session to end before it is looked at again.
const LOOK: Duration = Duration::from_millis(10);

/// How a prepared transaction is ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    Commit,
    RollBack,
}

/// What became of that.
#[derive(Debug)]
pub(super) enum Ended {
    /// It has ended.
    Done,
    /// There is none of this name.
    Missing,
    /// It is another role's.
    Forbidden(Error),
}

/// What a server holds prepared, by one of its sessions.
#[derive(Clone, Copy)]
pub(super) struct Prepared<'a>(pub(super) &'a Client);

impl End {
    /// The statement that does so.
    pub(super) fn statement(self, id: &TransactionId) -> String {
        let verb = if self == Self::Commit { "COMMIT" } else { "ROLLBACK" };
        format!("{verb} PREPARED '{OURS}{id}'")
    }
}

impl Prepared<'_> {
    /// Begins a transaction that will be prepared under this name.
    ///
    /// # Errors
    /// It has not begun, or can only be undone.
    pub(super) async fn begin(self, id: &TransactionId) -> Result<(), Error> {
        let name = session_name(id);
        self.0.batch_execute(&format!("BEGIN; SELECT set_config('application_name', {name}, true)")).await
    }

    /// Prepares it.
    ///
    /// # Errors
    /// It can only be undone. Where the connection broke, it may be prepared.
    pub(super) async fn prepare(self, id: &TransactionId) -> Result<(), Error> {
        self.0.batch_execute(&format!("PREPARE TRANSACTION '{OURS}{id}'")).await
    }

    /// Commits it, or rolls it back.
    ///
    /// # Errors
    /// It may have ended, or not.
    pub(super) async fn end(self, end: End, id: &TransactionId) -> Result<Ended, Error> {
        match self.0.batch_execute(&end.statement(id)).await {
            Ok(()) => Ok(Ended::Done),
            Err(error) if error.code() == Some(&SqlState::UNDEFINED_OBJECT) => Ok(Ended::Missing),
            Err(error) if error.code() == Some(&SqlState::INSUFFICIENT_PRIVILEGE) => {
                Ok(Ended::Forbidden(error))
            }
            Err(error) => Err(error),
        }
    }

    /// Ends the session that may still prepare it, if there is one: one that nobody waits for any more, or of a process
    /// that is gone. Returns when it has ended.
    ///
    /// # Errors
    /// It may still be there.
    pub(super) async fn stop(self, id: &TransactionId) -> Result<(), Error> {
        let stop = format!(
            "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity \
             WHERE application_name = {} AND datname = current_database() AND usename = session_user",
            session_name(id)
        );
        while self.0.query_one(&stop, &[]).await?.try_get::<_, i64>(0)? > 0 {
            tokio::time::sleep(LOOK).await;
        }
        Ok(())
    }

    /// What is prepared in this database, or may still be, of transactions whose names begin so.
    ///
    /// # Errors
    /// It is not known.
    pub(super) async fn list(self, prefix: &str) -> Result<Vec<TransactionId>, Error> {
        // In this order: what is being prepared meanwhile is missed by neither.
        let sessions = format!(
            "SELECT left(id, 32)::uuid || '/' || right(id, 32)::uuid FROM (SELECT CASE \
             WHEN application_name ~ '^{OURS}[A-Za-z0-9+/]{{43}}=$' \
             THEN encode(decode(substr(application_name, {}), 'base64'), 'hex') END AS id \
             FROM pg_stat_activity WHERE datname = current_database() AND usename = session_user) AS sessions \
             WHERE id IS NOT NULL",
            OURS.len() + 1
        );
        let sessions = self.0.query(&sessions, &[]).await?;
        let prepared = format!(
            "SELECT substr(gid, {}) FROM pg_prepared_xacts \
             WHERE database = current_database() AND left(gid, length($1::text)) = $1::text",
            OURS.len() + 1
        );
        let prepared = self.0.query(&prepared, &[&format!("{OURS}{prefix}")]).await?;
        let names: Vec<String> =
            sessions.iter().chain(&prepared).map(|row| row.try_get(0)).collect::<Result<_, _>>()?;
        let begun = names.iter().filter(|name| name.starts_with(prefix));
        Ok(begun.filter_map(|name| TransactionId::parse(name)).collect())
    }

    /// The server and its database, under whatever address: a copy that took its place is the same.
    ///
    /// # Errors
    /// It does not say.
    pub(super) async fn holder(self) -> Result<String, Error> {
        let name =
            "SELECT 'postgres:' || system_identifier || '/' || current_database() FROM pg_control_system()";
        self.0.query_one(name, &[]).await?.try_get(0)
    }
}

/// What a session is named that is about to prepare it, as an expression.
fn session_name(id: &TransactionId) -> String {
    format!("'{OURS}' || encode(decode(translate('{id}', '-/', ''), 'hex'), 'base64')")
}

/// Looks whether the server holds transactions prepared, and as many at once as we may have.
pub(super) async fn check(client: &Client, address: &Address, wanted: usize) -> Result<(), SendError> {
    let asked = "SELECT current_setting('max_prepared_transactions')::bigint, \
                 current_setting('transaction_read_only')::bool";
    let told = client.query_one(asked, &[]).await;
    let told = told.and_then(|row| Ok((row.try_get::<_, i64>(0)?, row.try_get::<_, bool>(1)?)));
    let (most, is_read_only) = told.map_err(|error| {
        SendError::temporary(format!("{address}: the server does not tell what it is set up for"))
            .caused_by(error)
    })?;
    if usize::try_from(most).is_ok_and(|most| most < wanted) {
        return Err(SendError::temporary(format!(
            "{address}: two_phase needs prepared transactions, and max_prepared_transactions is {most} there; set it to \
             {wanted} (connections_max) for each route that sends there so, or more, and restart the server"
        )));
    }
    if is_read_only {
        return Err(SendError::temporary(format!("{address}: the database is read-only, a standby say")));
    }
    Ok(())
}
