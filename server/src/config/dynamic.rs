//! A route with `adapter = "dynamic"`: the address on each message says where it goes.

use pillarbox_adapters::Registry;
use pillarbox_runtime::{AdapterSource, Directory};
use toml::de::DeValue;

use super::ports::{Handler, no_such_kind, timeout_for};
use super::problem::Collector;
use super::reader::{Entry, Table, locate};

/// What stands in place of an adapter's kind.
pub(super) const NAME: &str = "dynamic";

/// The adapters that messages may choose from, each with its handler settings.
pub(super) fn read(
    mut table: Table<'_, '_>,
    kinds: &Registry,
    handlers: &[Handler<'_, '_>],
    problems: &mut Collector<'_>,
) -> Option<AdapterSource> {
    let mut directory = Directory::new();
    let count = |entry: Entry<'_, '_>, problems: &mut Collector<'_>, most| {
        entry.count(problems, 1..=most).and_then(|count| usize::try_from(count).ok())
    };
    if let Some(most) = table.take("addresses_max").and_then(|entry| count(entry, problems, 100_000)) {
        directory = directory.addresses_max(most);
    }
    if let Some(most) = table.take("in_flight_per_address").and_then(|entry| count(entry, problems, 100_000))
    {
        directory = directory.in_flight_per_address(most);
    }
    let Some(entry) = table.take("adapters") else {
        // Who may submit a message must not thereby be able to start programs.
        let what =
            "the route does not say which adapters its messages may choose; add adapters = [\"http\"], say";
        problems.push(&table.at, &table.path, what);
        return None;
    };
    let DeValue::Array(named) = entry.value.get_ref() else {
        entry.wrong(problems, "this takes a list of adapters in brackets: [\"http\"]");
        return None;
    };
    if named.is_empty() {
        entry.wrong(problems, "no adapter is named, so that no message could be sent; add one: [\"http\"]");
    }
    for item in named {
        let entry = Entry { path: entry.path.clone(), key_at: item.span(), value: item };
        let Some(name) = entry.text(problems) else { continue };
        let Ok(kind) = kinds.get(name) else {
            entry.wrong(problems, no_such_kind(name, kinds));
            continue;
        };
        if kind.address_key().is_none() {
            entry.wrong(
                problems,
                format!("'{name}' takes no address from a message; name it in a port of its own"),
            );
            continue;
        }
        let handler = handlers.iter().find(|handler| handler.kind == name);
        let mut settings = handler.map(|handler| handler.settings.clone()).unwrap_or_default();
        if let Some(handler) = handler {
            check_handler(kind.as_ref(), handler, problems);
        }
        if let Some(timeout) = timeout_for(kind.as_ref(), &table) {
            settings = settings.with("timeout", timeout);
        }
        directory = directory.with(kind.clone(), settings);
    }
    table.finish(problems);
    Some(directory.into())
}

/// What is wrong with handler settings themselves. What they miss may come with a message's address.
fn check_handler(
    kind: &dyn pillarbox_runtime::adapter::AdapterKind,
    handler: &Handler<'_, '_>,
    problems: &mut Collector<'_>,
) {
    let Err(error) = kind.check(&handler.settings) else { return };
    for problem in error.0 {
        if let Some(at) = locate(handler.table, &problem.key) {
            problems.push(&at, format!("{}.{}", handler.path, problem.key), problem.reason);
        }
    }
}
