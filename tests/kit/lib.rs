//! Models, suites and faults for tests.
