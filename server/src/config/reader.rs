//! Reads TOML tables key by key, with the place of each, and tells which keys nobody asked for.

use std::collections::BTreeSet;
use std::fmt::Display;
use std::ops::{Range, RangeInclusive};
use std::time::Duration;

use serde_json::{Map, Value};
use toml::Spanned;
use toml::de::{DeInteger, DeTable, DeValue};

use super::problem::Collector;
use super::values;

/// One value, with its key's path and place.
#[derive(Debug)]
pub(crate) struct Entry<'d, 'i> {
    pub(crate) path: String,
    pub(crate) key_at: Range<usize>,
    pub(crate) value: &'d Spanned<DeValue<'i>>,
}

/// A table being read. Every key that is asked for counts as known; [`Table::finish`] reports the rest.
#[derive(Debug)]
pub(crate) struct Table<'d, 'i> {
    pub(crate) path: String,
    pub(crate) at: Range<usize>,
    table: &'d DeTable<'i>,
    asked: BTreeSet<&'static str>,
}

impl<'d, 'i> Table<'d, 'i> {
    pub(crate) fn new(path: impl Into<String>, at: Range<usize>, table: &'d DeTable<'i>) -> Self {
        Self { path: path.into(), at, table, asked: BTreeSet::new() }
    }

    /// The path of a key of this table.
    pub(crate) fn path_of(&self, key: &str) -> String {
        if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) }
    }

    /// The value of a key, which is known from now on.
    pub(crate) fn take(&mut self, key: &'static str) -> Option<Entry<'d, 'i>> {
        self.asked.insert(key);
        self.find(key)
    }

    /// The value of a key, without making the key known.
    pub(crate) fn find(&self, key: &str) -> Option<Entry<'d, 'i>> {
        let (name, value) = self.table.iter().find(|(name, _)| name.get_ref().as_ref() == key)?;
        Some(Entry { path: self.path_of(key), key_at: name.span(), value })
    }

    /// The place of what a dotted path names below this table.
    pub(crate) fn locate(&self, path: &str) -> Option<Range<usize>> {
        locate(self.table, path)
    }

    /// Every entry that nobody asked for.
    pub(crate) fn rest(&self) -> impl Iterator<Item = (&'d str, Entry<'d, 'i>)> {
        self.table.iter().filter(|(name, _)| !self.asked.contains(name.get_ref().as_ref())).map(
            |(name, value)| {
                let key: &'d str = name.get_ref().as_ref();
                (key, Entry { path: self.path_of(key), key_at: name.span(), value })
            },
        )
    }

    /// Reports every key that nobody asked for.
    pub(crate) fn finish(self, problems: &mut Collector<'_>) {
        let known = self.asked.iter().copied().collect::<Vec<_>>().join(", ");
        for (_, entry) in self.rest() {
            let what = format!("there is no such key; correct or remove it. Known here: {known}");
            problems.push(&entry.key_at, entry.path, what);
        }
    }
}

impl<'d, 'i> Entry<'d, 'i> {
    /// Reports that the value is not what is wanted.
    pub(crate) fn wrong(&self, problems: &mut Collector<'_>, what: impl Into<String>) {
        problems.push(&self.value.span(), &self.path, what);
    }

    fn expected(&self, problems: &mut Collector<'_>, wanted: &str) {
        let have = self.value.get_ref().type_str();
        self.wrong(problems, format!("this takes {wanted}, not {have}"));
    }

    pub(crate) fn table(&self, problems: &mut Collector<'_>) -> Option<Table<'d, 'i>> {
        let Some(table) = self.value.get_ref().as_table() else {
            self.expected(problems, "a table");
            return None;
        };
        Some(Table::new(self.path.clone(), self.value.span(), table))
    }

    pub(crate) fn text(&self, problems: &mut Collector<'_>) -> Option<&'d str> {
        let text = self.value.get_ref().as_str();
        if text.is_none() {
            self.expected(problems, "a text in quotes");
        }
        text
    }

    /// A text, read by `parse`, whose error says what is wrong.
    pub(crate) fn parsed<T, E: Display>(
        &self,
        problems: &mut Collector<'_>,
        parse: impl FnOnce(&str) -> Result<T, E>,
    ) -> Option<T> {
        parse(self.text(problems)?).map_err(|error| self.wrong(problems, error.to_string())).ok()
    }

    pub(crate) fn duration(&self, problems: &mut Collector<'_>) -> Option<Duration> {
        if self.value.get_ref().as_str().is_none() {
            self.expected(problems, "a duration in quotes such as \"200ms\", \"30s\" or \"7 days\"");
            return None;
        }
        self.parsed(problems, values::duration)
    }

    /// A number of bytes: a whole number, or a text with a unit.
    pub(crate) fn bytes(&self, problems: &mut Collector<'_>) -> Option<u64> {
        match self.value.get_ref() {
            DeValue::Integer(number) => self.unsigned(problems, number),
            DeValue::String(text) => values::bytes(text).map_err(|error| self.wrong(problems, error)).ok(),
            _ => {
                self.expected(problems, "a number of bytes, or a text such as \"64MiB\"");
                None
            }
        }
    }

    pub(crate) fn count(&self, problems: &mut Collector<'_>, range: RangeInclusive<u64>) -> Option<u64> {
        let DeValue::Integer(number) = self.value.get_ref() else {
            self.expected(problems, "a whole number");
            return None;
        };
        let value = self.unsigned(problems, number)?;
        if !range.contains(&value) {
            self.wrong(problems, format!("{value} is not within {} to {}", range.start(), range.end()));
            return None;
        }
        Some(value)
    }

    fn unsigned(&self, problems: &mut Collector<'_>, number: &DeInteger<'_>) -> Option<u64> {
        let value = u64::from_str_radix(number.as_str(), number.radix()).ok();
        if value.is_none() {
            self.wrong(problems, format!("{number} is not a whole number from 0 up"));
        }
        value
    }

    pub(crate) fn number(&self, problems: &mut Collector<'_>) -> Option<f64> {
        let text = match self.value.get_ref() {
            DeValue::Float(number) => number.as_str(),
            DeValue::Integer(number) if number.radix() == 10 => number.as_str(),
            _ => {
                self.expected(problems, "a number");
                return None;
            }
        };
        text.parse().map_err(|_| self.wrong(problems, format!("{text} is not a number"))).ok()
    }
}

/// A TOML value as the JSON value that adapters' settings are made of.
pub(crate) fn to_json(value: &DeValue<'_>) -> Result<Value, String> {
    Ok(match value {
        DeValue::String(text) => Value::String(text.to_string()),
        DeValue::Integer(number) => i64::from_str_radix(number.as_str(), number.radix())
            .map(Value::from)
            .map_err(|_| format!("{number} is too large a number"))?,
        DeValue::Float(number) => number
            .as_str()
            .parse()
            .ok()
            .and_then(serde_json::Number::from_f64)
            .map(Value::Number)
            .ok_or_else(|| format!("{number} is not a finite number"))?,
        DeValue::Boolean(flag) => Value::Bool(*flag),
        DeValue::Datetime(time) => Value::String(time.to_string()),
        DeValue::Array(items) => {
            Value::Array(items.iter().map(|item| to_json(item.get_ref())).collect::<Result<_, _>>()?)
        }
        DeValue::Table(table) => {
            let pair = |(key, value): (&Spanned<_>, &Spanned<DeValue<'_>>)| {
                let key: &std::borrow::Cow<'_, str> = key.get_ref();
                to_json(value.get_ref()).map(|value| (key.to_string(), value))
            };
            Value::Object(table.iter().map(pair).collect::<Result<Map<_, _>, _>>()?)
        }
    })
}

/// The place of the value that a dotted path such as `headers.accept` or `urls[0]` names below `table`.
pub(crate) fn locate(table: &DeTable<'_>, path: &str) -> Option<Range<usize>> {
    let flat = path.replace('[', ".").replace(']', "");
    let mut names = flat.split('.').filter(|name| !name.is_empty() && *name != "?");
    let first = names.next()?;
    let (key, mut value) = table.iter().find(|(name, _)| name.get_ref().as_ref() == first)?;
    let mut at = key.span();
    for name in names {
        match value.get_ref() {
            DeValue::Table(below) => {
                let Some((key, next)) = below.iter().find(|(key, _)| key.get_ref().as_ref() == name) else {
                    break;
                };
                (at, value) = (key.span(), next);
            }
            DeValue::Array(items) => {
                let Some(next) = name.parse().ok().and_then(|index: usize| items.get(index)) else { break };
                (at, value) = (next.span(), next);
            }
            _ => break,
        }
    }
    Some(at)
}
