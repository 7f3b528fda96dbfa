//! `salvage`.

use pillarbox_store::inspect::{self, LEFT_BEHIND, Left, Salvaged};
use serde_json::{Value, json};

use super::check;
use super::inspected::{Sight, cannot_look, damaged};
use crate::cli::{self, Global};
use crate::config::Config;
use crate::failure::Failure;
use crate::output::Output;

pub(super) fn run(
    salvage: &cli::Salvage,
    global: &Global,
    config: &Config,
    output: Output,
) -> Result<(), Failure> {
    let sight = Sight::new(global, config)?;
    let folder = sight.folder().display().to_string();
    let to = salvage.to.display().to_string();
    let salvaged = sight
        .look(|settings, scratch, watch| {
            inspect::salvage(settings, &salvage.to, scratch, &salvage.names, watch)
        })
        .map_err(|error| cannot_look(&error))?;
    let list = salvage.to.join(LEFT_BEHIND).display().to_string();
    output.result(&json(&salvaged, &folder, &to, &list), || text(&salvaged, &to, &list))?;
    if salvaged.left.is_empty() && !salvaged.report.has_losses() {
        return Ok(());
    }
    Err(damaged(format!("not everything could be saved; {list} lists what is missing"))
        .next(format!("pillarbox serve with box.data = {to:?}; submit again what is listed")))
}

fn json(salvaged: &Salvaged, folder: &str, to: &str, list: &str) -> Value {
    let left = |left: &Left| match left {
        Left::Message { id, deliveries } => json!({"message_id": id, "deliveries": deliveries}),
        Left::Rest { records } => json!({"records": records}),
    };
    json!({
        "to": to,
        "records": salvaged.records,
        "bytes": salvaged.bytes,
        "messages": salvaged.messages,
        "left_behind": salvaged.left.iter().map(left).collect::<Vec<_>>(),
        "list": list,
        "report": check::json(&salvaged.report, folder),
    })
}

fn text(salvaged: &Salvaged, to: &str, list: &str) -> String {
    let mut text = format!(
        "{to}: a new box with {} messages, {} records, {} bytes\n",
        salvaged.messages, salvaged.records, salvaged.bytes
    );
    let told = salvaged.told();
    text += &if told.is_empty() {
        "nothing was damaged or left behind\n".to_owned()
    } else {
        format!("\nwhat was damaged or left behind, as {list} has it:\n{told}")
    };
    text
}
