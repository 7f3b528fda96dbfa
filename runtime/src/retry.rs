//! How long to wait before the next attempt: exponential, with jitter, bounded. Pure.

use std::time::Duration;

#[cfg(test)]
mod tests;

/// How often a route is tried, and how long to wait in between.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RetryPolicy {
    /// Attempts on this route, the first included: 1 to 1,000. Default 3.
    pub attempts: u32,
    /// The wait after the first failed attempt. Default 200 ms.
    pub first: Duration,
    /// What each further wait is multiplied by: 1.0 to 100.0. Default 2.0.
    pub factor: f64,
    /// The longest wait, at most 365 days. What a destination asks for in `Retry-After` may be longer and is obeyed.
    /// Default 30 s.
    pub max: Duration,
    /// The share by which a wait varies at random in both directions: 0.0 to 1.0. Default 0.2, which is +-20 %.
    pub jitter: f64,
}

/// The most attempts a policy may allow.
const ATTEMPTS_MAX: u32 = 1_000;
/// The largest factor.
const FACTOR_MAX: f64 = 100.0;
/// The longest wait a policy may ask for.
const WAIT_MAX: Duration = Duration::from_secs(365 * 24 * 3600);

impl Default for RetryPolicy {
    fn default() -> Self {
        Self {
            attempts: 3,
            first: Duration::from_millis(200),
            factor: 2.0,
            max: Duration::from_secs(30),
            jitter: 0.2,
        }
    }
}

impl RetryPolicy {
    /// Whether every value is within its limits.
    ///
    /// # Errors
    /// The first value that is not, and what it may be.
    pub fn check(&self) -> Result<(), String> {
        if !(1..=ATTEMPTS_MAX).contains(&self.attempts) {
            return Err(format!("attempts is {}; it may be 1 to {ATTEMPTS_MAX}", self.attempts));
        }
        if !(1.0..=FACTOR_MAX).contains(&self.factor) {
            return Err(format!("factor is {}; it may be 1.0 to {FACTOR_MAX:.1}", self.factor));
        }
        if !(0.0..=1.0).contains(&self.jitter) {
            return Err(format!("jitter is {}; it may be 0.0 to 1.0", self.jitter));
        }
        if self.max > WAIT_MAX {
            return Err(format!("max is {:?}; it may be at most 365 days", self.max));
        }
        if self.first > self.max {
            return Err(format!("first is {:?}; it may be at most max, which is {:?}", self.first, self.max));
        }
        Ok(())
    }

    /// The wait after `failed` failed attempts (1 after the first). `random` is uniformly distributed and decides
    /// the jitter. Never longer than [`RetryPolicy::max`].
    #[must_use]
    pub fn wait(&self, failed: u32, random: u64) -> Duration {
        let steps = i32::try_from(failed.saturating_sub(1)).unwrap_or(i32::MAX);
        let max = self.max.as_secs_f64();
        // An overflow gives infinity, which the bound takes care of; 0 * infinity gives NaN, which `min` drops.
        let plain =
            if self.first.is_zero() { 0.0 } else { self.first.as_secs_f64() * self.factor.powi(steps) };
        let share = 1.0 + self.jitter * (2.0 * unit(random) - 1.0);
        let bounded = (plain.min(max) * share).clamp(0.0, max);
        Duration::try_from_secs_f64(bounded).unwrap_or(self.max).min(self.max)
    }
}

/// A number from 0.0 to below 1.0.
fn unit(random: u64) -> f64 {
    // 53 bits are what an f64 holds exactly.
    #[expect(clippy::cast_precision_loss, reason = "53 bits fit")]
    let numerator = (random >> 11) as f64;
    numerator / 9_007_199_254_740_992.0
}
