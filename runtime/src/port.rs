//! Ports as the runtime is configured with them, and as it tells of them.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use pillarbox_store::{PortName, Route};

use crate::adapter::{Adapter, CheckedSettings, TransportInfo};
use crate::{Directory, RetryPolicy};

/// Where a route's adapter comes from.
#[derive(Debug, Clone)]
pub enum AdapterSource {
    /// An adapter that exists already. If its `initialize` fails, it is called again on the same adapter.
    Open(Adapter),
    /// Settings that an adapter is opened with, at the first message or when the runtime starts, as the adapter's
    /// capabilities say. Opened anew when that failed.
    Checked(Arc<dyn CheckedSettings>, TransportInfo),
    /// The address on each message says which adapter sends it.
    Dynamic(Arc<Directory>),
}

impl AdapterSource {
    /// Who the adapter is.
    #[must_use]
    pub fn describe(&self) -> TransportInfo {
        match self {
            Self::Open(adapter) => adapter.describe(),
            Self::Checked(settings, kind) => settings.describe(kind.clone()),
            Self::Dynamic(_) => Directory::describe(),
        }
    }
}

impl From<Directory> for AdapterSource {
    fn from(directory: Directory) -> Self {
        Self::Dynamic(Arc::new(directory))
    }
}

impl From<Adapter> for AdapterSource {
    fn from(adapter: Adapter) -> Self {
        Self::Open(adapter)
    }
}

/// One of a port's routes: an adapter and how it is driven.
#[derive(Debug, Clone)]
pub struct RouteConfig {
    /// The adapter.
    pub adapter: AdapterSource,
    /// How often it is tried.
    pub retry: RetryPolicy,
    /// From handing a message over to its completion; then the attempt has failed. Default 60 s, at most 7 days.
    pub timeout: Duration,
    /// The most messages that are handed to the adapter and not completed. Default 64, at most 100,000.
    pub in_flight: usize,
    /// The most messages of one batch. Default 100. Batches also never exceed `in_flight`.
    pub batch_count: usize,
    /// A batch ends with the message whose body reaches this many bytes in all. Default 4 MiB.
    pub batch_bytes: u64,
}

/// The longest timeout.
const TIMEOUT_MAX: Duration = Duration::from_secs(7 * 24 * 3600);
/// The most messages in flight.
const IN_FLIGHT_MAX: usize = 100_000;

impl RouteConfig {
    /// The defaults, over this adapter.
    pub fn new(adapter: impl Into<AdapterSource>) -> Self {
        Self {
            adapter: adapter.into(),
            retry: RetryPolicy::default(),
            timeout: Duration::from_secs(60),
            in_flight: 64,
            batch_count: 100,
            batch_bytes: 4 * 1024 * 1024,
        }
    }

    /// Sets how often it is tried.
    #[must_use]
    pub fn retry(mut self, policy: RetryPolicy) -> Self {
        self.retry = policy;
        self
    }

    /// Sets how long an attempt may take.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Sets how many messages may be with the adapter at once.
    #[must_use]
    pub fn in_flight(mut self, messages: usize) -> Self {
        self.in_flight = messages;
        self
    }

    /// Sets how many messages and bytes a batch has at most.
    #[must_use]
    pub fn batch(mut self, count: usize, bytes: u64) -> Self {
        self.batch_count = count;
        self.batch_bytes = bytes;
        self
    }

    /// Whether every value is within its limits.
    ///
    /// # Errors
    /// The first value that is not, and what it may be.
    pub fn check(&self) -> Result<(), String> {
        self.retry.check()?;
        if self.timeout.is_zero() || self.timeout > TIMEOUT_MAX {
            return Err(format!("timeout is {:?}; it may be above 0 and at most 7 days", self.timeout));
        }
        if !(1..=IN_FLIGHT_MAX).contains(&self.in_flight) {
            return Err(format!("in_flight is {}; it may be 1 to {IN_FLIGHT_MAX}", self.in_flight));
        }
        if self.batch_count == 0 {
            return Err("batch_count is 0; it must be at least 1".to_owned());
        }
        Ok(())
    }
}

/// A named destination.
#[derive(Debug, Clone)]
pub struct Port {
    pub(crate) name: PortName,
    pub(crate) primary: RouteConfig,
    pub(crate) backup: Option<RouteConfig>,
}

impl Port {
    /// A port with a primary route only.
    #[must_use]
    pub fn new(name: PortName, primary: RouteConfig) -> Self {
        Self { name, primary, backup: None }
    }

    /// Adds the route that a delivery moves to when the primary's attempts are spent.
    #[must_use]
    pub fn backup(mut self, backup: RouteConfig) -> Self {
        self.backup = Some(backup);
        self
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &PortName {
        &self.name
    }

    pub(crate) fn check(&self) -> Result<(), String> {
        let on = |route: Route, fault: String| format!("{} route: {fault}", route.as_str());
        self.primary.check().map_err(|fault| on(Route::Primary, fault))?;
        self.backup.as_ref().map_or(Ok(()), RouteConfig::check).map_err(|fault| on(Route::Backup, fault))
    }
}

/// A port, as [`crate::Runtime::ports`] tells of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PortStatus {
    /// Its name.
    pub name: PortName,
    /// Its routes, the primary first.
    pub routes: Vec<RouteStatus>,
}

/// A route, as [`crate::Runtime::ports`] tells of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RouteStatus {
    /// Which one.
    pub route: Route,
    /// Its adapter's kind.
    pub kind: &'static str,
    /// Whether its adapter is open.
    pub open: bool,
    /// Messages that are handed out and not completed.
    pub in_flight: usize,
    /// What keeps it from working, or what the adapter last complained about; gone when that is over.
    pub trouble: Option<String>,
}

/// A lane's name in logs and reports: the port and the route.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct LaneName {
    /// The port.
    pub port: PortName,
    /// The route.
    pub route: Route,
}

impl fmt::Display for LaneName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.port, self.route.as_str())
    }
}
