//! A connection with its statements, and a transaction on it.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::try_join_all;
use pillarbox_runtime::adapter::SendError;
use rustls::ClientConfig;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::OnceCell;
use tokio::task::JoinHandle;
use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, Config, Error, NoTls, Statement};

use super::parameter::Value;
use super::prepared::{self, Prepared};
use super::settings::PostgresSettings;
use crate::address::Address;
use crate::wire;

/// What asks a server whether it speaks TLS.
const TLS_REQUEST: [u8; 8] = [0, 0, 0, 8, 4, 210, 22, 47];

/// How long others may hold what the statement is about while it is only looked at.
const LOCK_WAIT: Duration = Duration::from_secs(1);

/// A message as the statement wants it.
#[derive(Debug)]
pub(super) struct Row {
    pub(super) send_key: String,
    pub(super) values: Vec<Value>,
}

/// A connection. Dropping it in the middle of a transaction undoes that.
pub(super) struct Session {
    client: Client,
    _driver: Driver,
    /// Records keys in the ledger; none in two phases.
    record: Option<Statement>,
    /// Prepared when it is needed: what is held prepared can be settled without it.
    statement: OnceCell<Statement>,
}

/// The task that moves a connection's bytes. Ends with the session.
struct Driver(JoinHandle<()>);

impl Drop for Driver {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Session {
    /// Connects, and checks what two phases need; or checks the ledger, and prepares the statement.
    ///
    /// # Errors
    /// Temporary: the server does not answer, refuses us, or is not set up for it.
    pub(super) async fn connect(
        settings: &PostgresSettings,
        login: &Config,
        tls: Option<&Arc<ClientConfig>>,
    ) -> Result<Self, SendError> {
        let address = &settings.address;
        let tcp = wire::tcp(address).await?;
        let (client, driver) = match tls {
            Some(config) => {
                let tcp = ask_for_tls(address, tcp).await?;
                log_in(address, wire::tls(address, tcp, Arc::clone(config)).await?, login).await?
            }
            None => log_in(address, tcp, login).await?,
        };
        let failed = |what: &str| {
            let text = format!("{address}: {what}");
            move |error: Error| SendError::temporary(text).caused_by(error)
        };
        set_up(&client, settings).await.map_err(failed("the session cannot be set up"))?;
        let record = match &settings.ledger {
            Some(ledger) => {
                check_ledger(&client, address, ledger).await?;
                let record = format!(
                    "INSERT INTO {ledger} (key) SELECT unnest($1::text[]) ON CONFLICT (key) DO NOTHING RETURNING key"
                );
                Some(client.prepare(&record).await.map_err(failed("the ledger cannot be written"))?)
            }
            None => {
                prepared::check(&client, address, settings.connections_max).await?;
                None
            }
        };
        let session = Self { client, _driver: driver, record, statement: OnceCell::new() };
        if !settings.is_two_phase() {
            session.statement(settings).await?;
        }
        Ok(session)
    }

    /// The statement, as the server has prepared it.
    ///
    /// # Errors
    /// Temporary: the server does not take it.
    pub(super) async fn statement(&self, settings: &PostgresSettings) -> Result<&Statement, SendError> {
        let prepare = async || taken(settings, self.client.prepare(&settings.statement).await);
        self.statement.get_or_try_init(prepare).await
    }

    /// Looks whether the server takes the statement. Where somebody holds what it is about, that is not known yet: it may be
    /// a transaction that is to be settled before anything is sent.
    ///
    /// # Errors
    /// Temporary: the server does not take it.
    pub(super) async fn try_statement(&self, settings: &PostgresSettings) -> Result<(), SendError> {
        let bounded = format!("SET lock_timeout = {}", LOCK_WAIT.as_millis());
        let failed = |error| {
            SendError::temporary(format!("{}: no look at the statement", settings.address)).caused_by(error)
        };
        self.client.batch_execute(&bounded).await.map_err(failed)?;
        let prepared = self.client.prepare(&settings.statement).await;
        let is_held =
            prepared.as_ref().err().is_some_and(|error| error.code() == Some(&SqlState::LOCK_NOT_AVAILABLE));
        if !is_held {
            // There is none yet: nobody else has the session.
            let _first = self.statement.set(taken(settings, prepared)?);
        }
        self.client.batch_execute("RESET lock_timeout").await.map_err(failed)
    }

    /// Whether it can still be used.
    pub(super) fn is_open(&self) -> bool {
        !self.client.is_closed()
    }

    /// Executes the statement for each row that is new, in one transaction.
    ///
    /// # Errors
    /// Nothing has happened, unless the connection broke: then it is unknown until somebody looks into the ledger.
    pub(super) async fn transact(&self, statement: &Statement, rows: &[&Row]) -> Result<(), Error> {
        self.client.batch_execute("BEGIN").await?;
        self.execute(statement, rows).await?;
        self.client.batch_execute("COMMIT").await
    }

    /// Executes the statement for each row that is new, in a transaction that has begun: for each whose key the ledger
    /// does not have yet, and records the key; for all where there is no ledger.
    ///
    /// # Errors
    /// The transaction can only be undone.
    pub(super) async fn execute(&self, statement: &Statement, rows: &[&Row]) -> Result<(), Error> {
        let Some(record) = &self.record else {
            try_join_all(rows.iter().map(|row| self.client.execute_raw(statement, &row.values))).await?;
            return Ok(());
        };
        // In one order for everybody, so that two who record the same keys do not wait for each other.
        let mut keys: Vec<&str> = rows.iter().map(|row| row.send_key.as_str()).collect();
        keys.sort_unstable();
        let recorded = self.client.query(record, &[&keys]).await?;
        let new: BTreeSet<&str> = recorded.iter().map(|row| row.try_get(0)).collect::<Result<_, _>>()?;
        let fresh = rows.iter().filter(|row| new.contains(row.send_key.as_str()));
        try_join_all(fresh.map(|row| self.client.execute_raw(statement, &row.values))).await?;
        Ok(())
    }

    /// Whether the ledger has the key. Waits for whoever is about to record it, and records nothing.
    ///
    /// # Errors
    /// It is not known.
    pub(super) async fn has(&self, send_key: &str) -> Result<Option<bool>, Error> {
        let Some(record) = &self.record else { return Ok(None) };
        self.client.batch_execute("BEGIN").await?;
        let recorded = self.client.query(record, &[&[send_key].as_slice()]).await?;
        self.client.batch_execute("ROLLBACK").await?;
        Ok(Some(recorded.is_empty()))
    }

    /// What the server holds prepared.
    pub(super) const fn prepared(&self) -> Prepared<'_> {
        Prepared(&self.client)
    }

    /// Ends a transaction that failed.
    ///
    /// # Errors
    /// The connection is of no more use.
    pub(super) async fn roll_back(&self) -> Result<(), Error> {
        self.client.batch_execute("ROLLBACK").await
    }
}

/// What the server says of the statement.
fn taken(settings: &PostgresSettings, prepared: Result<Statement, Error>) -> Result<Statement, SendError> {
    let address = &settings.address;
    let statement = prepared.map_err(|error| {
        SendError::temporary(format!("{address}: the server does not take the statement")).caused_by(error)
    })?;
    let (wanted, listed) = (statement.params().len(), settings.parameters.len());
    if wanted != listed {
        return Err(SendError::temporary(format!(
            "{address}: the statement has {wanted} parameters, and the setting parameters lists {listed}"
        )));
    }
    Ok(statement)
}

/// Nobody is to believe a server that answers anything but yes or no: who it is has not been seen yet.
async fn ask_for_tls(address: &Address, mut tcp: TcpStream) -> Result<TcpStream, SendError> {
    let broken = |error| {
        SendError::temporary(format!("{address}: the connection broke before the answer")).caused_by(error)
    };
    tcp.write_all(&TLS_REQUEST).await.map_err(broken)?;
    match tcp.read_u8().await.map_err(broken)? {
        b'S' => Ok(tcp),
        _ => Err(SendError::temporary(format!(
            "{address}: the server speaks no TLS; set it up there, or write tls = false"
        ))),
    }
}

async fn log_in(
    address: &Address,
    stream: impl wire::Stream,
    login: &Config,
) -> Result<(Client, Driver), SendError> {
    let connected = login.connect_raw(stream, NoTls).await;
    let (client, connection) = connected.map_err(|error| {
        SendError::temporary(format!("{address}: the server does not let us in")).caused_by(error)
    })?;
    #[expect(clippy::disallowed_methods, reason = "moves the bytes of a connection; ends with its session")]
    let driver = tokio::spawn(async move {
        // Whoever waits for an answer gets the error.
        let _ended = connection.await;
    });
    Ok((client, Driver(driver)))
}

/// The server gives up when we do. What it commits is on its disk, whatever its default is.
async fn set_up(client: &Client, settings: &PostgresSettings) -> Result<(), Error> {
    let set = "SELECT set_config('statement_timeout', $1::text, false), set_config('synchronous_commit', \
               CASE current_setting('synchronous_commit') WHEN 'off' THEN 'on' \
               ELSE current_setting('synchronous_commit') END, false)";
    let span = settings.timeout.as_millis().to_string();
    client.query(set, &[&span]).await.map(drop)
}

/// Looks whether the ledger keeps what is written to it, and takes each key once.
async fn check_ledger(client: &Client, address: &Address, ledger: &str) -> Result<(), SendError> {
    let hint = format!(
        "make it: CREATE TABLE {ledger} (key text PRIMARY KEY, at timestamptz NOT NULL DEFAULT now())"
    );
    let unusable =
        |what: &str| SendError::temporary(format!("{address}: the ledger {ledger} {what}; {hint}"));
    let kept = "SELECT relpersistence::text FROM pg_catalog.pg_class WHERE oid = $1::text::regclass";
    let found = client.query_one(kept, &[&ledger]).await;
    let kept: String = found
        .and_then(|row| row.try_get(0))
        .map_err(|error| unusable("cannot be looked at").caused_by(error))?;
    if kept != "p" {
        return Err(unusable("is unlogged or temporary: a crash of the server would empty it"));
    }
    let probe = format!(
        "BEGIN; INSERT INTO {ledger} (key) VALUES ('pillarbox') ON CONFLICT (key) DO NOTHING; ROLLBACK"
    );
    client.batch_execute(&probe).await.map_err(|error| unusable("cannot be written").caused_by(error))
}
