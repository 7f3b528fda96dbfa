//! The engine for tests and for messages that may die with the process: a map in memory, nothing on disk.
