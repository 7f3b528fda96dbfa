//! A mail server that flushes before it answers.

use std::sync::Arc;

use async_trait::async_trait;
use pillarbox_adapter_kit::servers::{Mail, MailServer};
use pillarbox_adapter_kit::{Destination, Held, Subject};
use pillarbox_runtime::adapter::{AdapterKind, Settings};
use pillarbox_store::Body;

const BODY_BYTES_MAX: usize = 1024 * 1024;

pub(crate) fn subjects() -> Vec<Box<dyn Subject>> {
    vec![Box::new(Mails)]
}

#[derive(Debug)]
struct Mails;

#[async_trait(?Send)]
impl Subject for Mails {
    fn name(&self) -> &'static str {
        "smtp"
    }

    fn kind(&self) -> Arc<dyn AdapterKind> {
        crate::kind("smtp")
    }

    async fn start(&self) -> Box<dyn Destination> {
        // Encoded, a body is longer.
        Box::new(Server(MailServer::start_with("login", 2 * BODY_BYTES_MAX).await))
    }
}

#[derive(Debug)]
struct Server(MailServer);

fn held(mail: &Mail) -> Held {
    let id = mail.header("Message-ID").unwrap();
    let attempt = mail.header("X-Pillarbox-Attempt").unwrap().parse().unwrap();
    let in_doubt = mail.header("X-Pillarbox-In-Doubt").as_deref() == Some("true");
    Held::new(mail.body()).key(id).attempt(attempt).in_doubt(in_doubt)
}

#[async_trait(?Send)]
impl Destination for Server {
    fn port(&self) -> Option<u16> {
        Some(self.0.port)
    }

    fn settings(&self, port: u16) -> Settings {
        MailServer::settings_at(port)
            .with("user", "outbox")
            .with("password", "hunter2hunter2")
            .with("content_type", "application/octet-stream")
            .with("body_bytes_max", BODY_BYTES_MAX)
            .with("connect_timeout", "1s")
            .with("timeout", "1s")
    }

    async fn held(&self) -> Vec<Held> {
        self.0.mails().iter().map(held).collect()
    }

    fn refused(&self) -> Option<Body> {
        Some(Body::from(MailServer::REFUSED))
    }

    fn secrets(&self) -> Vec<String> {
        vec!["hunter2hunter2".to_owned()]
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
