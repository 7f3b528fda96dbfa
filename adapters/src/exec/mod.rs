#![doc = include_str!("docs.md")]

use async_trait::async_trait;
use pillarbox_runtime::adapter::{
    Adapter, AdapterKind, Capabilities, CheckedSettings, DoubleSafety, OpenContext, SendError, Settings,
    SettingsError, TransportInfo,
};

use self::send::{ExecBatchSender, ExecSender};
use self::settings::ExecSettings;
use crate::on_thread::on_thread;

mod batch;
mod environment;
mod program;
mod send;
mod settings;
#[cfg(test)]
mod tests;

/// The kind `exec`.
#[derive(Debug, Clone, Copy, Default)]
pub struct ExecKind;

/// Checked settings of a route to a program.
#[derive(Debug)]
struct Checked(ExecSettings);

fn info(program_deduplicates: bool) -> TransportInfo {
    let safety = if program_deduplicates { DoubleSafety::Keyed(None) } else { DoubleSafety::AtLeastOnce };
    TransportInfo {
        kind: "exec",
        name: "Program",
        version: env!("CARGO_PKG_VERSION"),
        description: "Runs a program for each message, or for several that it tells the outcomes of",
        capabilities: Capabilities::default().double_safety(safety).streams(),
        uri_prefixes: &[],
    }
}

impl AdapterKind for ExecKind {
    fn describe(&self) -> TransportInfo {
        info(false)
    }

    fn check(&self, settings: &Settings) -> Result<Box<dyn CheckedSettings>, SettingsError> {
        Ok(Box::new(Checked(ExecSettings::check(settings)?)))
    }
}

#[async_trait]
impl CheckedSettings for Checked {
    fn describe(&self, _kind: TransportInfo) -> TransportInfo {
        info(self.0.program_deduplicates)
    }

    async fn open(&self, _context: &OpenContext) -> Result<Adapter, SendError> {
        let settings = self.0.clone();
        let is_batch = settings.batch_max.is_some();
        let sender = on_thread(move || ExecSender::open(settings)).await?;
        Ok(if is_batch { Adapter::batch_sender(ExecBatchSender(sender)) } else { Adapter::sender(sender) })
    }
}
