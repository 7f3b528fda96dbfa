//! Batches: changes as a value, applied in one atomic and durable step.

use crate::{
    Answer, AttemptNote, BatchId, DeliveryId, DoubtVerdict, Headers, Lease, Message, PortName, PortSpec,
    Refusal, Timestamp,
};

/// When [`crate::Store::commit`] may answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Durability {
    /// After the batch is flushed to the disk: it survives a power cut.
    #[default]
    Flushed,
    /// After the batch is handed to the operating system: it survives the process, not a power cut.
    Written,
}

/// One change. Build them with [`Batch`]'s methods.
#[non_exhaustive]
#[derive(Debug, Clone)]
pub enum Op {
    /// Put a message into the box, on its way to each of the ports.
    Submit {
        /// The message.
        message: Message,
        /// Its destinations, each once.
        ports: Vec<PortName>,
        /// Not to be sent before this.
        not_before: Option<Timestamp>,
    },
    /// It was sent: the delivery is done.
    Delete {
        /// The right to say so.
        lease: Lease,
        /// The attempt that sent it.
        attempt: Option<AttemptNote>,
    },
    /// It was sent and answered: the delivery is done, and the answer is kept with it, both or neither. See
    /// [`crate::AnswerRetention`] for how long.
    Respond {
        /// The right to say so.
        lease: Lease,
        /// What the destination answered. Apart, since most operations carry none and a batch may have many.
        answer: Box<Answer>,
        /// The attempt that sent it.
        attempt: Option<AttemptNote>,
    },
    /// Send it again on the same route, not before a time.
    Resubmit {
        /// The right to say so.
        lease: Lease,
        /// Not before this.
        at: Timestamp,
        /// The failed attempt; `None` charges none.
        attempt: Option<AttemptNote>,
        /// Headers for the adapter's next attempt; they replace those carried before.
        carried: Headers,
    },
    /// Send it on the backup route, with that route's full budget.
    MoveToBackup {
        /// The right to say so.
        lease: Lease,
        /// The failed attempt.
        attempt: Option<AttemptNote>,
    },
    /// Park it until somebody acts.
    Suspend {
        /// The right to say so.
        lease: Lease,
        /// Why.
        reason: String,
        /// The failed attempt.
        attempt: Option<AttemptNote>,
    },
    /// Say that the delivery is about to be sent: to be committed before the first byte leaves. Until the lease is settled,
    /// a crash leaves it in doubt ([`crate::Doubt`]); so does a lease that is released or ends. With
    /// [`Durability::Written`] that holds for crashes of the process, not for power cuts.
    Intend {
        /// The right to send it.
        lease: Lease,
        /// Whether in a transaction that takes effect by the box's decision only ([`Op::Decide`]).
        transacted: bool,
    },
    /// Park a delivery in doubt until somebody settles that.
    HoldInDoubt {
        /// The right to say so.
        lease: Lease,
    },
    /// Settle what became of a delivery in doubt that nobody works on.
    SettleDoubt {
        /// Which.
        delivery: DeliveryId,
        /// How.
        verdict: DoubtVerdict,
    },
    /// Park a delivery that nobody works on.
    Hold {
        /// Which.
        delivery: DeliveryId,
        /// Why.
        reason: String,
    },
    /// Make a suspended delivery ready, on the primary route and with its full budget; make a waiting one due now.
    Resume {
        /// Which.
        delivery: DeliveryId,
    },
    /// End a delivery that nobody works on without sending it. Its trace stays for the retention.
    Terminate {
        /// Which.
        delivery: DeliveryId,
        /// Why.
        reason: String,
    },
    /// Decide that a transaction which a destination holds prepared is to be committed: written with the end of its
    /// deliveries, both or neither. See [`crate::Decision`]. One that is decided already stays as it is.
    Decide {
        /// The transaction's number.
        transaction: BatchId,
        /// The destination that holds it, at most [`crate::Decision::DESTINATION_BYTES_MAX`] bytes.
        destination: String,
    },
    /// Forget such a decision: the destination has committed. Forgetting one that is not kept does nothing.
    Forget {
        /// The transaction's number.
        transaction: BatchId,
    },
    /// Make a port known, or change what is known of it. Where it has no backup route any more, what waits there goes
    /// back to the primary with its full budget.
    DefinePort {
        /// Its name.
        port: PortName,
        /// What is known of it.
        spec: PortSpec,
    },
    /// Take no more messages for a port. Its deliveries stay.
    RetirePort {
        /// Its name.
        port: PortName,
    },
    /// Hold back a port's deliveries until it is unpaused. What is being sent goes on.
    PausePort {
        /// Its name.
        port: PortName,
    },
    /// Send a paused port's deliveries again.
    UnpausePort {
        /// Its name.
        port: PortName,
    },
}

/// Changes that a store applies in one atomic, durable step.
///
/// By default an operation that cannot be applied is refused by itself, with its reason, and the rest is applied;
/// with [`Batch::all_or_none`] one refusal voids all. Either way a crash leaves all of what was applied or none.
/// A batch is owned by nobody: it can be printed, kept, and committed again under the same id, which applies it
/// once ([`crate::Store::commit`]).
#[must_use = "a batch does nothing until a store commits it"]
#[derive(Debug, Clone)]
pub struct Batch {
    pub(crate) id: BatchId,
    pub(crate) ops: Vec<Op>,
    pub(crate) all_or_none: bool,
    pub(crate) durability: Durability,
}

impl Batch {
    /// The most operations a batch may have.
    pub const OPS_MAX: usize = 65_536;

    /// An empty batch. Give a new id to each; the same id says "the same batch again".
    pub fn new(id: BatchId) -> Self {
        Self { id, ops: Vec::new(), all_or_none: false, durability: Durability::Flushed }
    }

    /// One refusal voids the whole batch.
    pub fn all_or_none(mut self) -> Self {
        self.all_or_none = true;
        self
    }

    /// Asks for less than the full durability, by name.
    pub fn durability(mut self, durability: Durability) -> Self {
        self.durability = durability;
        self
    }

    /// How durable it asks to be.
    pub fn asked_durability(&self) -> Durability {
        self.durability
    }

    /// Adds an operation.
    pub fn push(&mut self, op: Op) {
        self.ops.push(op);
    }

    /// Adds [`Op::Submit`] to one port, due at once.
    pub fn submit(mut self, port: &PortName, message: Message) -> Self {
        self.push(Op::Submit { message, ports: vec![port.clone()], not_before: None });
        self
    }

    /// Adds [`Op::Delete`].
    pub fn delete(mut self, lease: Lease, attempt: Option<AttemptNote>) -> Self {
        self.push(Op::Delete { lease, attempt });
        self
    }

    /// Adds [`Op::Respond`].
    pub fn respond(mut self, lease: Lease, answer: Answer, attempt: Option<AttemptNote>) -> Self {
        self.push(Op::Respond { lease, answer: Box::new(answer), attempt });
        self
    }

    /// Adds [`Op::Resubmit`].
    pub fn resubmit(
        mut self,
        lease: Lease,
        at: Timestamp,
        attempt: Option<AttemptNote>,
        carried: Headers,
    ) -> Self {
        self.push(Op::Resubmit { lease, at, attempt, carried });
        self
    }

    /// Adds [`Op::MoveToBackup`].
    pub fn move_to_backup(mut self, lease: Lease, attempt: Option<AttemptNote>) -> Self {
        self.push(Op::MoveToBackup { lease, attempt });
        self
    }

    /// Adds [`Op::Suspend`].
    pub fn suspend(mut self, lease: Lease, reason: impl Into<String>, attempt: Option<AttemptNote>) -> Self {
        self.push(Op::Suspend { lease, reason: reason.into(), attempt });
        self
    }

    /// Adds [`Op::Intend`].
    pub fn intend(mut self, lease: Lease) -> Self {
        self.push(Op::Intend { lease, transacted: false });
        self
    }

    /// Adds [`Op::Intend`] for a delivery that is sent in a transaction which takes effect by the box's decision only.
    pub fn intend_transacted(mut self, lease: Lease) -> Self {
        self.push(Op::Intend { lease, transacted: true });
        self
    }

    /// Adds [`Op::HoldInDoubt`].
    pub fn hold_in_doubt(mut self, lease: Lease) -> Self {
        self.push(Op::HoldInDoubt { lease });
        self
    }

    /// Adds [`Op::SettleDoubt`].
    pub fn settle_doubt(mut self, delivery: DeliveryId, verdict: DoubtVerdict) -> Self {
        self.push(Op::SettleDoubt { delivery, verdict });
        self
    }

    /// Adds [`Op::Hold`].
    pub fn hold(mut self, delivery: DeliveryId, reason: impl Into<String>) -> Self {
        self.push(Op::Hold { delivery, reason: reason.into() });
        self
    }

    /// Adds [`Op::Resume`].
    pub fn resume(mut self, delivery: DeliveryId) -> Self {
        self.push(Op::Resume { delivery });
        self
    }

    /// Adds [`Op::Terminate`].
    pub fn terminate(mut self, delivery: DeliveryId, reason: impl Into<String>) -> Self {
        self.push(Op::Terminate { delivery, reason: reason.into() });
        self
    }

    /// Adds [`Op::Decide`].
    pub fn decide(mut self, transaction: BatchId, destination: impl Into<String>) -> Self {
        self.push(Op::Decide { transaction, destination: destination.into() });
        self
    }

    /// Adds [`Op::Forget`].
    pub fn forget(mut self, transaction: BatchId) -> Self {
        self.push(Op::Forget { transaction });
        self
    }

    /// Adds [`Op::DefinePort`].
    pub fn define_port(mut self, port: &PortName, spec: PortSpec) -> Self {
        self.push(Op::DefinePort { port: port.clone(), spec });
        self
    }

    /// Adds [`Op::RetirePort`].
    pub fn retire_port(mut self, port: &PortName) -> Self {
        self.push(Op::RetirePort { port: port.clone() });
        self
    }

    /// Adds [`Op::PausePort`].
    pub fn pause_port(mut self, port: &PortName) -> Self {
        self.push(Op::PausePort { port: port.clone() });
        self
    }

    /// Adds [`Op::UnpausePort`].
    pub fn unpause_port(mut self, port: &PortName) -> Self {
        self.push(Op::UnpausePort { port: port.clone() });
        self
    }

    /// Its name.
    #[must_use]
    pub const fn id(&self) -> BatchId {
        self.id
    }

    /// Whether one refusal voids it.
    #[must_use]
    pub const fn is_all_or_none(&self) -> bool {
        self.all_or_none
    }

    /// Its operations, in the order in which they are applied.
    #[must_use]
    pub fn ops(&self) -> &[Op] {
        &self.ops
    }
}

/// What became of one operation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OpResult {
    /// It was applied.
    Applied,
    /// It was applied: the message is in the box under these delivery numbers, `first` for the first port, the
    /// next for the next.
    Submitted {
        /// The first delivery's number.
        first: DeliveryId,
    },
    /// It was not applied, for this reason; the box is as if it had not been in the batch.
    Refused(Refusal),
}

impl OpResult {
    /// Whether it was applied.
    #[must_use]
    pub const fn is_applied(&self) -> bool {
        !matches!(self, Self::Refused(_))
    }
}

/// What became of a batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Committed {
    pub(crate) results: Vec<OpResult>,
    pub(crate) repeated: bool,
}

impl Committed {
    /// One result per operation, in their order.
    #[must_use]
    pub fn results(&self) -> &[OpResult] {
        &self.results
    }

    /// Whether the batch had been applied before, under the same id, and these are the results of then.
    #[must_use]
    pub const fn was_repeated(&self) -> bool {
        self.repeated
    }

    /// Whether every operation was applied.
    #[must_use]
    pub fn all_applied(&self) -> bool {
        self.results.iter().all(OpResult::is_applied)
    }
}
