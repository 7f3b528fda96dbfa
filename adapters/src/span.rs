//! Spans of time in settings: `"200ms"`, `"30s"`, `"1m 30s"`.

use std::time::Duration;

use jiff::SignedDuration;

/// The span that `text` says.
///
/// # Errors
/// What is wrong with it and what to write instead.
pub(crate) fn parse(text: &str) -> Result<Duration, String> {
    let hint = "write a span of time with its unit, \"200ms\", \"30s\" or \"1m 30s\" say";
    let span: SignedDuration =
        text.trim().parse().map_err(|_| format!("{text:?} is no span of time; {hint}"))?;
    match Duration::try_from(span) {
        Ok(span) if !span.is_zero() => Ok(span),
        _ => Err(format!("{text:?} is not longer than nothing; {hint}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_read() {
        assert_eq!(parse("200ms").unwrap(), Duration::from_millis(200));
        assert_eq!(parse("30s").unwrap(), Duration::from_secs(30));
        assert_eq!(parse("1m 30s").unwrap(), Duration::from_secs(90));
        assert_eq!(parse("1.5s").unwrap(), Duration::from_millis(1500));
    }

    #[test]
    fn what_is_no_span_is_refused_with_a_hint() {
        for bad in ["", "30", "0s", "-1s", "soon", "1y", "9999999999999999h"] {
            assert!(parse(bad).unwrap_err().contains("\"30s\""), "{bad}");
        }
    }
}
