//! OpenSSH's server.

use std::fs;
use std::sync::Arc;

use async_trait::async_trait;
use pillarbox_adapter_kit::servers::Sshd;
use pillarbox_adapter_kit::{Destination, Held, Subject};
use pillarbox_runtime::adapter::{AdapterKind, Settings};

pub(crate) fn subjects() -> Vec<Box<dyn Subject>> {
    vec![Box::new(Folder)]
}

#[derive(Debug)]
struct Folder;

#[async_trait(?Send)]
impl Subject for Folder {
    fn name(&self) -> &'static str {
        "sftp"
    }

    fn kind(&self) -> Arc<dyn AdapterKind> {
        crate::kind("sftp")
    }

    async fn start(&self) -> Box<dyn Destination> {
        Box::new(Server(Sshd::start().await))
    }
}

#[derive(Debug)]
struct Server(Sshd);

#[async_trait(?Send)]
impl Destination for Server {
    fn port(&self) -> Option<u16> {
        Some(self.0.port)
    }

    fn settings(&self, port: u16) -> Settings {
        // A name by the message as well, so that one that arrives under another's is seen.
        let settings = self.0.settings_at(port).with("name", "{message_id}-{key}");
        settings.with("connect_timeout", "1s").with("timeout", "1s")
    }

    async fn held(&self) -> Vec<Held> {
        let held = self.0.held().into_iter();
        held.map(|(name, body)| Held::new(body).key(name.rsplit('-').next().unwrap())).collect()
    }

    fn secrets(&self) -> Vec<String> {
        let key = fs::read_to_string(self.0.path("me")).unwrap();
        // Its lines, without those around them that every key has.
        key.lines().filter(|line| !line.starts_with('-')).map(str::to_owned).collect()
    }

    fn restarts(&self) -> bool {
        true
    }

    async fn kill(&mut self) {
        self.0.peer.kill();
    }

    async fn start_again(&mut self) {
        self.0.peer.start_again();
        self.0.ready().await;
    }
}
