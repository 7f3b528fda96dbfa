//! Sessions that are used again, never more at once than the settings allow.

use std::sync::{Arc, Mutex, PoisonError};

use pillarbox_runtime::adapter::SendError;
use rustls::ClientConfig;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_postgres::Config;
use tokio_postgres::config::SslMode;

use super::session::Session;
use super::settings::PostgresSettings;
use crate::secret::Secret;
use crate::tls;
use crate::within::within;

/// Connects, and keeps idle sessions.
pub(super) struct Pool {
    settings: PostgresSettings,
    login: Config,
    tls: Option<Arc<ClientConfig>>,
    turns: Arc<Semaphore>,
    /// For ending what is prepared. Those who wait for its locks may have all the others.
    endings: Arc<Semaphore>,
    idle: Mutex<Vec<Session>>,
}

/// A session in use. Unless it is given back, it is closed.
pub(super) struct Lent {
    pub(super) session: Session,
    pool: Arc<Pool>,
    _turn: OwnedSemaphorePermit,
}

impl Pool {
    /// Reads the secret and the certificates; may block.
    ///
    /// # Errors
    /// Temporary: they cannot be read.
    pub(super) fn new(settings: PostgresSettings) -> Result<Arc<Self>, SendError> {
        let mut login = Config::new();
        // TLS is set up before the protocol begins, which knows nothing of it.
        login.user(&settings.user).dbname(&settings.address.path).ssl_mode(SslMode::Disable);
        login.application_name("pillarbox");
        let password = settings.password.as_ref().map(Secret::resolve).transpose();
        let password = password.map_err(|reason| SendError::temporary(format!("password: {reason}")))?;
        if let Some(password) = password {
            login.password(password);
        }
        let tls = settings.tls.then(|| tls::client_config(Some(&settings.trust))).transpose()?.map(Arc::new);
        let endings = usize::from(settings.is_two_phase());
        let turns = Arc::new(Semaphore::new(settings.connections_max - endings));
        let endings = Arc::new(Semaphore::new(endings));
        Ok(Arc::new(Self { settings, login, tls, turns, endings, idle: Mutex::default() }))
    }

    /// A session that is open.
    ///
    /// # Errors
    /// Temporary: there is none, and none can be had.
    pub(super) async fn lend(self: &Arc<Self>) -> Result<Lent, SendError> {
        self.lend_of(&self.turns).await
    }

    /// The session that is kept for ending what is prepared.
    ///
    /// # Errors
    /// As [`Self::lend`].
    pub(super) async fn lend_for_an_end(self: &Arc<Self>) -> Result<Lent, SendError> {
        self.lend_of(&self.endings).await
    }

    async fn lend_of(self: &Arc<Self>, turns: &Arc<Semaphore>) -> Result<Lent, SendError> {
        let turn = Arc::clone(turns).acquire_owned().await;
        let turn = turn.map_err(|error| SendError::temporary("the adapter is closed").caused_by(error))?;
        let idle = {
            let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
            idle.retain(Session::is_open);
            idle.pop()
        };
        let session = match idle {
            Some(session) => session,
            None => {
                let connecting = Session::connect(&self.settings, &self.login, self.tls.as_ref());
                // Rarely needed, and large.
                let connecting = Box::pin(connecting);
                within(self.settings.connect_timeout, &self.settings.address, connecting).await?
            }
        };
        Ok(Lent { session, pool: Arc::clone(self), _turn: turn })
    }
}

impl Lent {
    /// Keeps the session, in which there is no transaction, for the next who needs one.
    pub(super) fn give_back(self) {
        self.pool.idle.lock().unwrap_or_else(PoisonError::into_inner).push(self.session);
    }
}
