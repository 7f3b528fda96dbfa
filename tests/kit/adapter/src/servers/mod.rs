//! The servers that more than one test talks to, each as its [`Peer`](crate::peer::Peer) with what it is configured with.
//! What needs a client library to be seen is its user's to look at.
//!
//! What cannot be started or read ends the test by a panic that says why.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::missing_panics_doc,
    reason = "it works or the test has failed"
)]

mod mail;
mod mosquitto;
mod moto;
mod rabbitmq;
mod sshd;
mod tansu;

pub use mail::{Mail, MailServer};
pub use mosquitto::Mosquitto;
pub use moto::Moto;
pub use rabbitmq::RabbitMq;
pub use sshd::{Sshd, keygen};
pub use tansu::{Fate, Record, Tansu};
