//! How long connecting may take.

use std::time::Duration;

use pillarbox_runtime::adapter::SendError;
use tokio::time::timeout;

use crate::address::Address;

/// Connects within `span`.
///
/// # Errors
/// Those of `connecting`; temporary where it takes longer.
pub(crate) async fn within<T>(
    span: Duration,
    address: &Address,
    connecting: impl Future<Output = Result<T, SendError>>,
) -> Result<T, SendError> {
    timeout(span, connecting).await.unwrap_or_else(|_elapsed| {
        Err(SendError::temporary(format!(
            "{address}: no connection within {span:?} (setting connect_timeout)"
        )))
    })
}
