//! The API over a box in memory.
