//! The server that the clients of a load talk to: there now, or none; and whether they go on.

use tokio::sync::watch;

use crate::client::Client;

/// What the clients of a load are told of the server.
#[derive(Debug)]
pub struct Present {
    server: watch::Sender<Option<Client>>,
    goes_on: watch::Sender<bool>,
}

impl Default for Present {
    fn default() -> Self {
        Self { server: watch::Sender::new(None), goes_on: watch::Sender::new(true) }
    }
}

impl Present {
    /// The server that is there now, or none.
    pub fn serve(&self, client: Option<Client>) {
        self.server.send_replace(client);
    }

    /// No new messages from now on; those under way are submitted to their end.
    pub fn end(&self) {
        self.goes_on.send_replace(false);
    }

    /// Whether there are to be new messages.
    pub fn goes_on(&self) -> bool {
        *self.goes_on.borrow()
    }

    /// The server that is there, as soon as there is one.
    pub async fn client(&self) -> Client {
        let mut server = self.server.subscribe();
        loop {
            if let Some(client) = &*server.borrow_and_update() {
                return client.clone();
            }
            // Never fails: the sender is ours.
            let _changed = server.changed().await;
        }
    }
}
