//! The invariants, each by its name.

use std::fmt;

/// What always holds. `docs/proof.md` lists them with the tests that check each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[expect(missing_docs, reason = "`Invariant::text` says what each is")]
pub enum Invariant {
    I1,
    I2,
    I3,
    I4,
    I5,
    I6,
    I7,
    I8,
    I9,
    I10,
    I11,
    I12,
    I13,
    I14,
    I15,
    I16,
    I17,
    I18,
}

impl Invariant {
    /// Every invariant, in order.
    pub const ALL: [Self; 18] = [
        Self::I1,
        Self::I2,
        Self::I3,
        Self::I4,
        Self::I5,
        Self::I6,
        Self::I7,
        Self::I8,
        Self::I9,
        Self::I10,
        Self::I11,
        Self::I12,
        Self::I13,
        Self::I14,
        Self::I15,
        Self::I16,
        Self::I17,
        Self::I18,
    ];

    /// What it says.
    #[must_use]
    pub const fn text(self) -> &'static str {
        match self {
            Self::I1 => "what was accepted is never lost, and arrives as it was submitted",
            Self::I2 => "what was refused or rolled back is never sent",
            Self::I3 => "a delivery has exactly one terminal outcome",
            Self::I4 => {
                "attempts stay within the policy, and each is counted once and only for a failure or a send"
            }
            Self::I5 => "what was sent is not sent again unless it is in doubt or by command",
            Self::I6 => "messages of one ordering key keep their order",
            Self::I7 => "what is suspended stays so until a command",
            Self::I8 => "nothing is sent before it is due, nor while its port is paused",
            Self::I9 => "no route has more in flight than its limit",
            Self::I10 => "a batch is applied all or none",
            Self::I11 => "a reply is committed with its request's completion",
            Self::I12 => "a two-phase send is done on both sides or on neither",
            Self::I13 => "whoever lost a lease settles nothing, and no delivery has two holders",
            Self::I14 => "when faults stop, everything reaches an outcome within a bound",
            Self::I15 => "the audit chain is unbroken",
            Self::I16 => "after the drain the files' size is bounded",
            Self::I17 => "the counts are those of the history",
            Self::I18 => "after any crash the box opens without an operator",
        }
    }

    /// Why nothing checks it yet; `None` where it is checked.
    #[must_use]
    pub const fn not_yet(self) -> Option<&'static str> {
        match self {
            Self::I6 => Some("there are no ordering keys yet"),
            Self::I15 => Some("there is no audit chain yet"),
            _ => None,
        }
    }
}

impl fmt::Display for Invariant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self:?}")
    }
}
