//! Runs a program for each message.

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
use pillarbox_runtime::adapter::{Outgoing, SendError, Sender, Transport, TransportInfo};
use tokio::process::Command;
use tokio::sync::Semaphore;
use tokio::time::timeout;

use super::program::Program;
use super::settings::{ExecSettings, Inherit};
use super::{environment, info};
use crate::parcel::Parcel;
use crate::said;

/// How much of what a program says is shown.
const SHOWN_BYTES_MAX: usize = 2 * 1024;

/// Runs a program for each message.
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
        // The time begins with the turn: waiting for it is no fault of the program's.
        let turn = self.turns.acquire().await;
        let _turn =
            turn.map_err(|error| SendError::temporary(self.text("was not started")).caused_by(error))?;
        let mut command = Command::new(&self.program);
        command.args(&self.settings.args).env_clear().envs(&self.environment).envs(variables);
        if let Some(folder) = &self.settings.folder {
            command.current_dir(folder);
        }
        let mut program = Program::start(command).map_err(|error| self.not_started(error))?;
        match timeout(self.settings.timeout, program.run(parcel.body)).await {
            Ok(ended) => self.judge(ended?, program.tail()),
            Err(_elapsed) => {
                program.kill().await;
                let what = format!("was killed: no end within {:?} (setting timeout)", self.settings.timeout);
                Err(SendError::temporary(self.text(&what) + &self.said(program.tail())))
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
