//! Whom a command talks to: a running server over its API, or the data folder where none runs. Commands see one
//! [`Backend`] and are written once.

mod find;
mod http;
mod input;
mod local;

#[cfg(test)]
mod tests;

use ::http::Method;
use pillarbox_store::{DeliveryId, DoubtVerdict, Filter, MessageId, PortName};

use crate::problem::Problem;
use crate::service::{PAGE_DEFAULT, Submission};
use crate::wire::{
    Because, DeliveryPage, DeliveryView, DoubtSettled, Forgotten, MessageView, PortList, PortView,
    StrandedList, Submitted,
};

pub use find::{Creation, find, folder_mark};
pub use http::Remote;
pub use input::{Input, Pieces};
pub use local::{Local, open_box};

/// Whom a command talks to.
#[derive(Debug, Clone)]
pub enum Backend {
    /// A running server.
    Remote(Box<Remote>),
    /// The data folder, opened by this process.
    Local(Local),
}

impl Backend {
    /// Puts a message into the box.
    ///
    /// # Errors
    /// It was not taken, or that is not known.
    pub async fn submit(&self, submission: Submission, input: &Input) -> Result<Submitted, Problem> {
        match self {
            Self::Remote(remote) => remote.submit(&submission, input).await,
            Self::Local(local) => local.submit(submission, input).await,
        }
    }

    /// A page of deliveries.
    ///
    /// # Errors
    /// As the API's.
    pub async fn deliveries(&self, filter: &Filter) -> Result<DeliveryPage, Problem> {
        match self {
            Self::Local(local) => local.service().deliveries(filter).await,
            Self::Remote(remote) => {
                // No limit means the usual one, here as there.
                let limit = if filter.limit == 0 { PAGE_DEFAULT } else { filter.limit };
                let mut path = format!("/v1/deliveries?limit={limit}");
                if let Some(port) = &filter.port {
                    path += &format!("&port={port}");
                }
                if let Some(state) = filter.state {
                    path += &format!("&state={}", state.as_str());
                }
                if filter.in_doubt {
                    path += "&in_doubt=true";
                }
                if let Some(after) = filter.after {
                    path += &format!("&after={after}");
                }
                remote.ask(Method::GET, &path).await
            }
        }
    }

    /// A delivery with its history.
    ///
    /// # Errors
    /// As the API's.
    pub async fn delivery(&self, id: DeliveryId) -> Result<DeliveryView, Problem> {
        match self {
            Self::Local(local) => local.service().delivery(id).await,
            Self::Remote(remote) => remote.ask(Method::GET, &format!("/v1/deliveries/{id}")).await,
        }
    }

    /// A message with its deliveries.
    ///
    /// # Errors
    /// As the API's.
    pub async fn message(&self, id: MessageId) -> Result<MessageView, Problem> {
        match self {
            Self::Local(local) => local.service().message(id).await,
            Self::Remote(remote) => remote.ask(Method::GET, &format!("/v1/messages/{id}")).await,
        }
    }

    /// Sends a suspended delivery again.
    ///
    /// # Errors
    /// As the API's.
    pub async fn resume(&self, id: DeliveryId) -> Result<DeliveryView, Problem> {
        match self {
            Self::Local(local) => local.service().resume(id).await,
            Self::Remote(remote) => remote.ask(Method::POST, &format!("/v1/deliveries/{id}/resume")).await,
        }
    }

    /// Ends a delivery without sending it.
    ///
    /// # Errors
    /// As the API's.
    pub async fn terminate(&self, id: DeliveryId, reason: &str) -> Result<DeliveryView, Problem> {
        match self {
            Self::Local(local) => local.service().terminate(id, reason).await,
            Self::Remote(remote) => {
                let because = Because { reason: Some(reason.to_owned()) };
                remote.post(&format!("/v1/deliveries/{id}/terminate"), &because).await
            }
        }
    }

    /// Settles what became of a delivery in doubt.
    ///
    /// # Errors
    /// As the API's.
    pub async fn settle_doubt(&self, id: DeliveryId, verdict: DoubtVerdict) -> Result<DeliveryView, Problem> {
        match self {
            Self::Local(local) => local.service().settle_doubt(id, verdict).await,
            Self::Remote(remote) => {
                remote.post(&format!("/v1/deliveries/{id}/settle-doubt"), &DoubtSettled { verdict }).await
            }
        }
    }

    /// Every port.
    ///
    /// # Errors
    /// As the API's.
    pub async fn ports(&self) -> Result<PortList, Problem> {
        match self {
            Self::Local(local) => Ok(local.service().ports().await),
            Self::Remote(remote) => remote.ask(Method::GET, "/v1/ports").await,
        }
    }

    /// Forgets a transaction that somebody has seen to at its destination.
    ///
    /// # Errors
    /// As the API's.
    pub async fn forget(&self, transaction: &str) -> Result<StrandedList, Problem> {
        match self {
            Self::Local(local) => local.service().forget(transaction).await,
            Self::Remote(remote) => {
                let forgotten = Forgotten { transaction: transaction.to_owned() };
                remote.post("/v1/stranded/forget", &forgotten).await
            }
        }
    }

    /// Holds back a port's deliveries, or sends them again.
    ///
    /// # Errors
    /// As the API's.
    pub async fn pause(&self, port: &PortName, paused: bool) -> Result<PortView, Problem> {
        match self {
            Self::Local(local) => local.service().pause(port.as_str(), paused).await,
            Self::Remote(remote) => {
                let verb = if paused { "pause" } else { "unpause" };
                remote.ask(Method::POST, &format!("/v1/ports/{port}/{verb}")).await
            }
        }
    }

    /// Ends the use of it.
    ///
    /// # Errors
    /// The data folder's last flush failed.
    pub async fn close(&self) -> Result<(), Problem> {
        match self {
            Self::Local(local) => local.close().await,
            Self::Remote(_) => Ok(()),
        }
    }
}
