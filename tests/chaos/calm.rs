//! After the faults: one more life, in which everything has to end; then the server is asked for all that it knows.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;

use http::Method;
use pillarbox_store::DeliveryState;
use pillarbox_tests::bodies::hash;
use pillarbox_tests::client::Client;
use pillarbox_tests::program::Engine;
use pillarbox_tests::wait::LOOK;
use pillarbox_tests::witness::{Fact, Last, id_of, number_of};
use serde_json::Value;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

use crate::OnDisk as _;
use crate::life::Scene;
use crate::plan::{FILES, LADDER, PORTS, TIMEOUT};

/// How long everything may take to end once it is calm.
const BOUND: Duration = Duration::from_secs(60);
/// How long that is waited for: what is late is told exactly.
const WAIT_MAX: Duration = Duration::from_secs(120);
/// Deliveries of a page.
const PAGE: u64 = 1_000;

impl Scene {
    /// Sees everything through and writes down what became of it.
    pub(crate) async fn calm(&mut self, clients: JoinSet<()>) -> Result<(), String> {
        self.make_room();
        self.destination.calm();
        self.load.present.end();
        // Ahead of every time at which something may be due.
        self.jump(24 * 3600)?;
        let server = self.serve().await?;
        self.witness.saw(Fact::Calm(BOUND));
        let end = Instant::now() + WAIT_MAX;
        let left = || end.saturating_duration_since(Instant::now());
        if timeout(left(), clients.join_all()).await.is_err() {
            return Err("the clients got no answers from a calm server".to_owned());
        }
        while get(&server.client, "/v1/ports").await.is_none_or(|ports| is_busy(&ports)) {
            if left().is_zero() {
                // What has no outcome is told below.
                break;
            }
            sleep(LOOK).await;
        }
        if !left().is_zero() {
            self.witness.saw(Fact::Finished);
        }
        let repeated = self.repeated();
        let told = self.audit(&server.client, &repeated).await?;
        self.count(&server.client).await?;
        self.drain(server).await;
        self.size(told)?;
        // What it told is still so after it was closed in order.
        let server = self.serve().await?;
        self.count(&server.client).await?;
        self.drain(server).await;
        self.files()?;
        self.read_log();
        Ok(())
    }

    /// Messages that arrived again after the destination had said that it keeps them, or behind a later attempt.
    fn repeated(&self) -> BTreeSet<u64> {
        let (mut of, mut said) = (BTreeMap::new(), BTreeSet::<u64>::new());
        let (mut repeated, mut latest) = (BTreeSet::new(), BTreeMap::new());
        for (_, fact) in self.witness.facts() {
            if let Fact::Arrived { message, attempt, .. } = fact {
                let latest = latest.entry(message).or_insert(attempt);
                *latest = attempt.max(*latest);
                if attempt < *latest {
                    repeated.insert(message);
                }
            }
            match fact {
                Fact::Arrived { message, .. } if said.contains(&message) => {
                    repeated.insert(message);
                }
                Fact::Arrived { arrival, message, is_kept: true, .. } => {
                    of.insert(arrival, message);
                }
                Fact::Said(arrival) => said.extend(of.get(&arrival)),
                _ => {}
            }
        }
        repeated
    }

    /// Writes down what the server tells of every message; how many it knows, and how many bytes of bodies it has.
    async fn audit(&self, client: &Client, repeated: &BTreeSet<u64>) -> Result<Kept, String> {
        let mut unknown: BTreeSet<u64> = self.load.numbers().collect();
        let mut kept = Kept::default();
        let mut after = 0;
        loop {
            let path = format!("/v1/deliveries?limit={PAGE}&after={after}");
            let page = get(client, &path).await.ok_or_else(|| format!("no answer to {path}"))?;
            for view in page["deliveries"].as_array().into_iter().flatten() {
                let id = view["message_id"].as_str().unwrap_or_default();
                let Some(number) = number_of(id) else {
                    let text = format!("the box has a message of nobody's: {view}");
                    self.witness.saw(Fact::Trouble(text));
                    continue;
                };
                unknown.remove(&number);
                let last = self.last(client, view, repeated.contains(&number)).await?;
                kept.deliveries += 1;
                if last.body.is_some() {
                    kept.body_bytes += view["body_bytes"].as_u64().unwrap_or(0);
                }
                self.witness.saw(Fact::Last(number, Some(last)));
            }
            let Some(next) = page["next"].as_u64() else { break };
            after = next;
        }
        for number in unknown {
            let path = format!("/v1/messages/{}", id_of(number));
            match client.send(Method::GET, &path, &[], "").await {
                Ok(answer) if answer.status == 404 => self.witness.saw(Fact::Last(number, None)),
                // It is known and was in no list.
                other => self.witness.saw(Fact::Trouble(format!("{path}: {other:?}"))),
            }
        }
        Ok(kept)
    }

    async fn last(&self, client: &Client, view: &Value, was_repeated: bool) -> Result<Last, String> {
        let delivery = view["delivery_id"].as_u64().unwrap_or(0);
        let state = match view["state"].as_str() {
            Some("done") => DeliveryState::Done,
            Some("suspended") => DeliveryState::Suspended,
            Some("terminated") => DeliveryState::Terminated,
            Some("scheduled") => DeliveryState::Scheduled,
            Some("retry-wait") => DeliveryState::RetryWait,
            Some("leased") => DeliveryState::Leased,
            _ => DeliveryState::Ready,
        };
        let mut body = None;
        if state == DeliveryState::Suspended {
            let path = format!("/v1/messages/{}/body", view["message_id"].as_str().unwrap_or_default());
            let answer = client.send(Method::GET, &path, &[], "").await?;
            body = (answer.status == 200).then(|| hash(&answer.bytes));
        }
        let late = if was_repeated { late(client, delivery).await? } else { Vec::new() };
        let attempts = view["attempts"].as_u64().unwrap_or(0);
        Ok(Last { delivery, state, attempts: u32::try_from(attempts).unwrap_or(u32::MAX), late, body })
    }

    async fn count(&self, client: &Client) -> Result<(), String> {
        let view = get(client, "/v1/ports").await.ok_or("no answer to /v1/ports")?;
        for port in PORTS {
            let ports = view["ports"].as_array().into_iter().flatten();
            let counts = ports.filter(|view| view["name"] == port).map(|view| &view["counts"]);
            let told = |state: &str| counts.clone().filter_map(|counts| counts[state].as_u64()).sum::<u64>();
            let others = ["ready", "scheduled", "retry_wait", "leased", "terminated"].map(told);
            let counts = [told("done"), told("suspended"), others.iter().sum()];
            self.witness.saw(Fact::Counts(port, counts));
        }
        Ok(())
    }

    /// How many bytes the box's files take, and may take.
    fn size(&self, kept: Kept) -> Result<(), String> {
        if self.engine == Engine::Memory {
            return Ok(());
        }
        let bytes = bytes_in(&self.data).map_err(|error| format!("{}: {error}", self.data.display()))?;
        self.witness.saw(Fact::Size(bytes, self.engine.bytes_max(kept.deliveries, kept.body_bytes)));
        Ok(())
    }

    /// What lies in the folders that ports write to.
    fn files(&self) -> Result<(), String> {
        for port in [FILES, LADDER] {
            let folder = self.place.path(port);
            let failed = |error: std::io::Error| format!("{}: {error}", folder.display());
            if !folder.exists() {
                continue;
            }
            for entry in std::fs::read_dir(&folder).map_err(failed)? {
                let entry = entry.map_err(failed)?;
                let name = entry.file_name().to_string_lossy().into_owned();
                if name.starts_with('.') {
                    // A file that was being written when the server was killed.
                    continue;
                }
                match number_of(&name) {
                    Some(number) => {
                        let body = std::fs::read(entry.path()).map_err(failed)?;
                        self.witness.saw(Fact::File(number, port, hash(&body)));
                    }
                    None => self.witness.saw(Fact::Trouble(format!("{port} has a file of nobody's: {name}"))),
                }
            }
        }
        Ok(())
    }

    /// What the servers said of damage and of themselves.
    fn read_log(&self) {
        let may_stop = self.may_have_stopped();
        for line in self.place.log().lines() {
            let has = |word| line.contains(word);
            if has("panicked") || has("damaged") || (has("the box has stopped") && !may_stop) {
                self.witness.saw(Fact::Trouble(format!("the log has: {line}")));
            }
        }
    }
}

/// What a box has to keep when everything has ended.
#[derive(Debug, Clone, Copy, Default)]
struct Kept {
    deliveries: u64,
    body_bytes: u64,
}

async fn get(client: &Client, path: &str) -> Option<Value> {
    let answer =
        timeout(Duration::from_secs(10), client.send(Method::GET, path, &[], "")).await.ok()?.ok()?;
    (answer.status == 200).then(|| serde_json::from_slice(&answer.bytes).ok())?
}

/// Whether something has not come to its end.
fn is_busy(ports: &Value) -> bool {
    let states = ["ready", "scheduled", "retry_wait", "leased"];
    let mut views = ports["ports"].as_array().into_iter().flatten();
    views.any(|view| states.iter().any(|state| view["counts"][state].as_u64() != Some(0)))
}

/// The attempts that the server tells to have failed because their time was up, and that took that long.
async fn late(client: &Client, delivery: u64) -> Result<Vec<(u32, Duration)>, String> {
    let path = format!("/v1/deliveries/{delivery}");
    let view = get(client, &path).await.ok_or_else(|| format!("no answer to {path}"))?;
    let attempts = view["history"].as_array().into_iter().flatten();
    let late = attempts.filter_map(|attempt| {
        let took = Duration::from_millis(attempt["took_ms"].as_u64()?);
        let chain = attempt["failure"]["chain"].as_array()?;
        let words = ["no answer within", "not completed within"];
        let says = chain.iter().filter_map(Value::as_str).any(|text| words.iter().any(|w| text.contains(w)));
        let number = u32::try_from(attempt["number"].as_u64()?).ok()?;
        (says && took >= TIMEOUT).then_some((number, took))
    });
    Ok(late.collect())
}

fn bytes_in(folder: &Path) -> std::io::Result<u64> {
    let mut bytes = 0;
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        let kind = entry.file_type()?;
        bytes += if kind.is_dir() { bytes_in(&entry.path())? } else { entry.metadata()?.len() };
    }
    Ok(bytes)
}
