//! The box itself, the floors below it, and sled without a box.

pub(crate) mod boxed;
pub(crate) mod floor;
pub(crate) mod sled_bare;
