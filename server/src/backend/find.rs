//! Decides whom a command talks to.
//!
//! 1. `--server URL`: that server.
//! 2. `--data DIR`: that folder.
//! 3. Else the configuration's listen address is asked. A Pillarbox that answers there is used; one that serves
//!    another data folder than the configuration's is refused.
//! 4. Else the configuration's data folder is opened.

use std::path::Path;

use pillarbox_store::EngineKind;

use super::{Backend, Local, Remote};
use crate::cli::Global;
use crate::config::Config;
use crate::failure::Failure;
use crate::secret::Secret;

/// Whether a data folder that is not there may be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Creation {
    /// It may: a message is about to be put into it.
    Allowed,
    /// It may not: there is nothing to be seen in a new one.
    Refused,
}

/// Finds the one to talk to.
///
/// # Errors
/// There is neither a server nor a folder that can be opened.
pub async fn find(global: &Global, config: &Config, creation: Creation) -> Result<Backend, Failure> {
    if let Some(url) = &global.server {
        let remote = Remote::new(url, token(global, config)?).map_err(Failure::usage)?;
        return Ok(Backend::Remote(Box::new(remote)));
    }
    if global.data.is_none()
        && let Some(remote) = running(global, config).await?
    {
        return Ok(Backend::Remote(Box::new(remote)));
    }
    let folder = &config.mailbox.data;
    if config.mailbox.engine == EngineKind::Memory {
        let what =
            format!("no server answers at {}, and its box lives in its memory only", config.server.listen);
        return Err(Failure::new(what).next("pillarbox serve"));
    }
    if creation == Creation::Refused && !folder.exists() {
        let what = format!(
            "no server answers at {}, and there is no data folder at {}",
            config.server.listen,
            folder.display()
        );
        return Err(
            Failure::new(what).next("pillarbox serve; or name the place with --config, --server or --data")
        );
    }
    Ok(Backend::Local(Local::open(config)?))
}

/// The server that answers at the configuration's address.
async fn running(global: &Global, config: &Config) -> Result<Option<Remote>, Failure> {
    let mut address = config.server.listen;
    if address.port() == 0 {
        return Ok(None);
    }
    if address.ip().is_unspecified() {
        address.set_ip(match address {
            std::net::SocketAddr::V4(_) => std::net::Ipv4Addr::LOCALHOST.into(),
            std::net::SocketAddr::V6(_) => std::net::Ipv6Addr::LOCALHOST.into(),
        });
    }
    let url = format!("http://{address}");
    // Asked without the token: what answers may be somebody else.
    let stranger = Remote::new(&url, None).map_err(Failure::new)?;
    let asked = tokio::time::timeout(std::time::Duration::from_secs(3), stranger.health()).await;
    let Ok(Ok(Some(health))) = asked else { return Ok(None) };
    if let (Some(theirs), Some(ours)) = (&health.folder, folder_mark(&config.mailbox.data))
        && *theirs != ours
    {
        let what = format!(
            "the server at {url} serves another data folder than {}, which the configuration names",
            config.mailbox.data.display()
        );
        return Err(Failure::new(what)
            .next(format!("--server {url} to talk to that server, or --data DIR to open the folder")));
    }
    Remote::new(&url, token(global, config)?).map(Some).map_err(Failure::new)
}

fn token(global: &Global, config: &Config) -> Result<Option<Secret>, Failure> {
    let reference = global.token.as_ref().or(config.server.token.as_ref());
    reference.map(|reference| reference.fetch().map_err(Failure::usage)).transpose()
}

/// What tells a folder from every other on this machine, without telling its path.
#[must_use]
pub fn folder_mark(folder: &Path) -> Option<String> {
    use std::os::unix::fs::MetadataExt as _;
    let metadata = std::fs::metadata(folder).ok()?;
    Some(format!("{}-{}", metadata.dev(), metadata.ino()))
}
