//! What a round stands for, drawn from the seed and the round's number alone.

use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};

/// The longest that anything waits for a destination or an adapter in the configuration below. A server that stands
/// still does so for longer.
pub(crate) const TIMEOUT: Duration = Duration::from_millis(800);
/// How long a server that was asked to stop waits for what is being sent.
pub(crate) const DRAIN: Duration = Duration::from_millis(600);
/// How many messages a port sends at once, by each of its routes.
pub(crate) const IN_FLIGHT: u64 = 16;
/// What a destination asks for with `Retry-After`.
pub(crate) const RETRY_AFTER_SECONDS: u32 = 1;

/// The port that sends to the destination.
pub(crate) const ORDERS: &str = "orders";
/// The port that writes files.
pub(crate) const FILES: &str = "files";
/// The port that sends to the destination and, when its attempts are spent, writes files.
pub(crate) const LADDER: &str = "ladder";
/// All of them.
pub(crate) const PORTS: [&str; 3] = [ORDERS, FILES, LADDER];

/// A generator for one thing, the same whenever it is asked for.
pub(crate) fn random(seed: u64, what: u64, number: u64) -> StdRng {
    // Any mixing does: the generator spreads what it is given.
    StdRng::seed_from_u64(
        seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ what.rotate_left(56) ^ number.rotate_left(8),
    )
}

/// What a round has that not every round has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Plain,
    /// The server's clock jumps.
    Clock,
    /// The box is on a small disk, which gets full.
    SmallDisk,
}

/// A round: lives of the server, one after the other, on one box.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    pub(crate) kind: Kind,
    pub(crate) lives: Vec<Life>,
}

/// What is done in the middle of a life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Act {
    /// It stands still for longer than every timeout.
    Stop(Duration),
    /// The destination refuses connections, and ends those that there are.
    Down(Duration),
    /// The disk is full, for so long; or until the next life has begun.
    Fill { span: Duration, stays: bool },
    /// The clock is so many seconds ahead of the host's from now on.
    Jump(i64),
}

/// How a life ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// SIGKILL.
    Kill,
    /// SIGKILL so long after the process was started, which may be before it listens.
    KillAtStart(Duration),
    /// SIGKILL while it stands still.
    KillStopped(Duration),
    /// SIGTERM; it ends by itself.
    Drain,
    /// SIGTERM, and a second one so long after it.
    DrainTwice(Duration),
    /// SIGTERM, and SIGKILL so long after it.
    DrainKill(Duration),
}

/// A life of the server.
#[derive(Debug, Clone)]
pub(crate) struct Life {
    /// Under load for so long, beside what the acts take.
    pub(crate) load: Duration,
    /// What is done when, in order.
    pub(crate) acts: Vec<(Duration, Act)>,
    pub(crate) end: End,
}

fn millis(random: &mut StdRng, from: u64, to: u64) -> Duration {
    Duration::from_millis(random.random_range(from..=to))
}

impl Plan {
    pub(crate) fn draw(seed: u64, round: u32, lives: u32) -> Self {
        let mut random = random(seed, 1, u64::from(round));
        let kind = [Kind::Plain, Kind::Clock, Kind::SmallDisk][round as usize % 3];
        Self { kind, lives: (0..lives).map(|_| Life::draw(&mut random, kind)).collect() }
    }
}

impl Life {
    fn draw(random: &mut StdRng, kind: Kind) -> Self {
        let end = match random.random_range(0..100) {
            0..58 => End::Kill,
            58..80 => End::KillAtStart(millis(random, 0, 120)),
            80..84 => End::KillStopped(millis(random, 100, 1_400)),
            84..90 => End::Drain,
            90..95 => End::DrainTwice(millis(random, 0, 400)),
            _ => End::DrainKill(millis(random, 0, 500)),
        };
        // Short lives are more frequent than long ones.
        let load = millis(random, 200, 2_000).min(millis(random, 200, 2_000));
        if let End::KillAtStart(_) = end {
            return Self { load: Duration::ZERO, acts: Vec::new(), end };
        }
        let mut acts = Vec::new();
        if random.random_bool(0.08) {
            acts.push((millis(random, 0, 600), Act::Stop(TIMEOUT + millis(random, 100, 600))));
        }
        if random.random_bool(0.1) {
            acts.push((millis(random, 0, 600), Act::Down(millis(random, 50, 500))));
        }
        match kind {
            Kind::Clock if random.random_bool(0.6) => {
                let hours = random.random_range(-6..=6_i64);
                let jump = Act::Jump(hours * 3_600 + random.random_range(-90..=90_i64));
                acts.push((millis(random, 0, 600), jump));
            }
            Kind::SmallDisk if random.random_bool(0.35) => {
                let fill = Act::Fill { span: millis(random, 100, 900), stays: random.random_bool(0.4) };
                acts.push((millis(random, 0, 600), fill));
            }
            _ => {}
        }
        acts.sort_by_key(|(at, _)| *at);
        Self { load, acts, end }
    }
}

/// A message, by its number alone.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sort {
    pub(crate) port: &'static str,
    pub(crate) len: usize,
    /// The destination refuses it for good.
    pub(crate) is_bad: bool,
    /// Not before so long after its submission.
    pub(crate) later: Option<Duration>,
    /// Whoever submits it does so again when it was refused or its answer was lost.
    pub(crate) insists: bool,
    /// Submitted once more when it was taken.
    pub(crate) repeats: bool,
    /// How many messages from this one on are one batch, where it is the first of one.
    pub(crate) batch: u64,
}

impl Sort {
    pub(crate) fn draw(seed: u64, kind: Kind, number: u64) -> Self {
        let mut random = random(seed, 2, number);
        let port = match random.random_range(0..10) {
            0..6 => ORDERS,
            6..8 => FILES,
            _ => LADDER,
        };
        let len = match random.random_range(0..200) {
            0 => random.random_range(256 * 1024..=768 * 1024),
            1..6 => random.random_range(16 * 1024..=128 * 1024),
            6 => 0,
            _ => random.random_range(1..=4096),
        };
        let hours = if kind == Kind::Clock && random.random_bool(0.5) { 5 * 3_600_000 } else { 3_000 };
        Self {
            port,
            len,
            is_bad: port != FILES && random.random_bool(0.02),
            later: random.random_bool(0.03).then(|| millis(&mut random, 100, hours)),
            insists: random.random_bool(0.8),
            repeats: random.random_bool(0.05),
            batch: random.random_range(2..=12),
        }
    }
}

/// What the destination does with a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    /// Keeps it and says so.
    Keep,
    /// Keeps it and ends the connection in the middle of its answer.
    ResetInAnswer,
    /// Keeps it and ends the connection without an answer.
    DropAnswer,
    /// Keeps it and answers twice.
    AnswerTwice,
    /// Keeps it and answers what is no HTTP.
    Garbage,
    /// Keeps it and answers a byte a second.
    SlowAnswer,
    /// Ends the connection in the middle of the request.
    ResetInRequest,
    /// Turns it away for now, with this status.
    Turn(u16),
    /// Turns it away for now and says when to come again.
    TurnWithPatience,
    /// Turns it away for good.
    Refuse,
}

impl Fate {
    /// All but [`Fate::Refuse`], with how often each is.
    const MANNERS: [(u32, Self); 11] = [
        (80, Self::Keep),
        (3, Self::ResetInAnswer),
        (3, Self::DropAnswer),
        (2, Self::AnswerTwice),
        (2, Self::Garbage),
        (1, Self::SlowAnswer),
        (3, Self::ResetInRequest),
        (2, Self::Turn(500)),
        (2, Self::Turn(503)),
        (1, Self::Turn(408)),
        (1, Self::TurnWithPatience),
    ];

    pub(crate) fn draw(seed: u64, kind: Kind, number: u64, attempt: u32, is_calm: bool) -> Self {
        if Sort::draw(seed, kind, number).is_bad {
            return Self::Refuse;
        }
        if is_calm {
            return Self::Keep;
        }
        let mut random = random(seed, 3 + u64::from(attempt), number);
        let sum = Self::MANNERS.iter().map(|(often, _)| often).sum();
        let mut left = random.random_range(0..sum);
        for (often, fate) in Self::MANNERS {
            if left < often {
                return fate;
            }
            left -= often;
        }
        Self::Keep
    }

    /// Whether the destination keeps the message.
    pub(crate) fn is_kept(self) -> bool {
        match self {
            Self::Keep
            | Self::ResetInAnswer
            | Self::DropAnswer
            | Self::AnswerTwice
            | Self::Garbage
            | Self::SlowAnswer => true,
            Self::ResetInRequest | Self::Turn(_) | Self::TurnWithPatience | Self::Refuse => false,
        }
    }

    /// For the table at the end.
    pub(crate) fn text(self) -> &'static str {
        match self {
            Self::Keep => "kept",
            Self::ResetInAnswer => "reset in the middle of the answer",
            Self::DropAnswer => "kept without an answer",
            Self::AnswerTwice => "answered twice",
            Self::Garbage => "answered garbage",
            Self::SlowAnswer => "answered a byte a second",
            Self::ResetInRequest => "reset in the middle of the request",
            Self::Turn(_) => "turned away for now",
            Self::TurnWithPatience => "turned away, with Retry-After",
            Self::Refuse => "refused for good",
        }
    }
}

/// The server's configuration. The box is in `data`.
pub(crate) fn config(engine: &str, data: &str, url: &str) -> String {
    let retry = "retry = { attempts = 1000, first = '20ms', factor = 2.0, max = '400ms', jitter = 0.2 }";
    let twice = "retry = { attempts = 2, first = '20ms', max = '400ms' }";
    let limits = format!("timeout = '{}ms'\nin_flight = {IN_FLIGHT}\n", TIMEOUT.as_millis());
    format!(
        "[box]\ndata = '{data}'\nengine = '{engine}'\nsegment_bytes = '1MiB'\n\
         keep_finished = {{ count = 10000000, age = '30 days' }}\n\
         [server]\nlisten = '127.0.0.1:0'\ndrain = '{}ms'\n\
         [[port]]\nname = '{ORDERS}'\n[port.primary]\nadapter = 'http'\nurl = '{url}/{ORDERS}'\n{retry}\n{limits}\
         [[port]]\nname = '{FILES}'\n[port.primary]\nadapter = 'file'\nfolder = '{FILES}'\n{retry}\n{limits}\
         [[port]]\nname = '{LADDER}'\n[port.primary]\nadapter = 'http'\nurl = '{url}/{LADDER}'\n{twice}\n{limits}\
         [port.backup]\nadapter = 'file'\nfolder = '{LADDER}'\n{retry}\n{limits}",
        DRAIN.as_millis()
    )
}
