//! A connection to the server, with the protocol SFTP spoken over it.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use pillarbox_runtime::adapter::SendError;
use russh::client::{self, AuthResult, Handle};
use russh::keys::{PrivateKey, PrivateKeyWithHashAlg, PublicKeyOrCertificate, decode_secret_key};
use russh::{ChannelMsg, SshId};
use russh_sftp::client::error::Error as Refused;
use russh_sftp::client::{Config as Sftp, RawSftpSession};
use russh_sftp::protocol::{Packet, Status, StatusCode};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::known::Known;
use super::settings::{Login as Written, SftpSettings};
use crate::said;
use crate::secret::Secret;

/// How often a server is asked whether it is there while it says nothing.
const KEEPALIVE: Duration = Duration::from_secs(20);
/// How much of a refusal is shown.
const SHOWN_BYTES_MAX: usize = 512;
/// The renaming that replaces, in one step.
const POSIX_RENAME: &str = "posix-rename@openssh.com";
/// The flushing of a file.
const FSYNC: &str = "fsync@openssh.com";

/// Everything that is read from outside before a connection is made.
pub(super) struct Login {
    user: String,
    way: Way,
    known: Known,
    secrets: Vec<String>,
}

enum Way {
    Password(String),
    Key(Arc<PrivateKey>),
}

impl Login {
    /// Reads secrets and the server's keys; may block.
    ///
    /// # Errors
    /// Temporary: they cannot be read.
    pub(super) fn read(settings: &SftpSettings) -> Result<Self, SendError> {
        let read = |key: &str, secret: &Secret| {
            secret.resolve().map_err(|reason| SendError::temporary(format!("{key}: {reason}")))
        };
        let user = read("user", &settings.user)?;
        let mut secrets = Vec::new();
        let way = match &settings.login {
            Written::Password(password) => {
                let password = read("password", password)?;
                secrets.extend(said::guarded(&password));
                Way::Password(password)
            }
            Written::Key { key, passphrase } => {
                let key = read("private_key", key)?;
                let passphrase = passphrase.as_ref().map(|one| read("passphrase", one)).transpose()?;
                // The library's words may be about the key's own.
                let key = decode_secret_key(&key, passphrase.as_deref()).map_err(|_| {
                    SendError::temporary(
                        "private_key: it is no key in OpenSSH's or PKCS#8 form, or of a kind that is not spoken \
                         (RSA), or `passphrase` is not its own",
                    )
                })?;
                Way::Key(Arc::new(key))
            }
        };
        Ok(Self { user, way, known: Known::read(settings)?, secrets })
    }
}

/// A step that failed.
pub(super) struct Fault {
    pub(super) error: SendError,
    /// Whether the connection cannot be used any more.
    pub(super) broken: bool,
    /// What the server said, where it did.
    pub(super) code: Option<StatusCode>,
}

impl From<SendError> for Fault {
    /// Nothing that the server has to do with.
    fn from(error: SendError) -> Self {
        Self { error, broken: false, code: None }
    }
}

/// A connection that is logged in.
pub(super) struct Session {
    pub(super) sftp: RawSftpSession,
    /// Keeps the connection.
    handle: Handle<Checker>,
    place: String,
    timeout: Duration,
    secrets: Vec<String>,
    posix_rename: bool,
    fsync: bool,
}

impl Session {
    /// Connects, looks who answers, logs in and begins to speak SFTP.
    ///
    /// # Errors
    /// Temporary: the server does not answer, is not the one that is known, or refuses us.
    pub(super) async fn connect(settings: &SftpSettings, login: Login) -> Result<Self, SendError> {
        let place = settings.address.to_string();
        let span = settings.connect_timeout;
        let connecting = Self::connect_at(place.clone(), settings, login);
        timeout(span, connecting).await.unwrap_or_else(|_elapsed| {
            let text = format!("{place}: no connection within {span:?} (setting connect_timeout)");
            Err(SendError::temporary(text))
        })
    }

    async fn connect_at(place: String, settings: &SftpSettings, login: Login) -> Result<Self, SendError> {
        let failed = |what: &str| SendError::temporary(format!("{place}: {what}"));
        let config = client::Config {
            client_id: SshId::Standard(concat!("SSH-2.0-pillarbox_", env!("CARGO_PKG_VERSION")).into()),
            preferred: login.known.preferred(),
            keepalive_interval: Some(KEEPALIVE),
            ..client::Config::default()
        };
        let stream = TcpStream::connect((settings.address.host.as_str(), settings.address.port)).await;
        let stream = stream.map_err(|error| failed("cannot connect").caused_by(error))?;
        stream.set_nodelay(true).map_err(|error| failed("cannot connect").caused_by(error))?;
        let refused = Arc::default();
        let checker = Checker { known: login.known, refused: Arc::clone(&refused) };
        let mut handle =
            client::connect_stream(Arc::new(config), stream, checker).await.map_err(|error| match refused
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .take()
            {
                Some(why) => failed(&why),
                None => failed("cannot agree with the server on a connection").caused_by(error),
            })?;
        let (what, answer) = match login.way {
            Way::Password(password) => ("password", handle.authenticate_password(login.user, password).await),
            Way::Key(key) => {
                let key = PrivateKeyWithHashAlg::new(key, None);
                ("private key", handle.authenticate_publickey(login.user, key).await)
            }
        };
        let broke = |error| failed("the connection broke during the login").caused_by(error);
        if let AuthResult::Failure { remaining_methods, .. } = answer.map_err(broke)? {
            let takes: Vec<&str> = remaining_methods.iter().map(Into::into).collect();
            return Err(failed(&format!(
                "the server refuses the user or its {what}; it takes: {}",
                takes.join(", ")
            )));
        }
        let opened = handle.channel_open_session().await;
        let mut channel = opened.map_err(|error| failed("the server opens no channel").caused_by(error))?;
        channel.request_subsystem(true, "sftp").await.map_err(broke)?;
        loop {
            match channel.wait().await {
                Some(ChannelMsg::Success) => break,
                Some(ChannelMsg::WindowAdjusted { .. }) => {}
                _ => return Err(failed("the server does not speak SFTP with this user")),
            }
        }
        // Answers are waited for here, not there.
        let config = Sftp { request_timeout_secs: u64::from(u32::MAX), ..Sftp::default() };
        let sftp = RawSftpSession::new_with_config(channel.into_stream(), config);
        let version =
            sftp.init().await.map_err(|error| failed("the server does not speak SFTP").caused_by(error))?;
        let offers = |name: &str| version.extensions.get(name).is_some_and(|version| version == "1");
        let (posix_rename, fsync) = (offers(POSIX_RENAME), offers(FSYNC));
        let timeout = settings.timeout;
        Ok(Self { sftp, handle, place, timeout, secrets: login.secrets, posix_rename, fsync })
    }

    /// Whether the connection has ended.
    pub(super) fn is_closed(&self) -> bool {
        self.handle.is_closed()
    }

    /// Waits for the answer to one request; `doing` is for people.
    pub(super) async fn step<T>(
        &self,
        doing: &str,
        asking: impl Future<Output = Result<T, Refused>>,
    ) -> Result<T, Fault> {
        let Ok(answered) = timeout(self.timeout, asking).await else {
            let text = format!("{doing}: no answer within {:?} (setting timeout)", self.timeout);
            return Err(Fault { error: self.failed(&text), broken: true, code: None });
        };
        answered.map_err(|error| match error {
            Refused::Status(status) => self.refused(doing, &status),
            error => {
                let text = format!("{doing}: the connection broke before the answer");
                Fault { error: self.failed(&text).caused_by(error), broken: true, code: None }
            }
        })
    }

    fn refused(&self, doing: &str, status: &Status) -> Fault {
        let code = status.status_code;
        let words = said::line(status.error_message.as_bytes(), SHOWN_BYTES_MAX, &self.secrets);
        let words = if words == code.to_string() { String::new() } else { format!(" ({words})") };
        Fault {
            error: self.failed(&format!("{doing}: the server says: {code}{words}")),
            broken: false,
            code: Some(code),
        }
    }

    /// Flushes an open file, where the server can.
    pub(super) async fn flush(&self, path: &str, handle: &str) -> Result<(), Fault> {
        if self.fsync {
            self.step(&format!("cannot flush {path}"), self.sftp.fsync(handle)).await?;
        }
        Ok(())
    }

    /// Gives a file its name, where the server can in one step in place of what has it. Where it cannot, and the name is
    /// taken by a file of this length, that is ours: it was there in one step, too.
    pub(super) async fn publish(&self, from: &str, to: &str, length: u64) -> Result<(), Fault> {
        let doing = format!("cannot rename to {to}");
        if self.posix_rename {
            let mut names = Vec::new();
            for name in [from, to] {
                names.extend(u32::try_from(name.len()).unwrap_or(u32::MAX).to_be_bytes());
                names.extend(name.as_bytes());
            }
            let asking = async {
                match self.sftp.extended(POSIX_RENAME, names).await? {
                    Packet::Status(status) if status.status_code == StatusCode::Ok => Ok(()),
                    Packet::Status(status) => Err(Refused::Status(status)),
                    _ => Err(Refused::UnexpectedPacket),
                }
            };
            return self.step(&doing, asking).await;
        }
        let renamed = self.step(&doing, self.sftp.rename(from, to)).await;
        let Err(fault) = renamed else { return Ok(()) };
        if fault.broken {
            return Err(fault);
        }
        let there = self.step(&format!("cannot look at {to}"), self.sftp.lstat(to)).await;
        match there {
            Ok(there) if there.attrs.is_regular() && there.attrs.size == Some(length) => {
                self.remove(from).await
            }
            _ => Err(fault),
        }
    }

    /// Whether a file of this name and length is there.
    pub(super) async fn has(&self, path: &str, length: u64) -> Result<bool, Fault> {
        match self.step(&format!("cannot look at {path}"), self.sftp.lstat(path)).await {
            Ok(there) => Ok(there.attrs.is_regular() && there.attrs.size == Some(length)),
            Err(fault) if fault.code == Some(StatusCode::NoSuchFile) => Ok(false),
            Err(fault) => Err(fault),
        }
    }

    /// Removes a file.
    pub(super) async fn remove(&self, path: &str) -> Result<(), Fault> {
        self.step(&format!("cannot remove {path}"), self.sftp.remove(path)).await.map(drop)
    }

    pub(super) fn failed(&self, what: &str) -> SendError {
        SendError::temporary(format!("{}: {what}", self.place))
    }
}

/// Looks who answers.
pub(super) struct Checker {
    known: Known,
    refused: Arc<Mutex<Option<String>>>,
}

impl client::Handler for Checker {
    type Error = russh::Error;

    async fn check_server_key(&mut self, shown: &PublicKeyOrCertificate) -> Result<bool, russh::Error> {
        let checked = match shown {
            PublicKeyOrCertificate::PublicKey { key, .. } => self.known.check(key),
            PublicKeyOrCertificate::Certificate(_) => {
                Err("the server shows a certificate in place of a key".to_owned())
            }
        };
        let refused = checked.err();
        let trusted = refused.is_none();
        *self.refused.lock().unwrap_or_else(PoisonError::into_inner) = refused;
        Ok(trusted)
    }
}
