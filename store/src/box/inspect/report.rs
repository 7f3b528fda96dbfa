//! What a check tells.

use std::ops::Range;

use crate::engine::{FileInfo, Key, TornTail};
use crate::{BoxId, MessageId, PortInfo};

/// What is in a box, and what of it is damaged.
#[derive(Debug, Clone, Default)]
pub struct Report {
    /// The engine's name.
    pub engine: &'static str,
    /// The box's name; `None` in an empty box, and where it is lost.
    pub id: Option<BoxId>,
    /// What is there and whole.
    pub contents: Contents,
    /// The engine's files, oldest first, where it tells of them.
    pub files: Vec<FileInfo>,
    /// The end that a crash left unfinished. It was never acknowledged: no damage.
    pub torn_tail: Option<TornTail>,
    /// What is damaged, and what that costs.
    pub findings: Vec<Finding>,
}

impl Report {
    /// Whether nothing is damaged.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.findings.is_empty()
    }

    /// Whether something of the box is lost, and not only bytes that were there twice.
    #[must_use]
    pub fn has_losses(&self) -> bool {
        self.findings.iter().any(|finding| finding.loses != Loses::Nothing)
    }
}

/// What is there and whole.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Contents {
    /// Records of every kind.
    pub records: u64,
    /// Bytes of their heads and bodies.
    pub bytes: u64,
    /// Messages with a delivery that has not ended.
    pub messages: u64,
    /// Pieces of long bodies.
    pub fragments: u64,
    /// Failed attempts in the history.
    pub attempts: u64,
    /// Traces of deliveries that have ended.
    pub traces: u64,
    /// Answers.
    pub answers: u64,
    /// Decisions about transactions of destinations.
    pub decisions: u64,
    /// Batches that are remembered.
    pub batches: u64,
    /// Records of bodies that were never submitted, and what is left of messages that are lost.
    pub leftovers: u64,
    /// The ports, with their deliveries by state.
    pub ports: Vec<PortInfo>,
}

/// What a finding costs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Loses {
    /// Nothing: what was there is known from elsewhere, or nobody needs it.
    Nothing,
    /// A message: its head, or a part of its body.
    Message,
    /// How a delivery stood: opening suspends it. Its message is whole.
    State,
    /// A failed attempt of a delivery's history.
    Attempt,
    /// Traces of deliveries that had ended.
    Traces,
    /// The answer to a message.
    Answer,
    /// That a transaction of a destination is to be committed: nothing of this box is rolled back there any more.
    Decision,
    /// That a delivery was being sent, or may have been: it is sent again as if for the first time.
    Doubt,
    /// That batches were applied: committed again, they are not recognised, though their messages are.
    Batches,
    /// A port's name: its deliveries wait.
    Port,
    /// The box's id: destinations recognise no earlier attempt.
    BoxId,
    /// It cannot be told: records are missing, or such are back that were replaced or deleted.
    Unknown,
}

impl Loses {
    /// Its name in JSON.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Nothing => "nothing",
            Self::Message => "message",
            Self::State => "delivery-state",
            Self::Attempt => "attempt",
            Self::Traces => "traces",
            Self::Answer => "answer",
            Self::Decision => "decision",
            Self::Doubt => "doubt",
            Self::Batches => "batch-ids",
            Self::Port => "port",
            Self::BoxId => "box-id",
            Self::Unknown => "unknown",
        }
    }
}

/// One thing that is damaged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// The file; empty where it is no single one.
    pub file: String,
    /// Where in it.
    pub offset: u64,
    /// How much of it.
    pub bytes: u64,
    /// The record, where that is known.
    pub key: Option<Key>,
    /// What is wrong.
    pub what: String,
    /// What it costs.
    pub loses: Loses,
    /// The message it is about.
    pub message: Option<MessageId>,
    /// Whether the message's id is certain. Else it is read from bytes that are damaged.
    pub is_message_sure: bool,
    /// Numbers of the deliveries it is about.
    pub deliveries: Vec<Range<u64>>,
}

impl Finding {
    /// The numbers of the deliveries as people write them: `3, 7 to 9`. Empty where there are none.
    #[must_use]
    pub fn deliveries_told(&self) -> String {
        told_ranges(&self.deliveries)
    }
}

/// `3, 7 to 9`.
pub(in crate::message_box) fn told_ranges(ranges: &[Range<u64>]) -> String {
    let one = |range: &Range<u64>| match range.end.saturating_sub(range.start) {
        0 | 1 => range.start.to_string(),
        _ => format!("{} to {}", range.start, range.end - 1),
    };
    ranges.iter().map(one).collect::<Vec<_>>().join(", ")
}
