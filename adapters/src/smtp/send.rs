//! Hands mails to a server.

use std::fmt;
use std::fmt::Write as _;

use async_trait::async_trait;
use lettre::transport::smtp::Error;
use lettre::transport::smtp::client::AsyncSmtpConnection;
use lettre::transport::smtp::commands::{Data, Mail as MailFrom, Rcpt};
use lettre::transport::smtp::response::Response;
use pillarbox_runtime::adapter::{Outgoing, SendError, Sender, Transport, TransportInfo};
use tokio::time::timeout;

use super::connect::Connector;
use super::info;
use super::mail::Mail;
use super::refusal::{Refusal, failed};
use super::settings::SmtpSettings;
use crate::on_thread::on_thread;
use crate::parcel::Parcel;

/// "Start mail input", RFC 5321 section 4.3.2.
const GO_ON: u16 = 354;
/// "Requested mail action okay, completed", the same.
const TAKEN: u16 = 250;

/// Hands each message over as a mail.
pub(super) struct SmtpSender {
    settings: SmtpSettings,
    connector: Connector,
}

impl SmtpSender {
    /// A sender that has been let in by the server.
    ///
    /// # Errors
    /// Temporary: a secret cannot be read, the server does not answer, or it refuses us.
    pub(super) async fn open(settings: SmtpSettings) -> Result<Self, SendError> {
        let read = settings.clone();
        let connector = on_thread(move || Connector::new(read)).await?;
        let connection = connector.connection().await?;
        connector.put_back(connection);
        Ok(Self { settings, connector })
    }

    /// Hands the message over, to all that are to get it or to nobody.
    ///
    /// # Errors
    /// The server refuses it or somebody who is to get it, or does not answer.
    pub(super) async fn deliver(&self, parcel: &Parcel<'_>) -> Result<(), SendError> {
        let mail = Mail::new(&self.settings, parcel)?;
        let mut connection = self.connector.connection().await?;
        // Where this is dropped or fails, so is the connection: the server forgets what was not ended on it.
        match timeout(self.settings.timeout, self.hand_over(&mut connection, &mail)).await {
            Ok(Ok(())) => {
                self.connector.put_back(connection);
                Ok(())
            }
            Ok(Err(error)) => Err(error),
            Err(_elapsed) => Err(SendError::temporary(format!(
                "{}: no answer within {:?} (setting timeout)",
                self.settings.address, self.settings.timeout
            ))),
        }
    }

    async fn hand_over(&self, connection: &mut AsyncSmtpConnection, mail: &Mail) -> Result<(), SendError> {
        let from = MailFrom::new(Some(mail.sender.clone()), Vec::new());
        connection.command(from).await.map_err(|error| {
            self.refused(&error, &format!("the server takes no mail from {}", mail.sender))
        })?;
        let mut refused: Vec<(String, Refusal)> = Vec::new();
        for recipient in &mail.recipients {
            let answer = connection.command(Rcpt::new(recipient.clone(), Vec::new())).await;
            if let Err(error) = answer {
                let refusal = Refusal::new(&error, &self.connector.secrets);
                let is_answer = refusal.is_answer;
                refused.push((recipient.to_string(), refusal));
                if !is_answer {
                    break;
                }
            }
        }
        if !refused.is_empty() {
            return Err(self.nobody(&refused, mail.recipients.len()));
        }
        let goes_on = connection.command(Data).await;
        let goes_on = goes_on.map_err(|error| self.refused(&error, "the server takes no mail"))?;
        self.check_step(&goes_on, GO_ON)?;
        let taken = connection.message(&mail.text).await;
        let taken = taken.map_err(|error| self.refused(&error, "the server does not take the mail"))?;
        self.check_step(&taken, TAKEN)
    }

    /// Answers carry nothing that says what they answer: one too many (a server's fault, or that of something between),
    /// and every later one is taken for the answer to the next command, up to a mail that nobody has taken. Only the
    /// answer to the command for the mail's text has a code of its own.
    fn check_step(&self, answer: &Response, wanted: u16) -> Result<(), SendError> {
        if answer.has_code(wanted) {
            return Ok(());
        }
        Err(SendError::temporary(format!(
            "{}: the server answers {} where {wanted} belongs: its answers and our commands are out of step",
            self.settings.address,
            answer.code()
        )))
    }

    /// One who is refused keeps the mail from all: had the others got it, they would get it again.
    fn nobody(&self, refused: &[(String, Refusal)], of: usize) -> SendError {
        let mut text =
            format!("{} of {of} who are to get the mail are refused, so nobody gets it", refused.len());
        for (at, (recipient, refusal)) in refused.iter().enumerate() {
            let mark = if at == 0 { ':' } else { ';' };
            let _infallible = write!(text, "{mark} {recipient}: {}", refusal.said);
        }
        let text = format!("{}: {text}", self.settings.address);
        failed(refused.iter().any(|(_, refusal)| refusal.is_permanent), text)
    }

    fn refused(&self, error: &Error, what: &str) -> SendError {
        let refusal = Refusal::new(error, &self.connector.secrets);
        refusal.into_error(&format!("{}: {what}", self.settings.address))
    }
}

impl fmt::Debug for SmtpSender {
    /// Without the connections, which know the password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SmtpSender").field("settings", &self.settings).finish_non_exhaustive()
    }
}

impl Transport for SmtpSender {
    fn describe(&self) -> TransportInfo {
        info(self.settings.body_bytes_max)
    }
}

#[async_trait]
impl Sender for SmtpSender {
    async fn send(&self, message: &Outgoing) -> Result<(), SendError> {
        self.deliver(&Parcel::from(message)).await
    }

    async fn close(&self) {
        for mut connection in self.connector.take_idle() {
            // One that has broken says no goodbye.
            let _broken = timeout(self.settings.connect_timeout, connection.quit()).await;
        }
    }
}
