//! Waits for a condition, however long that takes within reason.

use std::time::Duration;

use tokio::time::Instant;

/// How long a condition may take to come true. Generous: it says that something hangs, not that it is slow.
pub const DEADLINE: Duration = Duration::from_secs(120);
/// The time between two looks.
pub const LOOK: Duration = Duration::from_millis(20);

/// Waits until `look` gives something.
///
/// # Errors
/// It did not within [`DEADLINE`].
pub async fn until<T>(mut look: impl AsyncFnMut() -> Option<T>) -> Result<T, String> {
    let end = Instant::now() + DEADLINE;
    loop {
        if let Some(found) = look().await {
            return Ok(found);
        }
        if Instant::now() > end {
            return Err(format!("not within {DEADLINE:?}"));
        }
        tokio::time::sleep(LOOK).await;
    }
}
