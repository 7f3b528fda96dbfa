//! What the demo tells while it runs, on standard error: a line for each step, and on a terminal two bars.

use std::io::{self, IsTerminal as _, Write as _};
use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

/// How often the bars are drawn.
const DRAW: Duration = Duration::from_millis(100);
/// How often a line is written where there is no terminal.
const LINE: Duration = Duration::from_secs(2);

/// Colours, where they are seen.
#[derive(Debug, Clone, Copy)]
pub(super) struct Paint {
    on: bool,
}

impl Paint {
    /// Colours for standard output, if it is a terminal.
    pub(super) fn stdout() -> Self {
        Self::new(io::stdout().is_terminal())
    }

    /// No colours.
    #[cfg(test)]
    pub(super) fn none() -> Self {
        Self { on: false }
    }

    fn new(terminal: bool) -> Self {
        let unwanted = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        Self { on: terminal && !unwanted }
    }

    /// Strong.
    pub(super) fn strong(self, text: &str) -> String {
        self.with("1", text)
    }

    /// As good news.
    pub(super) fn good(self, text: &str) -> String {
        self.with("1;32", text)
    }

    /// As bad news.
    pub(super) fn bad(self, text: &str) -> String {
        self.with("1;31", text)
    }

    /// As an aside.
    pub(super) fn faint(self, text: &str) -> String {
        self.with("2", text)
    }

    fn with(self, code: &str, text: &str) -> String {
        if self.on { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }
}

/// Where the demo tells.
#[derive(Debug)]
pub(super) struct Show {
    paint: Paint,
    terminal: bool,
    bars: MultiProgress,
}

/// How far everything is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Progress {
    /// Messages acknowledged.
    pub(super) submitted: usize,
    /// Messages at the destination.
    pub(super) delivered: usize,
}

impl Show {
    /// Standard error.
    pub(super) fn new() -> Self {
        let terminal = io::stderr().is_terminal();
        // Hidden by itself where there is no terminal.
        let bars = MultiProgress::with_draw_target(ProgressDrawTarget::stderr());
        Self { paint: Paint::new(terminal), terminal, bars }
    }

    /// Tells of a step.
    pub(super) fn step(&self, verb: &str, text: &str) {
        let verb = self.paint.good(&format!("{verb:>11}"));
        // Nobody is left to tell where standard error is gone.
        self.bars.suspend(|| drop(writeln!(io::stderr().lock(), "{verb} {text}")));
    }

    /// Shows progress for as long as it is polled; never returns.
    pub(super) async fn progress(
        &self,
        total: usize,
        look: impl Fn() -> Progress,
    ) -> std::convert::Infallible {
        if !self.terminal {
            return self.lines(total, look).await;
        }
        let bar = |name: &'static str| {
            let plain = ProgressStyle::default_bar();
            let style = plain.clone().template("{prefix:>11} {bar:40} {pos}/{len}").unwrap_or(plain);
            let bar = ProgressBar::new(total as u64).with_style(style).with_prefix(name);
            Bar(self.bars.add(bar))
        };
        let (submitted, delivered) = (bar("submitted"), bar("delivered"));
        loop {
            let now = look();
            submitted.0.set_position(now.submitted as u64);
            delivered.0.set_position(now.delivered as u64);
            tokio::time::sleep(DRAW).await;
        }
    }

    async fn lines(&self, total: usize, look: impl Fn() -> Progress) -> std::convert::Infallible {
        let mut last = Progress::default();
        loop {
            tokio::time::sleep(LINE).await;
            let now = look();
            if now != last {
                let text = format!("{} of {total} submitted, {} delivered", now.submitted, now.delivered);
                self.step("...", &text);
            }
            last = now;
        }
    }
}

/// A bar that is wiped away with its owner.
struct Bar(ProgressBar);

impl Drop for Bar {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}
