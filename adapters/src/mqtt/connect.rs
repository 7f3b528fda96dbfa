//! The connection: one that all messages share, made anew when it has broken.

use std::io;
use std::sync::{Arc, OnceLock, PoisonError};

use pillarbox_runtime::adapter::SendError;
use rumqttc::{AsyncClient, Broker, Event, EventLoop, MqttOptions, Packet};
use rustls::ClientConfig;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::settings::MqttSettings;
use crate::secret::Secret;
use crate::shared::Shared;
use crate::within::within;
use crate::{tls, wire};

/// How many messages wait for the connection at most.
const QUEUE: usize = 64;
/// The longest packet of the protocol.
const PACKET_BYTES_MAX: u32 = 268_435_455;
/// How many seconds nothing may be heard of the broker.
const KEEP_ALIVE: u16 = 30;

/// Connects, and keeps the connection.
pub(super) struct Connector {
    settings: MqttSettings,
    login: Option<(String, String)>,
    tls: Option<Arc<ClientConfig>>,
    live: Shared<Live>,
}

/// A connection with the task that moves its packets. Ends with the last that uses it.
#[derive(Debug)]
pub(super) struct Live {
    pub(super) client: AsyncClient,
    pub(super) packet_bytes_max: u32,
    ended: Arc<OnceLock<String>>,
    driver: JoinHandle<()>,
}

impl Live {
    /// Why it has ended.
    pub(super) fn ended(&self) -> &str {
        self.ended.get().map_or("it was closed", String::as_str)
    }
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
    pub(super) fn new(settings: MqttSettings) -> Result<Self, SendError> {
        let login = Secret::read("user", settings.user.as_ref())?
            .zip(Secret::read("password", settings.password.as_ref())?);
        let encrypted = settings.address.scheme == "mqtts";
        let tls = encrypted.then(|| tls::client_config(Some(&settings.trust))).transpose()?;
        Ok(Self { settings, login, tls: tls.map(Arc::new), live: Shared::default() })
    }

    /// The connection that there is, or a new one.
    ///
    /// # Errors
    /// Temporary: the broker does not answer, or refuses us.
    pub(super) async fn live(&self) -> Result<Arc<Live>, SendError> {
        let connect = || within(self.settings.connect_timeout, &self.settings.address, self.connect());
        self.live.get(|live| !live.driver.is_finished(), connect).await
    }

    /// Gives nobody this connection any more.
    pub(super) async fn forget(&self, live: &Arc<Live>) {
        self.live.forget(live).await;
    }

    /// Takes leave of the broker, if there is a connection.
    pub(super) async fn close(&self) {
        let live = self.live.take().await;
        if let Some(mut live) = live.and_then(Arc::into_inner)
            && live.client.disconnect().await.is_ok()
        {
            // Where it hangs, it is dropped.
            let _ended = timeout(self.settings.timeout, &mut live.driver).await;
        }
    }

    async fn connect(&self) -> Result<Live, SendError> {
        let address = &self.settings.address;
        let tcp = wire::tcp(address).await?;
        let line: Box<dyn wire::Stream + Sync> = match &self.tls {
            Some(config) => Box::new(wire::tls(address, tcp, Arc::clone(config)).await?),
            None => Box::new(tcp),
        };
        let refused = |error: String| {
            SendError::temporary(format!("{address}: the broker does not let us in: {error}"))
        };
        let client = AsyncClient::builder(self.options(line)).capacity(QUEUE).try_build();
        let (client, mut events) = client.map_err(|error| refused(error.to_string()))?;
        let packet_bytes_max = loop {
            let event = events.poll().await.map_err(|error| refused(error.to_string()))?;
            if let Event::Incoming(Packet::ConnAck(welcome)) = event {
                let most = welcome.properties.and_then(|properties| properties.max_packet_size);
                break most.unwrap_or(PACKET_BYTES_MAX);
            }
        };
        let ended = Arc::new(OnceLock::new());
        #[expect(
            clippy::disallowed_methods,
            reason = "moves the packets of a connection that many messages share; ends with it"
        )]
        let driver = tokio::spawn(drive(events, Arc::clone(&ended)));
        Ok(Live { client, packet_bytes_max, ended, driver })
    }

    fn options(&self, line: Box<dyn wire::Stream + Sync>) -> MqttOptions {
        let broker = Broker::tcp(self.settings.address.host.clone(), self.settings.address.port);
        let mut options = MqttOptions::new(self.settings.client_id.clone(), broker);
        // A session that outlived its connection would send by itself what is not in flight any more.
        options.set_clean_start(true);
        options.set_keep_alive(KEEP_ALIVE);
        // Time is kept by who connects, with a text that names the setting.
        options.set_connect_timeout(self.settings.connect_timeout);
        if let Some((user, password)) = &self.login {
            options.set_credentials(user.clone(), password.clone());
        }
        let line = std::sync::Mutex::new(Some(line));
        options.set_socket_connector(move |_host, _options| {
            let line = line.lock().unwrap_or_else(PoisonError::into_inner).take();
            // Asked for once: what has broken is made anew here.
            async move { line.ok_or_else(|| io::ErrorKind::NotConnected.into()) }
        });
        options
    }
}

/// Moves packets until the connection breaks; whoever waits for an answer is then told.
async fn drive(mut events: EventLoop, ended: Arc<OnceLock<String>>) {
    loop {
        if let Err(error) = events.poll().await {
            let _first = ended.set(error.to_string());
            return;
        }
    }
}
