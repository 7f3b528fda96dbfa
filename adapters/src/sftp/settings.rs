//! What a route to a folder of a server is configured with.

use std::path::PathBuf;
use std::time::Duration;

use pillarbox_runtime::adapter::{Settings, SettingsError};
use serde::Deserialize;

use super::known::Pin;
use crate::address::Address;
use crate::file_name::Template;
use crate::problems::Problems;
use crate::secret::Secret;
use crate::span;

/// Settings that were checked.
#[derive(Debug, Clone)]
pub(super) struct SftpSettings {
    pub(super) address: Address,
    /// Without a `/` at its end, except for the root's own.
    pub(super) folder: String,
    pub(super) name: Template,
    pub(super) create_folder: bool,
    pub(super) user: Secret,
    pub(super) login: Login,
    pub(super) host: Host,
    pub(super) connect_timeout: Duration,
    pub(super) timeout: Duration,
}

/// By what the server knows us.
#[derive(Debug, Clone)]
pub(super) enum Login {
    Password(Secret),
    Key { key: Secret, passphrase: Option<Secret> },
}

/// By what we know the server.
#[derive(Debug, Clone)]
pub(super) enum Host {
    Pinned(Vec<Pin>),
    File(PathBuf),
}

/// The settings as they are written.
#[derive(Deserialize)]
struct Written {
    url: Option<String>,
    name: Option<String>,
    create_folder: Option<bool>,
    user: Option<String>,
    password: Option<String>,
    private_key: Option<String>,
    passphrase: Option<String>,
    host_keys: Option<Vec<String>>,
    known_hosts: Option<String>,
    connect_timeout: Option<String>,
    timeout: Option<String>,
}

impl SftpSettings {
    /// Checks the settings without touching network, files or environment.
    ///
    /// # Errors
    /// Every problem at once, each with its key.
    pub(super) fn check(settings: &Settings) -> Result<Self, SettingsError> {
        let written: Written = settings.parse()?;
        let mut problems = Problems::default();
        let place = problems.take("url", place(written.url.as_deref()));
        let name = name(written.name.as_deref().unwrap_or("{message_id}"), &mut problems);
        let mut secret = |key: &str, text: Option<String>| Secret::optional(key, text, &mut problems);
        let wanted =
            (written.password.is_some(), written.private_key.is_some(), written.passphrase.is_some());
        let no_user = written.user.is_none();
        let user = secret("user", written.user);
        let password = secret("password", written.password);
        let key = secret("private_key", written.private_key);
        let passphrase = secret("passphrase", written.passphrase);
        if no_user {
            problems.add("user", "name the user that we are on the server");
        }
        let login = match wanted {
            (false, false, _) => {
                problems.add("password", "set `password` or `private_key`");
                None
            }
            (true, true, _) => {
                problems.add("password", "`private_key` takes its place; remove one of the two");
                None
            }
            (true, false, true) => {
                problems.add("passphrase", "it is that of `private_key`, which is not set; remove it");
                None
            }
            (true, false, false) => password.map(Login::Password),
            (false, true, _) => key.map(|key| Login::Key { key, passphrase }),
        };
        let host = host(written.host_keys, written.known_hosts, &mut problems);
        let span = |text: Option<String>, usual: &str| span::parse(text.as_deref().unwrap_or(usual));
        let connect_timeout = problems.take("connect_timeout", span(written.connect_timeout, "10s"));
        let timeout = problems.take("timeout", span(written.timeout, "30s"));
        let checked = (|| {
            let (address, folder) = place?;
            Some(Self {
                address,
                folder,
                name: name?,
                create_folder: written.create_folder.unwrap_or(false),
                user: user?,
                login: login?,
                host: host?,
                connect_timeout: connect_timeout?,
                timeout: timeout?,
            })
        })();
        problems.finish(checked)
    }

    /// The path of a file in the folder.
    pub(super) fn path_of(&self, name: &str) -> String {
        let separator = if self.folder.ends_with('/') { "" } else { "/" };
        format!("{}{separator}{name}", self.folder)
    }
}

fn place(written: Option<&str>) -> Result<(Address, String), String> {
    let address = Address::parse(written, &[("sftp", 22)])?;
    let path = address.path.trim_end_matches('/');
    let folder = match path.strip_prefix('~') {
        Some("") => ".".to_owned(),
        Some(rest) if rest.starts_with('/') => rest.trim_start_matches('/').to_owned(),
        _ if address.path.is_empty() => {
            return Err(
                "name the folder: sftp://HOST/FOLDER, or sftp://HOST/~/FOLDER in the user's own".to_owned()
            );
        }
        _ => format!("/{path}"),
    };
    Ok((address, folder))
}

fn name(written: &str, problems: &mut Problems) -> Option<Template> {
    match Template::parse(written) {
        Ok(name) if name.is_unique() => return Some(name),
        Ok(_) => problems.add("name", "it needs {message_id} or {key}, by which a repeat finds its own file"),
        Err(found) => found.into_iter().for_each(|reason| problems.add("name", reason)),
    }
    None
}

fn host(pinned: Option<Vec<String>>, file: Option<String>, problems: &mut Problems) -> Option<Host> {
    match (pinned, file) {
        (Some(pinned), None) if !pinned.is_empty() => {
            let pins: Result<Vec<_>, _> = pinned.iter().map(|text| Pin::parse(text)).collect();
            problems.take("host_keys", pins).map(Host::Pinned)
        }
        (None, Some(file)) if !file.is_empty() && !file.contains('\0') => {
            Some(Host::File(PathBuf::from(file)))
        }
        (None, Some(_)) => {
            problems.add("known_hosts", "name a file in the form of OpenSSH's known_hosts");
            None
        }
        (Some(_), Some(_)) => {
            problems.add("known_hosts", "`host_keys` takes its place; remove one of the two");
            None
        }
        _ => {
            let hint = "list the server's keys, [\"SHA256:...\"] say, or set `known_hosts`: a server that is not \
                        known is not spoken to";
            problems.add("host_keys", hint);
            None
        }
    }
}
