//! `check`.

use pillarbox_store::inspect::{self, Contents, Finding, Report};
use serde_json::{Value, json};

use super::inspected::{Sight, cannot_look, damaged};
use crate::cli::Global;
use crate::config::Config;
use crate::failure::Failure;
use crate::output::{Output, table};
use crate::wire::PortView;

pub(super) fn run(global: &Global, config: &Config, output: Output) -> Result<(), Failure> {
    let sight = Sight::new(global, config)?;
    let folder = sight.folder().display().to_string();
    let report = sight
        .look(|settings, scratch, watch| inspect::check(settings, scratch, watch))
        .map_err(|error| cannot_look(&error))?;
    output.result(&json(&report, &folder), || text(&report, &folder))?;
    if report.is_whole() {
        return Ok(());
    }
    let what = if report.has_losses() {
        format!("{folder} is damaged, and something is lost")
    } else {
        format!("{folder} is damaged, but nothing is lost")
    };
    Err(damaged(what).next("pillarbox salvage --to NEW_FOLDER copies what is whole into a new box"))
}

/// A report as JSON.
pub(super) fn json(report: &Report, folder: &str) -> Value {
    let Contents {
        records,
        bytes,
        messages,
        fragments,
        attempts,
        traces,
        answers,
        decisions,
        batches,
        leftovers,
        ..
    } = report.contents;
    let ports: Vec<PortView> = report.contents.ports.iter().map(PortView::from).collect();
    let files: Vec<Value> = report
        .files
        .iter()
        .map(|file| {
            json!({"file": file.file, "bytes": file.bytes, "used_bytes": file.used_bytes, "records": file.records})
        })
        .collect();
    let torn = report
        .torn_tail
        .as_ref()
        .map(|torn| json!({"file": torn.file, "offset": torn.offset, "bytes": torn.bytes}));
    json!({
        "folder": folder,
        "engine": report.engine,
        "box_id": report.id,
        "whole": report.is_whole(),
        "losses": report.has_losses(),
        "contents": {
            "records": records,
            "bytes": bytes,
            "messages": messages,
            "fragments": fragments,
            "attempts": attempts,
            "traces": traces,
            "answers": answers,
            "decisions": decisions,
            "batches": batches,
            "leftovers": leftovers,
            "ports": ports,
        },
        "files": files,
        "torn_tail": torn,
        "damage": report.findings.iter().map(finding_json).collect::<Vec<_>>(),
    })
}

fn finding_json(finding: &Finding) -> Value {
    let ranges: Vec<Value> = finding
        .deliveries
        .iter()
        .map(|range| json!({"first": range.start, "last": range.end.saturating_sub(1)}))
        .collect();
    json!({
        "file": finding.file,
        "offset": finding.offset,
        "bytes": finding.bytes,
        "record": finding.key.map(|key| format!("{key:?}")),
        "what": finding.what,
        "lost": finding.loses.as_str(),
        "message_id": finding.message,
        "message_id_is_certain": finding.is_message_sure,
        "deliveries": ranges,
    })
}

/// A report for people.
pub(super) fn text(report: &Report, folder: &str) -> String {
    let contents = &report.contents;
    let id = report.id.map_or_else(|| "without an id".to_owned(), |id| id.to_string());
    let mut text = format!("{folder}: box {id}, engine {}\n\n", report.engine);
    let figures = [
        ("records", contents.records),
        ("bytes", contents.bytes),
        ("messages", contents.messages),
        ("pieces of long bodies", contents.fragments),
        ("failed attempts", contents.attempts),
        ("traces of ended deliveries", contents.traces),
        ("answers", contents.answers),
        ("decisions on transactions", contents.decisions),
        ("remembered batches", contents.batches),
        ("leftovers", contents.leftovers),
    ];
    let rows: Vec<Vec<String>> =
        figures.iter().map(|(what, count)| vec![(*what).to_owned(), count.to_string()]).collect();
    text += &table(&["WHOLE", "COUNT"], &rows);
    if !contents.ports.is_empty() {
        let rows: Vec<Vec<String>> = contents.ports.iter().map(port_row).collect();
        let headings = ["PORT", "READY", "SCHEDULED", "RETRY-WAIT", "SUSPENDED", "DONE", "TERMINATED"];
        text += &format!("\n{}", table(&headings, &rows));
    }
    if !report.files.is_empty() {
        let row = |file: &pillarbox_store::engine::FileInfo| {
            vec![
                file.file.clone(),
                file.bytes.to_string(),
                file.used_bytes.to_string(),
                file.records.to_string(),
            ]
        };
        let rows: Vec<Vec<String>> = report.files.iter().map(row).collect();
        text += &format!("\n{}", table(&["FILE", "BYTES", "USED", "RECORDS"], &rows));
    }
    if let Some(torn) = &report.torn_tail {
        text += &format!(
            "\ntorn tail: {} from {} on, {} bytes, as a crash leaves it. It was never acknowledged: no damage\n",
            torn.file, torn.offset, torn.bytes
        );
    }
    text += "\n";
    text += &if report.is_whole() { "no damage\n".to_owned() } else { findings_text(&report.findings) };
    text
}

fn port_row(port: &pillarbox_store::PortInfo) -> Vec<String> {
    let counts = &port.counts;
    let numbers =
        [counts.ready, counts.scheduled, counts.retry_wait, counts.suspended, counts.done, counts.terminated];
    std::iter::once(port.name.to_string()).chain(numbers.map(|count| count.to_string())).collect()
}

/// The damage as a table.
pub(super) fn findings_text(findings: &[Finding]) -> String {
    let row = |finding: &Finding| {
        let place = if finding.file.is_empty() {
            "-".to_owned()
        } else {
            format!("{}:{}+{}", finding.file, finding.offset, finding.bytes)
        };
        let message = match finding.message {
            Some(id) if finding.is_message_sure => id.to_string(),
            Some(id) => format!("{id}?"),
            None => "-".to_owned(),
        };
        let deliveries = finding.deliveries_told();
        let deliveries = if deliveries.is_empty() { "-".to_owned() } else { deliveries };
        vec![place, finding.loses.as_str().to_owned(), message, deliveries, finding.what.clone()]
    };
    let rows: Vec<Vec<String>> = findings.iter().map(row).collect();
    table(&["DAMAGED AT", "LOST", "MESSAGE", "DELIVERIES", "WHAT"], &rows)
}
