//! The runtime against a fake store, on one thread and in virtual time.

mod drain;
mod fake;
mod kit;
mod ladder;
mod lanes;
mod outcomes;
mod protocol;
mod senders;
mod tickets;
