//! `[[port]]`, its routes, and the handler settings beneath them.

use std::sync::Arc;
use std::time::Duration;

use pillarbox_adapters::Registry;
use pillarbox_runtime::adapter::{AdapterKind, CheckedSettings, Settings, SettingsError};
use pillarbox_runtime::{AdapterSource, DoubtPolicy, IntentRecord, RetryPolicy, RouteConfig, WhenUnknown};
use pillarbox_store::{PortName, PortSpec};
use serde_json::{Map, Value};
use toml::de::{DeTable, DeValue};

use super::dynamic;
use super::problem::Collector;
use super::reader::{Entry, Table, locate, to_json};

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
    /// The adapter with its settings, checked; or, where the address on each message says which, those that may be.
    pub adapter: AdapterSource,
    /// `retry`.
    pub retry: RetryPolicy,
    /// `in_doubt`: what becomes of attempts whose outcome a crash hid.
    pub doubt: DoubtPolicy,
    /// `timeout`: how long one attempt may take.
    pub timeout: Duration,
    /// `in_flight`: messages being sent at once.
    pub in_flight: usize,
    /// `batch.count`: messages of one batch.
    pub batch_count: usize,
    /// `batch.bytes`: bytes of one batch's bodies.
    pub batch_bytes: u64,
}

impl RouteSection {
    /// What the runtime is given.
    #[must_use]
    pub fn to_route(&self) -> RouteConfig {
        RouteConfig::new(self.adapter.clone())
            .retry(self.retry)
            .doubt(self.doubt)
            .timeout(self.timeout)
            .in_flight(self.in_flight)
            .batch(self.batch_count, self.batch_bytes)
    }
}

impl PortSection {
    /// What the store has to know of it.
    #[must_use]
    pub fn spec(&self) -> PortSpec {
        PortSpec { backup: self.backup.is_some() }
    }
}

/// What is given of how a route's adapter is driven.
#[derive(Default)]
struct Driving {
    retry: RetryPolicy,
    doubt: DoubtPolicy,
    timeout: Option<Duration>,
    in_flight: Option<u64>,
    batch_count: Option<u64>,
    batch_bytes: Option<u64>,
}

impl Driving {
    fn over_defaults(self, adapter: AdapterSource) -> RouteSection {
        let plain = RouteConfig::new(adapter.clone());
        let count =
            |given: Option<u64>, default| given.and_then(|n| usize::try_from(n).ok()).unwrap_or(default);
        RouteSection {
            adapter,
            retry: self.retry,
            doubt: self.doubt,
            timeout: self.timeout.unwrap_or(plain.timeout),
            in_flight: count(self.in_flight, plain.in_flight),
            batch_count: count(self.batch_count, plain.batch_count),
            batch_bytes: self.batch_bytes.unwrap_or(plain.batch_bytes),
        }
    }
}

/// Handler settings of one kind, with their place.
pub(super) struct Handler<'d, 'i> {
    pub(super) kind: String,
    pub(super) path: String,
    pub(super) table: &'d DeTable<'i>,
    pub(super) settings: Settings,
}

pub(super) fn read(
    root: &mut Table<'_, '_>,
    kinds: &Registry,
    problems: &mut Collector<'_>,
) -> Vec<PortSection> {
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
    kinds: &Registry,
    problems: &mut Collector<'_>,
) -> Vec<Handler<'d, 'i>> {
    let Some(tables) = root.take("adapter").and_then(|entry| entry.table(problems)) else {
        return Vec::new();
    };
    let mut handlers = Vec::new();
    for (kind, entry) in tables.rest() {
        if kinds.get(kind).is_err() {
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
    kinds: &Registry,
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
            problems.push(
                &table.at,
                &table.path,
                "the port has no primary route; add [port.primary] with adapter = \"...\"",
            );
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
    kinds: &Registry,
    handlers: &[Handler<'_, '_>],
    problems: &mut Collector<'_>,
) -> Option<RouteSection> {
    let mut table = entry.table(problems)?;
    let driven = read_driving(&mut table, problems);
    let Some(adapter) = table.take("adapter") else {
        let what = format!("the route names no adapter; add adapter = \"...\" with one of {}", names(kinds));
        problems.push(&entry.key_at, &entry.path, what);
        return None;
    };
    let name = adapter.text(problems)?;
    let source = if name == dynamic::NAME {
        dynamic::read(table, kinds, handlers, problems)?
    } else {
        let Ok(kind) = kinds.get(name) else {
            adapter.wrong(problems, no_such_kind(name, kinds));
            return None;
        };
        let handler = handlers.iter().find(|handler| handler.kind == name);
        let settings = check_settings(&table, &adapter, kind.as_ref(), handler, problems)?;
        AdapterSource::Checked(settings, kind.describe())
    };
    let section = driven(source);
    if let Err(what) = section.to_route().check() {
        problems.push(&entry.key_at, &entry.path, what);
    }
    Some(section)
}

/// How the route's adapter is driven. What is not given keeps the runtime's default.
fn read_driving(
    table: &mut Table<'_, '_>,
    problems: &mut Collector<'_>,
) -> impl FnOnce(AdapterSource) -> RouteSection + use<> {
    let mut given = Driving::default();
    if let Some(entry) = table.take("retry") {
        given.retry = read_retry(&entry, problems);
    }
    if let Some(entry) = table.take("in_doubt") {
        given.doubt = read_in_doubt(&entry, problems);
    }
    if let Some(entry) = table.take("timeout") {
        given.timeout = entry.duration(problems);
        if given.timeout.is_some_and(|span| span.is_zero()) {
            entry.wrong(problems, "an attempt needs some time; give more than 0");
            given.timeout = None;
        }
    }
    given.in_flight = table.take("in_flight").and_then(|entry| entry.count(problems, 1..=100_000));
    if let Some(mut batch) = table.take("batch").and_then(|entry| entry.table(problems)) {
        given.batch_count = batch.take("count").and_then(|entry| entry.count(problems, 1..=100_000));
        given.batch_bytes = batch.take("bytes").and_then(|entry| entry.bytes(problems));
        batch.finish(problems);
    }
    move |adapter| given.over_defaults(adapter)
}

pub(super) fn no_such_kind(kind: &str, kinds: &Registry) -> String {
    format!("there is no adapter '{kind}'; take one of {}", names(kinds))
}

fn names(kinds: &Registry) -> String {
    kinds.kinds().map(|kind| kind.describe().kind).collect::<Vec<_>>().join(", ")
}

fn read_retry(entry: &Entry<'_, '_>, problems: &mut Collector<'_>) -> RetryPolicy {
    let mut retry = RetryPolicy::default();
    let Some(mut table) = entry.table(problems) else { return retry };
    let attempts = table.take("attempts").and_then(|entry| entry.count(problems, 1..=1_000));
    retry.attempts = attempts.and_then(|attempts| u32::try_from(attempts).ok()).unwrap_or(retry.attempts);
    let first = table.take("first").and_then(|entry| entry.duration(problems));
    let max = table.take("max").and_then(|entry| entry.duration(problems));
    match (first, max) {
        (Some(first), Some(max)) if first > max => {
            entry.wrong(problems, "the first pause is longer than the longest; lower 'first' or raise 'max'");
        }
        // One alone moves the other's default out of its way.
        (first, max) => {
            retry.max = max.unwrap_or_else(|| first.map_or(retry.max, |first| first.max(retry.max)));
            retry.first = first.unwrap_or_else(|| retry.first.min(retry.max));
        }
    }
    let factor = table.take("factor").and_then(|entry| within(&entry, 1.0, 100.0, problems));
    retry.factor = factor.unwrap_or(retry.factor);
    let jitter = table.take("jitter").and_then(|entry| within(&entry, 0.0, 1.0, problems));
    retry.jitter = jitter.unwrap_or(retry.jitter);
    table.finish(problems);
    retry
}

fn read_in_doubt(entry: &Entry<'_, '_>, problems: &mut Collector<'_>) -> DoubtPolicy {
    let mut policy = DoubtPolicy::default();
    let Some(mut table) = entry.table(problems) else { return policy };
    let record = table.take("record").and_then(|entry| one_of(&entry, &IntentRecord::ALL, problems));
    policy.record = record.unwrap_or(policy.record);
    let unknown = table.take("unknown").and_then(|entry| one_of(&entry, &WhenUnknown::ALL, problems));
    policy.unknown = unknown.unwrap_or(policy.unknown);
    let most = table.take("park_after").and_then(|entry| entry.count(problems, 0..=1_000));
    let most = most.and_then(|most| u32::try_from(most).ok());
    policy.park_after = most.unwrap_or(policy.park_after);
    // Whoever asks for this relies on it.
    let relied_on =
        unknown.is_some_and(|unknown| unknown != WhenUnknown::Resend) || most.is_some_and(|most| most > 0);
    if policy.record == IntentRecord::None && relied_on {
        entry.wrong(
            problems,
            "without a record nothing is known to be in doubt; set 'record' to written or flushed, \
             or remove 'unknown' and 'park_after'",
        );
    }
    table.finish(problems);
    policy
}

/// The value of this name.
fn one_of<T: Copy>(
    entry: &Entry<'_, '_>,
    all: &[(&'static str, T)],
    problems: &mut Collector<'_>,
) -> Option<T> {
    entry.parsed(problems, |text| {
        let found = all.iter().find(|(name, _)| *name == text).map(|(_, value)| *value);
        found.ok_or_else(|| {
            let names = all.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", ");
            format!("there is no '{}' here; take one of {names}", text.escape_debug())
        })
    })
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

/// Whether a kind has a setting of this name.
fn takes(kind: &dyn AdapterKind, key: &str) -> bool {
    let unknown = |error: SettingsError| error.0.iter().any(|problem| problem.key == key);
    !kind.check(&Settings::default().with(key, "1s")).err().is_some_and(unknown)
}

/// A kind with a timeout of its own is given the route's, or its default might end attempts sooner.
pub(super) fn timeout_for(kind: &dyn AdapterKind, route: &Table<'_, '_>) -> Option<String> {
    match to_json(route.find("timeout")?.value.get_ref()) {
        Ok(Value::String(timeout)) if takes(kind, "timeout") => Some(timeout),
        _ => None,
    }
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
    let mut own = to_settings(table, problems);
    if let Some(timeout) = timeout_for(kind, table) {
        own = own.with("timeout", timeout);
    }
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
        let in_handler =
            handler.and_then(|handler| locate(handler.table, &problem.key).map(|at| (handler, at)));
        match (in_route, in_handler) {
            (false, Some((handler, at))) => {
                problems.push(&at, format!("{}.{}", handler.path, problem.key), problem.reason);
            }
            _ => {
                let at = table.locate(&problem.key).unwrap_or_else(|| adapter.key_at.clone());
                let path =
                    if problem.key.is_empty() { table.path.clone() } else { table.path_of(&problem.key) };
                problems.push(&at, path, problem.reason);
            }
        }
    }
    None
}
