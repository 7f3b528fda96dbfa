//! A running program, with everything that it started.

use std::io;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use pillarbox_runtime::adapter::SendError;
use pillarbox_store::Body;
use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::{Child, ChildStderr, ChildStdin, Command};
use tokio::time::timeout;

use crate::parcel::body_unreadable;

/// How much of the end of what a program says is kept.
const TAIL_BYTES: usize = 4 * 1024;
/// How long what a program said is waited for once it has ended. Its own last words are there at once; something that
/// it left running may hold the pipe for ever.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// A program in a process group of its own. Dropping it kills the whole group, unless the program has ended.
#[derive(Debug)]
pub(super) struct Program {
    child: Child,
    /// Closed only once the body is whole: a program that sees the end of its input may take it for the end of the
    /// message. [`Drop`] kills before the fields go, so that nobody ever sees half a message end.
    input: Option<ChildStdin>,
    errors: ChildStderr,
    tail: Vec<u8>,
}

impl Program {
    /// Starts a program.
    ///
    /// # Errors
    /// Those of the system.
    pub(super) fn start(mut command: Command) -> io::Result<Self> {
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.process_group(0).kill_on_drop(true).spawn()?;
        let input = child.stdin.take();
        let errors =
            child.stderr.take().ok_or_else(|| io::Error::other("there is no pipe for its errors"))?;
        Ok(Self { child, input, errors, tail: Vec::new() })
    }

    /// Gives it the body and waits for its end.
    ///
    /// # Errors
    /// The body cannot be read, or the system does not tell how the program ended. It is to be dropped then.
    pub(super) async fn run(&mut self, body: &Body) -> Result<ExitStatus, SendError> {
        let Self { child, input, errors, tail } = self;
        let mut feeding = std::pin::pin!(feed(input, body));
        let mut hearing = std::pin::pin!(hear(errors, tail));
        let (mut fed, mut heard) = (false, false);
        let ended = loop {
            tokio::select! {
                // It may end without having read everything: its exit code tells what that means.
                ended = child.wait() => break ended,
                done = &mut feeding, if !fed => {
                    done?;
                    fed = true;
                }
                () = &mut hearing, if !heard => heard = true,
            }
        };
        if !heard {
            let _rest_or_not = timeout(LAST_WORDS, hearing).await;
        }
        ended.map_err(|error| SendError::temporary("it is unknown how the program ended").caused_by(error))
    }

    /// Ends it with everything that it started, and waits until it is gone.
    pub(super) async fn kill(&mut self) {
        self.kill_group();
        // SIGKILL is not refused; a program that hangs in the kernel is left to the runtime.
        let _gone = timeout(LAST_WORDS, self.child.wait()).await;
    }

    /// The end of what it said.
    pub(super) fn tail(&self) -> &[u8] {
        &self.tail
    }

    /// Not after its end was seen: its number may be another's by then.
    fn kill_group(&self) {
        let group = self.child.id().and_then(|id| Pid::from_raw(id.cast_signed()));
        if let Some(group) = group {
            let _gone_already = kill_process_group(group, Signal::KILL);
        }
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        self.kill_group();
    }
}

/// Writes the whole body, then closes the input. A program that does not read it is no error.
async fn feed(input: &mut Option<ChildStdin>, body: &Body) -> Result<(), SendError> {
    let mut written = 0;
    if let Some(pipe) = input.as_mut() {
        for index in 0..body.fragments() {
            let fragment = body.fragment(index).map_err(body_unreadable)?;
            if pipe.write_all(&fragment).await.is_err() {
                return Ok(());
            }
            written += fragment.len() as u64;
        }
        if written != body.len() {
            return Err(SendError::permanent(format!(
                "the message's body has {written} bytes instead of {}",
                body.len()
            )));
        }
    }
    *input = None;
    Ok(())
}

/// Reads to the end, and keeps the last [`TAIL_BYTES`].
async fn hear(errors: &mut ChildStderr, tail: &mut Vec<u8>) {
    let mut buffer = [0; 1024];
    while let Ok(read @ 1..) = errors.read(&mut buffer).await {
        tail.extend_from_slice(&buffer[..read]);
        tail.drain(..tail.len().saturating_sub(TAIL_BYTES));
    }
}
