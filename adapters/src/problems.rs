//! Collects everything that is wrong with settings.

use pillarbox_runtime::adapter::{SettingProblem, SettingsError};

/// The largest body that a setting says, `usual` unless told otherwise, at most `most`.
///
/// # Errors
/// What it may be.
#[cfg(feature = "wire")]
pub(crate) fn body_bytes(written: Option<u64>, usual: u64, most: u64) -> Result<u64, String> {
    let bytes = written.unwrap_or(usual);
    if (1..=most).contains(&bytes) {
        Ok(bytes)
    } else {
        Err(format!("write a number of bytes from 1 to {most}"))
    }
}

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
