//! An adapter's settings: data, checked before anything is opened.

use std::fmt;

use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

/// Named values. Re-implements the property bag of `IPersistPropertyBag`.
#[derive(Clone, Default, PartialEq)]
pub struct Settings(Map<String, Value>);

/// One thing that is wrong with settings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SettingProblem {
    /// The key, `headers.accept` say; empty where it is about the whole.
    pub key: String,
    /// What is wrong and what to do, without the value where it may be secret.
    pub reason: String,
}

/// Everything that is wrong with settings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SettingsError(pub Vec<SettingProblem>);

/// Re-implements `IPersistPropertyBag`: loads settings, and saves them back.
pub trait HandlerSettings: Sized {
    /// The settings in `bag`.
    ///
    /// # Errors
    /// Every problem at once, each with its key.
    fn load(bag: &Settings) -> Result<Self, SettingsError>;

    /// The settings as a bag, secrets as the references by which they were given.
    fn save(&self) -> Settings;
}

impl Settings {
    /// The bag with these values.
    #[must_use]
    pub fn new(values: Map<String, Value>) -> Self {
        Self(values)
    }

    /// Sets a value, replacing the one of that key.
    #[must_use]
    pub fn with(mut self, key: &str, value: impl Into<Value>) -> Self {
        self.0.insert(key.to_owned(), value.into());
        self
    }

    /// The value of a key.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&Value> {
        self.0.get(key)
    }

    /// These settings over `defaults`: a handler's settings beneath a port's. Tables are merged key by key.
    #[must_use]
    pub fn over(self, defaults: &Self) -> Self {
        let mut merged = defaults.0.clone();
        merge(&mut merged, self.0);
        Self(merged)
    }

    /// The settings as a type of the adapter's. Unknown keys are refused, all of them at once.
    ///
    /// # Errors
    /// Every unknown key, and the first value of a wrong type, each with its key.
    pub fn parse<T: DeserializeOwned>(&self) -> Result<T, SettingsError> {
        let mut problems = Vec::new();
        let mut unknown = |path: serde_ignored::Path<'_>| {
            problems.push(SettingProblem {
                key: path.to_string(),
                reason: "there is no such setting; correct or remove the key".to_owned(),
            });
        };
        let value = Value::Object(self.0.clone());
        let mut track = serde_path_to_error::Track::new();
        let tracked = serde_path_to_error::Deserializer::new(value, &mut track);
        let parsed = T::deserialize(serde_ignored::Deserializer::new(tracked, &mut unknown));
        let failed = parsed.as_ref().err().map(ToString::to_string);
        if let Some(reason) = failed {
            let key = track.path().to_string();
            problems.push(SettingProblem { key: if key == "." { String::new() } else { key }, reason });
        }
        match parsed {
            Ok(value) if problems.is_empty() => Ok(value),
            _ => Err(SettingsError(problems)),
        }
    }
}

fn merge(into: &mut Map<String, Value>, over: Map<String, Value>) {
    for (key, value) in over {
        match (into.get_mut(&key), value) {
            (Some(Value::Object(below)), Value::Object(above)) => merge(below, above),
            (_, value) => {
                into.insert(key, value);
            }
        }
    }
}

impl fmt::Debug for Settings {
    /// The keys only: values may be secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

impl fmt::Display for SettingsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.0.iter().enumerate() {
            let separator = if index == 0 { "" } else { "; " };
            if problem.key.is_empty() {
                write!(f, "{separator}{}", problem.reason)?;
            } else {
                write!(f, "{separator}{}: {}", problem.key, problem.reason)?;
            }
        }
        Ok(())
    }
}

impl std::error::Error for SettingsError {}
