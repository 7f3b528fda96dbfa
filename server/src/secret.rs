//! Secrets by reference: `env:NAME` or `file:PATH`. Their values are never printed.

use std::fmt;
use std::path::PathBuf;

use subtle::ConstantTimeEq;

/// Where a secret is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SecretRef {
    /// In an environment variable.
    Env(String),
    /// In a file, whose last line break does not count.
    File(PathBuf),
}

/// A secret's value. Its `Debug` shows nothing of it.
#[derive(Clone)]
pub struct Secret(String);

impl SecretRef {
    /// Reads `env:NAME` or `file:PATH`.
    ///
    /// # Errors
    /// What is wrong, without the text: it may be the secret itself.
    pub fn parse(text: &str) -> Result<Self, String> {
        match text.split_once(':') {
            Some(("env", name)) if !name.is_empty() => Ok(Self::Env(name.to_owned())),
            Some(("file", path)) if !path.is_empty() => Ok(Self::File(path.into())),
            _ => Err("a secret is given by reference: \"env:NAME\" names an environment variable, \
                      \"file:PATH\" a file. The value itself does not belong here"
                .to_owned()),
        }
    }

    /// Fetches the secret.
    ///
    /// # Errors
    /// Where it was looked for and why it is not there.
    pub fn fetch(&self) -> Result<Secret, String> {
        let value = match self {
            Self::Env(name) => std::env::var(name).map_err(|_| {
                format!("the environment variable {name} is not set (or not text); set it to the token")
            })?,
            Self::File(path) => {
                let text = std::fs::read_to_string(path).map_err(|error| {
                    format!("the token's file {} cannot be read: {error}", path.display())
                })?;
                text.strip_suffix('\n').map(|text| text.trim_end_matches('\r')).unwrap_or(&text).to_owned()
            }
        };
        if value.is_empty() || !value.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(format!(
                "the token at {self} must be one or more visible ASCII characters without spaces"
            ));
        }
        Ok(Secret(value))
    }
}

impl fmt::Display for SecretRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Env(name) => write!(f, "env:{name}"),
            Self::File(path) => write!(f, "file:{}", path.display()),
        }
    }
}

impl Secret {
    /// A secret with this value.
    #[must_use]
    pub fn new(value: impl Into<String>) -> Self {
        Self(value.into())
    }

    /// Whether `given` is the secret, in a time that tells nothing about how much of it matches.
    #[must_use]
    pub fn matches(&self, given: &[u8]) -> bool {
        self.0.as_bytes().ct_eq(given).into()
    }

    /// The value, to be sent to the server it is for.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}
