//! A connection that all messages share, made anew when it has broken.

use std::sync::Arc;

use pillarbox_runtime::adapter::SendError;
use tokio::sync::Mutex;

/// The connection that there is at the moment.
#[derive(Debug)]
pub(crate) struct Shared<L>(Mutex<Option<Arc<L>>>);

impl<L> Default for Shared<L> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<L> Shared<L> {
    /// The connection that there is, if it `is_good`, or a new one.
    ///
    /// # Errors
    /// Those of `connect`.
    pub(crate) async fn get<C>(
        &self,
        is_good: impl Fn(&L) -> bool,
        connect: impl FnOnce() -> C,
    ) -> Result<Arc<L>, SendError>
    where
        C: Future<Output = Result<L, SendError>>,
    {
        // Held while it connects: all others wait for the same connection.
        let mut slot = self.0.lock().await;
        if let Some(live) = slot.as_ref().filter(|live| is_good(live)) {
            return Ok(Arc::clone(live));
        }
        // Let go of before the next is made.
        *slot = None;
        let live = Arc::new(connect().await?);
        *slot = Some(Arc::clone(&live));
        Ok(live)
    }

    /// Gives nobody this connection any more.
    pub(crate) async fn forget(&self, live: &Arc<L>) {
        let mut slot = self.0.lock().await;
        if slot.as_ref().is_some_and(|current| Arc::ptr_eq(current, live)) {
            *slot = None;
        }
    }

    /// Takes the connection away, if there is one.
    #[cfg(any(feature = "amqp", feature = "mqtt"))]
    pub(crate) async fn take(&self) -> Option<Arc<L>> {
        self.0.lock().await.take()
    }
}
