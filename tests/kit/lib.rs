//! Models, suites and clocks that the tests share.

pub mod clock;
pub mod disk;
pub mod history;
pub mod model;
pub mod suite;
