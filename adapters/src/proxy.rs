//! A proxy that loses an answer: what the server did is done, and nobody is told.

use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use crate::peer::run;

/// How much of what went by is kept, so that a pattern is found that comes in pieces.
const KEPT_BYTES: usize = 4096;

/// Passes bytes on, until it is told to lose an answer.
pub(crate) struct Proxy {
    /// Where it listens on the loopback.
    pub(crate) port: u16,
    plan: Arc<Mutex<Option<Loss>>>,
    accepting: JoinHandle<()>,
}

#[derive(Clone)]
struct Loss {
    request: Vec<u8>,
    answer: Vec<u8>,
}

impl Proxy {
    /// Listens, and connects to this port of the loopback for everyone who comes.
    pub(crate) async fn start(server: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let plan = Arc::default();
        let shared = Arc::clone(&plan);
        let accepting = run(async move {
            loop {
                let (client, _) = listener.accept().await.unwrap();
                // Where the server is down, the client's connection closes.
                if let Ok(server) = TcpStream::connect(("127.0.0.1", server)).await {
                    run(carry(client, server, Arc::clone(&shared)));
                }
            }
        });
        Self { port, plan, accepting }
    }

    /// From now on: once a request has these bytes, the connection is cut in front of the answer that has those.
    pub(crate) fn lose(&self, request: &[u8], answer: &[u8]) {
        *self.plan.lock().unwrap() = Some(Loss { request: request.to_vec(), answer: answer.to_vec() });
    }

    /// Whether an answer was lost.
    pub(crate) fn has_lost(&self) -> bool {
        self.plan.lock().unwrap().is_none()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn carry(client: TcpStream, server: TcpStream, plan: Arc<Mutex<Option<Loss>>>) {
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    let asked = Arc::new(Mutex::new(false));
    let requests = pass(from_client, to_server, |seen| {
        let Some(loss) = plan.lock().unwrap().clone() else {
            seen.clear();
            return true;
        };
        *asked.lock().unwrap() |= contains(seen, &loss.request);
        true
    });
    let answers = pass(from_server, to_client, |seen| {
        let mut plan = plan.lock().unwrap();
        if !*asked.lock().unwrap() {
            // What was answered before is no answer to it.
            seen.clear();
        }
        let lost = plan.as_ref().is_some_and(|loss| contains(seen, &loss.answer));
        if lost {
            *plan = None;
        }
        !lost
    });
    // Whoever closes first closes both.
    tokio::select! {
        () = requests => {}
        () = answers => {}
    }
}

/// Copies until the end, or until `look` refuses what it sees.
async fn pass(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, mut look: impl FnMut(&mut Vec<u8>) -> bool) {
    let mut seen = Vec::new();
    let mut buffer = vec![0; 64 * 1024];
    while let Ok(read @ 1..) = from.read(&mut buffer).await {
        seen.extend_from_slice(&buffer[..read]);
        if !look(&mut seen) || to.write_all(&buffer[..read]).await.is_err() {
            return;
        }
        seen.drain(..seen.len().saturating_sub(KEPT_BYTES));
    }
}

fn contains(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}
