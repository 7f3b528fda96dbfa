//! The adapter kinds that configuration may name.

use std::collections::BTreeMap;
use std::sync::Arc;

use pillarbox_runtime::adapter::AdapterKind;

/// Adapter kinds by name.
#[derive(Debug, Clone, Default)]
pub struct Kinds(BTreeMap<&'static str, Arc<dyn AdapterKind>>);

impl Kinds {
    /// No kinds.
    #[must_use]
    pub fn none() -> Self {
        Self::default()
    }

    /// Adds a kind under its own name.
    #[must_use]
    pub fn with(mut self, kind: Arc<dyn AdapterKind>) -> Self {
        self.0.insert(kind.describe().kind, kind);
        self
    }

    /// The kind of this name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Arc<dyn AdapterKind>> {
        self.0.get(name)
    }

    /// Every name, in order, with commas between them.
    #[must_use]
    pub fn names(&self) -> String {
        self.0.keys().copied().collect::<Vec<_>>().join(", ")
    }
}
