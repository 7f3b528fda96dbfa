//! A batch made ready for the ledger on the caller's thread: headers encoded, long bodies cut.

use std::ops::Range;

use bytes::Bytes;

use crate::{
    Batch, BatchId, Body, Decision, Durability, Error, ErrorKind, FRAGMENT_BYTES, MessageId, Op, OpResult,
    PortName, Timestamp, codec,
};

/// A batch, ready to be applied.
#[derive(Debug)]
pub(crate) struct Prepared {
    pub(crate) id: BatchId,
    pub(crate) ops: Vec<PreparedOp>,
    /// The headers of all submitted messages, encoded, one after another.
    pub(crate) headers: Vec<u8>,
    pub(crate) all_or_none: bool,
    pub(crate) durability: Durability,
    /// About how many bytes it adds to the disk.
    pub(crate) bytes: u64,
    /// Whether it adds to what the box keeps: a full disk refuses those first. What ends deliveries makes room, and
    /// what an operator says is small.
    pub(crate) adds: bool,
    /// Room for the results, from the caller's thread as well: memory that goes back and forth between threads is
    /// dear.
    pub(crate) results: Vec<OpResult>,
}

/// One operation.
#[derive(Debug)]
pub(crate) enum PreparedOp {
    /// [`Op::Submit`].
    Submit { id: MessageId, ports: Ports, not_before: Timestamp, headers: Range<usize>, body: PreparedBody },
    /// A fragment of a body that belongs to no message yet.
    Stage { number: u64, index: u32, bytes: Bytes },
    /// Such a body is not wanted any more.
    Unstage { number: u64 },
    /// Anything else.
    Other(Op),
}

/// The ports of a message. Nearly every one has a single port, which needs no memory of its own.
#[derive(Debug)]
pub(crate) enum Ports {
    /// This one.
    One(PortName),
    /// None, or several.
    Others(Vec<PortName>),
}

impl Ports {
    fn new(ports: &[PortName]) -> Self {
        match ports {
            [port] => Self::One(port.clone()),
            others => Self::Others(others.to_vec()),
        }
    }
}

impl std::ops::Deref for Ports {
    type Target = [PortName];

    fn deref(&self) -> &[PortName] {
        match self {
            Self::One(port) => std::slice::from_ref(port),
            Self::Others(ports) => ports,
        }
    }
}

/// A submitted body.
#[derive(Debug)]
pub(crate) enum PreparedBody {
    /// Short enough for the message's own record.
    Whole(Bytes),
    /// In pieces of [`FRAGMENT_BYTES`].
    Cut { pieces: Vec<Bytes>, len: u64 },
    /// Put in ahead.
    Staged { number: u64, len: u64 },
}

impl PreparedBody {
    pub(crate) fn len(&self) -> u64 {
        match self {
            Self::Whole(bytes) => bytes.len() as u64,
            Self::Cut { len, .. } | Self::Staged { len, .. } => *len,
        }
    }
}

/// What an operation adds to the disk beside bodies, at most: record headers, trace, attempt.
const OP_BYTES: u64 = 512;
/// What saying that a delivery is about to be sent adds.
const INTENT_BYTES: u64 = 16;

/// What a batch may add to the disk: it is written as one group.
const BATCH_BYTES_MAX: u64 = 512 * 1024 * 1024;

impl Prepared {
    /// Prepares `batch`.
    pub(crate) fn new(batch: &Batch, body_bytes_max: u64) -> Result<Self, Error> {
        let mut prepared = Self::empty(batch.id, batch.durability);
        prepared.all_or_none = batch.all_or_none;
        if batch.ops.len() > Batch::OPS_MAX {
            return Err(Error::new(ErrorKind::Invalid, "take the batch")
                .with("reason", "it has too many operations; split it")
                .with("operations", batch.ops.len())
                .with("operations_max", Batch::OPS_MAX));
        }
        prepared.ops.reserve(batch.ops.len());
        prepared.results.reserve(batch.ops.len());
        for op in &batch.ops {
            prepared.bytes += if matches!(op, Op::Intend { .. }) { INTENT_BYTES } else { OP_BYTES };
            prepared.adds |= adds(op);
            if let Op::Respond { answer, .. } = op {
                prepared.bytes += answer.bytes();
            }
            if let Op::Decide { destination, .. } = op {
                check_destination(destination)?;
                prepared.bytes += destination.len() as u64;
            }
            let Op::Submit { message, ports, not_before } = op else {
                prepared.ops.push(PreparedOp::Other(op.clone()));
                continue;
            };
            if message.body.len() > body_bytes_max {
                return Err(Error::new(ErrorKind::Invalid, "take the message")
                    .with("reason", "its body is longer than the box allows")
                    .with("message", message.id)
                    .with("bytes", message.body.len())
                    .with("body_bytes_max", body_bytes_max));
            }
            let start = prepared.headers.len();
            if !message.headers.is_empty() {
                prepared.headers.reserve(message.headers.bytes() + 8 * (message.headers.len() + 1));
                codec::encode(&message.headers, &mut prepared.headers);
            }
            let headers = start..prepared.headers.len();
            let body = prepare_body(&message.body)?;
            // A staged body is on the disk already.
            let body_bytes = if matches!(body, PreparedBody::Staged { .. }) { 0 } else { body.len() };
            prepared.bytes += headers.len() as u64 + body_bytes + 8 * ports.len() as u64;
            prepared.ops.push(PreparedOp::Submit {
                id: message.id,
                ports: Ports::new(ports),
                not_before: not_before.unwrap_or(Timestamp::EPOCH),
                headers,
                body,
            });
        }
        if prepared.bytes > BATCH_BYTES_MAX {
            return Err(Error::new(ErrorKind::Invalid, "take the batch")
                .with("reason", "it is too large; split it, or put long bodies in ahead with a body writer")
                .with("bytes", prepared.bytes)
                .with("bytes_max", BATCH_BYTES_MAX));
        }
        Ok(prepared)
    }

    /// One fragment of a body ahead of its message.
    pub(crate) fn stage(id: BatchId, number: u64, index: u32, bytes: Bytes) -> Self {
        let mut prepared = Self::empty(id, Durability::Written);
        prepared.bytes = OP_BYTES + bytes.len() as u64;
        prepared.adds = true;
        prepared.ops.push(PreparedOp::Stage { number, index, bytes });
        prepared
    }

    /// Gives the room of such a body back.
    pub(crate) fn unstage(id: BatchId, number: u64) -> Self {
        let mut prepared = Self::empty(id, Durability::Written);
        prepared.ops.push(PreparedOp::Unstage { number });
        prepared
    }

    fn empty(id: BatchId, durability: Durability) -> Self {
        Self {
            id,
            ops: Vec::new(),
            headers: Vec::new(),
            all_or_none: false,
            durability,
            bytes: 0,
            adds: false,
            results: Vec::new(),
        }
    }
}

fn check_destination(name: &str) -> Result<(), Error> {
    if name.len() <= Decision::DESTINATION_BYTES_MAX {
        return Ok(());
    }
    Err(Error::new(ErrorKind::Invalid, "take the decision")
        .with("reason", "the destination's name is too long")
        .with("bytes", name.len())
        .with("bytes_max", Decision::DESTINATION_BYTES_MAX))
}

const fn adds(op: &Op) -> bool {
    matches!(
        op,
        Op::Submit { .. }
            | Op::Respond { .. }
            | Op::Resubmit { .. }
            | Op::MoveToBackup { .. }
            | Op::Suspend { .. }
    )
}

fn prepare_body(body: &Body) -> Result<PreparedBody, Error> {
    if let Some(staged) = body.as_staged() {
        return Ok(PreparedBody::Staged { number: staged.number, len: staged.len });
    }
    if body.len() <= FRAGMENT_BYTES as u64 {
        return body.to_bytes().map(PreparedBody::Whole);
    }
    let pieces = (0..body.fragments()).map(|index| body.fragment(index)).collect::<Result<_, _>>()?;
    Ok(PreparedBody::Cut { pieces, len: body.len() })
}
