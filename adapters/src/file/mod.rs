#![doc = include_str!("docs.md")]

use async_trait::async_trait;
use pillarbox_runtime::adapter::{
    Adapter, AdapterKind, Capabilities, CheckedSettings, DoubleSafety, OpenContext, SendError, Settings,
    SettingsError, Shape, TransportInfo,
};

use self::send::FileSender;
use self::settings::{FileSettings, Mode};
use self::two_phase::TwoPhase;
use crate::on_thread::on_thread;

mod folder;
mod send;
mod settings;
#[cfg(test)]
mod tests;
mod two_phase;
#[cfg(test)]
mod two_phase_tests;

/// The kind `file`.
#[derive(Debug, Clone, Copy, Default)]
pub struct FileKind;

/// Checked settings of a file route.
#[derive(Debug)]
struct Checked(FileSettings);

fn info(mode: Mode) -> TransportInfo {
    let safety = match mode {
        Mode::CreateNew | Mode::Overwrite => DoubleSafety::Keyed(None),
        Mode::Append => DoubleSafety::AtLeastOnce,
    };
    let record = Capabilities::default().double_safety(safety).streams();
    TransportInfo {
        kind: "file",
        name: "File",
        version: env!("CARGO_PKG_VERSION"),
        description: "Writes each message as a file of a folder, durably and in one step",
        capabilities: if mode == Mode::CreateNew { record.reconciles() } else { record },
        uri_prefixes: &["file://"],
    }
}

/// What a route claims that has `two_phase` set.
fn two_phase_info(mut info: TransportInfo) -> TransportInfo {
    info.capabilities = info
        .capabilities
        .shape(Shape::TransactionalBatch)
        .double_safety(DoubleSafety::TwoPhase)
        .all_or_none();
    // The box's decision settles what is in doubt.
    info.capabilities.reconciles = false;
    info
}

impl AdapterKind for FileKind {
    fn describe(&self) -> TransportInfo {
        info(Mode::CreateNew)
    }

    fn address_key(&self) -> Option<&'static str> {
        Some("folder")
    }

    fn check(&self, settings: &Settings) -> Result<Box<dyn CheckedSettings>, SettingsError> {
        Ok(Box::new(Checked(FileSettings::check(settings)?)))
    }
}

#[async_trait]
impl CheckedSettings for Checked {
    fn describe(&self, _kind: TransportInfo) -> TransportInfo {
        let info = info(self.0.mode);
        if self.0.two_phase { two_phase_info(info) } else { info }
    }

    async fn open(&self, _context: &OpenContext) -> Result<Adapter, SendError> {
        let settings = self.0.clone();
        if settings.two_phase {
            return Ok(Adapter::transactional(on_thread(move || TwoPhase::open(settings)).await?));
        }
        Ok(Adapter::blocking(on_thread(move || FileSender::open(settings)).await?))
    }
}
