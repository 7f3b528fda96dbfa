//! The engine's side of a message that was handed out.

use pillarbox_store::Leased;

/// Placeholder, replaced by the runtime's work.
#[derive(Debug)]
pub(crate) struct Ticket {
    leased: Leased,
    send_key: String,
    retries_left: u32,
}

impl Ticket {
    pub(crate) fn leased(&self) -> &Leased {
        &self.leased
    }

    pub(crate) fn retries_left(&self) -> u32 {
        self.retries_left
    }

    pub(crate) fn send_key(&self) -> &str {
        &self.send_key
    }
}
