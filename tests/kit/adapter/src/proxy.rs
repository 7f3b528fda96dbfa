//! A proxy of the loopback that passes bytes on until it is told to do them harm.
//!
//! The bytes of both ways are counted from the moment at which a fault is set, over all connections. A fault that strikes
//! does so once; from then on bytes pass again.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::peer::{free_port, run};

#[cfg(test)]
mod tests;

/// How much of what went by is kept, so that a pattern is found that comes in pieces.
const KEPT_BYTES: usize = 4096;

/// Which way bytes go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// From the adapter to the destination.
    Request,
    /// Back.
    Answer,
}

/// What the proxy does to the bytes that go by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// Nothing.
    Pass,
    /// So many bytes at a time, each time after a pause. Lasts until another one is set.
    Delay {
        /// How long the pause is.
        pause: Duration,
        /// How many bytes go after it.
        piece: usize,
    },
    /// Once so many bytes have gone this way, the connection is reset.
    Reset {
        /// The way that is counted.
        way: Way,
        /// How many bytes pass.
        after: u64,
    },
    /// Once a request has these bytes, the connection is reset in front of the answer that has those.
    Lose {
        /// What the request has.
        request: Vec<u8>,
        /// What the answer has.
        answer: Vec<u8>,
    },
    /// A piece of an answer is passed on twice: the one after so many.
    Duplicate {
        /// How many pieces come before it.
        after: u64,
    },
    /// Nobody is let in, as though nothing listened there; those that are in are thrown out. Lasts until another one is
    /// set.
    Refuse,
    /// Once so many bytes have gone this way, none goes either way any more. Lasts until another one is set: then those
    /// that waited go on.
    Hold {
        /// The way that is counted.
        way: Way,
        /// How many bytes pass.
        after: u64,
    },
}

/// How many bytes went by since the fault was set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Passed {
    /// To the destination.
    pub request: u64,
    /// From it.
    pub answer: u64,
}

#[derive(Debug)]
struct Plan {
    fault: Fault,
    passed: Passed,
    /// Pieces of answers.
    pieces: u64,
    /// Whether the request of a [`Fault::Lose`] has gone by.
    asked: bool,
    struck: bool,
}

/// What the proxy's tasks share.
#[derive(Debug, Default)]
struct Shared {
    plan: Mutex<Plan>,
    /// Counts the faults that were set.
    set: watch::Sender<u64>,
    /// Counts the times that all connections were reset: a connection belongs to the era in which it was accepted.
    thrown_out: watch::Sender<u64>,
    /// Tells that a fault has struck.
    strikes: watch::Sender<u64>,
}

/// Passes bytes on, until it is told not to.
#[derive(Debug)]
pub struct Proxy {
    /// Where it listens on the loopback.
    pub port: u16,
    shared: Arc<Shared>,
    accepting: JoinHandle<()>,
}

impl Proxy {
    /// Listens, and connects to this port of the loopback for everyone who comes.
    ///
    /// # Panics
    /// No port is free.
    #[expect(clippy::unwrap_used, reason = "it works or the test has failed")]
    pub async fn start(server: u16) -> Self {
        let port = free_port();
        let listener = TcpListener::bind(("127.0.0.1", port)).await.unwrap();
        let shared = Arc::new(Shared::default());
        let accepting = run(accept(listener, port, server, Arc::clone(&shared)));
        Self { port, shared, accepting }
    }

    /// Does this from now on, and counts anew.
    pub fn set(&self, fault: Fault) {
        let refuses = fault == Fault::Refuse;
        *self.shared.plan() = Plan::new(fault);
        self.shared.set.send_modify(|count| *count += 1);
        if refuses {
            self.throw_out();
        }
    }

    /// From now on: once a request has these bytes, the connection is reset in front of the answer that has those.
    pub fn lose(&self, request: &[u8], answer: &[u8]) {
        self.set(Fault::Lose { request: request.to_vec(), answer: answer.to_vec() });
    }

    /// Whether an answer was lost.
    #[must_use]
    pub fn has_lost(&self) -> bool {
        self.has_struck()
    }

    /// Whether the fault that was set last has struck.
    #[must_use]
    pub fn has_struck(&self) -> bool {
        self.shared.plan().struck
    }

    /// Waits until the fault that was set last has struck.
    pub async fn struck(&self) {
        let mut strikes = self.shared.strikes.subscribe();
        while !self.has_struck() {
            let _alive = strikes.changed().await;
        }
    }

    /// What went by since the fault was set.
    #[must_use]
    pub fn passed(&self) -> Passed {
        self.shared.plan().passed
    }

    /// Resets every connection that there is. Nothing that comes over one of them passes after a fault that is set later.
    pub fn throw_out(&self) {
        self.shared.throw_out();
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.accepting.abort();
        self.throw_out();
    }
}

impl Default for Plan {
    fn default() -> Self {
        Self::new(Fault::Pass)
    }
}

impl Plan {
    const fn new(fault: Fault) -> Self {
        Self { fault, passed: Passed { request: 0, answer: 0 }, pieces: 0, asked: false, struck: false }
    }
}

/// What happens to a piece.
enum Verdict {
    Pass,
    /// So many bytes pass, then the connection is reset.
    Reset(usize),
    /// So many bytes pass, the others when another fault is set.
    Hold(usize),
    Twice,
    Slowly(Duration, usize),
}

impl Shared {
    fn plan(&self) -> MutexGuard<'_, Plan> {
        self.plan.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn throw_out(&self) {
        self.thrown_out.send_modify(|count| *count += 1);
    }

    fn era(&self) -> u64 {
        *self.thrown_out.borrow()
    }

    /// What becomes of a piece. `seen` is what went by before it, and it.
    fn judge(&self, way: Way, era: u64, seen: &mut Vec<u8>, piece: usize) -> Verdict {
        let mut plan = self.plan();
        if era != self.era() {
            // Its connection may not have heard yet that it is thrown out.
            return Verdict::Reset(0);
        }
        let before = match way {
            Way::Request => plan.passed.request,
            Way::Answer => plan.passed.answer,
        };
        let verdict = match &plan.fault {
            Fault::Pass | Fault::Refuse => Verdict::Pass,
            Fault::Delay { pause, piece } => Verdict::Slowly(*pause, *piece),
            Fault::Reset { .. } | Fault::Lose { .. } | Fault::Duplicate { .. } if plan.struck => {
                Verdict::Pass
            }
            Fault::Reset { way: counted, after } if *counted == way => {
                beyond(before, piece, *after).map_or(Verdict::Pass, Verdict::Reset)
            }
            Fault::Hold { way: counted, after } if *counted == way || plan.struck => {
                let after = if plan.struck { 0 } else { *after };
                beyond(before, piece, after).map_or(Verdict::Pass, Verdict::Hold)
            }
            Fault::Duplicate { after } if way == Way::Answer && plan.pieces == *after => Verdict::Twice,
            Fault::Lose { request, .. } if way == Way::Request => {
                let asked = contains(seen, request);
                plan.asked |= asked;
                Verdict::Pass
            }
            Fault::Lose { answer, .. } => {
                if !plan.asked {
                    // What was answered before is no answer to it.
                    seen.clear();
                }
                if contains(seen, answer) { Verdict::Reset(0) } else { Verdict::Pass }
            }
            Fault::Reset { .. } | Fault::Hold { .. } | Fault::Duplicate { .. } => Verdict::Pass,
        };
        let passes = match verdict {
            Verdict::Pass | Verdict::Twice | Verdict::Slowly(..) => piece,
            Verdict::Reset(bytes) | Verdict::Hold(bytes) => bytes,
        };
        match way {
            Way::Request => plan.passed.request += passes as u64,
            Way::Answer => {
                plan.passed.answer += passes as u64;
                plan.pieces += 1;
            }
        }
        if matches!(verdict, Verdict::Reset(_) | Verdict::Hold(_) | Verdict::Twice) {
            plan.struck = true;
            drop(plan);
            self.strikes.send_modify(|count| *count += 1);
        }
        verdict
    }
}

/// How many bytes of a piece pass that reaches beyond a place; `None` where it does not.
fn beyond(before: u64, piece: usize, place: u64) -> Option<usize> {
    let left = place.saturating_sub(before);
    let left = usize::try_from(left).unwrap_or(usize::MAX);
    (left < piece).then_some(left)
}

async fn accept(listener: TcpListener, port: u16, server: u16, shared: Arc<Shared>) {
    let mut listener = Some(listener);
    let mut set = shared.set.subscribe();
    loop {
        let refuses = shared.plan().fault == Fault::Refuse;
        if refuses {
            listener = None;
            let _alive = set.changed().await;
            continue;
        }
        let Some(open) = &listener else {
            // The port is this proxy's own: nobody else takes it for long.
            match TcpListener::bind(("127.0.0.1", port)).await {
                Ok(again) => listener = Some(again),
                Err(_taken) => tokio::task::yield_now().await,
            }
            continue;
        };
        tokio::select! {
            accepted = open.accept() => {
                let Ok((client, _)) = accepted else { continue };
                // Where the server is down, the client's connection closes.
                let era = shared.era();
                if let Ok(server) = TcpStream::connect(("127.0.0.1", server)).await {
                    let _ends_with_its_connections = run(carry(client, server, era, Arc::clone(&shared)));
                }
            }
            _changed = set.changed() => {}
        }
    }
}

async fn carry(mut client: TcpStream, mut server: TcpStream, era: u64, shared: Arc<Shared>) {
    let mut thrown_out = shared.thrown_out.subscribe();
    let (_nodelay, _either) = (client.set_nodelay(true), server.set_nodelay(true));
    let is_reset = {
        let (from_client, to_client) = client.split();
        let (from_server, to_server) = server.split();
        // Whoever closes first closes both.
        tokio::select! {
            biased;
            _all = thrown_out.wait_for(|count| *count != era) => true,
            reset = pass(Way::Request, era, from_client, to_server, &shared) => reset,
            reset = pass(Way::Answer, era, from_server, to_client, &shared) => reset,
        }
    };
    if is_reset {
        let (_done, _either) = (client.set_zero_linger(), server.set_zero_linger());
    }
}

/// Copies until the end; true where the connection is to be reset.
async fn pass(way: Way, era: u64, mut from: ReadHalf<'_>, mut to: WriteHalf<'_>, shared: &Shared) -> bool {
    let mut set = shared.set.subscribe();
    let mut seen = Vec::new();
    let mut buffer = vec![0; 64 * 1024];
    while let Ok(read @ 1..) = from.read(&mut buffer).await {
        let Some(mut rest) = buffer.get(..read) else { return false };
        while !rest.is_empty() {
            set.mark_unchanged();
            seen.extend_from_slice(rest);
            let (bytes, then) = match shared.judge(way, era, &mut seen, rest.len()) {
                Verdict::Pass => (rest.len(), None),
                Verdict::Reset(bytes) => (bytes, Some(true)),
                Verdict::Hold(bytes) => (bytes, Some(false)),
                Verdict::Twice => {
                    if to.write_all(rest).await.is_err() {
                        return false;
                    }
                    (rest.len(), None)
                }
                Verdict::Slowly(pause, piece) => {
                    if slowly(rest, &mut to, pause, piece).await.is_err() {
                        return false;
                    }
                    break;
                }
            };
            let (now, later) = rest.split_at(bytes.min(rest.len()));
            if to.write_all(now).await.is_err() {
                return false;
            }
            match then {
                Some(true) => return true,
                Some(false) => {
                    let _alive = set.changed().await;
                }
                None => {}
            }
            rest = later;
        }
        seen.drain(..seen.len().saturating_sub(KEPT_BYTES));
    }
    false
}

async fn slowly(bytes: &[u8], to: &mut WriteHalf<'_>, pause: Duration, piece: usize) -> std::io::Result<()> {
    // A long body would take for ever: it is its beginning that matters.
    let (begin, rest) = bytes.split_at(bytes.len().min(piece * 16));
    for piece in begin.chunks(piece.max(1)) {
        tokio::time::sleep(pause).await;
        to.write_all(piece).await?;
    }
    to.write_all(rest).await
}

fn contains(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}
