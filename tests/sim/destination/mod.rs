//! Simulated destinations, as adapters of every shape.

mod batch;
mod simple;
mod transacted;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use pillarbox_runtime::Tasks;
use pillarbox_runtime::adapter::{Adapter, Capabilities, Outgoing, SendError, TransportInfo};
use pillarbox_sim::history::{To, Told, What, body_hash};
use pillarbox_store::{PortName, Route};
use rand::Rng;

use crate::plan::{Manners, RoutePlan};
use crate::world::World;

/// By which of the adapter traits a destination is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shape {
    Sender,
    BatchSender,
    Transmitter,
    Protocol,
    TwoPhase,
    Requester,
}

impl Shape {
    /// Without transactions, and the whole protocol more often than the others.
    pub(crate) const PLAIN: [Self; 5] =
        [Self::Sender, Self::BatchSender, Self::Transmitter, Self::Protocol, Self::Protocol];
}

/// What becomes of one attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Treat {
    Fine,
    Temporary,
    RetryAfter(Duration),
    Permanent,
    Hang,
    Panic,
    /// It arrives, and the answer is an error.
    SentThenError,
    /// It arrives after the attempt's time.
    Late,
    /// Let go of without a word. A sender cannot: it fails.
    LetGo,
    /// Completed twice. A sender cannot: it is fine.
    Twice,
    /// The adapter asks for something by itself. A sender cannot: it fails.
    Ask(Ask),
}

/// What an adapter may ask for by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ask {
    Suspend,
    Backup,
    Resubmit,
    GiveBack,
}

/// One route's destination. Clones are the same one.
#[derive(Debug, Clone)]
pub(crate) struct Destination {
    world: World,
    manners: Manners,
    timeout: Duration,
    init_at_start: bool,
    /// The adapter's own tasks and what it never lets go of: both end with the process.
    tasks: Tasks,
    kept: Arc<Mutex<Vec<Outgoing>>>,
}

/// The adapter of a route's destination.
pub(crate) fn adapter(world: &World, port: &PortName, route: Route, plan: &RoutePlan) -> Adapter {
    let destination = Destination {
        world: world.clone(),
        manners: plan.manners,
        timeout: plan.timeout,
        init_at_start: plan.init_at_start,
        tasks: Tasks::new(),
        kept: Arc::default(),
    };
    let dying = destination.clone();
    world.at_death(move || dying.end());
    match plan.shape {
        Shape::Sender => Adapter::sender(simple::One(destination)),
        Shape::BatchSender => Adapter::batch_sender(simple::Many(destination)),
        Shape::Transmitter => Adapter::transmitter(simple::Each::new(destination)),
        Shape::Protocol => Adapter::batch_transmitter(batch::Protocol::new(destination)),
        Shape::Requester => Adapter::requester(simple::Asked(destination)),
        Shape::TwoPhase => {
            let holder = format!("{port}/{route:?}");
            Adapter::transactional(transacted::TwoPhase { destination, holder })
        }
    }
}

fn info(destination: &Destination, kind: &'static str) -> TransportInfo {
    let mut capabilities = Capabilities::default();
    if destination.init_at_start {
        capabilities = capabilities.init_at_start();
    }
    TransportInfo {
        kind,
        name: kind,
        version: "1",
        description: "simulated",
        capabilities,
        uri_prefixes: &[],
    }
}

fn to(message: &Outgoing) -> To {
    To { message: message.message_id(), port: message.port().clone() }
}

impl Destination {
    /// Draws what becomes of an attempt. Calm destinations are fine.
    fn draw(&self) -> Treat {
        if self.world.is_calm() {
            return Treat::Fine;
        }
        let Manners { fine, temporary, other, .. } = self.manners;
        let treat = self.world.draw(|random| {
            let place = random.random_range(0..fine + temporary + other);
            match place {
                place if place < fine => Treat::Fine,
                place if place < fine + temporary => Treat::Temporary,
                _ => match random.random_range(0..13) {
                    0 => Treat::RetryAfter(Duration::from_secs(random.random_range(1..100))),
                    1 => Treat::Permanent,
                    2 => Treat::Hang,
                    3 => Treat::Panic,
                    4 => Treat::SentThenError,
                    5 => Treat::Late,
                    6 => Treat::LetGo,
                    7 | 8 => Treat::Twice,
                    9 => Treat::Ask(Ask::Suspend),
                    10 => Treat::Ask(Ask::Backup),
                    11 => Treat::Ask(Ask::Resubmit),
                    _ => Treat::Ask(Ask::GiveBack),
                },
            }
        });
        self.world.mark(treat.mark());
        treat
    }

    async fn pause(&self) {
        let most = if self.world.is_calm() { Duration::from_millis(20) } else { self.manners.pause };
        self.world.nap(most).await;
        self.world.end_if_dead().await;
    }

    /// The message is at the destination now; an error where its body cannot be read any more.
    fn deliver(&self, message: &Outgoing) -> Result<(), SendError> {
        let Ok(body) = message.body().to_bytes() else {
            self.world.mark("destination: too late for the body");
            return Err(self.fails(message, SendError::temporary("the body cannot be read")));
        };
        self.world.record(What::Seen {
            to: to(message),
            route: message.route(),
            attempt: message.attempt(),
            send_key: message.send_key().to_owned(),
            body: body_hash(&body),
            in_doubt: message.in_doubt(),
        });
        Ok(())
    }

    fn tell(&self, message: &Outgoing, told: Told) {
        self.world.record(What::Told { to: to(message), attempt: message.attempt(), told });
    }

    /// The engine is about to hear of this error.
    fn fails(&self, message: &Outgoing, error: SendError) -> SendError {
        let permanent = error.class() == pillarbox_runtime::adapter::ErrorClass::Permanent;
        self.tell(message, Told::Failed { permanent, retry_after: error.wait() });
        error
    }

    /// One attempt from its beginning to its end, for those who can only say how it went.
    async fn carry_out(&self, message: &Outgoing, treat: Treat) -> Result<(), SendError> {
        self.pause().await;
        match treat {
            Treat::Hang => {
                std::future::pending::<()>().await;
                Ok(())
            }
            Treat::Late => {
                self.be_late().await;
                self.arrives(message)
            }
            Treat::Fine | Treat::Twice => self.arrives(message),
            Treat::SentThenError => {
                self.deliver(message)?;
                Err(self.fails(message, SendError::temporary("the answer was lost")))
            }
            Treat::Permanent => Err(self.fails(message, SendError::permanent("refused"))),
            Treat::RetryAfter(span) => {
                Err(self.fails(message, SendError::temporary("busy").retry_after(span)))
            }
            Treat::Panic => {
                self.fails(message, SendError::temporary("panics"));
                // Without the panic hook and its output.
                std::panic::resume_unwind(Box::new("a simulated panic"))
            }
            Treat::Temporary | Treat::LetGo | Treat::Ask(_) => {
                Err(self.fails(message, SendError::temporary("not now")))
            }
        }
    }

    /// Lets about the time of an attempt pass.
    async fn be_late(&self) {
        let share = self.world.draw(|random| random.random_range(0.9..1.4));
        tokio::time::sleep(self.timeout.mul_f64(share)).await;
        self.world.end_if_dead().await;
    }

    fn arrives(&self, message: &Outgoing) -> Result<(), SendError> {
        self.deliver(message)?;
        self.tell(message, Told::Sent);
        Ok(())
    }

    fn keep(&self, message: Outgoing) {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner).push(message);
    }

    /// The adapter's end by the contract: what is being sent is finished, what hangs is let go of.
    async fn terminate(&self) {
        self.tasks.idle().await;
        for message in self.take_kept() {
            self.fails(&message, SendError::temporary("let go of at the end"));
        }
    }

    fn take_kept(&self) -> Vec<Outgoing> {
        std::mem::take(&mut *self.kept.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The process dies.
    fn end(&self) {
        self.tasks.abort_all();
        drop(self.take_kept());
    }
}

impl Treat {
    const fn mark(self) -> &'static str {
        match self {
            Self::Fine => "destination: fine",
            Self::Temporary => "destination: temporary error",
            Self::RetryAfter(_) => "destination: retry after",
            Self::Permanent => "destination: permanent error",
            Self::Hang => "destination: hangs",
            Self::Panic => "destination: panics",
            Self::SentThenError => "destination: sent, then an error",
            Self::Late => "destination: late",
            Self::LetGo => "destination: lets go",
            Self::Twice => "destination: completes twice",
            Self::Ask(Ask::Suspend) => "destination: asks to suspend",
            Self::Ask(Ask::Backup) => "destination: asks for the backup",
            Self::Ask(Ask::Resubmit) => "destination: asks to resubmit",
            Self::Ask(Ask::GiveBack) => "destination: gives back",
        }
    }
}
