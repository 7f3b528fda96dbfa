//! Why a send failed, and whether another attempt can help.

use std::error::Error as StdError;
use std::fmt;
use std::time::Duration;

use pillarbox_store::Failure;

/// Whether another attempt can help.
#[non_exhaustive]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorClass {
    /// It may work later: the destination is down, busy, slow. Retried by the port's policy.
    Temporary,
    /// It will never work as it is: the destination refuses this message. Suspended at once.
    Permanent,
}

/// A failed send.
///
/// The text says what failed with which values; causes go into the source and are kept with the delivery. Never put
/// a secret into either.
#[derive(Debug)]
pub struct SendError {
    class: ErrorClass,
    text: String,
    retry_after: Option<Duration>,
    source: Option<Box<dyn StdError + Send + Sync>>,
}

impl SendError {
    /// A failure that may be gone at the next attempt.
    #[must_use]
    pub fn temporary(text: impl Into<String>) -> Self {
        Self { class: ErrorClass::Temporary, text: text.into(), retry_after: None, source: None }
    }

    /// A failure that no further attempt can cure.
    #[must_use]
    pub fn permanent(text: impl Into<String>) -> Self {
        Self { class: ErrorClass::Permanent, text: text.into(), retry_after: None, source: None }
    }

    /// Adds the cause.
    #[must_use]
    pub fn caused_by(mut self, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// Asks for the next attempt not before this span has passed: what the destination said in `Retry-After`.
    /// The port's policy may wait longer, never shorter.
    #[must_use]
    pub fn retry_after(mut self, span: Duration) -> Self {
        self.retry_after = Some(span);
        self
    }

    /// Whether another attempt can help.
    #[must_use]
    pub const fn class(&self) -> ErrorClass {
        self.class
    }

    /// What the destination asked to wait.
    #[must_use]
    pub const fn wait(&self) -> Option<Duration> {
        self.retry_after
    }

    /// As kept in the delivery's history: the text and every cause below it.
    #[must_use]
    pub fn to_failure(&self) -> Failure {
        let mut chain = vec![self.text.clone()];
        let mut cause = self.source.as_deref().map(|source| source as &dyn StdError);
        while let Some(error) = cause {
            let text = error.to_string();
            if chain.last() != Some(&text) {
                chain.push(text);
            }
            cause = error.source();
        }
        Failure::new(self.class == ErrorClass::Permanent, chain)
    }
}

impl fmt::Display for SendError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl StdError for SendError {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.source.as_deref().map(|source| source as _)
    }
}
