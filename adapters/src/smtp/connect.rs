//! Connections: one for each mail under way, kept for the next.

use std::sync::{Arc, Mutex, PoisonError};

use lettre::transport::smtp::authentication::{Credentials, Mechanism};
use lettre::transport::smtp::client::AsyncSmtpConnection;
use lettre::transport::smtp::extension::ClientId;
use pillarbox_runtime::adapter::SendError;
use rustls::ClientConfig;

use super::refusal::Refusal;
use super::settings::SmtpSettings;
use super::upgrade::{self, Line};
use crate::secret::Secret;
use crate::within::within;
use crate::{said, tls, wire};

/// How many connections wait for the next mail at most.
const IDLE_MAX: usize = 4;

/// Connects, and keeps connections.
pub(super) struct Connector {
    settings: SmtpSettings,
    credentials: Option<Credentials>,
    /// What must not be shown, should the server echo it.
    pub(super) secrets: Vec<String>,
    tls: Option<Arc<ClientConfig>>,
    idle: Mutex<Vec<AsyncSmtpConnection>>,
}

impl Connector {
    /// Reads secrets and certificates; may block.
    ///
    /// # Errors
    /// Temporary: they cannot be read.
    pub(super) fn new(settings: SmtpSettings) -> Result<Self, SendError> {
        let login = Secret::read("user", settings.user.as_ref())?
            .zip(Secret::read("password", settings.password.as_ref())?);
        let secrets = login.iter().flat_map(|(_, password)| said::guarded(password)).collect();
        let credentials = login.map(|(user, password)| Credentials::new(user, password));
        let tls = (!settings.plain).then(|| tls::client_config(Some(&settings.trust))).transpose()?;
        Ok(Self { settings, credentials, secrets, tls: tls.map(Arc::new), idle: Mutex::default() })
    }

    /// A connection that nobody else has while we have it: one that is still good, or a new one.
    ///
    /// # Errors
    /// Temporary: the server does not answer, or does not let us in.
    pub(super) async fn connection(&self) -> Result<AsyncSmtpConnection, SendError> {
        let connecting = async {
            let idle = || self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
            while let Some(mut connection) = idle() {
                // Servers close what is quiet for long.
                if connection.test_connected().await {
                    return Ok(connection);
                }
            }
            self.connect().await
        };
        within(self.settings.connect_timeout, &self.settings.address, connecting).await
    }

    /// Takes back a connection on which nothing is under way.
    pub(super) fn put_back(&self, connection: AsyncSmtpConnection) {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.len() < IDLE_MAX {
            idle.push(connection);
        }
    }

    /// All that wait.
    pub(super) fn take_idle(&self) -> Vec<AsyncSmtpConnection> {
        std::mem::take(&mut *self.idle.lock().unwrap_or_else(PoisonError::into_inner))
    }

    async fn connect(&self) -> Result<AsyncSmtpConnection, SendError> {
        let address = &self.settings.address;
        let mut tcp = wire::tcp(address).await?;
        let line = match &self.tls {
            None => Line::plain(tcp),
            Some(config) if address.scheme == "smtps" => {
                Line::encrypted(wire::tls(address, tcp, Arc::clone(config)).await?)
            }
            Some(config) => {
                upgrade::start_tls(address, &mut tcp, &self.settings.hello).await?;
                Line::upgraded(wire::tls(address, tcp, Arc::clone(config)).await?)
            }
        };
        // Whatever a server says to us before there is a mail, it is not about the mail.
        let refused = |error, what: &str| {
            let said = Refusal::new(&error, &self.secrets).said;
            SendError::temporary(format!("{address}: {what}: {said}"))
        };
        let hello = ClientId::Domain(self.settings.hello.clone());
        let connected = AsyncSmtpConnection::connect_with_transport(Box::new(line), &hello).await;
        let mut connection = connected.map_err(|error| refused(error, "the server does not let us in"))?;
        if let Some(credentials) = &self.credentials {
            let login = connection.auth(&[Mechanism::Plain, Mechanism::Login], credentials).await;
            login.map_err(|error| refused(error, "the server does not know us"))?;
        }
        Ok(connection)
    }
}
