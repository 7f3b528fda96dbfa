//! The connection, and whether there is a stream behind it that does what the adapter says of itself.

use std::sync::Arc;

use async_nats::ConnectOptions;
use async_nats::jetstream::{self, Context};
use pillarbox_runtime::adapter::SendError;
use rustls::ClientConfig;

use super::settings::NatsSettings;
use crate::secret::Secret;
use crate::tls;
use crate::within::within;

/// Everything that is read from outside before a connection is made.
pub(super) struct Login {
    user: Option<(String, String)>,
    token: Option<String>,
    tls: Option<ClientConfig>,
}

impl Login {
    /// Reads secrets and certificates; may block.
    ///
    /// # Errors
    /// Temporary: they cannot be read.
    pub(super) fn read(settings: &NatsSettings) -> Result<Self, SendError> {
        let user = Secret::read("user", settings.user.as_ref())?
            .zip(Secret::read("password", settings.password.as_ref())?);
        let token = Secret::read("token", settings.token.as_ref())?;
        let encrypted = settings.address.scheme == "tls";
        let tls = encrypted.then(|| tls::client_config(Some(&settings.trust))).transpose()?;
        Ok(Self { user, token, tls })
    }

    fn options(self, settings: &NatsSettings) -> ConnectOptions {
        let mut options = ConnectOptions::new()
            .name("pillarbox")
            .connection_timeout(settings.connect_timeout)
            // What a cluster says of its servers is not what was configured.
            .ignore_discovered_servers();
        if let Some((user, password)) = self.user {
            options = options.user_and_password(user, password);
        }
        if let Some(token) = self.token {
            options = options.token(token);
        }
        match self.tls {
            Some(config) => options.require_tls(true).tls_client_config(config),
            None => options,
        }
    }
}

/// Connects, and checks the stream. The connection is made again by itself whenever it breaks.
///
/// # Errors
/// Temporary: the server does not answer, refuses us, or has no stream that will do.
pub(super) async fn connect(settings: &NatsSettings, login: Login) -> Result<(Context, Arc<str>), SendError> {
    let address = &settings.address;
    let connecting = async {
        let connected = login.options(settings).connect(address.to_string()).await;
        let client = connected
            .map_err(|error| SendError::temporary(format!("{address}: cannot connect")).caused_by(error))?;
        let mut context = jetstream::new(client);
        context.set_timeout(settings.timeout);
        let stream = check_stream(settings, &context).await?;
        Ok((context, stream))
    };
    within(settings.connect_timeout, address, connecting).await
}

/// The name of the stream that takes the subject.
async fn check_stream(settings: &NatsSettings, context: &Context) -> Result<Arc<str>, SendError> {
    let (address, subject) = (&settings.address, &settings.subject);
    let failed = |what: String| SendError::temporary(format!("{address}: {what}"));
    let found = context.stream_by_subject(subject.as_str()).await;
    let name = found.map_err(|error| {
        failed(format!("there is no stream for the subject {subject:?}; make one")).caused_by(error)
    })?;
    if let Some(wanted) = settings.stream.as_ref().filter(|wanted| **wanted != name) {
        return Err(failed(format!(
            "the subject {subject:?} goes to the stream {name:?}, not to {wanted:?}"
        )));
    }
    let stream = context.get_stream(&name).await;
    let stream = stream
        .map_err(|error| failed(format!("the stream {name:?} cannot be looked at")).caused_by(error))?;
    let config = &stream.cached_info().config;
    if config.no_ack {
        return Err(failed(format!("the stream {name:?} answers nothing (no_ack); set it to answer")));
    }
    let (have, wanted) = (config.duplicate_window, settings.window);
    if have < wanted {
        return Err(failed(format!(
            "the stream {name:?} recognises a repeat for {have:?} (its duplicate window), and the setting window \
             asks for {wanted:?}; lengthen the one or shorten the other"
        )));
    }
    Ok(name.into())
}
