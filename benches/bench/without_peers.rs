//! In place of the peers where their client libraries were not built in.

use std::path::Path;

use crate::client::Fault;
use crate::figures::Figures;
use crate::front::Plan;
use crate::rounds::Block;

fn refused() -> Fault {
    "this program was built without the feature `peers`; $ cargo xtask bench peers".into()
}

/// Refuses.
pub(crate) fn blocks(_seconds: f64, _threads: usize, _folder: &Path) -> Result<Vec<Block>, Fault> {
    Err(refused())
}

/// Refuses what is a peer.
pub(crate) async fn measure(target: &str, _plan: &Plan, _folder: &Path) -> Result<Option<Figures>, Fault> {
    if target.starts_with("peer-") { Err(refused()) } else { Ok(None) }
}
