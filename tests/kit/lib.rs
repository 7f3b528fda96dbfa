//! Models, suites and clocks that the tests share.

pub mod clock;
pub mod model;
pub mod powercut;
pub mod suite;
