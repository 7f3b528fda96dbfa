//! The default engine: a segmented, append-only journal.
