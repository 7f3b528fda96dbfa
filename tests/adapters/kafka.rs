//! A topic of Tansu, which answers when an object store has what it was given.

use std::sync::Arc;

use async_trait::async_trait;
use pillarbox_adapter_kit::servers::{Fate, Record, Tansu};
use pillarbox_adapter_kit::{Destination, Held, Subject};
use pillarbox_runtime::adapter::{AdapterKind, Settings};

const TOPIC: &str = "orders";

pub(crate) fn subjects() -> Vec<Box<dyn Subject>> {
    vec![
        Box::new(Topic { name: "kafka", transactional: false }),
        Box::new(Topic { name: "kafka, transactional", transactional: true }),
    ]
}

#[derive(Debug)]
struct Topic {
    name: &'static str,
    transactional: bool,
}

#[async_trait(?Send)]
impl Subject for Topic {
    fn name(&self) -> &'static str {
        self.name
    }

    fn kind(&self) -> Arc<dyn AdapterKind> {
        crate::kind("kafka")
    }

    async fn start(&self) -> Box<dyn Destination> {
        let mut tansu = Tansu::start_lasting().await;
        tansu.ready(TOPIC).await;
        Box::new(Broker { tansu, transactional: self.transactional })
    }
}

#[derive(Debug)]
struct Broker {
    tansu: Tansu,
    transactional: bool,
}

#[async_trait(?Send)]
impl Destination for Broker {
    fn port(&self) -> Option<u16> {
        Some(self.tansu.port)
    }

    fn settings(&self, port: u16) -> Settings {
        let settings = Tansu::settings_at(port).with("connect_timeout", "1s").with("timeout", "1s");
        settings.with("transactional", self.transactional)
    }

    async fn reached_by(&mut self, port: u16) {
        self.tansu.tell(port);
        self.tansu.ready(TOPIC).await;
    }

    /// What readers see who want only what is committed.
    async fn held(&self) -> Vec<Held> {
        let log = self.tansu.log(TOPIC).await;
        log.into_iter().filter(|record| record.fate == Fate::Committed).map(held).collect()
    }

    fn restarts(&self) -> bool {
        true
    }

    async fn kill(&mut self) {
        self.tansu.peer.kill();
    }

    async fn start_again(&mut self) {
        self.tansu.peer.start_again();
        self.tansu.ready(TOPIC).await;
    }
}

fn held(record: Record) -> Held {
    let header = |name: &str| record.header(name);
    let (key, attempt) = (header("x-pillarbox-key").unwrap(), header("x-pillarbox-attempt").unwrap());
    let in_doubt = header("x-pillarbox-in-doubt").is_some();
    Held::new(record.value).key(key).attempt(attempt.parse().unwrap()).in_doubt(in_doubt)
}
