//! What an error of the server's means for a delivery.

use std::time::Duration;

use pillarbox_runtime::adapter::SendError;
use tokio_postgres::Error;

use crate::address::Address;

/// Classes of SQLSTATE that are about the message: wrong data, a violated constraint, a refusal of `WITH CHECK OPTION`,
/// an exception that a trigger or a procedure raised.
const ABOUT_THE_MESSAGE: [&str; 4] = ["22", "23", "44", "P0"];
/// Classes that are about the server or the connection: no message of the batch would fare better alone.
const ABOUT_THE_SERVER: [&str; 6] = ["08", "25", "53", "57", "58", "XX"];

/// Why a transaction did not happen.
#[derive(Debug)]
pub(super) struct Refusal {
    /// As the delivery sees it.
    pub(super) error: SendError,
    /// Whether other messages may fare better in a transaction of their own.
    pub(super) is_one_messages: bool,
}

impl Refusal {
    /// The server answered with this, or the connection broke.
    pub(super) fn of(address: &Address, error: Error) -> Self {
        let code = error.code().map(|code| code.code().to_owned());
        let Some(code) = code else {
            let text = format!("{address}: the connection broke before the answer");
            return Self::of_all(SendError::temporary(text).caused_by(error));
        };
        let text = format!("{address}: the server refuses it with {code}");
        let is_in = |classes: &[&str]| classes.iter().any(|class| code.starts_with(class));
        let error = match is_in(&ABOUT_THE_MESSAGE) {
            true => SendError::permanent(text),
            false => SendError::temporary(text),
        }
        .caused_by(error);
        Self { error, is_one_messages: !is_in(&ABOUT_THE_SERVER) }
    }

    /// Something that concerns every message.
    pub(super) fn of_all(error: SendError) -> Self {
        Self { error, is_one_messages: false }
    }
}

/// The server has not ended a transaction within this time.
pub(super) fn too_late(address: &Address, span: Duration) -> SendError {
    SendError::temporary(format!("{address}: no end of the transaction within {span:?} (setting timeout)"))
}
