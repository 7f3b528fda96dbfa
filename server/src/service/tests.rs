//! The service over a box in memory.
