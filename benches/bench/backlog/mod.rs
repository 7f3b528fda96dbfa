//! Many messages that wait, and other loads of unusual shape.

pub(crate) mod plan;
mod shapes;
mod waiting;

use std::path::Path;

use crate::client::Fault;
use crate::figures::Figures;
use crate::front::Plan;

/// Runs one stage; `None` where there is none of this name.
pub(crate) async fn stage(
    name: &str,
    plan: &Plan,
    count: u64,
    folder: &Path,
) -> Result<Option<Figures>, Fault> {
    Ok(Some(match name {
        "backlog-fill" => waiting::fill(count, folder).await?,
        "backlog-use" => waiting::reopen_and_use(plan, count, folder).await?,
        "backlog-suspended" => waiting::suspended(plan, count, folder).await?,
        "backlog-storm" => shapes::storm(count, folder).await?,
        "backlog-body" => shapes::long_body(folder).await?,
        "backlog-history" => shapes::history(count, folder).await?,
        _ => return Ok(None),
    }))
}
