//! SQLite in this process: WAL, `synchronous=FULL`, group commit in one writer. A message is a row; the clients remember
//! which rows are theirs and read them through connections of their own.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use bytes::Bytes;
use pillarbox_benches::Bodies;
use rusqlite::{Connection, params};

use crate::client::{Client, Counts, Fault, Target};
use crate::group::{Group, Writer};

/// The database behind a writer thread.
pub(super) struct Sqlite {
    path: PathBuf,
    group: Arc<Group<Table>>,
    next: Arc<AtomicU64>,
    bodies: Bodies,
}

/// What the writer thread has.
pub(super) struct Table(Connection);

/// What a client hands over.
pub(super) enum Change {
    Put(u64, Vec<Bytes>),
    Remove(Vec<u64>),
}

fn connect(path: &Path) -> Result<Connection, Fault> {
    let connection = Connection::open(path)?;
    connection.pragma_update(None, "journal_mode", "wal")?;
    connection.pragma_update(None, "synchronous", "full")?;
    connection.set_prepared_statement_cache_capacity(16);
    Ok(connection)
}

impl Sqlite {
    pub(super) fn open(folder: &Path, bodies: Bodies) -> Result<Self, Fault> {
        let path = folder.join("outbox.sqlite");
        let connection = connect(&path)?;
        connection.execute_batch("CREATE TABLE outbox (id INTEGER PRIMARY KEY, body BLOB NOT NULL)")?;
        Ok(Self { path, group: Arc::new(Group::start(Table(connection))), next: Arc::default(), bodies })
    }
}

impl Writer for Table {
    type Item = Change;
    type Answer = ();

    fn write(&mut self, group: Vec<Change>) -> Result<Vec<()>, Fault> {
        let transaction = self.0.transaction()?;
        {
            let mut insert = transaction.prepare_cached("INSERT INTO outbox (id, body) VALUES (?1, ?2)")?;
            let mut delete = transaction.prepare_cached("DELETE FROM outbox WHERE id = ?1")?;
            for change in &group {
                match change {
                    Change::Put(first, bodies) => {
                        for (number, body) in (*first..).zip(bodies) {
                            insert.execute(params![number.cast_signed(), body.as_ref()])?;
                        }
                    }
                    Change::Remove(numbers) => {
                        for number in numbers {
                            delete.execute(params![number.cast_signed()])?;
                        }
                    }
                }
            }
        }
        transaction.commit()?;
        Ok(vec![(); group.len()])
    }
}

#[async_trait]
impl Target for Sqlite {
    async fn client(&self) -> Result<Box<dyn Client>, Fault> {
        Ok(Box::new(Rows {
            reader: connect(&self.path)?,
            group: self.group.clone(),
            next: self.next.clone(),
            bodies: self.bodies.clone(),
            open: Vec::new(),
            taken: 0,
        }))
    }

    fn counts(&self) -> Counts {
        Counts::default()
    }

    async fn close(&self) -> Result<(), Fault> {
        self.group.close().map(drop)
    }
}

/// One client.
struct Rows {
    reader: Connection,
    group: Arc<Group<Table>>,
    next: Arc<AtomicU64>,
    bodies: Bodies,
    open: Vec<u64>,
    taken: usize,
}

#[async_trait]
impl Client for Rows {
    async fn submit(&mut self, bodies: &[Bytes]) -> Result<(), Fault> {
        let count = bodies.len() as u64;
        let first = self.next.fetch_add(count, Ordering::Relaxed);
        self.open.extend(first..first + count);
        self.group.commit(Change::Put(first, bodies.to_vec())).await
    }

    async fn take(&mut self, count: usize) -> Result<usize, Fault> {
        let mut read = self.reader.prepare_cached("SELECT body FROM outbox WHERE id = ?1")?;
        self.taken = count.min(self.open.len());
        for number in self.open.iter().take(self.taken) {
            read.query_row(params![number.cast_signed()], |row| {
                Ok(self.bodies.know(row.get_ref(0)?.as_blob()?))
            })?
            .then_some(())
            .ok_or("a body came back changed")?;
        }
        Ok(self.taken)
    }

    async fn complete(&mut self) -> Result<(), Fault> {
        let numbers = self.open.drain(..self.taken).collect();
        self.taken = 0;
        self.group.commit(Change::Remove(numbers)).await
    }
}
