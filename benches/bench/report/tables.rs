//! Rows as tables.

use std::fmt::Write as _;

use pillarbox_benches::Workload;

use super::Row;
use crate::run::Name;

/// A column: its head, the figure, and how it is written.
type Column = (&'static str, &'static str, Style);

#[derive(Debug, Clone, Copy)]
enum Style {
    /// Whole, with commas, and the range of the rounds.
    Rate,
    /// Two digits behind the point, and the range of the rounds.
    Ratio,
    /// As many digits as it has a use for.
    Plain,
}

const RATES: [Column; 3] = [
    ("messages/s (min-max)", "messages_per_second", Style::Rate),
    ("of the ring", "ratio_ring", Style::Ratio),
    ("of the appended", "ratio_appended", Style::Ratio),
];

const COSTS: [Column; 5] = [
    ("CPU s per 100,000", "cpu_seconds_per_100000", Style::Plain),
    ("disk bytes per payload byte", "disk_bytes_per_payload_byte", Style::Plain),
    ("flushes per commit", "flushes_per_commit", Style::Plain),
    ("median flush us", "flush_p50_us", Style::Plain),
    ("peak RSS MiB", "peak_rss_mib", Style::Plain),
];

/// The tables of a group.
pub(crate) fn of(name: Name, rows: &[&Row]) -> String {
    match name {
        Name::Store => store(rows),
        Name::Runtime => runtime(rows),
        Name::Backlog => cases(rows),
        Name::Peers => peers(rows),
    }
}

fn store(rows: &[&Row]) -> String {
    let mut text = String::new();
    for (mode, title) in
        [("both", "### Submit, lease, read back, complete (`both`)"), ("send", "### Submit only (`send`)")]
    {
        let of_mode: Vec<&Row> =
            rows.iter().copied().filter(|row| row.text("mode") == mode && is_lettered(row)).collect();
        let _ = writeln!(text, "{title}\n\n{}", rate_table(&of_mode, Name::Store));
        let _ = writeln!(text, "{}", latency_table(&of_mode));
    }
    let loads: Vec<&Row> = rows.iter().copied().filter(|row| row.text("workload") == "load").collect();
    if !loads.is_empty() {
        let _ = writeln!(text, "### Latency over load (1 KiB, 1 a batch, `both`)\n\n{}", load_table(&loads));
    }
    text
}

fn is_lettered(row: &Row) -> bool {
    Workload::find(row.text("workload")).is_some()
}

fn runtime(rows: &[&Row]) -> String {
    let lettered: Vec<&Row> = rows.iter().copied().filter(|row| is_lettered(row)).collect();
    let mut text = rate_table(&lettered, Name::Runtime);
    let others: Vec<&Row> = rows.iter().copied().filter(|row| !is_lettered(row) && !row.is_floor()).collect();
    let _ = write!(text, "\n{}", cases(&others));
    text
}

fn peers(rows: &[&Row]) -> String {
    let lettered: Vec<&Row> = rows.iter().copied().filter(|row| is_lettered(row)).collect();
    format!("{}\n{}", rate_table(&lettered, Name::Peers), latency_table(&lettered))
}

fn rate_table(rows: &[&Row], bench: Name) -> String {
    let mut columns: Vec<Column> = RATES.to_vec();
    if bench == Name::Store {
        columns.push(("of bare sled", "ratio_bare", Style::Ratio));
    }
    if bench == Name::Peers {
        columns.push(("disk flushes per second", "disk_flushes_per_second", Style::Plain));
    }
    columns.extend(COSTS);
    let shown = rows.iter().filter(|row| row.name != "flush" && row.about().is_none());
    let mut text = head(&["workload", "system"], &columns);
    for row in shown {
        let _ = write!(text, "| ({}) | {} |", row.text("workload"), title(row));
        if let Some(fault) = &row.fault {
            let _ = write!(text, " not measured: {} |", fault.replace(['|', '\n'], " "));
            text.push_str(&" |".repeat(columns.len().saturating_sub(1)));
        } else {
            columns.iter().for_each(|column| cell(&mut text, row, column));
        }
        text.push('\n');
    }
    text
}

/// How a row's subject is called.
pub(super) fn title(row: &Row) -> String {
    match row.name.as_str() {
        "ring" => "*bare log, ring*".to_owned(),
        "appended" => "*bare log, appended*".to_owned(),
        "sled-bare" => "*bare sled*".to_owned(),
        name @ ("journal" | "sled") => format!("**pillarbox, {name}**"),
        name => name.to_owned(),
    }
}

fn latency_table(rows: &[&Row]) -> String {
    let columns: Vec<(String, String)> = ["submit", "lease", "complete"]
        .iter()
        .flat_map(|of| ["p50", "p99", "p999"].map(|p| (format!("{of} {p}"), format!("{of}_{p}_us"))))
        .collect();
    let used: Vec<&(String, String)> =
        columns.iter().filter(|(_, name)| rows.iter().any(|row| row.figure(name).is_some())).collect();
    let mut text = "| latency, us | |".to_owned();
    used.iter().for_each(|(title, _)| text.push_str(&format!(" {title} |")));
    text.push_str("\n|---|---|");
    text.push_str(&"---|".repeat(used.len()));
    text.push('\n');
    let shown = rows.iter().filter(|row| row.figure("submit_p50_us").is_some());
    for row in shown {
        let _ = write!(text, "| ({}) | {} |", row.text("workload"), title(row));
        for (_, name) in &used {
            let _ = write!(text, " {} |", plain(row.figure(name)));
        }
        text.push('\n');
    }
    text
}

fn load_table(rows: &[&Row]) -> String {
    let columns = [
        ("messages/s", "messages_per_second", Style::Rate),
        ("of the ring", "ratio_ring", Style::Ratio),
        ("submit p50 us", "submit_p50_us", Style::Plain),
        ("submit p99 us", "submit_p99_us", Style::Plain),
        ("flushes per commit", "flushes_per_commit", Style::Plain),
    ];
    let mut text = head(&["clients", "system"], &columns);
    for row in rows {
        let _ = write!(text, "| {} | {} |", plain(row.figure("clients")), title(row));
        columns.iter().for_each(|column| cell(&mut text, row, column));
        text.push('\n');
    }
    text
}

/// Whatever a case tells, a figure a line.
fn cases(rows: &[&Row]) -> String {
    let mut text = "| case | figure | value |\n|---|---|---|\n".to_owned();
    for row in rows.iter().filter(|row| row.about().is_none()) {
        if let Some(fault) = &row.fault {
            let fault = fault.replace(['|', '\n'], " ");
            let _ = writeln!(text, "| {} | not measured: {fault} | |", row.text("workload"));
        }
        let told = |name: &str| !name.ends_with("_min") && !name.ends_with("_max");
        for (name, value) in row.figures().filter(|(name, _)| told(name)) {
            let _ = writeln!(
                text,
                "| {} | {} | {} |",
                row.text("workload"),
                name.replace('_', " "),
                plain(Some(value))
            );
        }
    }
    text
}

fn head(first: &[&str], columns: &[Column]) -> String {
    let titles: Vec<&str> = first.iter().copied().chain(columns.iter().map(|column| column.0)).collect();
    format!("| {} |\n|{}\n", titles.join(" | "), "---|".repeat(titles.len()))
}

fn cell(text: &mut String, row: &Row, (_, name, style): &Column) {
    let value = row.figure(name);
    let range = row.figure(&format!("{name}_min")).zip(row.figure(&format!("{name}_max")));
    let written = match (style, value, range) {
        (_, None, _) => String::new(),
        (Style::Rate, Some(value), Some((min, max))) => {
            format!("{} ({}-{})", grouped(value), grouped(min), grouped(max))
        }
        (Style::Ratio, Some(value), Some((min, max))) => format!("{value:.2} ({min:.2}-{max:.2})"),
        (_, value, _) => plain(value),
    };
    let _ = write!(text, " {written} |");
}

/// Three digits that count.
pub(super) fn plain(value: Option<f64>) -> String {
    match value {
        None => String::new(),
        Some(value) if value.abs() >= 100.0 => grouped(value),
        Some(value) if value.abs() >= 10.0 => format!("{value:.1}"),
        Some(value) if value.abs() >= 0.995 => {
            format!("{value:.2}").trim_end_matches('0').trim_end_matches('.').to_owned()
        }
        Some(0.0) => "0".to_owned(),
        Some(value) => format!("{value:.3}"),
    }
}

/// A whole number with commas.
pub(super) fn grouped(value: f64) -> String {
    let digits = format!("{:.0}", value.abs());
    let mut text = if value < 0.0 { "-".to_owned() } else { String::new() };
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_for_people() {
        assert_eq!(grouped(1_234_567.4), "1,234,567");
        assert_eq!(grouped(-12.0), "-12");
        assert_eq!(grouped(123.0), "123");
        let written = [0.0, 0.0123, 0.5, 1.0, 1.25, 12.34, 1234.5].map(|value| plain(Some(value)));
        assert_eq!(written, ["0", "0.012", "0.500", "1", "1.25", "12.3", "1,234"]);
    }
}
