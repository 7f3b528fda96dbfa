//! Opening a box: lock the folder, open the engine, build the ledger from its records.

use std::sync::{Arc, Mutex, OnceLock};

use super::commit::Committer;
use super::config::{BoxConfig, EngineKind};
use super::view::View;
use super::{Handle, MessageBox, Shared, State, folder, harm, keys};
use crate::engine::{Engine, Loss, WriteSet};
use crate::ledger::Recovery;
use crate::{Durability, Error};

impl MessageBox {
    /// Opens the box in the config's folder, or creates it there. After a crash it needs nobody's help: what was
    /// acknowledged is there.
    ///
    /// # Errors
    /// - [`crate::ErrorKind::Locked`]: another process has it open; the error names it.
    /// - [`crate::ErrorKind::Incompatible`]: the folder belongs to another engine or a later version.
    /// - [`crate::ErrorKind::Corrupt`]: what the box cannot do without is damaged. (Damaged messages alone do not
    ///   keep it from opening: see [`MessageBox::damage`].)
    /// - [`crate::ErrorKind::Full`], [`crate::ErrorKind::Unavailable`]: its files cannot be created or read.
    pub fn open(config: BoxConfig) -> Result<Self, Error> {
        let lock = match config.engine {
            EngineKind::Memory => None,
            kind => Some(folder::claim(&config.folder, kind)?),
        };
        let engine = open_engine(&config)?;
        Self::start(engine, config, lock)
    }

    /// Opens the box that `engine` holds, whatever lies below it. Locks nothing: for simulations and for engines
    /// of one's own.
    ///
    /// # Errors
    /// As [`MessageBox::open`].
    pub fn with_engine(engine: Arc<dyn Engine>, config: BoxConfig) -> Result<Self, Error> {
        Self::start(engine, config, None)
    }

    fn start(
        engine: Arc<dyn Engine>,
        config: BoxConfig,
        folder: Option<folder::FolderLock>,
    ) -> Result<Self, Error> {
        let mut recovery = Recovery::new(config.retention);
        engine.recover(&mut |key, head| recovery.visit(key, head))?;
        recovery.check_ports()?;
        let damages = engine.damage();
        let recovered = recovery.finish(&damages);
        let harm = harm::told(&recovered.harm);
        for damage in damages.iter().chain(&harm) {
            tracing::error!(?damage, "stored bytes are damaged");
        }
        let mut writes = WriteSet::default();
        harm::settle(&recovered.harm, &mut writes);
        let id = recovered.id.unwrap_or_else(|| {
            let id = config.ids.mailbox();
            keys::meta::write(&mut writes, id);
            id
        });
        // Where something is damaged they may be the rest of a message: kept for those who look into it.
        if damages.iter().all(|damage| damage.loss == Loss::None) {
            recovered.orphans.iter().for_each(|orphan| writes.delete(*orphan));
        }
        if !writes.is_empty() {
            engine.apply(&writes, Durability::Flushed)?;
        }
        let mut ledger = recovered.ledger;
        // Written with the first group: until then an opening after this one finds the same.
        ledger.cut_off(1);
        let state = State { ledger, ..State::default() };
        let committing = config.committing;
        let shared = Arc::new(Shared {
            id,
            config,
            engine,
            harm,
            state: Mutex::new(state),
            recent: Mutex::default(),
            view: View::default(),
            failed: OnceLock::new(),
        });
        let committer = Committer::start(&shared, committing)?;
        Ok(Self { handle: Arc::new(Handle { shared, committer, folder: Mutex::new(folder) }) })
    }
}

pub(super) fn open_engine(config: &BoxConfig) -> Result<Arc<dyn Engine>, Error> {
    use crate::engine::{journal, memory};
    Ok(match config.engine {
        EngineKind::Journal => {
            let settings = journal::JournalConfig {
                segment_bytes: config.segment_bytes,
                salt: config.ids.random(),
                ..Default::default()
            };
            Arc::new(journal::Journal::open_folder(&config.folder.join("journal"), settings)?)
        }
        #[cfg(feature = "sled")]
        EngineKind::Sled => Arc::new(crate::engine::sled::Sled::open_folder(&config.folder.join("sled"))?),
        EngineKind::Memory => Arc::new(memory::Memory::default()),
    })
}
