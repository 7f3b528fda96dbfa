//! Attempts in doubt: begun, and nobody knows how they ended.

use serde::{Deserialize, Serialize};

use crate::Timestamp;

/// That a delivery may have been sent without the box knowing it: a crash, or a lease that ended, hid how an attempt
/// ended. The mark stays until an attempt's outcome is recorded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Doubt {
    /// How often the process ended, one time after another, while the delivery was being sent.
    pub crashes: u32,
    /// When the last such attempt began.
    pub begun: Timestamp,
    /// Somebody has decided to send it again all the same.
    pub resend: bool,
    /// It was only ever being sent in transactions that the box has not decided to commit ([`crate::Op::Decide`]): the
    /// destination does not have it.
    pub transacted: bool,
}

/// How an attempt in doubt is settled by somebody who knows ([`crate::Op::SettleDoubt`]).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DoubtVerdict {
    /// The destination has the message: the delivery is done.
    Landed,
    /// It is sent again, under the same send key.
    Resend,
    /// It is parked.
    Suspend,
}

impl DoubtVerdict {
    /// Every verdict.
    pub const ALL: [Self; 3] = [Self::Landed, Self::Resend, Self::Suspend];

    /// Its name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Landed => "landed",
            Self::Resend => "resend",
            Self::Suspend => "suspend",
        }
    }

    /// The verdict of this name.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|verdict| verdict.as_str() == name)
    }
}
