//! The command line of `demo`.

use std::path::PathBuf;

use clap::Args;
use pillarbox_store::EngineKind;

/// The most files that are sent unless `--files` says otherwise.
const FILES_DEFAULT: usize = 2_000;

/// `demo`.
#[derive(Debug, Args)]
pub struct Options {
    /// The folder whose files are sent [default: the sources of the workspace around the current folder]
    #[arg(value_name = "FOLDER")]
    pub folder: Option<PathBuf>,
    /// The box's engine: journal or sled
    #[arg(long, value_name = "ENGINE", default_value = "journal", value_parser = engine)]
    pub engine: EngineKind,
    /// Decides what goes wrong and when; the same number gives the destination the same moods
    #[arg(long, value_name = "N")]
    pub seed: Option<u64>,
    /// Send at most so many files
    #[arg(long, value_name = "N", default_value_t = FILES_DEFAULT, value_parser = count)]
    pub files: usize,
    /// Keep the temporary folder: configuration, data, server logs, undelivered messages
    #[arg(long)]
    pub keep: bool,
}

fn engine(text: &str) -> Result<EngineKind, String> {
    match EngineKind::parse(text) {
        Some(EngineKind::Memory) => {
            Err("a box in memory does not survive a kill; take journal or sled".to_owned())
        }
        Some(engine) => Ok(engine),
        None => Err("take journal or sled".to_owned()),
    }
}

fn count(text: &str) -> Result<usize, String> {
    let most = 100_000;
    let count = text.parse().ok().filter(|count| (1..=most).contains(count));
    count.ok_or_else(|| format!("give a number from 1 to {most}"))
}
