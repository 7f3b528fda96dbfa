//! What puts a send in doubt, so that it may be repeated.

use std::collections::BTreeMap;
use std::time::Duration;

use pillarbox_store::Timestamp;

use super::{End, Fact};

/// How long after a destination's answer the server may take to record it, while it runs and has room. Many times
/// what it takes on a busy machine; what was said this long before a kill must not be repeated after it. Sharper, and
/// free of time: a kill puts no more in doubt than was being sent, and nothing that was told to be done.
pub const SETTLED_WITHIN: Duration = Duration::from_secs(3);

/// Why a message was sent again although a destination had it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Cause {
    /// The destination kept it and did not say so.
    AnswerLost,
    /// The server was killed before it can have recorded the answer.
    Killed,
    /// The server's drain came to its deadline.
    Cut,
    /// The server stood still.
    Stopped,
    /// The disk was full.
    Full,
    /// The attempt's time was up, as the server tells and as its duration shows.
    Late,
    /// Nothing.
    Nothing,
}

impl Cause {
    /// For people.
    #[must_use]
    pub const fn text(self) -> &'static str {
        match self {
            Self::AnswerLost => "answer lost",
            Self::Killed => "killed",
            Self::Cut => "drain cut short",
            Self::Stopped => "stood still",
            Self::Full => "disk full",
            Self::Late => "time was up",
            Self::Nothing => "NOTHING",
        }
    }
}

/// An arrival that a destination kept or turned away.
#[derive(Debug, Clone)]
pub(super) struct Arrival {
    pub(super) at: Timestamp,
    pub(super) life: u32,
    pub(super) attempt: u32,
    pub(super) is_kept: bool,
    pub(super) said: Option<Timestamp>,
}

/// When what was done to the server.
#[derive(Debug, Default)]
pub(super) struct Times {
    ends: BTreeMap<u32, (Timestamp, End)>,
    stops: Vec<(Timestamp, Timestamp)>,
    fulls: Vec<(Timestamp, Timestamp)>,
}

const LATEST: Timestamp = Timestamp::from_micros(i64::MAX);

impl Times {
    pub(super) fn of(facts: &[(Timestamp, Fact)]) -> Self {
        let mut times = Self::default();
        let end = |spans: &mut Vec<(Timestamp, Timestamp)>, at| {
            if let Some((_, end)) = spans.last_mut().filter(|(_, end)| *end == LATEST) {
                *end = at;
            }
        };
        for (at, fact) in facts {
            match fact {
                Fact::Ended(life, how) => {
                    times.ends.insert(*life, (*at, *how));
                    // A process that stood still when it was killed does so no more.
                    end(&mut times.stops, *at);
                }
                Fact::Stopped => times.stops.push((*at, LATEST)),
                Fact::Continued => end(&mut times.stops, *at),
                Fact::Full => times.fulls.push((*at, LATEST)),
                Fact::Roomy => end(&mut times.fulls, *at),
                _ => {}
            }
        }
        times
    }

    /// Why `again` may have been sent although the destination kept `before`. `late` are the attempts that the
    /// server tells to have failed because their time was up.
    pub(super) fn cause(&self, before: &Arrival, again: &Arrival, late: &[u32]) -> Cause {
        let Some(said) = before.said.filter(|said| *said <= again.at) else {
            return Cause::AnswerLost;
        };
        let end = self.ends.get(&before.life).filter(|_| before.life != again.life);
        let until = end.map_or(again.at, |(end, _)| *end);
        if touches(&self.stops, before.at, until.min(said.plus(SETTLED_WITHIN))) {
            return Cause::Stopped;
        }
        if touches(&self.fulls, before.at, until.min(said.plus(SETTLED_WITHIN))) {
            return Cause::Full;
        }
        if let Some((end, how)) = end
            && end.since(said) < SETTLED_WITHIN
        {
            match how {
                End::Killed => return Cause::Killed,
                End::Cut => return Cause::Cut,
                End::Drained => {}
            }
        }
        // Either the first was late, or the second is that of an earlier attempt which was.
        let attempt = before.attempt.min(again.attempt);
        if again.attempt != before.attempt && late.contains(&attempt) {
            return Cause::Late;
        }
        Cause::Nothing
    }

    /// Whether something was done to the server since `from` that keeps it from recording an attempt's failure.
    pub(super) fn unrecorded(&self, before: &Arrival, again: &Arrival) -> bool {
        before.life != again.life
            || touches(&self.stops, before.at, again.at)
            || touches(&self.fulls, before.at, again.at)
    }
}

fn touches(spans: &[(Timestamp, Timestamp)], from: Timestamp, to: Timestamp) -> bool {
    // What was held up while the disk was full is recorded some time after it has room again.
    spans.iter().any(|(begin, end)| *begin <= to && from <= end.plus(SETTLED_WITHIN))
}
