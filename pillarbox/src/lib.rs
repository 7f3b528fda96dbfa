//! Pillarbox: a durable outbox to embed in a service.
//!
//! A message handed to a box is on disk before the call returns, is sent by an adapter, and leaves the box in the
//! same atomic step that records its outcome. This crate is what a service adds: it re-exports the store, the
//! runtime and the adapters; each of them can also be used by itself.
//!
//! # Embedding
//! ```no_run
#![doc = include_str!("../examples/embed.rs")]
//! ```
//!
//! # Writing an adapter
//! ```no_run
#![doc = include_str!("../examples/adapter.rs")]
//! ```

/// The adapters that come with Pillarbox.
pub use pillarbox_adapters as adapters;
/// What moves deliveries between a box and its adapters.
pub use pillarbox_runtime as runtime;
/// The box itself: messages, deliveries, batches, engines.
pub use pillarbox_store as store;

/// What most programs need.
pub mod prelude {
    pub use pillarbox_runtime::adapter::{
        Adapter, BatchSender, BlockingSender, Capabilities, Outgoing, SendError, Sender, Settings, Shape,
        Transport, TransportInfo,
    };
    pub use pillarbox_runtime::{Port, Receipt, RetryPolicy, RouteConfig, Runtime};
    pub use pillarbox_store::{
        Batch, Body, BoxConfig, DeliveryId, DeliveryState, EngineKind, Message, MessageBox, MessageId,
        PortName, Store,
    };
}
