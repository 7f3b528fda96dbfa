//! Lives of the server: what the plan says, done to a real process.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use pillarbox_store::DeliveryState;
use pillarbox_tests::program::Engine;
use pillarbox_tests::server::{Place, Server};
use pillarbox_tests::witness::{End as Ending, Fact, Witness};
use serde_json::Value;
use tokio::time::{Instant, sleep, timeout};

use crate::destination::Destination;
use crate::load::Load;
use crate::plan::{Act, DRAIN, End, Life};
use crate::shown::{Shown, more};
use crate::{OnDisk as _, clock};

/// How many of the latest deliveries are looked at before a life ends.
const LOOKED_AT: u64 = 300;
/// How long such a look may take: the server may be busy, and the life ends anyway.
const LOOK_MAX: Duration = Duration::from_millis(300);
/// While the disk is to be full, room that the server makes is taken this often.
const REFILL: Duration = Duration::from_millis(10);

/// A box, the place it is in, and everybody around it.
pub(crate) struct Scene {
    pub(crate) place: Place,
    pub(crate) witness: Witness,
    pub(crate) load: Arc<Load>,
    pub(crate) shown: Arc<Shown>,
    pub(crate) destination: Destination,
    /// The file that takes the room of the disk.
    pub(crate) ballast: PathBuf,
    /// The file that tells the server by how much its clock is ahead, where that can be told.
    pub(crate) clock: Option<PathBuf>,
    /// The folder of the box.
    pub(crate) data: PathBuf,
    pub(crate) engine: Engine,
    pub(crate) life: u32,
}

impl Scene {
    /// Begins the next life of the server.
    fn begin(&mut self) {
        self.life += 1;
        more(&self.shown.lives);
        self.destination.begins(self.life);
        self.witness.saw(Fact::Began(self.life));
    }

    /// Starts a server that must come up by itself.
    pub(crate) async fn serve(&mut self) -> Result<Server, String> {
        self.begin();
        let mut started = self.place.start(&["--log", "warn"]).listening().await;
        if let Err(ran) = &started
            && !self.engine.opens_on_a_full_disk()
            && ran.stderr.contains("make room on the disk")
            && self.make_room()
        {
            started = self.place.start(&["--log", "warn"]).listening().await;
        }
        match started {
            Ok(server) => {
                self.load.present.serve(Some(server.client.clone()));
                Ok(server)
            }
            Err(ran) => {
                let text = format!("the server did not start: {ran:?}");
                self.witness.saw(Fact::Trouble(text.clone()));
                Err(text)
            }
        }
    }

    /// Lives a life.
    pub(crate) async fn live(&mut self, life: &Life) -> Result<(), String> {
        if let End::KillAtStart(after) = life.end {
            self.begin();
            let starting = self.place.start(&["--log", "warn"]);
            sleep(after).await;
            more(&self.shown.kills);
            more(&self.shown.kills_at_start);
            self.witness.saw(Fact::Ended(self.life, Ending::Killed));
            let may_have_ended = self.ballast.exists() && !self.engine.opens_on_a_full_disk();
            if !starting.kill().await && !may_have_ended {
                self.witness.saw(Fact::Trouble("the server ended by itself while it started".to_owned()));
                return Err("the server ended by itself while it started".to_owned());
            }
            return self.gone().await;
        }
        let mut server = self.serve().await?;
        let begun = Instant::now();
        // A disk that was full when the last life ended has room once this one has begun.
        self.make_room();
        let mut spent = Duration::ZERO;
        for (at, act) in &life.acts {
            sleep((begun + *at + spent).saturating_duration_since(Instant::now())).await;
            spent += self.act(*act, &server).await?;
        }
        sleep((begun + life.load + spent).saturating_duration_since(Instant::now())).await;
        if let Some(status) = server.has_ended() {
            let text = format!("the server ended by itself: {status}");
            self.witness.saw(Fact::Trouble(text.clone()));
            return Err(text);
        }
        self.look(&server).await;
        self.end(server, life.end).await
    }

    async fn act(&mut self, act: Act, server: &Server) -> Result<Duration, String> {
        match act {
            Act::Stop(span) => {
                more(&self.shown.stops);
                self.witness.saw(Fact::Stopped);
                server.stop();
                sleep(span).await;
                server.go_on();
                self.witness.saw(Fact::Continued);
                Ok(span)
            }
            Act::Down(span) => {
                more(&self.shown.downs);
                self.destination.refuse().await;
                sleep(span).await;
                self.destination.start().map_err(|error| format!("the destination: {error}"))?;
                Ok(span)
            }
            Act::Fill { span, stays } => {
                more(&self.shown.fulls);
                self.witness.saw(Fact::Full);
                let end = Instant::now() + span;
                while Instant::now() < end {
                    fill(&self.ballast);
                    sleep(REFILL).await;
                }
                if !stays {
                    self.make_room();
                }
                Ok(span)
            }
            Act::Jump(ahead) => {
                more(&self.shown.jumps);
                self.jump(ahead)?;
                Ok(Duration::ZERO)
            }
        }
    }

    /// Gives the disk its room back. False where nobody had taken it.
    pub(crate) fn make_room(&self) -> bool {
        let was_full = std::fs::remove_file(&self.ballast).is_ok();
        if was_full {
            self.witness.saw(Fact::Roomy);
        }
        was_full
    }

    /// Sets the server's clock.
    pub(crate) fn jump(&self, ahead: i64) -> Result<(), String> {
        let Some(file) = &self.clock else { return Ok(()) };
        self.witness.saw(Fact::Clock(ahead));
        self.load.ahead.store(ahead, Ordering::SeqCst);
        clock::set(file, ahead)
    }

    /// Asks which of the latest deliveries have come to their end: those must stay there.
    async fn look(&self, server: &Server) {
        let ask = async |path: String| {
            let answer = server.client.send(http::Method::GET, &path, &[], "").await.ok()?;
            serde_json::from_slice::<Value>(&answer.bytes).ok()
        };
        let look = async {
            let latest = self.load.latest.load(Ordering::SeqCst);
            let after = latest.saturating_sub(LOOKED_AT);
            ask(format!("/v1/deliveries?after={after}&limit={LOOKED_AT}")).await
        };
        let Ok(Some(page)) = timeout(LOOK_MAX, look).await else { return };
        for view in page["deliveries"].as_array().into_iter().flatten() {
            let state = match view["state"].as_str() {
                Some("done") => DeliveryState::Done,
                Some("suspended") => DeliveryState::Suspended,
                _ => continue,
            };
            if let Some(delivery) = view["delivery_id"].as_u64() {
                self.witness.saw(Fact::Told(delivery, state));
            }
        }
    }

    async fn end(&mut self, mut server: Server, end: End) -> Result<(), String> {
        self.load.present.serve(None);
        let ended = |how| Fact::Ended(self.life, how);
        match end {
            End::Kill | End::KillAtStart(_) => {
                more(&self.shown.kills);
                self.witness.saw(ended(Ending::Killed));
                server.kill().await;
            }
            End::KillStopped(after) => {
                more(&self.shown.kills);
                more(&self.shown.stops);
                self.witness.saw(Fact::Stopped);
                server.stop();
                sleep(after).await;
                self.witness.saw(ended(Ending::Killed));
                server.kill().await;
            }
            End::Drain => {
                more(&self.shown.drains);
                self.drain(server).await;
            }
            End::DrainTwice(after) | End::DrainKill(after) => {
                server.ask_to_end();
                sleep(after).await;
                self.witness.saw(ended(Ending::Killed));
                if server.has_ended().is_none() {
                    if matches!(end, End::DrainKill(_)) {
                        more(&self.shown.kills);
                        server.kill().await;
                    } else {
                        more(&self.shown.drains);
                        server.ask_to_end();
                        server.ended().await;
                    }
                }
            }
        }
        self.gone().await
    }

    /// Lets a server end in order, which it must.
    pub(crate) async fn drain(&self, server: Server) {
        self.load.present.serve(None);
        let asked = Instant::now();
        server.ask_to_end();
        let status = server.ended().await;
        // A fifth of the time is the adapters' own.
        let how = if asked.elapsed() < DRAIN * 4 / 5 { Ending::Drained } else { Ending::Cut };
        self.witness.saw(Fact::Ended(self.life, how));
        if status.code() != Some(0) && !self.may_have_stopped() {
            self.witness.saw(Fact::Trouble(format!("the server left with {status}")));
        }
    }

    /// Whether a full disk may have stopped a box. What it had begun is settled by the next life.
    pub(crate) fn may_have_stopped(&self) -> bool {
        let was_full = || self.witness.facts().iter().any(|(_, fact)| matches!(fact, Fact::Full));
        self.engine.stops_on_a_full_disk() && was_full()
    }

    /// The server is gone: waits until the destination has read everything that it sent.
    async fn gone(&self) -> Result<(), String> {
        self.load.present.serve(None);
        self.destination.hears_the_end().await.map_err(|error| format!("the destination: {error}"))
    }
}

/// Takes all the room there is.
fn fill(ballast: &Path) {
    let file = OpenOptions::new().create(true).append(true).open(ballast);
    let Ok(mut file) = file else { return };
    for len in [64 * 1024, 4 * 1024, 512] {
        let zeros = vec![0; len];
        while file.write_all(&zeros).is_ok() {}
    }
}
