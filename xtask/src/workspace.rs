//! Where the workspace is, and programs run in it.

use std::env;
use std::ffi::OsString;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use crate::error::Error;

/// The workspace this program was built from.
#[derive(Debug)]
pub(crate) struct Workspace {
    root: PathBuf,
    target: PathBuf,
    path: OsString,
}

impl Workspace {
    pub(crate) fn find() -> Result<Self, Error> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"))
            .parent()
            .ok_or_else(|| Error::new("the folder of xtask has no parent"))?
            .to_owned();
        let target = match env::var_os("CARGO_TARGET_DIR") {
            // Relative to where the caller stands, while the programs below run in the root.
            Some(folder) => std::path::absolute(&folder)
                .map_err(|error| Error::new(format!("CARGO_TARGET_DIR is {}: {error}", folder.display())))?,
            None => root.join("target"),
        };
        let inherited = env::var_os("PATH").unwrap_or_default();
        let folders = std::iter::once(target.join("tools/bin")).chain(env::split_paths(&inherited));
        let path = env::join_paths(folders)
            .map_err(|error| Error::new(format!("cannot put {} on PATH: {error}", target.display())))?;
        Ok(Self { root, target, path })
    }

    /// The folder with the workspace's `Cargo.toml`.
    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// Where programs are kept that the checks need and the machine lacks.
    pub(crate) fn tools(&self) -> PathBuf {
        self.target.join("tools")
    }

    /// Where Cargo builds.
    pub(crate) fn target(&self) -> &Path {
        &self.target
    }

    /// A program of the machine's, at the root.
    pub(crate) fn program(&self, name: &str) -> Run {
        let mut command = Command::new(name);
        command.current_dir(&self.root).stdin(Stdio::null()).env("PATH", &self.path);
        Run { command, shown_env: String::new(), shown: None }
    }

    /// A program of ours that Cargo builds along with the tests. Asked for by itself it would have the features that its own
    /// package wants, and most of what it depends on would be compiled once more.
    pub(crate) fn built_with_tests(&self, name: &str) -> Result<Run, Error> {
        self.cargo(["test", "--workspace", "--no-run", "--quiet", "--locked"]).run()?;
        Ok(self.program(&self.target.join("debug").join(name).to_string_lossy()))
    }

    /// Cargo, at the root, with nothing left of the environment Cargo made for this program.
    pub(crate) fn cargo<'a>(&self, args: impl IntoIterator<Item = &'a str>) -> Run {
        let mut command = Command::new("cargo");
        command.args(args).current_dir(&self.root).stdin(Stdio::null()).env("PATH", &self.path);
        command.env("CARGO_TARGET_DIR", &self.target);
        // Build scripts that watch these would run again each time the caller changes.
        for (name, _) in env::vars_os() {
            let name_text = name.to_string_lossy();
            if ["CARGO_PKG_", "CARGO_MANIFEST_"].iter().any(|prefix| name_text.starts_with(prefix)) {
                command.env_remove(&name);
            }
        }
        Run { command, shown_env: String::new(), shown: None }
    }
}

/// A program about to run.
#[derive(Debug)]
pub(crate) struct Run {
    command: Command,
    shown_env: String,
    shown: Option<String>,
}

impl Run {
    /// Adds arguments.
    pub(crate) fn args<'a>(mut self, args: impl IntoIterator<Item = &'a str>) -> Self {
        self.command.args(args);
        self
    }

    /// Sets a variable of the environment.
    pub(crate) fn env(mut self, name: &str, value: &str) -> Self {
        self.command.env(name, value);
        let _ = write!(self.shown_env, "{name}={} ", quoted(value));
        self
    }

    /// Runs it with its output passed through; anything but success is an error that shows the line to type.
    pub(crate) fn run(mut self) -> Result<(), Error> {
        let line = self.line();
        println!("$ {line}");
        let status =
            self.command.status().map_err(|error| Error::new(format!("cannot run `{line}`: {error}")))?;
        if status.success() { Ok(()) } else { Err(Error::new(format!("{status}")).hint(format!("$ {line}"))) }
    }

    /// Shows another line than the one that is run, where that one is too long to read.
    pub(crate) fn shown_as(mut self, line: &str) -> Self {
        self.shown = Some(line.to_owned());
        self
    }

    /// Starts it with its errors piped, to be read while it runs.
    pub(crate) fn start(mut self) -> Result<Child, Error> {
        let line = self.line();
        println!("$ {line}");
        let command = self.command.stdout(Stdio::null()).stderr(Stdio::piped());
        command.spawn().map_err(|error| Error::new(format!("cannot run `{line}`: {error}")))
    }

    /// Runs it unseen and tells whether it succeeded.
    pub(crate) fn succeeds(mut self) -> bool {
        let quiet = self.command.stdout(Stdio::null()).stderr(Stdio::null());
        quiet.status().is_ok_and(|status| status.success())
    }

    /// Runs it unseen and gives what it wrote to standard output.
    pub(crate) fn stdout(self) -> Result<String, Error> {
        self.output().map(|(stdout, _)| stdout)
    }

    /// Runs it unseen and gives what it wrote to standard error.
    pub(crate) fn stderr(self) -> Result<String, Error> {
        self.output().map(|(_, stderr)| stderr)
    }

    fn output(mut self) -> Result<(String, String), Error> {
        let line = self.line();
        let output =
            self.command.output().map_err(|error| Error::new(format!("cannot run `{line}`: {error}")))?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let (stdout, stderr) = (text(&output.stdout), text(&output.stderr));
        if output.status.success() {
            return Ok((stdout, stderr));
        }
        let said = if stderr.trim().is_empty() { stdout } else { stderr };
        Err(Error::new(format!("{}: {}", output.status, said.trim())).hint(format!("$ {line}")))
    }

    fn line(&self) -> String {
        if let Some(line) = &self.shown {
            return line.clone();
        }
        let mut line = format!("{}{}", self.shown_env, self.command.get_program().display());
        for arg in self.command.get_args() {
            let _ = write!(line, " {}", quoted(&arg.to_string_lossy()));
        }
        line
    }
}

/// As a shell takes it.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./=:,+@".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shown_line_can_be_typed() {
        let workspace = Workspace::find().unwrap();
        let run = workspace.cargo(["doc", "--no-deps", "it's"]).env("RUSTDOCFLAGS", "-D warnings");
        assert_eq!(run.line(), r"RUSTDOCFLAGS='-D warnings' cargo doc --no-deps 'it'\''s'");
    }

    #[test]
    fn a_failing_program_is_an_error_with_its_line() {
        let workspace = Workspace::find().unwrap();
        let error = workspace.cargo(["no-such-subcommand"]).run().unwrap_err().to_string();
        assert!(
            error.contains("exit status: 101") && error.contains("$ cargo no-such-subcommand"),
            "{error}"
        );
    }

    #[test]
    fn the_root_holds_the_workspace() {
        assert!(Workspace::find().unwrap().root().join("Cargo.lock").is_file());
    }
}
