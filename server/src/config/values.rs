//! Values that configuration and command line write as text: durations, sizes, times.

use std::time::Duration;

use jiff::{Span, SpanRelativeTo};
use pillarbox_store::Timestamp;

/// Reads a duration such as `200ms`, `1h 30m` or `7 days`. A day has 24 hours.
///
/// # Errors
/// What is wrong with it.
pub fn duration(text: &str) -> Result<Duration, String> {
    let wrong = || {
        format!("'{text}' is not a duration; write for example \"200ms\", \"30s\", \"1h 30m\" or \"7 days\"")
    };
    let span: Span = text.trim().parse().map_err(|_| wrong())?;
    let signed = span.to_duration(SpanRelativeTo::days_are_24_hours()).map_err(|_| wrong())?;
    Duration::try_from(signed).map_err(|_| wrong())
}

/// Reads a number of bytes such as `65536`, `256KiB` or `1GiB`.
///
/// # Errors
/// What is wrong with it.
pub fn bytes(text: &str) -> Result<u64, String> {
    let wrong =
        |_| format!("'{text}' is not a size; write a number of bytes, or for example \"256KiB\" or \"1GiB\"");
    text.parse::<bytesize::ByteSize>().map(|size| size.as_u64()).map_err(wrong)
}

/// Reads a time such as `2026-11-23T10:00:00Z`; any offset is taken.
///
/// # Errors
/// What is wrong with it.
pub fn time(text: &str) -> Result<Timestamp, String> {
    let wrong = |_| format!("'{text}' is not an RFC 3339 time such as 2026-11-23T10:00:00Z");
    text.parse::<jiff::Timestamp>().map(|time| Timestamp::from_micros(time.as_microsecond())).map_err(wrong)
}

/// A time as RFC 3339 in UTC, to the microsecond.
#[must_use]
pub fn show_time(time: Timestamp) -> String {
    match jiff::Timestamp::from_microsecond(time.as_micros()) {
        Ok(time) => time.to_string(),
        Err(_) => format!("{}us", time.as_micros()),
    }
}
