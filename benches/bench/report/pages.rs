//! The pages that are made from the rows: `docs/benchmarks.md`, the charts, and the README's figures. Each part
//! stands between two marks; what is outside of them stays as it is.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use serde_json::{Map, Value};

use super::{Ledger, Row, chart, tables};
use crate::client::Fault;
use crate::run::Name;

/// Writes every page again.
pub(crate) fn write(root: &Path, ledger: &Ledger) -> Result<(), Fault> {
    let page = root.join("docs/benchmarks.md");
    for name in Name::ALL {
        let rows: Vec<&Row> = ledger.of(name).collect();
        if !rows.is_empty() {
            replace(&page, name.as_str(), &section(name, &rows))?;
        }
    }
    for (file, picture) in [("peers.svg", chart::peers(ledger)), ("load.svg", chart::load(ledger))] {
        if let Some(picture) = picture {
            fs::write(root.join("docs").join(file), picture)?;
        }
    }
    replace(&root.join("README.md"), "benchmarks", &summary(ledger))
}

/// Puts `text` between the marks of `name`.
fn replace(page: &Path, name: &str, text: &str) -> Result<(), Fault> {
    let old = fs::read_to_string(page)?;
    let new = replaced(&old, name, text).ok_or_else(|| {
        format!(
            "{} has no marks `<!-- {name} -->` and `<!-- end of {name} -->`; put them back",
            page.display()
        )
    })?;
    Ok(fs::write(page, new)?)
}

fn replaced(page: &str, name: &str, text: &str) -> Option<String> {
    let (before, rest) = page.split_once(&format!("<!-- {name} -->\n"))?;
    let (_old, after) = rest.split_once(&format!("<!-- end of {name} -->"))?;
    Some(format!("{before}<!-- {name} -->\n{}\n<!-- end of {name} -->{after}", text.trim_end()))
}

fn section(name: Name, rows: &[&Row]) -> String {
    let about = rows.iter().find_map(|row| row.about()).map(made_on).unwrap_or_default();
    format!("{about}\n\n{}", tables::of(name, rows))
}

/// The machine, the versions and the command, in one sentence.
fn made_on(about: &Map<String, Value>) -> String {
    let text = |name: &str| about.get(name).and_then(Value::as_str).unwrap_or("unknown");
    let number = |name: &str| about.get(name).and_then(Value::as_f64).unwrap_or_default();
    format!(
        "`{}` on {} x {}, {} GiB, Linux {}, {}; pillarbox {} ({}), {}. Median of {} rounds (min-max).",
        text("command"),
        number("cpus"),
        text("cpu"),
        number("memory_gib"),
        text("kernel"),
        text("file_system"),
        text("version"),
        text("commit"),
        text("rustc"),
        number("rounds"),
    )
}

/// The README's part: what a reader wants to know first.
fn summary(ledger: &Ledger) -> String {
    let mut text = String::new();
    let peers: Vec<&Row> = ledger.of(Name::Peers).filter(|row| row.name != "flush").collect();
    if !peers.is_empty() {
        let _ = writeln!(
            text,
            "![Messages per second, submitted and completed, every one flushed](docs/peers.svg)\n"
        );
    }
    let best = |workload: &str| {
        let others =
            ledger.of(Name::Peers).filter(|row| row.is(Name::Peers, workload, "both") && row.is_peer());
        let fastest = others.filter_map(|row| Some((row, row.figure("messages_per_second")?)));
        fastest.max_by(|(_, a), (_, b)| a.total_cmp(b))
    };
    text.push_str(
        "| submit, lease, read back, complete | messages/s | of a bare log file | the best peer |\n",
    );
    text.push_str("|---|---|---|---|\n");
    for workload in pillarbox_benches::Workload::ALL {
        let Some(row) = ledger.find(Name::Store, workload.name, "both", "journal") else { continue };
        let peer = best(workload.name)
            .map(|(row, rate)| format!("{} {}", row.name, tables::grouped(rate)))
            .unwrap_or_default();
        let _ = writeln!(
            text,
            "| {} | {} | {} | {peer} |",
            workload.describe(),
            tables::plain(row.figure("messages_per_second")),
            tables::plain(row.figure("ratio_ring")),
        );
    }
    if let Some(about) = ledger.of(Name::Store).find_map(Row::about) {
        let _ = writeln!(text, "\n{} All figures: [docs/benchmarks.md](docs/benchmarks.md).", made_on(about));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_between_the_marks_changes() {
        let page = "above\n<!-- store -->\nold\n<!-- end of store -->\nbelow\n<!-- runtime -->\nkept\n";
        let new = replaced(page, "store", "new\n").unwrap();
        assert_eq!(new, "above\n<!-- store -->\nnew\n<!-- end of store -->\nbelow\n<!-- runtime -->\nkept\n");
        assert_eq!(replaced(&new, "peers", "x"), None);
    }
}
