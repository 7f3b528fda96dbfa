//! An adapter's only handle on the engine.

/// Placeholder, replaced by the runtime's work.
#[derive(Debug, Clone)]
pub struct Proxy;

/// Placeholder, replaced by the runtime's work.
#[derive(Debug)]
pub struct CompletionBatch;
