//! What the benchmarks share: the workloads and their bodies, and a box on one thread in memory.

mod bodies;
mod inline;
mod memory_disk;
mod workload;

pub use bodies::Bodies;
pub use inline::{Fault, Groups, Inline, checksum, journal};
pub use memory_disk::MemoryDisk;
pub use workload::{Mode, Workload};
