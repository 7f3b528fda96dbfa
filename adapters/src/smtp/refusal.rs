//! What a mail server's answers mean for the delivery.

use std::error::Error as _;

use lettre::transport::smtp::Error;
use pillarbox_runtime::adapter::SendError;

use crate::said;

/// How much of what the server says is shown.
const SHOWN_BYTES_MAX: usize = 1024;
/// Refusals of us, not of the mail: we have to log in, to speak TLS, or are not believed.
const ABOUT_US: [u16; 4] = [530, 534, 535, 538];

/// What went wrong at a step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) is_permanent: bool,
    pub(super) said: String,
    /// Whether the server answered at all.
    pub(super) is_answer: bool,
}

impl Refusal {
    /// Temporary for 4xx, for refusals of us, and where the connection broke; permanent for every other 5xx.
    pub(super) fn new(error: &Error, secrets: &[String]) -> Self {
        let code = error.status().map(u16::from);
        let mut text = String::new();
        if let Some(code) = code {
            text.push_str(&code.to_string());
            text.push(' ');
        } else {
            text.push_str(&error.to_string());
        }
        let mut source = error.source();
        while let Some(cause) = source {
            if code.is_none() {
                text.push_str(": ");
            }
            text.push_str(&cause.to_string());
            source = cause.source();
        }
        Self {
            is_permanent: code.is_some_and(|code| code >= 500 && !ABOUT_US.contains(&code)),
            said: said::line(text.as_bytes(), SHOWN_BYTES_MAX, secrets),
            is_answer: code.is_some(),
        }
    }

    /// The failed send that it is.
    pub(super) fn into_error(self, what: &str) -> SendError {
        failed(self.is_permanent, format!("{what}: {}", self.said))
    }
}

/// A failed send of this class.
pub(super) fn failed(is_permanent: bool, text: String) -> SendError {
    if is_permanent { SendError::permanent(text) } else { SendError::temporary(text) }
}
