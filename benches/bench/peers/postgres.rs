//! PostgreSQL as an outbox: a table, `FOR UPDATE SKIP LOCKED`, `synchronous_commit` on. A worker holds its rows by the
//! locks of an open transaction and deletes them in it, so that a message costs two commits and no update: the
//! cheapest way there is, as long as work is short.

use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, Stdio};

use async_trait::async_trait;
use bytes::Bytes;
use pillarbox_benches::Bodies;
use rustix::process::Signal;
use tokio_postgres::{Client as Connection, NoTls, Statement};

use super::server::{Server, free_port};
use super::{check, install};
use crate::client::{Client, Counts, Fault, Target};

/// What is not PostgreSQL's default, beyond where it listens: room, and vacuum that keeps up with a table in which
/// every row is short-lived. Durability is all default: `fsync`, `synchronous_commit` and `full_page_writes` are on.
const SETTINGS: [&str; 8] = [
    "max_connections=200",
    "shared_buffers=512MB",
    "max_wal_size=4GB",
    "wal_buffers=16MB",
    "autovacuum_naptime=5s",
    "autovacuum_vacuum_cost_delay=0",
    "jit=off",
    "listen_addresses=127.0.0.1",
];

/// A database of one's own.
pub(super) struct Postgres {
    url: String,
    bodies: Bodies,
}

fn as_plain_user(command: &mut Command) {
    if let Some((user, group)) = install::plain_user() {
        command.uid(user).gid(group);
    }
}

pub(super) async fn start(folder: &Path, bodies: Bodies) -> Result<(Postgres, Server), Fault> {
    let data = folder.join("postgresql");
    std::fs::create_dir_all(&data)?;
    if let Some((user, group)) = install::plain_user() {
        std::os::unix::fs::chown(&data, Some(user), Some(group))?;
    }
    let mut create = Command::new(install::find("initdb")?);
    create.args(["--auth=trust", "--username=bench", "--encoding=UTF8", "--locale=C", "-D"]).arg(&data);
    as_plain_user(&mut create);
    let made = create.current_dir("/").stdin(Stdio::null()).output()?;
    if !made.status.success() {
        return Err(format!("initdb: {}", String::from_utf8_lossy(&made.stderr).trim()).into());
    }
    let port = free_port()?;
    let mut command = Command::new(install::find("postgres")?);
    command.arg("-D").arg(&data).arg("-k").arg(&data).arg("-p").arg(port.to_string()).current_dir("/");
    for setting in SETTINGS {
        command.args(["-c", setting]);
    }
    as_plain_user(&mut command);
    // SIGTERM would wait for the clients to leave.
    let mut server = Server::start("postgresql", command, folder)?.ended_by(Signal::INT);
    let url = format!("host=127.0.0.1 port={port} user=bench dbname=postgres");
    let connection = server.wait(folder, || connect(&url)).await?;
    connection
        .batch_execute(
            "CREATE TABLE outbox (id bigserial PRIMARY KEY, body bytea NOT NULL)
               WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 20000);
             ALTER TABLE outbox ALTER COLUMN body SET STORAGE EXTERNAL;",
        )
        .await?;
    Ok((Postgres { url, bodies }, server))
}

async fn connect(url: &str) -> Result<Connection, Fault> {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await?;
    tokio::spawn(async move {
        if let Err(error) = connection.await {
            eprintln!("postgresql: {error}");
        }
    });
    // A plan for a table that looked empty or huge at the wrong moment is the wrong plan.
    client
        .batch_execute(
            "SET enable_seqscan = off; SET enable_bitmapscan = off; SET enable_hashjoin = off;
             SET enable_mergejoin = off; SET plan_cache_mode = force_generic_plan;",
        )
        .await?;
    Ok(client)
}

#[async_trait]
impl Target for Postgres {
    async fn client(&self) -> Result<Box<dyn Client>, Fault> {
        let connection = connect(&self.url).await?;
        let insert = "INSERT INTO outbox (body) SELECT unnest($1::bytea[])";
        let take = "SELECT id, body FROM outbox ORDER BY id LIMIT $1 FOR UPDATE SKIP LOCKED";
        let delete = "DELETE FROM outbox WHERE id = ANY($1)";
        Ok(Box::new(Session {
            insert: connection.prepare(insert).await?,
            take: connection.prepare(take).await?,
            delete: connection.prepare(delete).await?,
            connection,
            bodies: self.bodies.clone(),
            taken: Vec::new(),
        }))
    }

    fn counts(&self) -> Counts {
        Counts::default()
    }

    async fn close(&self) -> Result<(), Fault> {
        Ok(())
    }
}

/// One client.
struct Session {
    connection: Connection,
    insert: Statement,
    take: Statement,
    delete: Statement,
    bodies: Bodies,
    taken: Vec<i64>,
}

#[async_trait]
impl Client for Session {
    async fn submit(&mut self, bodies: &[Bytes]) -> Result<(), Fault> {
        let bodies: Vec<&[u8]> = bodies.iter().map(AsRef::as_ref).collect();
        self.connection.execute(&self.insert, &[&bodies]).await?;
        Ok(())
    }

    async fn take(&mut self, count: usize) -> Result<usize, Fault> {
        self.taken.clear();
        self.connection.batch_execute("BEGIN").await?;
        let rows = self.connection.query(&self.take, &[&i64::try_from(count)?]).await?;
        for row in &rows {
            check(&self.bodies, row.try_get(1)?)?;
            self.taken.push(row.try_get(0)?);
        }
        if rows.is_empty() {
            self.connection.batch_execute("ROLLBACK").await?;
        }
        Ok(rows.len())
    }

    async fn complete(&mut self) -> Result<(), Fault> {
        let gone = self.connection.execute(&self.delete, &[&self.taken]).await?;
        self.connection.batch_execute("COMMIT").await?;
        if gone == self.taken.len() as u64 { Ok(()) } else { Err(format!("{gone} rows were deleted").into()) }
    }
}
