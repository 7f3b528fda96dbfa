//! OpenSSH's server.

use std::fs;
use std::os::unix::fs::chown;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use pillarbox_runtime::adapter::Settings;
use serde_json::json;
use tempfile::TempDir;
use tokio::net::TcpStream;

use crate::peer::{Peer, free_port, plain_user, program};

/// A server with the folder `out`, whose user is whom it runs as.
#[derive(Debug)]
pub struct Sshd {
    /// The process.
    pub peer: Peer,
    /// Where it listens.
    pub port: u16,
    /// Its folder: `out`, and the keys `me`, `locked` with the passphrase `hunter2hunter2`, and `stranger`, which it does
    /// not know.
    pub folder: TempDir,
    user: String,
}

impl Sshd {
    /// Starts one that offers what OpenSSH does.
    pub async fn start() -> Self {
        Self::start_with("Subsystem sftp internal-sftp").await
    }

    /// With `more` in its configuration.
    pub async fn start_with(more: &str) -> Self {
        let (folder, port) = (tempfile::tempdir().unwrap(), free_port());
        for (key, kind) in
            [("host", "ed25519"), ("host_ecdsa", "ecdsa"), ("me", "ed25519"), ("stranger", "ed25519")]
        {
            keygen(&folder.path().join(key), kind, "");
        }
        keygen(&folder.path().join("locked"), "ed25519", "hunter2hunter2");
        let public = |name: &str| fs::read_to_string(folder.path().join(name)).unwrap();
        fs::write(folder.path().join("authorized"), public("me.pub") + &public("locked.pub")).unwrap();
        fs::create_dir(folder.path().join("out")).unwrap();
        let path = |name: &str| folder.path().join(name).display().to_string();
        let config = format!(
            "ListenAddress 127.0.0.1\nPort {port}\nHostKey {}\nHostKey {}\nPidFile none\nStrictModes no\nUsePAM no\n\
             PasswordAuthentication no\nKbdInteractiveAuthentication no\nAuthorizedKeysFile {}\n{more}\n",
            path("host"),
            path("host_ecdsa"),
            path("authorized"),
        );
        fs::write(folder.path().join("conf"), config).unwrap();
        // As root it would want more of the machine than a folder.
        let user = plain_user();
        if let Some((uid, gid)) = user {
            for entry in fs::read_dir(folder.path()).unwrap() {
                chown(entry.unwrap().path(), Some(uid), Some(gid)).unwrap();
            }
            chown(folder.path(), Some(uid), Some(gid)).unwrap();
        }
        let config = folder.path().join("conf");
        let peer = Peer::start("sshd", folder.path(), move || {
            let mut command = Command::new(program("sshd"));
            command.arg("-D").arg("-e").arg("-f").arg(&config);
            if let Some((uid, gid)) = user {
                command.uid(uid).gid(gid);
            }
            command
        });
        let user = name_of(user.map_or_else(|| rustix::process::getuid().as_raw(), |(uid, _)| uid));
        let mut server = Self { peer, port, folder, user };
        server.ready().await;
        server
    }

    /// Waits until it takes connections.
    pub async fn ready(&mut self) {
        let port = self.port;
        self.peer.ready(async || TcpStream::connect(("127.0.0.1", port)).await.map(drop)).await;
    }

    /// A path below its folder.
    #[must_use]
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Of a route to the folder `out`.
    #[must_use]
    pub fn settings(&self) -> Settings {
        self.settings_at(self.port)
    }

    /// The same, by another port of the loopback.
    #[must_use]
    pub fn settings_at(&self, port: u16) -> Settings {
        Settings::default()
            .with("url", format!("sftp://127.0.0.1:{port}{}", self.path("out").display()))
            .with("user", self.user.as_str())
            .with("private_key", format!("file:{}", self.path("me").display()))
            .with("host_keys", json!([self.public("host.pub")]))
    }

    /// The text of a public key.
    #[must_use]
    pub fn public(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap()
    }

    /// What it holds: name and body, in order of name, without files that are not whole yet.
    #[must_use]
    pub fn held(&self) -> Vec<(String, Vec<u8>)> {
        let mut held: Vec<_> = fs::read_dir(self.path("out")).unwrap().map(Result::unwrap).collect();
        held.sort_by_key(fs::DirEntry::file_name);
        let held = held.into_iter().map(|entry| (entry.file_name().into_string().unwrap(), entry.path()));
        held.filter(|(name, _)| !name.starts_with('.'))
            .map(|(name, path)| (name, fs::read(path).unwrap()))
            .collect()
    }

    /// How many files there are, those included that are not whole.
    #[must_use]
    pub fn files(&self) -> usize {
        fs::read_dir(self.path("out")).unwrap().count()
    }
}

/// Makes a key of this kind and its public half at `path`.
pub fn keygen(path: &Path, kind: &str, passphrase: &str) {
    let mut command = Command::new(program("ssh-keygen"));
    command.args(["-q", "-t", kind, "-C", "test", "-N", passphrase, "-f"]).arg(path);
    assert!(command.stdin(Stdio::null()).status().unwrap().success(), "ssh-keygen makes no key");
}

fn name_of(uid: u32) -> String {
    let users = fs::read_to_string("/etc/passwd").unwrap();
    let wanted = uid.to_string();
    let found = users.lines().find(|line| line.split(':').nth(2) == Some(wanted.as_str())).unwrap();
    found.split(':').next().unwrap().to_owned()
}
