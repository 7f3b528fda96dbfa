//! Collects everything that is wrong with settings.

use pillarbox_runtime::adapter::{SettingProblem, SettingsError};

/// What was found wrong so far.
#[derive(Debug, Default)]
pub(crate) struct Problems(Vec<SettingProblem>);

impl Problems {
    /// Notes a problem with the setting `key`.
    pub(crate) fn add(&mut self, key: &str, reason: impl Into<String>) {
        self.0.push(SettingProblem { key: key.to_owned(), reason: reason.into() });
    }

    /// The value of `checked`, or its problem noted under `key`.
    pub(crate) fn take<T>(&mut self, key: &str, checked: Result<T, String>) -> Option<T> {
        checked.map_err(|reason| self.add(key, reason)).ok()
    }

    /// The value, if it is there and nothing was found wrong.
    pub(crate) fn finish<T>(self, value: Option<T>) -> Result<T, SettingsError> {
        match value {
            Some(value) if self.0.is_empty() => Ok(value),
            _ => Err(SettingsError(self.0)),
        }
    }
}
