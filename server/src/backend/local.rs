//! The data folder, opened by this process because no server runs.

use pillarbox_store::{Batch, IdSource, MessageBox, Store};

use std::sync::Arc;

use super::Input;
use crate::config::Config;
use crate::failure::Failure;
use crate::problem::Problem;
use crate::service::{Service, Submission};
use crate::wire::Submitted;

/// The data folder, opened by this process.
#[derive(Debug, Clone)]
pub struct Local {
    service: Service,
    ids: IdSource,
    config: Arc<Config>,
}

impl Local {
    /// Opens the configuration's data folder.
    ///
    /// # Errors
    /// It is held by another process (which is named), or cannot be opened.
    pub fn open(config: &Config) -> Result<Self, Failure> {
        let store = open_box(config)?;
        Ok(Self::over(Arc::new(store), config))
    }

    /// Uses a store that is open already.
    #[must_use]
    pub fn over(store: Arc<dyn Store>, config: &Config) -> Self {
        let ids = IdSource::system();
        let service = Service::new(store, ids.clone(), config.mailbox.body_bytes_max);
        Self { service, ids, config: Arc::new(config.clone()) }
    }

    /// What can be asked of the box.
    #[must_use]
    pub fn service(&self) -> &Service {
        &self.service
    }

    /// Puts a message into the box. A port that only the configuration knows so far is made known to the box.
    ///
    /// # Errors
    /// It was not taken.
    pub async fn submit(&self, submission: Submission, input: &Input) -> Result<Submitted, Problem> {
        self.define(&submission).await?;
        self.service.port(submission.port.as_str())?;
        let (len, pieces) = input.open().await?;
        let body = self.service.take_body(len, pieces).await?;
        self.service.submit(submission, body).await
    }

    async fn define(&self, submission: &Submission) -> Result<(), Problem> {
        let store = self.service.store();
        let known = store.ports().iter().any(|port| port.name == submission.port && port.defined);
        let section = self.config.ports.iter().find(|port| port.name == submission.port);
        if let (false, Some(section)) = (known, section) {
            let batch = Batch::new(self.ids.batch()).define_port(&section.name, section.spec());
            store.commit(&batch).await?;
        }
        Ok(())
    }

    /// Closes the box.
    ///
    /// # Errors
    /// The last flush failed.
    pub async fn close(&self) -> Result<(), Problem> {
        Ok(self.service.store().close().await?)
    }
}

/// Opens the configuration's box.
///
/// # Errors
/// Why it cannot be opened, and what to do.
pub fn open_box(config: &Config) -> Result<MessageBox, Failure> {
    use pillarbox_store::ErrorKind;
    let folder = config.mailbox.data.display();
    MessageBox::open(config.mailbox.to_box_config()).map_err(|error| {
        let text = crate::problem::chain(&error);
        let failure = Failure::new(format!("the data folder {folder} cannot be opened: {text}"));
        match error.kind() {
            ErrorKind::Locked => failure.next(
                "stop that process; or, where it is a server, talk to it with --server URL",
            ),
            ErrorKind::Incompatible => failure.next(
                "set box.engine to the engine that created the folder, or name another folder with box.data or --data",
            ),
            ErrorKind::Full => failure.next("make room on the disk"),
            ErrorKind::Unavailable => {
                failure.next("see that the folder exists and may be written, or name another with box.data or --data")
            }
            _ => failure,
        }
    })
}
