//! `[[port]]`, its routes, and the handler settings beneath them.

use std::sync::Arc;
use std::time::Duration;

use pillarbox_runtime::adapter::{AdapterKind, CheckedSettings, Settings, TransportInfo};
use pillarbox_store::{PortName, PortSpec};
use serde_json::Map;
use toml::de::{DeTable, DeValue};

use super::problem::Collector;
use super::reader::{Entry, Table, locate, to_json};
use crate::kinds::Kinds;

/// `[[port]]`.
#[derive(Debug, Clone)]
pub struct PortSection {
    /// `name`.
    pub name: PortName,
    /// `[port.primary]`.
    pub primary: RouteSection,
    /// `[port.backup]`.
    pub backup: Option<RouteSection>,
}

/// `[port.primary]` or `[port.backup]`.
#[derive(Debug, Clone)]
pub struct RouteSection {
    /// The adapter's kind.
    pub info: TransportInfo,
    /// The adapter's own settings, checked.
    pub settings: Arc<dyn CheckedSettings>,
    /// `retry`.
    pub retry: RetrySection,
    /// `timeout`: how long one attempt may take.
    pub timeout: Option<Duration>,
    /// `in_flight`: messages being sent at once.
    pub in_flight: Option<u64>,
    /// `batch.count`: messages of one batch.
    pub batch_count: Option<u64>,
    /// `batch.bytes`: bytes of one batch's bodies.
    pub batch_bytes: Option<u64>,
}

/// `retry`; what is not given keeps the runtime's default.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct RetrySection {
    /// `attempts`: the first one counted.
    pub attempts: Option<u32>,
    /// `first`: the pause after the first failure.
    pub first: Option<Duration>,
    /// `factor`: how much longer each next pause is.
    pub factor: Option<f64>,
    /// `max`: the longest pause.
    pub max: Option<Duration>,
    /// `jitter`: the share of a pause that is left to chance.
    pub jitter: Option<f64>,
}

impl PortSection {
    /// What the store has to know of it.
    #[must_use]
    pub fn spec(&self) -> PortSpec {
        PortSpec { backup: self.backup.is_some() }
    }
}

/// Handler settings of one kind, with their place.
struct Handler<'d, 'i> {
    kind: String,
    path: String,
    table: &'d DeTable<'i>,
    settings: Settings,
}

pub(super) fn read(root: &mut Table<'_, '_>, kinds: &Kinds, problems: &mut Collector<'_>) -> Vec<PortSection> {
    let handlers = read_handlers(root, kinds, problems);
    let Some(entry) = root.take("port") else { return Vec::new() };
    let DeValue::Array(items) = entry.value.get_ref() else {
        entry.wrong(problems, "ports are written as [[port]], with two brackets");
        return Vec::new();
    };
    let mut ports: Vec<PortSection> = Vec::new();
    let mut names: Vec<PortName> = Vec::new();
    for (index, item) in items.iter().enumerate() {
        let name = item.get_ref().get("name").and_then(|name| name.get_ref().as_str());
        let path = name.map_or_else(|| format!("port[{index}]"), |name| format!("port[{name}]"));
        let Some(table) = item.get_ref().as_table() else {
            problems.push(&item.span(), path, "a port is a table; write [[port]]");
            continue;
        };
        let mut table = Table::new(path, item.span(), table);
        let port = read_port(&mut table, &mut names, kinds, &handlers, problems);
        table.finish(problems);
        ports.extend(port);
    }
    ports
}

fn read_handlers<'d, 'i>(
    root: &mut Table<'d, 'i>,
    kinds: &Kinds,
    problems: &mut Collector<'_>,
) -> Vec<Handler<'d, 'i>> {
    let Some(tables) = root.take("adapter").and_then(|entry| entry.table(problems)) else { return Vec::new() };
    let mut handlers = Vec::new();
    for (kind, entry) in tables.rest() {
        if kinds.get(kind).is_none() {
            problems.push(&entry.key_at, &entry.path, no_such_kind(kind, kinds));
            continue;
        }
        let Some(table) = entry.value.get_ref().as_table() else {
            entry.wrong(problems, "handler settings are a table; write [adapter.KIND]");
            continue;
        };
        let reading = Table::new(&entry.path, entry.value.span(), table);
        let settings = to_settings(&reading, problems);
        handlers.push(Handler { kind: kind.to_owned(), path: entry.path, table, settings });
    }
    handlers
}

fn read_port(
    table: &mut Table<'_, '_>,
    names: &mut Vec<PortName>,
    kinds: &Kinds,
    handlers: &[Handler<'_, '_>],
    problems: &mut Collector<'_>,
) -> Option<PortSection> {
    let name = match table.take("name") {
        Some(entry) => read_name(&entry, names, problems),
        None => {
            problems.push(&table.at, &table.path, "the port has no name; add name = \"...\"");
            None
        }
    };
    let primary = match table.take("primary") {
        Some(entry) => read_route(&entry, kinds, handlers, problems),
        None => {
            problems.push(&table.at, &table.path, "the port has no primary route; add [port.primary] with adapter = \"...\"");
            None
        }
    };
    let backup = table.take("backup").map(|entry| read_route(&entry, kinds, handlers, problems));
    Some(PortSection { name: name?, primary: primary?, backup: backup.flatten() })
}

fn read_name(
    entry: &Entry<'_, '_>,
    names: &mut Vec<PortName>,
    problems: &mut Collector<'_>,
) -> Option<PortName> {
    let rule = "a port's name has 1 to 64 letters, digits, '.', '_' and '-', a letter or digit first";
    let name = entry.parsed(problems, |text| PortName::new(text).map_err(|_| rule))?;
    if names.contains(&name) {
        entry.wrong(problems, format!("there are two ports named '{name}'; rename or remove one"));
        return None;
    }
    names.push(name.clone());
    Some(name)
}

fn read_route(
    entry: &Entry<'_, '_>,
    kinds: &Kinds,
    handlers: &[Handler<'_, '_>],
    problems: &mut Collector<'_>,
) -> Option<RouteSection> {
    let mut table = entry.table(problems)?;
    let retry = table.take("retry").map(|entry| read_retry(&entry, problems)).unwrap_or_default();
    let timeout = table.take("timeout").and_then(|entry| {
        let span = entry.duration(problems)?;
        if span.is_zero() {
            entry.wrong(problems, "an attempt needs some time; give more than 0");
        }
        Some(span)
    });
    let in_flight = table.take("in_flight").and_then(|entry| entry.count(problems, 1..=100_000));
    let (mut batch_count, mut batch_bytes) = (None, None);
    if let Some(mut batch) = table.take("batch").and_then(|entry| entry.table(problems)) {
        batch_count = batch.take("count").and_then(|entry| entry.count(problems, 1..=10_000));
        batch_bytes = batch.take("bytes").and_then(|entry| entry.bytes(problems));
        batch.finish(problems);
    }
    let Some(adapter) = table.take("adapter") else {
        let what = format!("the route names no adapter; add adapter = \"...\" with one of {}", kinds.names());
        problems.push(&entry.key_at, &entry.path, what);
        return None;
    };
    let name = adapter.text(problems)?;
    let Some(kind) = kinds.get(name) else {
        adapter.wrong(problems, no_such_kind(name, kinds));
        return None;
    };
    let handler = handlers.iter().find(|handler| handler.kind == name);
    let settings = check_settings(&table, &adapter, kind.as_ref(), handler, problems)?;
    Some(RouteSection { info: kind.describe(), settings, retry, timeout, in_flight, batch_count, batch_bytes })
}

fn no_such_kind(kind: &str, kinds: &Kinds) -> String {
    format!("there is no adapter '{kind}'; take one of {}", kinds.names())
}

fn read_retry(entry: &Entry<'_, '_>, problems: &mut Collector<'_>) -> RetrySection {
    let mut retry = RetrySection::default();
    let Some(mut table) = entry.table(problems) else { return retry };
    retry.attempts = table
        .take("attempts")
        .and_then(|entry| entry.count(problems, 1..=u64::from(u32::MAX)))
        .and_then(|attempts| u32::try_from(attempts).ok());
    retry.first = table.take("first").and_then(|entry| entry.duration(problems));
    retry.max = table.take("max").and_then(|entry| entry.duration(problems));
    retry.factor = table.take("factor").and_then(|entry| within(&entry, 1.0, 1_000.0, problems));
    retry.jitter = table.take("jitter").and_then(|entry| within(&entry, 0.0, 1.0, problems));
    if let (Some(first), Some(max)) = (retry.first, retry.max)
        && first > max
    {
        entry.wrong(problems, "the first pause is longer than the longest; lower 'first' or raise 'max'");
    }
    table.finish(problems);
    retry
}

fn within(entry: &Entry<'_, '_>, least: f64, most: f64, problems: &mut Collector<'_>) -> Option<f64> {
    let number = entry.number(problems)?;
    if !(least..=most).contains(&number) {
        entry.wrong(problems, format!("{number} is not within {least} to {most}"));
        return None;
    }
    Some(number)
}

/// The entries that are the adapter's own.
fn to_settings(table: &Table<'_, '_>, problems: &mut Collector<'_>) -> Settings {
    let mut values = Map::new();
    for (key, entry) in table.rest() {
        match to_json(entry.value.get_ref()) {
            Ok(value) => {
                values.insert(key.to_owned(), value);
            }
            Err(what) => entry.wrong(problems, what),
        }
    }
    Settings::new(values)
}

/// Lets the adapter check its settings, and takes each problem back to where the value was written: in the route,
/// or in the handler's table beneath it.
fn check_settings(
    table: &Table<'_, '_>,
    adapter: &Entry<'_, '_>,
    kind: &dyn AdapterKind,
    handler: Option<&Handler<'_, '_>>,
    problems: &mut Collector<'_>,
) -> Option<Arc<dyn CheckedSettings>> {
    let own = to_settings(table, problems);
    let merged = match handler {
        Some(handler) => own.over(&handler.settings),
        None => own,
    };
    let error = match kind.check(&merged) {
        Ok(checked) => return Some(checked.into()),
        Err(error) => error,
    };
    for problem in error.0 {
        let first = problem.key.split(['.', '[']).next().unwrap_or_default();
        let in_route = table.find(first).is_some();
        let in_handler = handler.and_then(|handler| locate(handler.table, &problem.key).map(|at| (handler, at)));
        match (in_route, in_handler) {
            (false, Some((handler, at))) => {
                problems.push(&at, format!("{}.{}", handler.path, problem.key), problem.reason);
            }
            _ => {
                let at = table.locate(&problem.key).unwrap_or_else(|| adapter.key_at.clone());
                let path = if problem.key.is_empty() { table.path.clone() } else { table.path_of(&problem.key) };
                problems.push(&at, path, problem.reason);
            }
        }
    }
    None
}
