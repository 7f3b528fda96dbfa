//! A destination that keeps lines in memory, for the example and for the tests of the kit: it is asked
//! `PUT KEY ATTEMPT LENGTH`, the body follows, and it answers `OK` or `NO`. It adds nothing for a key that it has.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use pillarbox_adapter_kit::{Held, peer};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// What a body begins with that is refused for good.
pub(crate) const REFUSED: &[u8] = b"refuse me";

/// The destination, at a port of its own.
#[derive(Debug)]
pub(crate) struct Lines {
    /// Where it listens.
    pub(crate) port: u16,
    kept: Arc<Mutex<Kept>>,
    /// Whether it adds nothing for a key that it has.
    knows_keys: bool,
    serving: JoinHandle<()>,
}

/// What it keeps, on its disk so to say.
#[derive(Debug, Default)]
struct Kept {
    all: Vec<Held>,
    /// Transactions that were prepared.
    prepared: HashMap<String, Vec<Held>>,
}

impl Lines {
    /// Starts an empty one.
    pub(crate) async fn start(knows_keys: bool) -> Self {
        let (port, kept) = (peer::free_port(), Arc::default());
        let serving = serve(port, Arc::clone(&kept), knows_keys).await;
        Self { port, kept, knows_keys, serving }
    }

    /// Everything that it has.
    pub(crate) fn held(&self) -> Vec<Held> {
        lock(&self.kept).all.clone()
    }

    /// Ends it, connections included.
    pub(crate) fn kill(&self) {
        self.serving.abort();
    }

    /// Starts it again, with what it had.
    pub(crate) async fn start_again(&mut self) {
        self.serving = serve(self.port, Arc::clone(&self.kept), self.knows_keys).await;
    }
}

impl Drop for Lines {
    fn drop(&mut self) {
        self.kill();
    }
}

fn lock(kept: &Mutex<Kept>) -> MutexGuard<'_, Kept> {
    kept.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn serve(port: u16, kept: Arc<Mutex<Kept>>, knows_keys: bool) -> JoinHandle<()> {
    // One that has just been ended may not have let go of the port yet.
    let listener = loop {
        match TcpListener::bind(("127.0.0.1", port)).await {
            Ok(listener) => break listener,
            Err(_taken) => tokio::task::yield_now().await,
        }
    };
    peer::run(async move {
        // Its connections end with it.
        let mut connections = tokio::task::JoinSet::new();
        while let Ok((stream, _)) = listener.accept().await {
            let _talking = connections.spawn(talk(stream, Arc::clone(&kept), knows_keys));
        }
    })
}

async fn talk(stream: TcpStream, kept: Arc<Mutex<Kept>>, knows_keys: bool) -> Option<()> {
    let mut stream = BufReader::new(stream);
    loop {
        let mut line = String::new();
        stream.read_line(&mut line).await.ok().filter(|bytes| *bytes > 0)?;
        let words: Vec<&str> = line.split_whitespace().collect();
        let answer = match words.as_slice() {
            ["PUT", rest @ ..] => {
                let (length, transaction) = match rest {
                    [_, _, length] => (*length, None),
                    [_, _, length, transaction] => (*length, Some(*transaction)),
                    _ => return None,
                };
                let mut body = vec![0; length.parse().ok()?];
                stream.read_exact(&mut body).await.ok()?;
                // The attempt's number, with a question mark behind it where the message is in doubt.
                let number = rest[1].trim_end_matches('?');
                let held = Held::new(Bytes::from(body)).key(rest[0]).attempt(number.parse().ok()?);
                let held = held.in_doubt(number != rest[1]);
                put(&mut lock(&kept), held, transaction, knows_keys)
            }
            ["COMMIT", transaction] => {
                let mut kept = lock(&kept);
                let prepared = kept.prepared.remove(*transaction).unwrap_or_default();
                kept.all.extend(prepared);
                "OK\n".to_owned()
            }
            ["ROLLBACK", transaction] => {
                lock(&kept).prepared.remove(*transaction);
                "OK\n".to_owned()
            }
            ["HAS", key] => {
                let has = lock(&kept).all.iter().any(|one| one.key.as_deref() == Some(*key));
                if has { "YES\n" } else { "NO\n" }.to_owned()
            }
            ["LIST"] => {
                let names: Vec<String> = lock(&kept).prepared.keys().cloned().collect();
                format!("OK {}\n", names.join(" "))
            }
            _ => return None,
        };
        stream.write_all(answer.as_bytes()).await.ok()?;
    }
}

fn put(kept: &mut Kept, held: Held, transaction: Option<&str>, knows_keys: bool) -> String {
    if held.body.starts_with(REFUSED) {
        return "NO it says so itself\n".to_owned();
    }
    if let Some(transaction) = transaction {
        kept.prepared.entry(transaction.to_owned()).or_default().push(held);
    } else if !knows_keys || !kept.all.iter().any(|one| one.key == held.key) {
        kept.all.push(held);
    }
    "OK\n".to_owned()
}
