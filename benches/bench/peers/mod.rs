//! Other systems, doing the same work. Each measurement starts a real server with a data folder of its own on the same
//! disk, looks whether it flushes before it answers, measures, and stops it.

mod install;
mod nats;
mod postgres;
mod rabbitmq;
mod redis;
mod server;
mod sqlite;
mod witness;

use std::path::Path;
use std::sync::Arc;

use pillarbox_benches::{Bodies, Mode, Workload};

use crate::client::{Fault, Shared};
use crate::figures::Figures;
use crate::front::{Plan, drive};
use crate::rounds::{Block, Kind};
use crate::run::{Rate, floors, subject};
use server::Server;

/// Their names in rows; that of their measurement has `peer-` before it.
const NAMES: [&str; 5] = ["sqlite", "postgresql", "redis", "rabbitmq", "nats"];

/// Every workload that the peers are measured with. Installs what is missing before the clock runs.
pub(crate) fn blocks(seconds: f64, threads: usize, folder: &Path) -> Result<Vec<Block>, Fault> {
    install::everything(folder);
    let block = |workload: &Workload| {
        let rate =
            Rate { workload: workload.name, mode: Mode::Both.as_str(), clients: None, seconds, threads };
        let mut subjects = floors(&rate);
        subjects.push(subject(Kind::Engine, "journal", "journal", &rate));
        subjects.extend(NAMES.map(|name| subject(Kind::Peer, name, &format!("peer-{name}"), &rate)));
        Block { workload: workload.name.to_owned(), mode: rate.mode.to_owned(), clients: None, subjects }
    };
    Ok(Workload::ALL.iter().filter(|workload| workload.name != "d").map(block).collect())
}

/// Measures one peer; `None` where there is none of this name.
pub(crate) async fn measure(target: &str, plan: &Plan, folder: &Path) -> Result<Option<Figures>, Fault> {
    let Some(name) = target.strip_prefix("peer-") else { return Ok(None) };
    let tools = folder.parent().unwrap_or(folder);
    let bodies = Bodies::new(plan.workload.body_bytes);
    let (shared, server): (Shared, Option<Server>) = match name {
        "sqlite" => (Arc::new(sqlite::Sqlite::open(folder, bodies)?), None),
        "postgresql" => running(postgres::start(folder, bodies).await?),
        "redis" => running(redis::start(folder, bodies).await?),
        "rabbitmq" => running(rabbitmq::start(folder, bodies, plan.workload.batch).await?),
        "nats" => running(nats::start(folder, tools, bodies).await?),
        _ => return Err(format!("there is no peer {name}").into()),
    };
    let process = server.as_ref().map(Server::process);
    let witnessed = witness::flushes(&shared, plan, folder, process).await?;
    let mut figures = drive(*plan, &shared, folder, process).await?;
    for (name, value) in witnessed {
        figures.set(name, value);
    }
    shared.close().await?;
    if let Some(server) = server {
        server.stop()?;
    }
    Ok(Some(figures))
}

fn running<T: crate::client::Target + 'static>((target, server): (T, Server)) -> (Shared, Option<Server>) {
    (Arc::new(target), Some(server))
}

/// Whether these bodies came back as they went in.
fn check(bodies: &Bodies, body: &[u8]) -> Result<(), Fault> {
    if bodies.know(body) { Ok(()) } else { Err("a body came back changed".into()) }
}
