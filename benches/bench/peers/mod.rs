//! Other systems.
use crate::client::Fault;
use crate::rounds::Block;
pub(crate) fn blocks(_: f64, _: usize, _: &std::path::Path) -> Result<Vec<Block>, Fault> { Ok(Vec::new()) }
