//! Adapters that send Pillarbox messages to real destinations.
//!
//! One folder and one feature each, always with the same files: `mod.rs` says who the adapter is, `settings.rs`
//! checks what it is configured with, `send.rs` sends, `docs.md` is its page. [`registry()`] is the table by which
//! configuration finds them.

#[cfg(any(feature = "file", feature = "http"))]
mod on_thread;
#[cfg(any(feature = "file", feature = "http"))]
mod parcel;
#[cfg(any(feature = "file", feature = "http"))]
mod problems;
mod registry;
#[cfg(feature = "http")]
mod span;

#[cfg(feature = "file")]
pub mod file;
#[cfg(feature = "http")]
pub mod http;

pub use registry::{Registry, RouteError, UnknownKind, registry};
