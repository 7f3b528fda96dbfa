//! A running program, with everything that it started.

use std::io;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use pillarbox_runtime::adapter::SendError;
use pillarbox_store::Body;
use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command};
use tokio::time::timeout;

use super::batch::Told;
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
    /// Where it says what became of each message; not of one that has a single message.
    output: Option<ChildStdout>,
    errors: ChildStderr,
    tail: Vec<u8>,
}

/// What a program is given of a message.
pub(super) struct Piece<'a> {
    /// What comes before the body, where it has a message of several.
    pub(super) head: Option<Vec<u8>>,
    pub(super) body: &'a Body,
}

/// Messages whose bodies cannot be read, by their place.
pub(super) type Unread = Vec<(usize, SendError)>;

impl Program {
    /// Starts a program, and hears what it says of each message if it `tells`.
    ///
    /// # Errors
    /// Those of the system.
    pub(super) fn start(mut command: Command, tells: bool) -> io::Result<Self> {
        let output = if tells { Stdio::piped() } else { Stdio::null() };
        command.stdin(Stdio::piped()).stdout(output).stderr(Stdio::piped());
        let mut child = command.process_group(0).kill_on_drop(true).spawn()?;
        let input = child.stdin.take();
        let errors =
            child.stderr.take().ok_or_else(|| io::Error::other("there is no pipe for its errors"))?;
        let output = child.stdout.take();
        Ok(Self { child, input, output, errors, tail: Vec::new() })
    }

    /// Gives it the messages and waits for its end. What it says of them goes into `told`, and those whose bodies cannot
    /// be read into `unread`.
    ///
    /// # Errors
    /// A body that it has a part of cannot be read, or the system does not tell how the program ended. It is to be dropped
    /// then.
    pub(super) async fn run(
        &mut self,
        pieces: &[Piece<'_>],
        told: &mut Told,
        unread: &mut Unread,
    ) -> Result<ExitStatus, SendError> {
        let Self { child, input, output, errors, tail } = self;
        let mut feeding = std::pin::pin!(feed(input, pieces, unread));
        let mut hearing = std::pin::pin!(async {
            tokio::join!(hear(errors, tail), listen(output, told));
        });
        let (mut fed, mut heard) = (false, false);
        let ended = loop {
            tokio::select! {
                // It may end without having read everything: its exit code tells what that means.
                ended = child.wait() => break ended,
                whole = &mut feeding, if !fed => {
                    if !whole {
                        return Err(SendError::temporary("the body of a message beside it cannot be read"));
                    }
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

/// Writes everything, then closes the input; false where a message has to be given up that it has a part of. A program
/// that does not read is no error.
async fn feed(input: &mut Option<ChildStdin>, pieces: &[Piece<'_>], unread: &mut Unread) -> bool {
    if let Some(pipe) = input.as_mut() {
        for (place, piece) in pieces.iter().enumerate() {
            match pour(pipe, piece).await {
                Poured::Whole => {}
                Poured::Deaf => return true,
                Poured::Nothing(error) if piece.head.is_some() => unread.push((place, error)),
                Poured::Nothing(error) | Poured::Half(error) => {
                    unread.push((place, error));
                    return false;
                }
            }
        }
    }
    *input = None;
    true
}

/// How far a message came.
enum Poured {
    Whole,
    /// The program reads no more.
    Deaf,
    /// Its body cannot be read, and nothing of it was written.
    Nothing(SendError),
    /// Its body cannot be read to the end.
    Half(SendError),
}

async fn pour(pipe: &mut ChildStdin, piece: &Piece<'_>) -> Poured {
    let body = piece.body;
    // The first fragment ahead of the head: most bodies have no other, and can be left out.
    let mut next = if body.fragments() == 0 { Ok(None) } else { body.fragment(0).map(Some) };
    let mut index = 0;
    let mut written = 0;
    if let (Ok(_), Some(head)) = (&next, &piece.head)
        && pipe.write_all(head).await.is_err()
    {
        return Poured::Deaf;
    }
    loop {
        let fragment = match next {
            Ok(Some(fragment)) => fragment,
            Ok(None) => break,
            Err(error) if index == 0 => return Poured::Nothing(body_unreadable(error)),
            Err(error) => return Poured::Half(body_unreadable(error)),
        };
        if pipe.write_all(&fragment).await.is_err() {
            return Poured::Deaf;
        }
        written += fragment.len() as u64;
        index += 1;
        next = if index < body.fragments() { body.fragment(index).map(Some) } else { Ok(None) };
    }
    if written != body.len() {
        let what = format!("the message's body has {written} bytes instead of {}", body.len());
        return Poured::Half(SendError::permanent(what));
    }
    if piece.head.is_some() && pipe.write_all(b"\n").await.is_err() {
        return Poured::Deaf;
    }
    Poured::Whole
}

/// Reads to the end what it says of each message.
async fn listen(output: &mut Option<ChildStdout>, told: &mut Told) {
    let Some(output) = output else { return };
    let mut buffer = [0; 4096];
    while let Ok(read @ 1..) = output.read(&mut buffer).await {
        told.hears(buffer.get(..read).unwrap_or_default());
    }
}

/// Reads to the end, and keeps the last [`TAIL_BYTES`].
async fn hear(errors: &mut ChildStderr, tail: &mut Vec<u8>) {
    let mut buffer = [0; 1024];
    while let Ok(read @ 1..) = errors.read(&mut buffer).await {
        tail.extend_from_slice(&buffer[..read]);
        tail.drain(..tail.len().saturating_sub(TAIL_BYTES));
    }
}
