//! What became of the claims.

use std::fmt;
use std::fmt::Write as _;
use std::time::Duration;

use pillarbox_runtime::adapter::{Capabilities, DoubleSafety, Order, TransportInfo};

/// How it stands about a claim.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It is true.
    Kept,
    /// It is not, for this reason.
    Broken(String),
    /// The record does not claim it, or this destination cannot show it: why.
    NotChecked(&'static str),
}

/// A claim and how it stands about it.
#[derive(Debug, Clone)]
pub struct Checked {
    /// The claim's name.
    pub claim: &'static str,
    /// How it stands about it.
    pub verdict: Verdict,
    /// How long that took to find out.
    pub took: Duration,
}

/// What became of every claim of an adapter.
#[derive(Debug, Clone)]
pub struct Report {
    /// The subject's name.
    pub name: String,
    /// What the adapter says of itself once it is open.
    pub info: TransportInfo,
    /// The claims, in the order in which they were checked.
    pub claims: Vec<Checked>,
}

impl Report {
    /// How many claims were checked.
    #[must_use]
    pub fn checked(&self) -> usize {
        self.claims.iter().filter(|one| !matches!(one.verdict, Verdict::NotChecked(_))).count()
    }

    /// How many of them are true.
    #[must_use]
    pub fn kept(&self) -> usize {
        self.claims.iter().filter(|one| one.verdict == Verdict::Kept).count()
    }

    /// The claims that are not true, each with the reason.
    pub fn broken(&self) -> impl Iterator<Item = (&'static str, &str)> {
        self.claims.iter().filter_map(|one| match &one.verdict {
            Verdict::Broken(reason) => Some((one.claim, reason.as_str())),
            _ => None,
        })
    }

    /// Ends with a panic that names every claim that is not true: for use in a test.
    ///
    /// # Panics
    /// There is one.
    pub fn assert_kept(&self) {
        assert!(self.broken().next().is_none(), "{self}");
    }

    /// The names of the columns of [`Report::row`].
    #[must_use]
    pub fn table_head() -> &'static str {
        "| adapter | kind | largest body | batch | order | doubles | transaction | reconciles | streams | claims |\n\
         |---|---|---|---|---|---|---|---|---|---|\n"
    }

    /// The record as a row of a table in Markdown.
    #[must_use]
    pub fn row(&self) -> String {
        let record = &self.info.capabilities;
        let yes = |holds: bool| if holds { "yes" } else { "no" };
        format!(
            "| `{}` | {} | {} | {} | {} | {} | {} | {} | {} | {} of {} |\n",
            self.name,
            record.shape.as_str(),
            record.body_bytes_max.map_or_else(|| "no limit".to_owned(), bytes),
            batch(record),
            if record.order == Order::InBatch { "in a batch" } else { "any" },
            doubles(record.double_safety),
            transaction(record.double_safety),
            yes(record.reconciles),
            yes(record.streams),
            self.kept(),
            self.checked(),
        )
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {} of {} claims are true", self.name, self.kept(), self.checked())?;
        for (claim, reason) in self.broken() {
            write!(f, "\n  {claim}: {reason}")?;
        }
        Ok(())
    }
}

fn bytes(bytes: u64) -> String {
    const MIB: u64 = 1024 * 1024;
    match bytes {
        whole if whole % MIB == 0 => format!("{} MiB", whole / MIB),
        whole if whole % 1024 == 0 => format!("{} KiB", whole / 1024),
        other => format!("{other} bytes"),
    }
}

fn batch(record: &Capabilities) -> &'static str {
    match (record.all_or_none, record.outcome_per_message) {
        (true, true) => "all or none; a refused one alone",
        (true, false) => "all or none",
        (false, true) => "each by itself",
        (false, false) => "one outcome",
    }
}

fn doubles(safety: DoubleSafety) -> String {
    match safety {
        DoubleSafety::Ledger | DoubleSafety::TwoPhase => "never".to_owned(),
        DoubleSafety::Keyed(None) => "keyed".to_owned(),
        DoubleSafety::Keyed(Some(window)) => format!("keyed, for {}", span(window)),
        _ => "at least once".to_owned(),
    }
}

fn transaction(safety: DoubleSafety) -> &'static str {
    match safety {
        DoubleSafety::Ledger => "with the send key",
        DoubleSafety::TwoPhase => "two-phase, with the box",
        _ => "no",
    }
}

fn span(span: Duration) -> String {
    let seconds = span.as_secs();
    let mut text = String::new();
    let _infallible = match seconds {
        hours if hours > 0 && hours % 3600 == 0 => write!(text, "{} h", hours / 3600),
        minutes if minutes > 0 && minutes % 60 == 0 => write!(text, "{} min", minutes / 60),
        _ => write!(text, "{span:?}"),
    };
    text
}
