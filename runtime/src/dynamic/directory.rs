//! Which adapter serves an address.

use std::sync::Arc;

use crate::adapter::{AdapterKind, Capabilities, CheckedSettings, SendError, Settings, TransportInfo};

/// The adapters of a dynamic port: each message says by its header [`Directory::ADDRESS`] where it goes, and the kind with
/// the longest URI prefix that the address begins with (in letters of either case) serves it.
///
/// Each address has an adapter of its own, opened at its first message with the kind's settings beneath and the address
/// above, and a back-off of its own: one that cannot be reached holds up no other. An address that no kind serves, or
/// that its kind refuses, suspends the message.
#[derive(Debug, Clone)]
pub struct Directory {
    kinds: Vec<(Arc<dyn AdapterKind>, Settings)>,
    pub(super) addresses_max: usize,
    pub(super) in_flight: usize,
}

impl Default for Directory {
    fn default() -> Self {
        Self { kinds: Vec::new(), addresses_max: 256, in_flight: 16 }
    }
}

impl Directory {
    /// The header that says where a message of a dynamic port goes: a text, `https://example.com/in` say.
    pub const ADDRESS: &'static str = "pillarbox-address";

    /// Nobody serves anything yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a kind with its handler settings. A kind that takes no address ([`AdapterKind::address_key`]) serves none.
    #[must_use]
    pub fn with(mut self, kind: Arc<dyn AdapterKind>, handler: Settings) -> Self {
        self.kinds.push((kind, handler));
        self
    }

    /// The most addresses whose adapters are open at once. Default 256, at least 1. For a further one the adapter that
    /// was idle for longest is ended; while none is idle, messages to further addresses wait a second or more,
    /// uncharged.
    #[must_use]
    pub fn addresses_max(mut self, addresses: usize) -> Self {
        self.addresses_max = addresses.max(1);
        self
    }

    /// The most messages that are with one address's adapter at once. Default 16, at least 1; never more than the route's
    /// `in_flight`. Further ones wait a second or more, uncharged, so that others pass them.
    #[must_use]
    pub fn in_flight_per_address(mut self, messages: usize) -> Self {
        self.in_flight = messages.max(1);
        self
    }

    /// What an adapter for this address is opened with.
    pub(super) fn check(
        &self,
        address: &str,
    ) -> Result<(Arc<dyn CheckedSettings>, TransportInfo), SendError> {
        let shown = address.escape_debug();
        let Some((kind, handler, key)) = self.find(address) else {
            let prefixes = self.prefixes();
            let known = if prefixes.is_empty() { "there are none".to_owned() } else { prefixes.join(", ") };
            let text =
                format!("no adapter serves the address '{shown}'; the prefixes that are served: {known}");
            return Err(SendError::permanent(text));
        };
        let settings = Settings::default().with(key, address).over(handler);
        match kind.check(&settings) {
            Ok(checked) => Ok((checked.into(), kind.describe())),
            Err(error) => {
                let kind = kind.describe().kind;
                let text = format!("the adapter '{kind}' does not take the address '{shown}'");
                Err(SendError::permanent(text).caused_by(error))
            }
        }
    }

    fn find(&self, address: &str) -> Option<(&Arc<dyn AdapterKind>, &Settings, &'static str)> {
        let serves = |prefix: &str| {
            address.get(..prefix.len()).is_some_and(|begin| begin.eq_ignore_ascii_case(prefix))
        };
        let longest = |kind: &Arc<dyn AdapterKind>| {
            let prefixes = kind.describe().uri_prefixes.iter();
            prefixes.filter(|prefix| serves(prefix)).map(|prefix| prefix.len()).max()
        };
        let fitting = self
            .kinds
            .iter()
            .filter_map(|(kind, handler)| Some((longest(kind)?, kind, handler, kind.address_key()?)));
        fitting.max_by_key(|(length, ..)| *length).map(|(_, kind, handler, key)| (kind, handler, key))
    }

    fn prefixes(&self) -> Vec<&'static str> {
        let addressed = self.kinds.iter().filter(|(kind, _)| kind.address_key().is_some());
        let mut prefixes: Vec<_> =
            addressed.flat_map(|(kind, _)| kind.describe().uri_prefixes.iter().copied()).collect();
        prefixes.sort_unstable();
        prefixes
    }

    pub(crate) fn describe() -> TransportInfo {
        TransportInfo {
            kind: "dynamic",
            name: "Dynamic",
            version: env!("CARGO_PKG_VERSION"),
            description: "Sends each message by the adapter that serves its address",
            capabilities: Capabilities::default(),
            uri_prefixes: &[],
        }
    }
}
