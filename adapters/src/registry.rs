//! The adapters that configuration can name.

use std::collections::BTreeMap;
use std::sync::Arc;

use pillarbox_runtime::adapter::{AdapterKind, Settings, SettingsError};
use pillarbox_runtime::{AdapterSource, Directory, RouteConfig};

/// A table from a kind's name to the kind.
#[derive(Debug, Clone, Default)]
pub struct Registry(BTreeMap<&'static str, Arc<dyn AdapterKind>>);

/// A kind that no registry entry has.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("there is no adapter of kind {kind:?}; the known kinds are: {}", .known.join(", "))]
pub struct UnknownKind {
    /// The kind that was asked for.
    pub kind: String,
    /// The kinds that there are.
    pub known: Vec<&'static str>,
}

/// Why a route could not be made of settings.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RouteError {
    /// No adapter has this kind.
    #[error(transparent)]
    Kind(#[from] UnknownKind),
    /// The adapter refuses the settings.
    #[error(transparent)]
    Settings(#[from] SettingsError),
}

impl Registry {
    /// A table without entries.
    #[must_use]
    pub fn empty() -> Self {
        Self::default()
    }

    /// Adds a kind under the name that it describes itself with, replacing one of the same name.
    #[must_use]
    pub fn with(mut self, kind: impl AdapterKind) -> Self {
        self.0.insert(kind.describe().kind, Arc::new(kind));
        self
    }

    /// The kind of this name.
    ///
    /// # Errors
    /// [`UnknownKind`], which lists those that there are.
    pub fn get(&self, kind: &str) -> Result<&Arc<dyn AdapterKind>, UnknownKind> {
        self.0
            .get(kind)
            .ok_or_else(|| UnknownKind { kind: kind.to_owned(), known: self.0.keys().copied().collect() })
    }

    /// A route by the adapter of this kind with these settings, checked but not opened.
    ///
    /// # Errors
    /// [`RouteError`], with every problem of the settings at once.
    pub fn route(&self, kind: &str, settings: &Settings) -> Result<RouteConfig, RouteError> {
        let kind = self.get(kind)?;
        let checked = kind.check(settings)?;
        Ok(RouteConfig::new(AdapterSource::Checked(checked.into(), kind.describe())))
    }

    /// What a dynamic port sends by: every kind that takes an address, each with the handler settings that `handlers`
    /// gives for its name.
    #[must_use]
    pub fn directory(&self, handlers: impl Fn(&str) -> Settings) -> Directory {
        let add = |directory: Directory, (name, kind): (&&'static str, &Arc<dyn AdapterKind>)| {
            directory.with(Arc::clone(kind), handlers(name))
        };
        self.0.iter().fold(Directory::new(), add)
    }

    /// Every kind, in order of name.
    pub fn kinds(&self) -> impl Iterator<Item = &Arc<dyn AdapterKind>> {
        self.0.values()
    }
}

/// The adapters of this crate that its features selected.
#[must_use]
pub fn registry() -> Registry {
    let registry = Registry::empty();
    #[cfg(feature = "amqp")]
    let registry = registry.with(crate::amqp::AmqpKind);
    #[cfg(feature = "exec")]
    let registry = registry.with(crate::exec::ExecKind);
    #[cfg(feature = "file")]
    let registry = registry.with(crate::file::FileKind);
    #[cfg(feature = "http")]
    let registry = registry.with(crate::http::HttpKind);
    #[cfg(feature = "kafka")]
    let registry = registry.with(crate::kafka::KafkaKind);
    #[cfg(feature = "mqtt")]
    let registry = registry.with(crate::mqtt::MqttKind);
    #[cfg(feature = "nats")]
    let registry = registry.with(crate::nats::NatsKind);
    #[cfg(feature = "postgres")]
    let registry = registry.with(crate::postgres::PostgresKind);
    #[cfg(feature = "redis")]
    let registry = registry.with(crate::redis::RedisKind);
    #[cfg(feature = "s3")]
    let registry = registry.with(crate::s3::S3Kind);
    #[cfg(feature = "sftp")]
    let registry = registry.with(crate::sftp::SftpKind);
    #[cfg(feature = "smtp")]
    let registry = registry.with(crate::smtp::SmtpKind);
    registry
}

#[cfg(all(test, feature = "file", feature = "http"))]
mod tests {
    use pillarbox_runtime::adapter::{ErrorClass, Settings};

    use super::*;
    use crate::parcel::sample::context;

    #[tokio::test]
    async fn each_kind_is_checked_and_opened() {
        let folder = tempfile::tempdir().unwrap();
        let context = context();
        let file = Settings::default().with("folder", folder.path().join("new").to_str().unwrap());
        let http = Settings::default().with("url", "http://127.0.0.1:9/in");
        for (kind, settings) in [("file", file), ("http", http)] {
            let checked = registry().get(kind).unwrap().check(&settings).unwrap();
            assert_eq!(checked.open(&context).await.unwrap().describe().kind, kind);
        }
        let nowhere = Settings::default().with("folder", "/dev/null/x");
        let checked = registry().get("file").unwrap().check(&nowhere).unwrap();
        let error = checked.open(&context).await.unwrap_err();
        assert_eq!(error.class(), ErrorClass::Temporary);
        assert!(error.to_string().contains("/dev/null/x: a part of the path is a file"), "{error}");
    }

    #[test]
    fn kinds_are_found_by_name() {
        let registry = registry();
        let names: Vec<_> = registry.kinds().map(|kind| kind.describe().kind).collect();
        assert!(names.is_sorted() && ["file", "http"].iter().all(|name| names.contains(name)), "{names:?}");
        assert_eq!(registry.get("http").unwrap().describe().kind, "http");
    }

    #[test]
    fn an_unknown_kind_is_told_the_known_ones() {
        let two = Registry::empty().with(crate::http::HttpKind).with(crate::file::FileKind);
        let error = two.get("htp").unwrap_err();
        assert_eq!(error.to_string(), "there is no adapter of kind \"htp\"; the known kinds are: file, http");
    }
}
