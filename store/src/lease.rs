//! Leases: who works on which delivery, and until when.
//!
//! A lease hides a delivery from everybody else until it is settled in a [`crate::Batch`], released, or its time
//! ends. Leases are kept in memory only: a crash ends them all and their deliveries are ready again. A lease that
//! ended never settles anything: the operation is refused with [`crate::Refusal::NotOwned`].

use std::time::Duration;

use crate::{DeliveryId, Doubt, Headers, Message, PortName, Route, Timestamp};

/// The right to decide about one delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Lease {
    pub(crate) delivery: DeliveryId,
    pub(crate) token: u64,
}

impl Lease {
    /// The delivery it is for.
    #[must_use]
    pub const fn delivery(&self) -> DeliveryId {
        self.delivery
    }
}

/// What to lease.
#[derive(Debug, Clone)]
pub struct Want {
    /// Whose deliveries.
    pub port: PortName,
    /// Which of its routes.
    pub route: Route,
    /// At most so many.
    pub limit: usize,
    /// Stop after the one whose body reaches this many bytes in all; the first is given whatever its size.
    pub bytes_max: u64,
    /// How long the leases last.
    pub lease_for: Duration,
}

/// A leased delivery with all that is needed to send it.
#[derive(Debug, Clone)]
pub struct Leased {
    /// The right to settle it.
    pub lease: Lease,
    /// What to send. A short body is in memory, a long one is read from the box.
    pub message: Message,
    /// Where to.
    pub port: PortName,
    /// By which route.
    pub route: Route,
    /// Attempts made in its whole life.
    pub attempts: u32,
    /// Attempts made on this route since it came there or was resumed.
    pub attempts_on_route: u32,
    /// When the message was submitted.
    pub submitted: Timestamp,
    /// When the lease ends, by [`crate::Clock::steady`] of the box's clock.
    pub ends: Timestamp,
    /// What the last resubmit asked to carry over to this attempt.
    pub carried: Headers,
    /// That the destination may have it already: how an attempt before this one ended is not known.
    pub doubt: Option<Doubt>,
}
