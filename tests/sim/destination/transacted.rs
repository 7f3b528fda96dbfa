//! A destination that prepares transactions and commits them. What it holds prepared outlives our side.

use async_trait::async_trait;
use pillarbox_runtime::adapter::{
    DoubleSafety, Outgoing, SendError, TransactionId, TransactionalSender, Transport, TransportInfo,
};
use pillarbox_sim::history::{Part, What, body_hash};
use rand::Rng;

use super::{Destination, Treat, info, to};

/// A [`TransactionalSender`].
#[derive(Debug)]
pub(super) struct TwoPhase {
    pub(super) destination: Destination,
    /// What the destination calls itself.
    pub(super) holder: String,
}

/// How a transaction ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Commit,
    RollBack,
}

/// What goes wrong with that.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wrong {
    Nothing,
    /// It does not end.
    Error,
    /// It ends, and the answer is an error.
    EndedThenError,
    Hang,
    EndedThenHang,
    Panic,
}

impl TwoPhase {
    /// What becomes of one message is told where it is alone. Otherwise each is tried alone next.
    fn fails(&self, messages: &[Outgoing], error: SendError) -> SendError {
        match messages {
            [only] => self.destination.fails(only, error),
            _ => error,
        }
    }

    fn hold(&self, id: &TransactionId, messages: &[Outgoing]) -> Result<(), SendError> {
        let world = &self.destination.world;
        let mut parts = Vec::new();
        for message in messages {
            let Ok(body) = message.body().to_bytes() else {
                world.mark("destination: too late for the body");
                return Err(self.fails(messages, SendError::temporary("the body cannot be read")));
            };
            let (to, attempt) = (to(message), message.attempt());
            parts.push(Part { to, attempt, body: body_hash(&body), in_doubt: message.in_doubt() });
        }
        world.hold(&self.holder, id);
        world.record(What::Prepared { transaction: id.to_string(), parts });
        Ok(())
    }

    fn wrong(&self) -> Wrong {
        let world = &self.destination.world;
        if world.is_calm() {
            return Wrong::Nothing;
        }
        match world.draw(|random| random.random_range(0..25)) {
            0 | 1 => Wrong::Error,
            2 | 3 => Wrong::EndedThenError,
            4 => Wrong::Hang,
            5 => Wrong::EndedThenHang,
            6 => Wrong::Panic,
            _ => Wrong::Nothing,
        }
    }

    fn let_go(&self, id: &TransactionId, end: End) {
        let world = &self.destination.world;
        if !world.let_go(&self.holder, id) {
            return world.mark("transaction: there is nothing of it");
        }
        let transaction = id.to_string();
        world.record(match end {
            End::Commit => What::Committed(transaction),
            End::RollBack => What::RolledBack(transaction),
        });
    }

    async fn end(&self, id: &TransactionId, end: End) -> Result<(), SendError> {
        self.destination.pause().await;
        let wrong = self.wrong();
        if matches!(wrong, Wrong::Nothing | Wrong::EndedThenError | Wrong::EndedThenHang) {
            self.let_go(id, end);
        }
        if wrong != Wrong::Nothing {
            self.destination.world.mark(match end {
                End::Commit => "transaction: a commit went wrong",
                End::RollBack => "transaction: a rollback went wrong",
            });
        }
        match wrong {
            Wrong::Nothing => Ok(()),
            Wrong::Error | Wrong::EndedThenError => Err(SendError::temporary("it may have ended")),
            Wrong::Hang | Wrong::EndedThenHang => std::future::pending().await,
            Wrong::Panic => std::panic::resume_unwind(Box::new("a simulated panic")),
        }
    }
}

impl Transport for TwoPhase {
    fn describe(&self) -> TransportInfo {
        let info = info(&self.destination, "two-phase");
        let capabilities = info.capabilities.double_safety(DoubleSafety::TwoPhase);
        TransportInfo { capabilities, ..info }
    }
}

#[async_trait]
impl TransactionalSender for TwoPhase {
    fn messages_max(&self) -> usize {
        7
    }

    async fn prepare(&self, id: &TransactionId, messages: &[Outgoing]) -> Result<(), SendError> {
        let destination = &self.destination;
        let treat = destination.draw();
        destination.pause().await;
        match treat {
            Treat::Fine | Treat::Twice | Treat::Ask(_) => self.hold(id, messages),
            Treat::Late => {
                destination.be_late().await;
                self.hold(id, messages)
            }
            Treat::SentThenError => {
                self.hold(id, messages)?;
                Err(self.fails(messages, SendError::temporary("the answer was lost")))
            }
            Treat::Hang => {
                if destination.world.percent(50) {
                    self.hold(id, messages)?;
                }
                std::future::pending().await
            }
            Treat::Panic => {
                self.fails(messages, SendError::temporary("panics"));
                std::panic::resume_unwind(Box::new("a simulated panic"))
            }
            Treat::Permanent => Err(self.fails(messages, SendError::permanent("refused"))),
            Treat::RetryAfter(span) => {
                Err(self.fails(messages, SendError::temporary("busy").retry_after(span)))
            }
            Treat::Temporary | Treat::LetGo => Err(self.fails(messages, SendError::temporary("not now"))),
        }
    }

    async fn commit(&self, id: &TransactionId) -> Result<(), SendError> {
        self.end(id, End::Commit).await
    }

    async fn roll_back(&self, id: &TransactionId) -> Result<(), SendError> {
        self.end(id, End::RollBack).await
    }

    fn destination(&self) -> String {
        self.holder.clone()
    }

    async fn prepared(&self, _prefix: &str) -> Result<Vec<TransactionId>, SendError> {
        let world = &self.destination.world;
        self.destination.pause().await;
        if !world.is_calm() && world.percent(10) {
            world.mark("transaction: not listed");
            return Err(SendError::temporary("it does not say"));
        }
        let held = world.held(&self.holder);
        if !held.is_empty() {
            world.mark("transaction: left prepared and found");
        }
        Ok(held)
    }

    async fn close(&self) {
        self.destination.terminate().await;
    }
}
