//! The connection: one that all messages share, made anew when it has broken.

use std::sync::Arc;

use pillarbox_runtime::adapter::SendError;
use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, RedisConnectionInfo, RedisError};
use rustls::ClientConfig;
use tokio::task::JoinHandle;

use super::settings::RedisSettings;
use crate::secret::Secret;
use crate::shared::Shared;
use crate::within::within;
use crate::{tls, wire};

/// Connects, and keeps the connection.
pub(super) struct Connector {
    settings: RedisSettings,
    login: RedisConnectionInfo,
    tls: Option<Arc<ClientConfig>>,
    live: Shared<Live>,
}

/// A connection with the task that moves its bytes. Ends with the last that uses it.
pub(super) struct Live {
    pub(super) connection: MultiplexedConnection,
    driver: JoinHandle<()>,
}

impl Drop for Live {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

impl Connector {
    /// Reads secrets and certificates; may block.
    ///
    /// # Errors
    /// Temporary: they cannot be read.
    pub(super) fn new(settings: RedisSettings) -> Result<Self, SendError> {
        let mut login = RedisConnectionInfo::default()
            .set_db(settings.database)
            .set_lib_name("pillarbox", env!("CARGO_PKG_VERSION"));
        if let Some(user) = Secret::read("user", settings.user.as_ref())? {
            login = login.set_username(user);
        }
        if let Some(password) = Secret::read("password", settings.password.as_ref())? {
            login = login.set_password(password);
        }
        let encrypted = settings.address.scheme == "rediss";
        let tls = encrypted.then(|| tls::client_config(Some(&settings.trust))).transpose()?;
        Ok(Self { settings, login, tls: tls.map(Arc::new), live: Shared::default() })
    }

    /// The connection that there is, or a new one.
    ///
    /// # Errors
    /// Temporary: the server does not answer, or refuses us.
    pub(super) async fn live(&self) -> Result<Arc<Live>, SendError> {
        let connect = || within(self.settings.connect_timeout, &self.settings.address, self.connect());
        self.live.get(|live| !live.driver.is_finished(), connect).await
    }

    /// Gives nobody this connection any more.
    pub(super) async fn forget(&self, live: &Arc<Live>) {
        self.live.forget(live).await;
    }

    async fn connect(&self) -> Result<Live, SendError> {
        let address = &self.settings.address;
        let tcp = wire::tcp(address).await?;
        match &self.tls {
            Some(config) => self.login(wire::tls(address, tcp, Arc::clone(config)).await?).await,
            None => self.login(tcp).await,
        }
    }

    async fn login(&self, stream: impl wire::Stream) -> Result<Live, SendError> {
        // Time is kept by who sends, with a text that names the setting.
        let config = AsyncConnectionConfig::new().set_response_timeout(None).set_connection_timeout(None);
        let made = MultiplexedConnection::new_with_config(&self.login, stream, config).await;
        let refused = |error: RedisError| {
            SendError::temporary(format!("{}: the server does not let us in", self.settings.address))
                .caused_by(error)
        };
        let (connection, driver) = made.map_err(refused)?;
        #[expect(
            clippy::disallowed_methods,
            reason = "moves the bytes of a connection that many messages share; ends with it"
        )]
        let driver = tokio::spawn(driver);
        let mut live = Live { connection, driver };
        // A server that wants a password lets everybody connect.
        let greeting: Result<String, _> = redis::cmd("PING").query_async(&mut live.connection).await;
        greeting.map(|_pong| live).map_err(refused)
    }
}
