//! The conformance kit for adapters: runs one against its real destination and checks every claim of its record.
//!
//! An adapter says what it can do in its [`Capabilities`](pillarbox_runtime::adapter::Capabilities). Its author gives the
//! kit a [`Subject`], which starts a real destination and lists what that holds; [`check`] then sends through a real box
//! and a real runtime, does harm on the way with a [`Proxy`], kills either side, and looks at what the destination has.
//!
#![doc = include_str!("../../../../docs/write-an-adapter.md")]

mod bench;
mod claims;
pub mod peer;
pub mod proxy;
mod report;
pub mod servers;
mod spy;
mod steps;
mod subject;

use std::time::Duration;

pub use proxy::{Fault, Passed, Proxy, Way};
pub use report::{Checked, Report, Verdict};
pub use subject::{Destination, Held, Subject};

use crate::bench::Bench;
use crate::claims::Claim;

/// How thoroughly to look, and for what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Effort {
    /// At how many places of an exchange a connection is cut, each way.
    pub rounds: usize,
    /// How long anything may take that is to happen in the end. An adapter's own timeouts are to be below a sixth of it.
    pub patience: Duration,
    /// The names of the claims to check; all where there is none.
    pub only: Vec<String>,
}

impl Default for Effort {
    /// Enough for a test that runs at every change.
    fn default() -> Self {
        Self { rounds: 8, patience: Duration::from_secs(60), only: Vec::new() }
    }
}

/// The names of all claims.
pub fn claims() -> impl Iterator<Item = &'static str> {
    claims::ALL.iter().map(|claim| claim.name)
}

/// Checks the claims of a subject, telling each as it is known. Needs a tokio runtime with all drivers; takes seconds.
pub async fn check_with(subject: &dyn Subject, effort: &Effort, mut tell: impl FnMut(&Checked)) -> Report {
    let mut checked = Vec::new();
    let mut shared = Bench::start(subject, effort).await;
    let wanted = |claim: &&Claim| effort.only.is_empty() || effort.only.iter().any(|name| name == claim.name);
    for claim in claims::ALL.iter().filter(wanted) {
        let one = if claim.alone {
            let mut own = Bench::start(subject, effort).await;
            let one = claim.check(&mut own).await;
            shared.take_over(own);
            one
        } else {
            claim.check(&mut shared).await
        };
        tell(&one);
        checked.push(one);
    }
    Report { name: subject.name().to_owned(), info: shared.info.clone(), claims: checked }
}

/// Checks every claim of a subject.
pub async fn check(subject: &dyn Subject) -> Report {
    check_with(subject, &Effort::default(), |_checked| {}).await
}
