//! What `check` and `salvage` have in common: the folder, the progress, and how they end.

use std::io::IsTerminal as _;
use std::path::Path;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use pillarbox_store::inspect::{Progress, Watcher};
use pillarbox_store::{BoxConfig, Error, ErrorKind};

use crate::cli::Global;
use crate::config::Config;
use crate::failure::Failure;
use crate::problem::chain;

/// How often a line is written where there is no terminal.
const LINE: Duration = Duration::from_secs(5);
/// The exit code where nothing can be told of the box.
const CANNOT_LOOK: u8 = 3;

/// The folder that is looked at.
pub(super) struct Sight {
    settings: BoxConfig,
}

impl Sight {
    /// The configuration's folder, or the one that `--data` names.
    pub(super) fn new(global: &Global, config: &Config) -> Result<Self, Failure> {
        if global.server.is_some() {
            return Err(Failure::usage("--server names a server; this command looks at a data folder")
                .next("stop the server, then name its folder with --config or --data"));
        }
        Ok(Self { settings: config.mailbox.to_box_config() })
    }

    pub(super) fn folder(&self) -> &Path {
        &self.settings.folder
    }

    /// Does the work, with a folder for copies and somebody who watches.
    pub(super) fn look<T>(
        &self,
        work: impl FnOnce(&BoxConfig, &Path, &mut Watcher<'_>) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let scratch = tempfile::tempdir().map_err(|error| Error::io("make a folder for a copy", error))?;
        let mut shown = Shown::new();
        let done = work(&self.settings, scratch.path(), &mut |progress| shown.show(progress));
        shown.bar.finish_and_clear();
        done
    }
}

/// The bar on a terminal; elsewhere a line now and then.
struct Shown {
    bar: ProgressBar,
    is_terminal: bool,
    last: Instant,
}

impl Shown {
    #[expect(clippy::disallowed_methods, reason = "progress is shown in real time")]
    fn new() -> Self {
        let plain = ProgressStyle::default_bar();
        let style = plain.clone().template("{msg:>8} {bar:40} {pos}/{len} records").unwrap_or(plain);
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr()).with_style(style);
        Self { bar, is_terminal: std::io::stderr().is_terminal(), last: Instant::now() }
    }

    #[expect(clippy::disallowed_methods, reason = "progress is shown in real time")]
    fn show(&mut self, progress: Progress) {
        let Progress { doing, records, of, bytes } = progress;
        if self.is_terminal {
            self.bar.set_length(of);
            self.bar.set_message(doing);
            self.bar.set_position(records);
        } else if self.last.elapsed() >= LINE {
            self.last = Instant::now();
            crate::output::Output::new(false)
                .note(&format!("{doing}: {records} of {of} records, {bytes} bytes"));
        }
    }
}

/// The end of a command that found damage.
pub(super) fn damaged(what: impl Into<String>) -> Failure {
    Failure::new(what)
}

/// The end of a command that could not look.
pub(super) fn cannot_look(error: &Error) -> Failure {
    let failure = Failure { code: CANNOT_LOOK, ..Failure::new(chain(error)) };
    match error.kind() {
        ErrorKind::Locked => failure.next("stop that process: a box is looked at while nobody has it open"),
        ErrorKind::Invalid => {
            failure.next("name the box with --data or --config, and a new folder with --to")
        }
        ErrorKind::Incompatible => {
            failure.next("use the version that wrote it; remove the folder if it is an unfinished salvage")
        }
        ErrorKind::Full => {
            failure.next("make room on the disk, or set TMPDIR to a folder with room for a copy")
        }
        ErrorKind::Corrupt => {
            failure.next("the engine cannot open its files; docs/damage.md says what can be done")
        }
        _ => failure.next("see that the folder may be read"),
    }
}
