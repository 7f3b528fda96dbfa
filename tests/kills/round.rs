//! A subject's lives, one after the other on one box, and what is left after them.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use http::Method;
use pillarbox_adapter_kit::{Destination, Fault, Proxy, Subject};
use pillarbox_store::Body;
use pillarbox_tests::program::Engine;
use pillarbox_tests::server::{Place, Server};
use pillarbox_tests::wait::LOOK;
use serde_json::Value;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

use crate::Setup;
use crate::judge::{Copy, Findings, Manner, Said, judge};
use crate::load::Load;
use crate::plan::{Down, Life, lives};
use crate::reader::Reader;
use crate::subjects::Row;

/// How long everything may take to come to its end after the last kill.
const END_MAX: Duration = Duration::from_secs(240);
/// Every so many kills the box is asked, before it is started again, what is in doubt.
const ASKED_EVERY: u32 = 5;
/// It is told this often how far it is.
const TOLD_EVERY: u32 = 20;

/// What goes over a connection is held up, each way: most attempts are on their way then, or on their way back, when a
/// kill comes.
const HELD_UP: Fault = Fault::Delay { pause: Duration::from_millis(4), piece: 64 * 1024 };

/// What a subject came to.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) findings: Findings,
    /// Kills of the server.
    pub(crate) kills: u32,
    /// Of the destination.
    pub(crate) downs: u32,
    /// Submissions without an answer.
    pub(crate) unanswered: u64,
    /// Attempts that were found in doubt after those kills after which it was asked.
    pub(crate) doubts_seen: u64,
    pub(crate) took: Duration,
    /// Where everything is that tells of it, where something is wrong.
    pub(crate) kept: Option<PathBuf>,
}

/// A box, its destination and those who submit.
struct Scene<'a> {
    setup: &'a Setup,
    row: &'a Row,
    place: Place,
    destination: Box<dyn Destination>,
    /// In front of the destination, where it is reached by connections.
    proxy: Option<Proxy>,
    /// Who takes away what comes to its folder.
    reader: Option<Reader>,
    /// The destination was killed and not started again.
    is_down: bool,
    load: Arc<Load>,
    kills: u32,
    downs: u32,
    doubts_seen: u64,
}

/// Lives all lives of a subject and judges.
pub(crate) async fn run(setup: &Setup, row: &Row) -> Result<Outcome, String> {
    let begun = Instant::now();
    let subject: Box<dyn Subject> = row.subject()?;
    let destination = subject.start().await;
    let proxy = match destination.port() {
        Some(port) => Some(Proxy::start(port).await),
        None => None,
    };
    proxy.iter().for_each(|proxy| proxy.set(HELD_UP));
    let settings = destination.settings(proxy.as_ref().map_or(0, |proxy| proxy.port));
    let folder = settings.get("folder").and_then(Value::as_str).filter(|_| row.is_emptied || setup.once);
    let reader = folder.map(|folder| Reader::start(folder.as_ref())).transpose();
    let reader = reader.map_err(|error| format!("the folder: {error}"))?;
    let config = row.config(setup.engine.text(), subject.kind().describe().kind, &settings)?;
    let refused = destination.refused().as_ref().map(Body::to_bytes);
    let refused = refused.transpose().map_err(|error| format!("the body that is refused: {error}"))?;
    let plan = lives(setup.seed, setup.kills, row.is_killed && destination.restarts());
    let mut scene = Scene {
        setup,
        row,
        place: Place::new(&setup.server, &config),
        destination,
        proxy,
        reader,
        is_down: false,
        load: Arc::new(Load::new(setup.seed, row.rate, refused)),
        kills: 0,
        downs: 0,
        doubts_seen: 0,
    };
    let lived = scene.live_all(&plan, begun).await;
    let findings = match lived {
        Ok(findings) => findings,
        Err(error) if setup.forget => return Err(error),
        Err(error) => return Err(format!("{error}\n  kept: {}", scene.place.keep().display())),
    };
    let kept = (findings.violations > 0 && !setup.forget).then(|| scene.place.keep().to_owned());
    Ok(Outcome {
        findings,
        kills: scene.kills,
        downs: scene.downs,
        unanswered: scene.load.known().unanswered,
        doubts_seen: scene.doubts_seen,
        took: begun.elapsed(),
        kept,
    })
}

impl Scene<'_> {
    async fn live_all(&mut self, plan: &[Life], begun: Instant) -> Result<Findings, String> {
        let clients = Load::start(&self.load);
        for life in plan {
            self.live(life).await?;
            if self.kills.is_multiple_of(TOLD_EVERY) {
                let (accepted, seconds) = (self.load.known().accounts.len(), begun.elapsed().as_secs_f64());
                let Self { row, kills, downs, .. } = self;
                println!(
                    "{seconds:>5.0} s  {}: {kills} kills, {downs} of the destination, {accepted} messages",
                    row.name
                );
            }
        }
        self.end(clients).await
    }

    async fn serve(&mut self) -> Result<Server, String> {
        let started = self.place.start(&["--log", "warn"]).listening().await;
        let server = started.map_err(|ran| format!("the server did not start: {ran:?}"))?;
        self.load.present.serve(Some(server.client.clone()));
        self.raise().await;
        Ok(server)
    }

    /// Starts the destination again, where it was killed.
    async fn raise(&mut self) {
        if self.is_down {
            self.destination.start_again().await;
            self.is_down = false;
        }
    }

    async fn live(&mut self, life: &Life) -> Result<(), String> {
        self.kills += 1;
        if life.at_start {
            let starting = self.place.start(&["--log", "warn"]);
            sleep(life.span).await;
            if !starting.kill().await {
                return Err(format!("the server ended by itself while it started: {}", self.place.log()));
            }
            self.raise().await;
            return Ok(());
        }
        let mut server = self.serve().await?;
        let end = Instant::now() + life.span;
        if let Some(down) = life.down {
            self.down(&down, end).await;
        }
        sleep(end.saturating_duration_since(Instant::now())).await;
        if let Some(status) = server.has_ended() {
            return Err(format!("the server ended by itself: {status}"));
        }
        self.load.present.serve(None);
        server.kill().await;
        if !life.down.is_some_and(|down| down.late) {
            self.raise().await;
        }
        if self.kills.is_multiple_of(ASKED_EVERY) {
            self.doubts_seen += self.doubts().await?;
        }
        Ok(())
    }

    /// Kills the destination while the server runs, and starts it again unless the server's own end comes first.
    async fn down(&mut self, down: &Down, end: Instant) {
        let begun = Instant::now();
        sleep(down.at.min(end.saturating_duration_since(begun))).await;
        self.destination.kill().await;
        (self.downs, self.is_down) = (self.downs + 1, true);
        if Instant::now() + down.span < end {
            sleep(down.span).await;
            self.raise().await;
        }
    }

    /// How many deliveries `pillarbox indoubt ls` lists while no server runs.
    async fn doubts(&self) -> Result<u64, String> {
        if self.setup.engine == Engine::Memory {
            // There is no box then.
            return Ok(0);
        }
        let ran = self.place.run(&["indoubt", "ls", "--json"]).await;
        if ran.code != Some(0) {
            return Err(format!("{ran:?}"));
        }
        Ok(ran.json()["deliveries"].as_array().map_or(0, |all| all.len() as u64))
    }

    /// Sees everything through and holds it against what the destination has.
    async fn end(&mut self, clients: JoinSet<()>) -> Result<Findings, String> {
        self.load.present.end();
        self.proxy.iter().for_each(|proxy| proxy.set(Fault::Pass));
        let server = self.serve().await?;
        let deadline = Instant::now() + END_MAX;
        if timeout(END_MAX, clients.join_all()).await.is_err() {
            return Err("the clients got no answers from a calm server".to_owned());
        }
        let mut said = self.said(&server).await?;
        while said.left > 0 && Instant::now() < deadline {
            sleep(LOOK).await;
            said = self.said(&server).await?;
        }
        self.load.present.serve(None);
        server.end().await;
        let known = self.load.known();
        let manner = if self.setup.once { Manner::Once } else { self.row.manner };
        let mut held: Vec<Copy> = self.destination.held().await.iter().map(Copy::from).collect();
        if let Some(reader) = self.reader.take() {
            // The rest of the folder is taken as well.
            held = reader.end().await.map_err(|error| format!("the folder: {error}"))?;
        }
        let mut findings = judge(&known.accounts, &held, manner, said);
        let doubts = self.doubts().await?;
        if doubts > 0 {
            findings.is_wrong(format!("`pillarbox indoubt ls` lists {doubts} deliveries"));
        }
        for left in self.destination.left_over().await {
            findings.is_wrong(format!("the destination has a leftover: {left}"));
        }
        known.strange.into_iter().for_each(|strange| findings.is_wrong(strange));
        for line in self.place.log().lines() {
            if ["panicked", "damaged", "the box has stopped"].iter().any(|word| line.contains(word)) {
                findings.is_wrong(format!("the log has: {line}"));
            }
        }
        Ok(findings)
    }

    async fn said(&self, server: &Server) -> Result<Said, String> {
        let ask = async |path: &str| -> Result<Value, String> {
            let answer = server.client.send(Method::GET, path, &[], "").await?;
            serde_json::from_slice(&answer.bytes).map_err(|error| format!("{path}: {error}"))
        };
        let ports = ask("/v1/ports").await?;
        let views = ports["ports"].as_array().into_iter().flatten();
        let count =
            |state: &str| views.clone().filter_map(|view| view["counts"][state].as_u64()).sum::<u64>();
        let doubts = ask("/v1/deliveries?in_doubt=true&limit=1000").await?;
        let listed =
            doubts["deliveries"].as_array().ok_or_else(|| format!("no list: {doubts}"))?.len() as u64;
        let left = ["ready", "scheduled", "retry_wait", "leased"].map(count).iter().sum();
        let in_doubt = count("in_doubt").max(listed);
        Ok(Said { done: count("done"), suspended: count("suspended"), left, in_doubt })
    }
}
