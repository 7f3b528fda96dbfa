//! Adds messages to a stream.

use std::fmt;

use async_trait::async_trait;
use pillarbox_runtime::adapter::{Outgoing, Reconciled, SendError, Sender, Transport, TransportInfo};
use redis::RedisError;
use tokio::time::timeout;

use super::connect::Connector;
use super::info;
use super::script::{self, Said};
use super::settings::RedisSettings;
use crate::on_thread::on_thread;
use crate::parcel::Parcel;

/// Adds each message to a stream.
pub(super) struct RedisSender {
    settings: RedisSettings,
    connector: Connector,
}

impl RedisSender {
    /// A sender that is connected.
    ///
    /// # Errors
    /// Temporary: a secret cannot be read, the server does not answer, or it refuses us.
    pub(super) async fn open(settings: RedisSettings) -> Result<Self, SendError> {
        let read = settings.clone();
        let connector = on_thread(move || Connector::new(read)).await?;
        connector.live().await?;
        Ok(Self { settings, connector })
    }

    /// Adds the message, or finds that an earlier attempt did.
    ///
    /// # Errors
    /// The server refuses it, or does not answer.
    pub(super) async fn deliver(&self, parcel: &Parcel<'_>) -> Result<(), SendError> {
        let command = script::command(&self.settings, parcel)?;
        let live = self.connector.live().await?;
        let mut connection = live.connection.clone();
        let answered = timeout(self.settings.timeout, command.query_async::<i64>(&mut connection)).await;
        match answered.map(|answer| answer.map(Said::read)) {
            Ok(Ok(Some(Said::Added))) => Ok(()),
            Ok(Ok(Some(Said::NoStream))) => Err(self.failed(&format!(
                "there is no stream {:?}; make it, or set create_stream",
                self.settings.stream
            ))),
            Ok(Ok(None)) => Err(self.failed("the script's answer is none of its own")),
            Ok(Err(error)) => {
                if is_broken(&error) || error.is_unrecoverable_error() {
                    self.connector.forget(&live).await;
                }
                Err(self.refused(error))
            }
            Err(_elapsed) => {
                // What hangs may hang for ever; others that wait on it keep it until their own time is up.
                self.connector.forget(&live).await;
                Err(self.failed(&format!("no answer within {:?} (setting timeout)", self.settings.timeout)))
            }
        }
    }

    /// Asks whether the message's key is known. One that is not may have been and is forgotten, or is still on its way.
    ///
    /// # Errors
    /// The server refuses to say, or does not answer.
    pub(super) async fn ask(&self, parcel: &Parcel<'_>) -> Result<Reconciled, SendError> {
        let mut command = redis::cmd("EXISTS");
        command.arg(script::sent_key(&self.settings.stream, parcel.send_key));
        let live = self.connector.live().await?;
        let mut connection = live.connection.clone();
        match timeout(self.settings.timeout, command.query_async::<i64>(&mut connection)).await {
            Ok(Ok(1)) => Ok(Reconciled::Landed),
            Ok(Ok(_)) => Ok(Reconciled::Unknown),
            Ok(Err(error)) => {
                if is_broken(&error) || error.is_unrecoverable_error() {
                    self.connector.forget(&live).await;
                }
                Err(self.failed("the server does not say whether it has the message").caused_by(error))
            }
            Err(_elapsed) => {
                self.connector.forget(&live).await;
                Err(self.failed(&format!("no answer within {:?} (setting timeout)", self.settings.timeout)))
            }
        }
    }

    fn refused(&self, error: RedisError) -> SendError {
        if is_broken(&error) {
            return self.failed("the connection broke before the answer").caused_by(error);
        }
        // Before version 7 the code is inside the text of the script's error.
        let wrong_type = error.code() == Some("WRONGTYPE") || error.to_string().contains("WRONGTYPE");
        if wrong_type {
            let text = format!(
                "{}: the key {:?} is there and is no stream",
                self.settings.address, self.settings.stream
            );
            return SendError::permanent(text).caused_by(error);
        }
        self.failed("the server refuses the message").caused_by(error)
    }

    fn failed(&self, what: &str) -> SendError {
        SendError::temporary(format!("{}: {what}", self.settings.address))
    }
}

impl fmt::Debug for RedisSender {
    /// Without the connection, which knows the password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisSender").field("settings", &self.settings).finish_non_exhaustive()
    }
}

impl Transport for RedisSender {
    fn describe(&self) -> TransportInfo {
        info(Some(&self.settings))
    }
}

#[async_trait]
impl Sender for RedisSender {
    async fn send(&self, message: &Outgoing) -> Result<(), SendError> {
        self.deliver(&Parcel::from(message)).await
    }

    async fn reconcile(&self, message: &Outgoing) -> Result<Reconciled, SendError> {
        self.ask(&Parcel::from(message)).await
    }
}

/// Whether it is the connection's error, not the server's.
fn is_broken(error: &RedisError) -> bool {
    error.is_io_error() || error.is_connection_dropped()
}
