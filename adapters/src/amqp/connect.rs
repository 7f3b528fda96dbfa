//! The connection: one that all messages share, made anew when it has broken, with a channel for each message in
//! flight.

use std::fmt;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError};

use lapin::options::ConfirmSelectOptions;
use lapin::tcp::AsyncTcpStream;
use lapin::uri::{AMQPAuthority, AMQPScheme, AMQPUri, AMQPUserInfo};
use lapin::{Channel, Connection, ConnectionProperties, ErrorKind};
use pillarbox_runtime::adapter::SendError;
use rustls::ClientConfig;
use tokio::time::timeout;

use super::settings::AmqpSettings;
use super::wiring::{self, Cutter, Line};
use crate::secret::Secret;
use crate::shared::Shared;
use crate::within::within;
use crate::{tls, wire};

/// Who everybody is to a broker that was not told otherwise; taken from the loopback only.
const GUEST: &str = "guest";

/// Connects, and keeps the connection.
pub(super) struct Connector {
    settings: AmqpSettings,
    user: String,
    password: String,
    tls: Option<Arc<ClientConfig>>,
    live: Shared<Live>,
}

/// A connection with the channels that are not in use. Ends with the last that uses it: in order, or cut where the
/// server hangs.
pub(super) struct Live {
    pub(super) connection: Connection,
    idle: std::sync::Mutex<Vec<Channel>>,
    hangs: AtomicBool,
    cutter: Option<Cutter>,
}

impl Live {
    /// A channel that nobody else has while we have it: what the broker returns on it is ours, and so is its next
    /// confirm. The library itself cannot tell them apart where one confirm is for several messages.
    ///
    /// # Errors
    /// The broker gives none.
    pub(super) async fn channel(&self) -> Result<Channel, lapin::Error> {
        let idle = || self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        while let Some(channel) = idle() {
            if channel.status().connected() {
                return Ok(channel);
            }
        }
        let channel = self.connection.create_channel().await?;
        channel.confirm_select(ConfirmSelectOptions::default()).await?;
        Ok(channel)
    }

    /// Takes back a channel on which nothing is under way.
    pub(super) fn put_back(&self, channel: Channel) {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).push(channel);
    }

    /// From now on the server counts as one that hangs.
    pub(super) fn give_up(&self) {
        self.hangs.store(true, Ordering::Relaxed);
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        if self.hangs.load(Ordering::Relaxed)
            && let Some(cutter) = self.cutter.take()
        {
            cutter.cut();
        }
    }
}

impl fmt::Debug for Live {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Live").field("hangs", &self.hangs).finish_non_exhaustive()
    }
}

/// Cuts a connection on which a greeting was not ended.
struct Greeting(Option<Cutter>);

impl Drop for Greeting {
    fn drop(&mut self) {
        if let Some(cutter) = self.0.take() {
            cutter.cut();
        }
    }
}

impl Connector {
    /// Reads secrets and certificates; may block.
    ///
    /// # Errors
    /// Temporary: they cannot be read.
    pub(super) fn new(settings: AmqpSettings) -> Result<Self, SendError> {
        let read = |key: &str, secret: &Option<Secret>| {
            let value = Secret::read(key, secret.as_ref())?;
            Ok::<_, SendError>(value.unwrap_or_else(|| GUEST.to_owned()))
        };
        let (user, password) = (read("user", &settings.user)?, read("password", &settings.password)?);
        let encrypted = settings.address.scheme == "amqps";
        let tls = encrypted.then(|| tls::client_config(Some(&settings.trust))).transpose()?;
        Ok(Self { settings, user, password, tls: tls.map(Arc::new), live: Shared::default() })
    }

    /// The connection that there is, or a new one.
    ///
    /// # Errors
    /// Temporary: the broker does not answer, or refuses us.
    pub(super) async fn live(&self) -> Result<Arc<Live>, SendError> {
        let connect = || within(self.settings.connect_timeout, &self.settings.address, self.connect());
        self.live.get(|live| live.connection.status().connected(), connect).await
    }

    /// Gives nobody this connection any more.
    pub(super) async fn forget(&self, live: &Arc<Live>) {
        self.live.forget(live).await;
    }

    /// Closes the connection in order, if there is one.
    pub(super) async fn close(&self) {
        if let Some(live) = self.live.take().await {
            let closing = live.connection.close(200, "done".into());
            // Where it has broken, there is nothing to close.
            let _broken = timeout(self.settings.timeout, closing).await;
        }
    }

    async fn connect(&self) -> Result<Live, SendError> {
        let address = &self.settings.address;
        let tcp = wire::tcp(address).await?;
        let (line, cutter) = match &self.tls {
            Some(config) => Line::new(wire::tls(address, tcp, Arc::clone(config)).await?),
            None => Line::new(tcp),
        };
        let mut greeting = Greeting(Some(cutter));
        let line = std::sync::Mutex::new(Some(line));
        let handed = async move |_uri: AMQPUri, _runtime| {
            let line = line.lock().unwrap_or_else(PoisonError::into_inner).take();
            // Asked for once: the library is told to make no second connection.
            let line = line.ok_or(ErrorKind::IOError(Arc::new(io::ErrorKind::NotConnected.into())))?;
            Ok(AsyncTcpStream::Plain(line))
        };
        let properties = ConnectionProperties::default().with_connection_name("pillarbox".into());
        let connected = Connection::connector(self.uri(), wiring::runtime(), handed, properties).await;
        let connection = connected.map_err(|error| {
            SendError::temporary(format!("{address}: the broker does not let us in")).caused_by(error)
        })?;
        Ok(Live {
            connection,
            idle: std::sync::Mutex::default(),
            hangs: AtomicBool::new(false),
            cutter: greeting.0.take(),
        })
    }

    fn uri(&self) -> AMQPUri {
        AMQPUri {
            scheme: AMQPScheme::AMQP,
            authority: AMQPAuthority {
                userinfo: AMQPUserInfo { username: self.user.clone(), password: self.password.clone() },
                host: self.settings.address.host.clone(),
                port: self.settings.address.port,
            },
            vhost: self.settings.virtual_host.clone(),
            query: lapin::uri::AMQPQueryString::default(),
        }
    }
}
