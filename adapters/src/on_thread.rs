//! Work that may block, while an adapter is opened.

use pillarbox_runtime::adapter::SendError;

/// Does `work` on a thread that may block: a mount that hangs must not hold up every other port.
///
/// # Errors
/// Those of `work`; temporary where it was cut off.
pub(crate) async fn on_thread<T, F>(work: F) -> Result<T, SendError>
where
    T: Send + 'static,
    F: FnOnce() -> Result<T, SendError> + Send + 'static,
{
    #[expect(
        clippy::disallowed_methods,
        reason = "an adapter has no Tasks before it is open, and the engine waits for what is awaited here"
    )]
    let ended = tokio::task::spawn_blocking(work).await;
    match ended {
        Ok(done) => done,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            Err(error) => Err(SendError::temporary("opening the adapter was cut off").caused_by(error)),
        },
    }
}
