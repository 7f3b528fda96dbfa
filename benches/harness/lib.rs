//! What the benchmarks share: the workloads and their bodies.

mod bodies;
mod workload;

pub use bodies::Bodies;
pub use workload::{Mode, Workload};
