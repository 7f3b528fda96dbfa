//! Values that may be secret: given as they are, or by reference, and never printed.

use std::fmt;
use std::path::PathBuf;

#[cfg(any(feature = "amqp", feature = "mqtt", feature = "nats", feature = "redis", feature = "smtp"))]
use pillarbox_runtime::adapter::SendError;

#[cfg(any(
    feature = "amqp",
    feature = "mqtt",
    feature = "nats",
    feature = "redis",
    feature = "sftp",
    feature = "smtp"
))]
use crate::problems::Problems;

/// Where a value comes from.
#[derive(Clone, PartialEq, Eq)]
pub(crate) enum Secret {
    /// It is in the settings.
    Plain(String),
    /// It is in the environment, under this name.
    Env(String),
    /// It is in this file, without the line's end.
    File(PathBuf),
}

impl Secret {
    /// Reads `env:NAME`, `file:PATH`, or else the value itself.
    ///
    /// # Errors
    /// What is missing.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        if let Some(name) = text.strip_prefix("env:") {
            let possible = !name.is_empty() && !name.contains(['=', '\0']);
            let hint = "name the environment's variable after \"env:\"";
            return if possible { Ok(Self::Env(name.to_owned())) } else { Err(hint.to_owned()) };
        }
        if let Some(path) = text.strip_prefix("file:") {
            let possible = !path.is_empty() && !path.contains('\0');
            return if possible {
                Ok(Self::File(PathBuf::from(path)))
            } else {
                Err("name the file after \"file:\"".to_owned())
            };
        }
        Ok(Self::Plain(text.to_owned()))
    }

    /// The same of a setting that may be missing; what is wrong is noted under its key.
    #[cfg(any(
        feature = "amqp",
        feature = "mqtt",
        feature = "nats",
        feature = "redis",
        feature = "sftp",
        feature = "smtp"
    ))]
    pub(crate) fn optional(key: &str, text: Option<String>, problems: &mut Problems) -> Option<Self> {
        text.and_then(|text| problems.take(key, Self::parse(&text)))
    }

    /// The value of a setting that may be missing.
    ///
    /// # Errors
    /// Temporary: it cannot be read; the text names the key, never the value.
    #[cfg(any(feature = "amqp", feature = "mqtt", feature = "nats", feature = "redis", feature = "smtp"))]
    pub(crate) fn read(key: &str, secret: Option<&Self>) -> Result<Option<String>, SendError> {
        let value = secret.map(Self::resolve).transpose();
        value.map_err(|reason| SendError::temporary(format!("{key}: {reason}")))
    }

    /// Whether the settings only refer to the value.
    #[cfg(feature = "http")]
    pub(crate) const fn is_reference(&self) -> bool {
        !matches!(self, Self::Plain(_))
    }

    /// The value.
    ///
    /// # Errors
    /// Which variable or file cannot be read; never the value.
    pub(crate) fn resolve(&self) -> Result<String, String> {
        match self {
            Self::Plain(value) => Ok(value.clone()),
            Self::Env(name) => std::env::var(name).map_err(|_| {
                format!("the environment's variable {name:?} is not set; set it, or correct the name")
            }),
            Self::File(path) => std::fs::read_to_string(path)
                .map(|text| text.trim_end_matches(['\r', '\n']).to_owned())
                .map_err(|error| format!("the file {} cannot be read: {error}", path.display())),
        }
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Plain(_) => f.write_str("[redacted]"),
            Self::Env(name) => write!(f, "env:{name}"),
            Self::File(path) => write!(f, "file:{}", path.display()),
        }
    }
}
