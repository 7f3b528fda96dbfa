//! Moves deliveries between a Pillarbox store and adapters.

pub mod adapter;
mod proxy;
mod ticket;

pub use proxy::{CompletionBatch, Proxy};
