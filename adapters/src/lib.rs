//! Adapters that send Pillarbox messages to real destinations.
//!
//! One folder and one feature each, always with the same files: `mod.rs` says who the adapter is, `settings.rs`
//! checks what it is configured with, `send.rs` sends, `docs.md` is its page. [`registry()`] is the table by which
//! configuration finds them.

#[cfg(feature = "address")]
mod address;
#[cfg(any(feature = "file", feature = "s3", feature = "sftp"))]
mod file_name;
#[cfg(test)]
#[cfg(any(feature = "file", feature = "s3", feature = "sftp"))]
mod file_name_tests;
#[cfg(feature = "base")]
mod on_thread;
#[cfg(feature = "base")]
mod parcel;
#[cfg(feature = "base")]
mod problems;
mod registry;
#[cfg(feature = "said")]
mod said;
#[cfg(feature = "secret")]
mod secret;
#[cfg(any(feature = "amqp", feature = "mqtt", feature = "redis"))]
mod shared;
#[cfg(any(feature = "address", feature = "exec", feature = "http"))]
mod span;
#[cfg(feature = "template")]
mod template;
#[cfg(feature = "tls")]
mod tls;
#[cfg(feature = "web")]
mod web;
#[cfg(feature = "wire")]
mod wire;
#[cfg(any(feature = "nats", feature = "wire"))]
mod within;

#[cfg(feature = "amqp")]
pub mod amqp;
#[cfg(feature = "exec")]
pub mod exec;
#[cfg(feature = "file")]
pub mod file;
#[cfg(feature = "http")]
pub mod http;
#[cfg(feature = "kafka")]
pub mod kafka;
#[cfg(feature = "mqtt")]
pub mod mqtt;
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
#[cfg(feature = "smtp")]
pub mod smtp;

#[cfg(test)]
#[cfg(feature = "address")]
use pillarbox_adapter_kit::{peer, proxy, servers};
pub use registry::{Registry, RouteError, UnknownKind, registry};
