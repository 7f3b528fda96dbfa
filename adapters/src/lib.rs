//! Adapters that send Pillarbox messages to real destinations.
//!
//! One folder and one feature each, always with the same files: `mod.rs` says who the adapter is, `settings.rs`
//! checks what it is configured with, `send.rs` sends, `docs.md` is its page. [`registry()`] is the table by which
//! configuration finds them.

#[cfg(any(
    feature = "kafka",
    feature = "nats",
    feature = "postgres",
    feature = "redis",
    feature = "s3",
    feature = "sftp"
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
    feature = "kafka",
    feature = "nats",
    feature = "postgres",
    feature = "redis",
    feature = "s3",
    feature = "sftp"
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
    feature = "kafka",
    feature = "nats",
    feature = "postgres",
    feature = "redis",
    feature = "s3",
    feature = "sftp"
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
#[cfg(any(feature = "file", feature = "s3", feature = "sftp"))]
mod template;
#[cfg(test)]
#[cfg(any(feature = "file", feature = "s3", feature = "sftp"))]
mod template_tests;
#[cfg(feature = "tls")]
#[cfg_attr(not(feature = "http"), allow(dead_code, reason = "an adapter alone does not use all of it"))]
mod tls;
#[cfg(feature = "web")]
mod web;
#[cfg(any(feature = "nats", feature = "postgres", feature = "redis"))]
#[cfg_attr(not(feature = "redis"), allow(dead_code, reason = "an adapter alone does not use all of it"))]
mod wire;

#[cfg(feature = "exec")]
pub mod exec;
#[cfg(feature = "file")]
pub mod file;
#[cfg(feature = "http")]
pub mod http;
#[cfg(feature = "kafka")]
pub mod kafka;
#[cfg(feature = "nats")]
pub mod nats;
#[cfg(feature = "postgres")]
pub mod postgres;
#[cfg(feature = "redis")]
pub mod redis;
#[cfg(feature = "s3")]
pub mod s3;
#[cfg(feature = "sftp")]
pub mod sftp;

pub use registry::{Registry, RouteError, UnknownKind, registry};
