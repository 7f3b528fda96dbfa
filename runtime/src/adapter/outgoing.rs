//! A message on its way out, as an adapter sees it.

use std::fmt;
use std::sync::Arc;

use pillarbox_store::{Body, DeliveryId, Headers, Leased, MessageId, PortName, Route, Timestamp};

use crate::ticket::Ticket;

/// A message handed to an adapter, with all it needs to send it and to say how that ended.
///
/// Clones are the same message: the first outcome counts, a second is refused. If the last clone is dropped without
/// an outcome, the engine takes that for a failed attempt.
#[derive(Clone)]
pub struct Outgoing {
    pub(crate) ticket: Arc<Ticket>,
}

impl Outgoing {
    pub(crate) fn leased(&self) -> &Leased {
        self.ticket.leased()
    }

    /// The message's id.
    #[must_use]
    pub fn message_id(&self) -> MessageId {
        self.leased().message.id
    }

    /// The message's headers.
    #[must_use]
    pub fn headers(&self) -> &Headers {
        &self.leased().message.headers
    }

    /// The message's body.
    #[must_use]
    pub fn body(&self) -> &Body {
        &self.leased().message.body
    }

    /// The delivery's number.
    #[must_use]
    pub fn delivery(&self) -> DeliveryId {
        self.leased().lease.delivery()
    }

    /// The port it goes to.
    #[must_use]
    pub fn port(&self) -> &PortName {
        &self.leased().port
    }

    /// The route it goes by.
    #[must_use]
    pub fn route(&self) -> Route {
        self.leased().route
    }

    /// This attempt's number over the delivery's whole life, from 1. Above 1 the destination may have seen the
    /// message before.
    #[must_use]
    pub fn attempt(&self) -> u32 {
        self.leased().attempts.saturating_add(1)
    }

    /// Whether the destination may have the message already, though [`Outgoing::attempt`] is no higher: a crash hid how an
    /// attempt ended, and the destination could not say. Never where it was only sent in the transactions of an adapter of the
    /// class [`super::DoubleSafety::TwoPhase`].
    #[must_use]
    pub fn in_doubt(&self) -> bool {
        let is_mutant = pillarbox_store::mutant::is("plain-counts-as-prepared")
            && self.ticket.lane().info().capabilities.double_safety == super::DoubleSafety::TwoPhase;
        self.leased().doubt.is_some_and(|doubt| !doubt.transacted) && !is_mutant
    }

    /// How many more attempts the route's policy allows after this one.
    #[must_use]
    pub fn retries_left(&self) -> u32 {
        self.ticket.retries_left()
    }

    /// When the message was submitted.
    #[must_use]
    pub fn submitted(&self) -> Timestamp {
        self.leased().submitted
    }

    /// Headers that an earlier attempt asked to carry over to this one.
    #[must_use]
    pub fn carried(&self) -> &Headers {
        &self.leased().carried
    }

    /// The name by which a destination can recognise a repeat: `{box}/{port}/{message}`, the same on every attempt
    /// of a route; the backup route's ends in `/backup`, since it is another destination.
    #[must_use]
    pub fn send_key(&self) -> &str {
        self.ticket.send_key()
    }

    /// The tracing span of this attempt, with message, delivery, port, route and attempt: for an adapter that sends
    /// in tasks of its own. [`super::Sender::send`] and its like run in it already.
    #[must_use]
    pub fn span(&self) -> &tracing::Span {
        self.ticket.span()
    }
}

impl fmt::Debug for Outgoing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Outgoing")
            .field("message", &self.message_id())
            .field("delivery", &self.delivery())
            .field("port", self.port())
            .field("attempt", &self.attempt())
            .finish_non_exhaustive()
    }
}
