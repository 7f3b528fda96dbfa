//! A connection with its statements, and a transaction on it.

use std::collections::BTreeSet;
use std::sync::Arc;

use futures_util::future::try_join_all;
use pillarbox_runtime::adapter::SendError;
use rustls::ClientConfig;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio_postgres::types::Type;
use tokio_postgres::{Client, Config, Error, NoTls, Statement};

use super::parameter::Value;
use super::settings::PostgresSettings;
use crate::address::Address;
use crate::wire;

/// What asks a server whether it speaks TLS.
const TLS_REQUEST: [u8; 8] = [0, 0, 0, 8, 4, 210, 22, 47];

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
    record: Statement,
    statement: Statement,
}

/// The task that moves a connection's bytes. Ends with the session.
struct Driver(JoinHandle<()>);

impl Drop for Driver {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Session {
    /// Connects, checks the ledger, and prepares the statement.
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
        check_ledger(&client, settings).await?;
        let record = format!(
            "INSERT INTO {} (key) SELECT unnest($1::text[]) ON CONFLICT (key) DO NOTHING RETURNING key",
            settings.ledger
        );
        let record = client.prepare(&record).await.map_err(failed("the ledger cannot be written"))?;
        let prepared = client.prepare(&settings.statement).await;
        let statement = prepared.map_err(failed("the server does not take the statement"))?;
        let (wanted, listed) = (statement.params().len(), settings.parameters.len());
        if wanted != listed {
            return Err(SendError::temporary(format!(
                "{address}: the statement has {wanted} parameters, and the setting parameters lists {listed}"
            )));
        }
        Ok(Self { client, _driver: driver, record, statement })
    }

    /// The types of the statement's parameters.
    pub(super) fn types(&self) -> &[Type] {
        self.statement.params()
    }

    /// Whether it can still be used.
    pub(super) fn is_open(&self) -> bool {
        !self.client.is_closed()
    }

    /// Executes the statement for each row whose key the ledger does not have yet, and records the key, in one
    /// transaction.
    ///
    /// # Errors
    /// Nothing has happened, unless the connection broke: then it is unknown until somebody looks into the ledger.
    pub(super) async fn transact(&self, rows: &[&Row]) -> Result<(), Error> {
        self.client.batch_execute("BEGIN").await?;
        // In one order for everybody, so that two who record the same keys do not wait for each other.
        let mut keys: Vec<&str> = rows.iter().map(|row| row.send_key.as_str()).collect();
        keys.sort_unstable();
        let recorded = self.client.query(&self.record, &[&keys]).await?;
        let new: BTreeSet<&str> = recorded.iter().map(|row| row.try_get(0)).collect::<Result<_, _>>()?;
        let fresh = rows.iter().filter(|row| new.contains(row.send_key.as_str()));
        try_join_all(fresh.map(|row| self.client.execute_raw(&self.statement, &row.values))).await?;
        self.client.batch_execute("COMMIT").await
    }

    /// Ends a transaction that failed.
    ///
    /// # Errors
    /// The connection is of no more use.
    pub(super) async fn roll_back(&self) -> Result<(), Error> {
        self.client.batch_execute("ROLLBACK").await
    }
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
async fn check_ledger(client: &Client, settings: &PostgresSettings) -> Result<(), SendError> {
    let (address, ledger) = (&settings.address, &settings.ledger);
    let hint = format!(
        "make it: CREATE TABLE {ledger} (key text PRIMARY KEY, at timestamptz NOT NULL DEFAULT now())"
    );
    let unusable =
        |what: &str| SendError::temporary(format!("{address}: the ledger {ledger} {what}; {hint}"));
    let kept = "SELECT relpersistence::text FROM pg_catalog.pg_class WHERE oid = $1::text::regclass";
    let found = client.query_one(kept, &[ledger]).await;
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
