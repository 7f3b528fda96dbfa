//! Runs a program for each message, or for several.

use std::collections::BTreeMap;
use std::env;
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::io::{self, ErrorKind};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;

use async_trait::async_trait;
use pillarbox_runtime::adapter::{BatchSender, Outgoing, SendError, Sender, Transport, TransportInfo};
use tokio::process::Command;
use tokio::sync::Semaphore;
use tokio::time::timeout;

use super::batch::{Said, Told, head};
use super::program::{Piece, Program, Unread};
use super::settings::{ExecSettings, Inherit};
use super::{environment, info};
use crate::parcel::Parcel;
use crate::said;

/// How much of what a program says is shown.
const SHOWN_BYTES_MAX: usize = 2 * 1024;

/// Runs a program.
pub(super) struct ExecSender {
    settings: ExecSettings,
    /// The program's whole path.
    program: PathBuf,
    /// What is the same for every message.
    environment: BTreeMap<OsString, OsString>,
    secrets: Vec<String>,
    turns: Semaphore,
}

impl ExecSender {
    /// A sender whose program is there and whose secrets are read.
    ///
    /// # Errors
    /// Temporary: they are not.
    pub(super) fn open(settings: ExecSettings) -> Result<Self, SendError> {
        let mut environment: BTreeMap<OsString, OsString> = match &settings.inherit {
            Inherit::All => env::vars_os().collect(),
            Inherit::Named(names) => {
                names.iter().filter_map(|name| Some((name.into(), env::var_os(name)?))).collect()
            }
        };
        // Another outbox may have run this one, and what it said of its message is not said of ours.
        environment.retain(|name, _value| !environment::OWN.iter().any(|own| name == own));
        let mut secrets = Vec::new();
        for (name, secret) in &settings.environment {
            let unusable = |reason| SendError::temporary(format!("environment.{name}: {reason}"));
            let value = secret.resolve().map_err(unusable)?;
            if value.contains('\0') {
                return Err(unusable("the value has a NUL character".to_owned()));
            }
            secrets.extend(said::guarded(&value));
            environment.insert(name.into(), value.into());
        }
        secrets.sort_by_key(|secret| std::cmp::Reverse(secret.len()));
        let program = find(&settings.program, environment.get(OsStr::new("PATH")))?;
        let turns = Semaphore::new(settings.programs_max);
        Ok(Self { settings, program, environment, secrets, turns })
    }

    /// Runs the program with this message and waits for its end.
    ///
    /// # Errors
    /// It did not end with exit code 0.
    pub(super) async fn deliver(&self, parcel: &Parcel<'_>) -> Result<(), SendError> {
        let variables = environment::of(parcel, &self.settings.header_prefix)?;
        let piece = Piece { head: None, body: parcel.body };
        let mut unread = Unread::new();
        let end = self.run(variables, &[piece], &mut Told::default(), &mut unread).await;
        if let Some((_, error)) = unread.pop() {
            return Err(error);
        }
        match end? {
            End::Code(ended, tail) => self.judge(ended, &tail),
            End::Killed(text) => Err(SendError::temporary(text)),
        }
    }

    /// Runs the program with these messages and waits for its end. One outcome for each, in their order.
    pub(super) async fn deliver_batch(&self, parcels: &[Parcel<'_>]) -> Vec<Result<(), SendError>> {
        let mut variables = BTreeMap::from([(environment::MESSAGES.to_owned(), parcels.len().to_string())]);
        if let Some(parcel) = parcels.first() {
            variables.insert("PILLARBOX_PORT".to_owned(), parcel.port.to_string());
        }
        let pieces: Vec<Piece<'_>> =
            parcels.iter().map(|parcel| Piece { head: Some(head(parcel)), body: parcel.body }).collect();
        let mut told = Told::of(parcels.iter().map(|parcel| parcel.delivery.number()));
        let mut unread = Unread::new();
        let end = self.run(variables, &pieces, &mut told, &mut unread).await;
        let mut unread: BTreeMap<usize, SendError> = unread.into_iter().collect();
        let outcome = |(place, parcel): (usize, &Parcel<'_>)| match unread.remove(&place) {
            Some(error) => Err(error),
            None => self.outcome(told.about(parcel.delivery.number()), &told, &end, parcels.len()),
        };
        parcels.iter().enumerate().map(outcome).collect()
    }

    /// What became of a message of a run, by what the program said of it and how it ended.
    fn outcome(
        &self,
        said: Option<&Said>,
        told: &Told,
        end: &Result<End, SendError>,
        messages: usize,
    ) -> Result<(), SendError> {
        let refused = |reason: &[u8]| {
            let reason = said::line(reason, SHOWN_BYTES_MAX, &self.secrets);
            self.text("refused it") + &if reason.is_empty() { String::new() } else { format!(": {reason}") }
        };
        match said {
            Some(Said::Delivered) => return Ok(()),
            Some(Said::Temporary(reason)) => return Err(SendError::temporary(refused(reason))),
            Some(Said::Permanent(reason)) => return Err(SendError::permanent(refused(reason))),
            None => {}
        }
        let text = match end {
            Ok(End::Code(ended, tail)) => match self.judge(*ended, tail) {
                Ok(()) => self.text("ended without a word of this message") + &self.said(tail),
                Err(error) if messages == 1 => return Err(error),
                // Of several it does not say which one is meant.
                Err(error) => error.to_string(),
            },
            Ok(End::Killed(text)) => text.clone(),
            Err(error) => error.to_failure().text(),
        };
        let strange = told.strange().map(|line| said::line(line, SHOWN_BYTES_MAX, &self.secrets));
        Err(SendError::temporary(match strange {
            Some(line) => format!("{text}; a line of its output says nothing of any message: {line}"),
            None => text,
        }))
    }

    /// Runs the program until its end, or until its time is up.
    ///
    /// # Errors
    /// It was not started, or given up.
    async fn run(
        &self,
        variables: BTreeMap<String, String>,
        pieces: &[Piece<'_>],
        told: &mut Told,
        unread: &mut Unread,
    ) -> Result<End, SendError> {
        // The time begins with the turn: waiting for it is no fault of the program's.
        let turn = self.turns.acquire().await;
        let _turn =
            turn.map_err(|error| SendError::temporary(self.text("was not started")).caused_by(error))?;
        let mut command = Command::new(&self.program);
        command.args(&self.settings.args).env_clear().envs(&self.environment).envs(variables);
        if let Some(folder) = &self.settings.folder {
            command.current_dir(folder);
        }
        let tells = self.settings.batch_max.is_some();
        let mut program = Program::start(command, tells).map_err(|error| self.not_started(error))?;
        match timeout(self.settings.timeout, program.run(pieces, told, unread)).await {
            Ok(ended) => Ok(End::Code(ended?, program.tail().to_vec())),
            Err(_elapsed) => {
                program.kill().await;
                let what = format!("was killed: no end within {:?} (setting timeout)", self.settings.timeout);
                Ok(End::Killed(self.text(&what) + &self.said(program.tail())))
            }
        }
    }

    fn judge(&self, ended: ExitStatus, tail: &[u8]) -> Result<(), SendError> {
        if ended.success() {
            return Ok(());
        }
        let what = match (ended.code(), ended.signal()) {
            (Some(code), _) => format!("ended with exit code {code}"),
            (None, Some(signal)) => format!("was ended by signal {signal}"),
            (None, None) => format!("ended with {ended}"),
        };
        let text = self.text(&what) + &self.said(tail);
        let code = ended.code().and_then(|code| u8::try_from(code).ok());
        let permanent = code.is_some_and(|code| self.settings.permanent.contains(&code));
        Err(if permanent { SendError::permanent(text) } else { SendError::temporary(text) })
    }

    fn not_started(&self, error: io::Error) -> SendError {
        let text = self.text("cannot be started");
        let failure = if error.kind() == ErrorKind::ArgumentListTooLong {
            SendError::permanent(format!("{text}: the message's headers are too long for an environment"))
        } else {
            SendError::temporary(text)
        };
        failure.caused_by(error)
    }

    fn text(&self, what: &str) -> String {
        format!("the program {} {what}", self.program.display())
    }

    fn said(&self, tail: &[u8]) -> String {
        let shown = said::line(tail, usize::MAX, &self.secrets);
        // The last words tell most.
        let from = shown.len().saturating_sub(SHOWN_BYTES_MAX);
        let from = (from..shown.len()).find(|&at| shown.is_char_boundary(at)).unwrap_or(shown.len());
        if shown.is_empty() { String::new() } else { format!(", saying: {}", &shown[from..]) }
    }
}

/// How a run ended.
enum End {
    /// By itself, with these last words.
    Code(ExitStatus, Vec<u8>),
    /// Its time was up, as this says.
    Killed(String),
}

/// Runs a program for several messages.
#[derive(Debug)]
pub(super) struct ExecBatchSender(pub(super) ExecSender);

impl Transport for ExecBatchSender {
    fn describe(&self) -> TransportInfo {
        self.0.describe()
    }
}

#[async_trait]
impl BatchSender for ExecBatchSender {
    fn messages_max(&self) -> usize {
        self.0.settings.batch_max.unwrap_or(1)
    }

    async fn send_batch(&self, messages: &[Outgoing]) -> Vec<Result<(), SendError>> {
        let parcels: Vec<Parcel<'_>> = messages.iter().map(Parcel::from).collect();
        self.0.deliver_batch(&parcels).await
    }
}

impl fmt::Debug for ExecSender {
    /// Without anything in which there are secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ExecSender").field("program", &self.program).finish_non_exhaustive()
    }
}

impl Transport for ExecSender {
    fn describe(&self) -> TransportInfo {
        info(self.settings.program_deduplicates)
    }
}

#[async_trait]
impl Sender for ExecSender {
    async fn send(&self, message: &Outgoing) -> Result<(), SendError> {
        self.deliver(&Parcel::from(message)).await
    }
}

/// The program's whole path: looked for once, so that what is run is what was found when the route was opened.
fn find(program: &Path, path: Option<&OsString>) -> Result<PathBuf, SendError> {
    let shown = program.display();
    let executable = |path: &Path| {
        path.metadata().is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0)
    };
    if program.is_absolute() {
        return if executable(program) {
            Ok(program.to_owned())
        } else {
            Err(SendError::temporary(format!("{shown} is no program; install it, or correct `program`")))
        };
    }
    let folders = path.map(env::split_paths).into_iter().flatten().filter(|folder| folder.is_absolute());
    folders.map(|folder| folder.join(program)).find(|path| executable(path)).ok_or_else(|| {
        SendError::temporary(format!(
            "there is no program {shown} on PATH; install it, or write its whole path"
        ))
    })
}
