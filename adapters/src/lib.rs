//! Adapters that send Pillarbox messages to real destinations.
//!
//! One folder and one feature each, always with the same files: `mod.rs` says who the adapter is, `settings.rs`
//! checks what it is configured with, `send.rs` sends, `docs.md` is its page. [`registry()`] is the table by which
//! configuration finds them.

#[cfg(any(
    feature = "amqp",
    feature = "mqtt",
    feature = "nats",
    feature = "postgres",
    feature = "redis",
    feature = "smtp"
))]
mod address;
#[cfg(feature = "base")]
#[cfg_attr(
    not(all(feature = "file", feature = "http")),
    allow(dead_code, reason = "an adapter alone does not use all of it")
)]
mod on_thread;
#[cfg(feature = "base")]
#[cfg_attr(
    not(all(feature = "file", feature = "http")),
    allow(dead_code, reason = "an adapter alone does not use all of it")
)]
mod parcel;
#[cfg(test)]
#[cfg(any(
    feature = "amqp",
    feature = "mqtt",
    feature = "nats",
    feature = "postgres",
    feature = "redis",
    feature = "smtp"
))]
#[cfg_attr(
    not(feature = "postgres"),
    allow(dead_code, reason = "an adapter's tests alone do not use all of it")
)]
mod peer;
#[cfg(feature = "base")]
mod problems;
#[cfg(test)]
#[cfg(any(
    feature = "amqp",
    feature = "mqtt",
    feature = "nats",
    feature = "postgres",
    feature = "redis",
    feature = "smtp"
))]
mod proxy;
mod registry;
#[cfg(feature = "base")]
#[cfg_attr(
    not(all(feature = "file", feature = "http")),
    allow(dead_code, reason = "an adapter alone does not use all of it")
)]
mod said;
#[cfg(feature = "base")]
#[cfg_attr(
    not(all(feature = "file", feature = "http")),
    allow(dead_code, reason = "an adapter alone does not use all of it")
)]
mod secret;
#[cfg(feature = "base")]
#[cfg_attr(
    not(all(feature = "file", feature = "http")),
    allow(dead_code, reason = "an adapter alone does not use all of it")
)]
mod span;
#[cfg(any(feature = "amqp", feature = "file", feature = "mqtt", feature = "smtp"))]
mod template;
#[cfg(feature = "tls")]
#[cfg_attr(not(feature = "http"), allow(dead_code, reason = "an adapter alone does not use all of it"))]
mod tls;
#[cfg(any(
    feature = "amqp",
    feature = "mqtt",
    feature = "nats",
    feature = "postgres",
    feature = "redis",
    feature = "smtp"
))]
#[cfg_attr(not(feature = "redis"), allow(dead_code, reason = "an adapter alone does not use all of it"))]
mod wire;

#[cfg(feature = "amqp")]
pub mod amqp;
#[cfg(feature = "exec")]
pub mod exec;
#[cfg(feature = "file")]
pub mod file;
#[cfg(feature = "http")]
pub mod http;
#[cfg(feature = "mqtt")]
pub mod mqtt;
#[cfg(feature = "nats")]
pub mod nats;
#[cfg(feature = "postgres")]
pub mod postgres;
#[cfg(feature = "redis")]
pub mod redis;
#[cfg(feature = "smtp")]
pub mod smtp;

pub use registry::{Registry, RouteError, UnknownKind, registry};
