//! The commands against a box in memory.
