//! Moves deliveries between a Pillarbox store and adapters.
//!
//! A [`Runtime`] runs a dispatcher for each route of each [`Port`]. A dispatcher waits until something is ready and
//! there is room for it, leases a batch, and hands it to the route's adapter by the protocol of [`adapter`]. How
//! each message ended is recorded in the box: by the adapter through its [`Proxy`], or by the engine where the
//! adapter sent it at once, failed, hung, panicked or let go of it. What follows a failure is the failure ladder:
//! another attempt by the route's [`RetryPolicy`], then the backup route, then it is parked.
//!
//! Everything runs as tasks of the tokio runtime that it is started in, in an order that depends on nothing but
//! the order of events: on one thread with a virtual clock and a seeded [`pillarbox_store::IdSource`] a run repeats
//! itself. Only [`adapter::BlockingSender`] uses other threads.

pub mod adapter;
mod complete;
mod core;
mod dispatch;
mod doubt;
mod drain;
mod dynamic;
mod hand_over;
mod lane;
mod open;
mod port;
mod prepared;
mod proxy;
mod retry;
mod runtime;
mod settle;
mod stranded;
mod tasks;
mod ticket;
mod transact;
mod wrap;

#[cfg(test)]
mod tests;

pub use doubt::{DoubtPolicy, IntentRecord, WhenUnknown};
pub use drain::DrainReport;
pub use dynamic::Directory;
pub use port::{AdapterSource, LaneName, Port, PortStatus, RouteConfig, RouteStatus};
pub use proxy::{CompletionBatch, CompletionError, ItemStatus, Proxy, ProxyError};
pub use retry::RetryPolicy;
pub use runtime::{Builder, Receipt, Runtime, SubmitError};
pub use tasks::Tasks;
pub use transact::TransactError;
