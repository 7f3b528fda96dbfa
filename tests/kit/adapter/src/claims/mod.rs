//! The claims, each with what shows that it is true.

mod connection;
mod lives;
mod memory;
mod sends;
mod words;

use std::any::Any;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::time::Duration;

use futures_util::FutureExt as _;
use tokio::time::{Instant, timeout};

use crate::bench::{Bench, Fail, Outcome};
use crate::report::{Checked, Verdict};

/// How long a claim may take to check.
const CLAIM_MAX: Duration = Duration::from_secs(300);

type Checking<'b> = Pin<Box<dyn Future<Output = Outcome> + 'b>>;

/// A claim.
pub(crate) struct Claim {
    pub(crate) name: &'static str,
    /// Whether it gets a destination of its own.
    pub(crate) alone: bool,
    check: for<'b, 'a> fn(&'b mut Bench<'a>) -> Checking<'b>,
}

macro_rules! claim {
    ($name:literal, $check:path) => {
        Claim { name: $name, alone: false, check: |bench| Box::pin($check(bench)) }
    };
    ($name:literal, $check:path, alone) => {
        Claim { name: $name, alone: true, check: |bench| Box::pin($check(bench)) }
    };
}

/// Every claim, in the order in which they are checked.
pub(crate) const ALL: [Claim; 22] = [
    claim!("streams", memory::streams, alone),
    claim!("settings", words::settings),
    claim!("kind", sends::kind),
    claim!("bodies", sends::bodies, alone),
    claim!("largest body", sends::largest_body, alone),
    claim!("acknowledged", sends::acknowledged),
    claim!("order", sends::order),
    claim!("outcome per message", sends::outcome_per_message),
    claim!("reset", connection::reset),
    claim!("lost answer", connection::lost_answer),
    claim!("duplicate answer", connection::duplicate_answer),
    claim!("delay", connection::delay),
    claim!("refused connection", connection::refused_connection),
    claim!("hang", connection::hang),
    claim!("cancel", connection::cancel),
    claim!("destination's crash", lives::crash_of_the_destination),
    claim!("stop", lives::stop),
    claim!("our crash", lives::crash_of_ours),
    claim!("reconciles", lives::reconciles),
    claim!("all or none", lives::all_or_none),
    claim!("doubles", words::doubles),
    claim!("secrets", words::secrets),
];

impl Claim {
    pub(crate) async fn check(&self, bench: &mut Bench<'_>) -> Checked {
        let start = Instant::now();
        let checking = AssertUnwindSafe((self.check)(bench)).catch_unwind();
        let verdict = match timeout(CLAIM_MAX, checking).await {
            Ok(Ok(Ok(()))) => Verdict::Kept,
            Ok(Ok(Err(Fail::Broken(reason)))) => Verdict::Broken(reason),
            Ok(Ok(Err(Fail::NotChecked(why)))) => Verdict::NotChecked(why),
            Ok(Err(panic)) => Verdict::Broken(format!("a panic: {}", panic_text(panic.as_ref()))),
            Err(_late) => Verdict::Broken(format!("not checked to the end within {CLAIM_MAX:?}")),
        };
        bench.calm();
        Checked { claim: self.name, verdict, took: start.elapsed() }
    }
}

fn panic_text(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("without a text").to_owned()
}

/// An error unless it holds.
fn ensure(holds: bool, reason: impl FnOnce() -> String) -> Outcome {
    if holds { Ok(()) } else { Err(Fail::Broken(reason())) }
}

/// So many places from 0 up to a length, its end among them.
fn spread(len: u64, count: usize) -> Vec<u64> {
    let count = count as u64;
    if len <= count {
        return (0..len).collect();
    }
    let mut places: Vec<u64> = (0..count).map(|step| step * len / count).collect();
    // The last bytes are those that end an exchange.
    places.push(len - 1);
    places
}
