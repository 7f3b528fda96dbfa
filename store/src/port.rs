//! Ports as the store knows them: a name, whether there is a backup route, whether it is paused.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::{Error, ErrorKind, Timestamp};

/// A port's name: 1 to 64 letters, digits, `.`, `_` and `-`, the first a letter or digit. Cheap to clone.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PortName(Arc<str>);

impl PortName {
    /// The longest name, in bytes.
    pub const BYTES_MAX: usize = 64;

    /// The name `text`.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] where it is not a name.
    pub fn new(text: &str) -> Result<Self, Error> {
        let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
        let fine = text.len() <= Self::BYTES_MAX
            && text.chars().all(allowed)
            && text.chars().next().is_some_and(|c| c.is_ascii_alphanumeric());
        if !fine {
            return Err(Error::new(ErrorKind::Invalid, "take the port's name")
                .with(
                    "reason",
                    "a name has 1 to 64 letters, digits, '.', '_' and '-', a letter or digit first",
                )
                .with("name", text.escape_debug()));
        }
        Ok(Self(text.into()))
    }

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for PortName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for PortName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for PortName {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::new(text)
    }
}

impl TryFrom<String> for PortName {
    type Error = Error;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        Self::new(&text)
    }
}

impl From<PortName> for String {
    fn from(name: PortName) -> Self {
        name.0.as_ref().to_owned()
    }
}

/// What the store has to know of a port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PortSpec {
    /// Whether deliveries may move to a backup route.
    pub backup: bool,
}

/// How many deliveries of a port are in each state. Exact.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Counts {
    /// May be leased now.
    pub ready: u64,
    /// Not due for the first time yet.
    pub scheduled: u64,
    /// Failed, and due again later.
    pub retry_wait: u64,
    /// Being sent.
    pub leased: u64,
    /// Parked until somebody acts.
    pub suspended: u64,
    /// Delivered, and still within the retention.
    pub done: u64,
    /// Ended by an operator, and still within the retention.
    pub terminated: u64,
    /// Parked, since nobody knows whether they were sent.
    #[serde(default)]
    pub in_doubt: u64,
}

impl Counts {
    /// Deliveries without an outcome.
    #[must_use]
    pub const fn live(&self) -> u64 {
        self.ready + self.scheduled + self.retry_wait + self.leased + self.suspended + self.in_doubt
    }
}

/// A port, as [`crate::Store::ports`] tells of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PortInfo {
    /// Its name.
    pub name: PortName,
    /// Whether it has a backup route.
    pub backup: bool,
    /// Whether messages may be submitted to it: false once it was retired and still has deliveries.
    pub defined: bool,
    /// Whether its deliveries are held back.
    pub paused: bool,
    /// Its deliveries by state.
    pub counts: Counts,
    /// When the next delivery that waits for a time is due.
    pub next_due: Option<Timestamp>,
}
