//! The runtime against a real box in memory, on one thread and in virtual time.

mod doubt;
mod drain;
mod dynamic;
mod kinds;
mod kit;
mod ladder;
mod lanes;
mod outcomes;
mod protocol;
mod senders;
mod tickets;
mod watched;
