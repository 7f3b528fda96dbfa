//! Models, suites and clocks that the tests share, and what the flows need around a real server.

pub mod bodies;
pub mod client;
pub mod clock;
pub mod destination;
pub mod model;
pub mod powercut;
pub mod present;
pub mod program;
pub mod proof;
pub mod server;
pub mod small_disk;
pub mod suite;
pub mod wait;
pub mod witness;
