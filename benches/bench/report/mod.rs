//! What is kept of the measurements: rows, in a file beside the pages that are made from it.

pub(crate) mod chart;
pub(crate) mod pages;
pub(crate) mod tables;

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};

use crate::client::Fault;
use crate::rounds::{Kind, Measured};
use crate::run::Name;

/// One row: a subject, and what the rounds say of it.
#[derive(Debug, Clone)]
pub(crate) struct Row {
    pub(crate) name: String,
    pub(crate) fault: Option<String>,
    values: Map<String, Value>,
}

/// Figures of which the smallest and the largest are kept as well.
const SPREADS: [&str; 5] =
    ["messages_per_second", "ratio_ring", "ratio_appended", "ratio_bare", "submit_p99_us"];

impl Row {
    /// The rows of a group: first one that tells what it was made on and with.
    pub(crate) fn all(bench: Name, about: &Map<String, Value>, measured: &[Measured]) -> Vec<Self> {
        let mut first = Map::new();
        first.insert("bench".to_owned(), json!(bench.as_str()));
        first.insert("about".to_owned(), Value::Object(about.clone()));
        let about = Self { name: "about".to_owned(), fault: None, values: first };
        std::iter::once(about).chain(measured.iter().map(|row| Self::of(bench, row))).collect()
    }

    fn of(bench: Name, measured: &Measured) -> Self {
        let mut values = Map::new();
        let mut put = |name: &str, value: Value| values.insert(name.to_owned(), value);
        put("bench", json!(bench.as_str()));
        put("workload", json!(measured.workload));
        put("mode", json!(measured.mode));
        put(measured.kind.as_str(), json!(measured.name));
        if let Some(clients) = measured.clients {
            put("clients", json!(clients));
        }
        put("rounds", json!(measured.rounds.len()));
        if let Some(fault) = &measured.fault {
            put("failed", json!(fault));
        }
        let mut names: Vec<&str> =
            measured.rounds.iter().flat_map(|figures| figures.iter().map(|(name, _)| name)).collect();
        names.sort_unstable();
        names.dedup();
        for name in names {
            let Some(spread) = measured.spread(name) else { continue };
            put(name, json!(rounded(spread.median)));
            if SPREADS.contains(&name) {
                put(&format!("{name}_min"), json!(rounded(spread.min)));
                put(&format!("{name}_max"), json!(rounded(spread.max)));
            }
        }
        Self { name: measured.name.clone(), fault: measured.fault.clone(), values }
    }

    fn parse(line: &str) -> Result<Self, Fault> {
        let values: Map<String, Value> = serde_json::from_str(line)?;
        let kinds = [Kind::Engine, Kind::Peer, Kind::Floor, Kind::Case];
        let name =
            kinds.iter().find_map(|kind| values.get(kind.as_str())?.as_str()).unwrap_or("about").to_owned();
        let fault = values.get("failed").and_then(Value::as_str).map(str::to_owned);
        Ok(Self { name, fault, values })
    }

    pub(crate) fn text(&self, name: &str) -> &str {
        self.values.get(name).and_then(Value::as_str).unwrap_or_default()
    }

    pub(crate) fn figure(&self, name: &str) -> Option<f64> {
        self.values.get(name).and_then(Value::as_f64)
    }

    pub(crate) fn about(&self) -> Option<&Map<String, Value>> {
        self.values.get("about").and_then(Value::as_object)
    }

    pub(crate) fn is(&self, bench: Name, workload: &str, mode: &str) -> bool {
        self.text("bench") == bench.as_str() && self.text("workload") == workload && self.text("mode") == mode
    }

    /// Every figure by name.
    pub(crate) fn figures(&self) -> impl Iterator<Item = (&str, f64)> {
        let told = |name: &str| name != "rounds" && name != "clients";
        let numbers = self.values.iter().filter_map(|(name, value)| Some((name.as_str(), value.as_f64()?)));
        numbers.filter(move |(name, _)| told(name))
    }

    pub(crate) fn is_peer(&self) -> bool {
        self.values.contains_key(Kind::Peer.as_str())
    }

    pub(crate) fn is_floor(&self) -> bool {
        self.values.contains_key(Kind::Floor.as_str())
    }
}

/// Five digits are more than the noise leaves.
fn rounded(value: f64) -> f64 {
    format!("{value:.4e}").parse().unwrap_or(value)
}

/// The rows of the last run of each group.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    rows: Vec<Row>,
}

impl Ledger {
    fn path(root: &Path) -> PathBuf {
        root.join("docs/benchmarks.jsonl")
    }

    /// The rows kept so far; none where there is no file.
    pub(crate) fn read(root: &Path) -> Result<Self, Fault> {
        let path = Self::path(root);
        if !path.exists() {
            return Ok(Self::default());
        }
        let rows = fs::read_to_string(&path)?.lines().map(Row::parse).collect::<Result<_, _>>();
        Ok(Self { rows: rows.map_err(|fault| format!("{}: {fault}; remove it", path.display()))? })
    }

    /// Puts the rows of a group in place of those of its last run.
    pub(crate) fn replace(&mut self, bench: Name, rows: Vec<Row>) {
        self.rows.retain(|row| row.text("bench") != bench.as_str());
        self.rows.extend(rows);
        let order = |row: &Row| Name::ALL.iter().position(|name| name.as_str() == row.text("bench"));
        self.rows.sort_by_key(order);
    }

    pub(crate) fn write(&self, root: &Path) -> Result<(), Fault> {
        Ok(fs::write(Self::path(root), Self::lines(&self.rows)?)?)
    }

    /// One object a line.
    pub(crate) fn lines(rows: &[Row]) -> Result<String, Fault> {
        let mut text = String::new();
        for row in rows {
            writeln!(text, "{}", serde_json::to_string(&row.values)?)?;
        }
        Ok(text)
    }

    pub(crate) fn of(&self, bench: Name) -> impl Iterator<Item = &Row> {
        self.rows.iter().filter(move |row| row.text("bench") == bench.as_str())
    }

    /// The row of an engine, a peer or a floor.
    pub(crate) fn find(&self, bench: Name, workload: &str, mode: &str, name: &str) -> Option<&Row> {
        self.rows.iter().find(|row| row.is(bench, workload, mode) && row.name == name)
    }
}
