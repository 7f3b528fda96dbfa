//! Kills the server while submissions and deliveries are under way, and starts it again on the same data folder.

use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use super::destination::Destination;
use super::server_process::{Launch, Server};
use super::show::Show;
use super::submit::Standing;
use crate::backend::Remote;
use crate::failure::Failure;

/// The server is killed when so many in a hundred messages are acknowledged.
const AT_ACKNOWLEDGED: [usize; 2] = [35, 70];
/// And once more, when so many are delivered and nothing is submitted any more.
const AT_DELIVERED: usize = 60;
/// How long that may take.
const DELIVERY_MAX: Duration = Duration::from_secs(3 * 60);
/// How often the destination is asked.
const LOOK: Duration = Duration::from_millis(5);
/// How long a kill waits for a moment at which something is under way on both sides.
const MOMENT_MAX: Duration = Duration::from_secs(2);

/// What is needed to kill a server and go on.
#[derive(Debug)]
pub(super) struct Scene<'a> {
    /// How servers are started.
    pub(super) launch: &'a Launch,
    /// Where the server of the moment is told.
    pub(super) servers: &'a watch::Sender<Option<Remote>>,
    /// How far the submissions are.
    pub(super) standing: &'a Standing,
    /// What the server sends to.
    pub(super) destination: &'a Destination,
    /// Where it is told.
    pub(super) show: &'a Show,
}

/// Kills the server midway: while messages are submitted and sent, and once more while they are only sent. Returns
/// the number of kills.
///
/// # Errors
/// The server ended by itself, does not start again, or does not deliver.
pub(super) async fn kill_midway(
    scene: &Scene<'_>,
    server: &mut Server,
    total: usize,
) -> Result<usize, Failure> {
    let mut acknowledged = scene.standing.watch();
    for percent in AT_ACKNOWLEDGED {
        reach(&mut acknowledged, goal(total, percent), server).await?;
        moment(scene).await;
        kill(scene, server, total).await?;
    }
    reach(&mut acknowledged, total, server).await?;
    scene.show.step("Submitted", &format!("{total} messages, each acknowledged"));
    deliver(scene, goal(total, AT_DELIVERED), server).await?;
    kill(scene, server, total).await?;
    Ok(AT_ACKNOWLEDGED.len() + 1)
}

fn goal(total: usize, percent: usize) -> usize {
    (total * percent / 100).max(1)
}

async fn kill(scene: &Scene<'_>, server: &mut Server, total: usize) -> Result<(), Failure> {
    let (unanswered, open) = (scene.standing.unanswered(), scene.destination.open());
    let (submitted, delivered) = (scene.standing.acknowledged(), scene.destination.taken());
    server.kill().await?;
    scene.servers.send_replace(None);
    scene.show.step(
        "Killed",
        &format!(
            "the server with SIGKILL: {submitted} of {total} submitted, {delivered} delivered; \
             under way {unanswered} submissions, {open} deliveries"
        ),
    );
    let before = Instant::now();
    *server = scene.launch.start().await?;
    scene.servers.send_replace(Some(server.remote().clone()));
    let took = before.elapsed().as_millis();
    scene.show.step("Restarted", &format!("it on the same data folder; it listened after {took} ms"));
    Ok(())
}

/// Returns once so many are delivered.
async fn deliver(scene: &Scene<'_>, goal: usize, server: &mut Server) -> Result<(), Failure> {
    let delivered = async {
        while scene.destination.taken() < goal {
            tokio::time::sleep(LOOK).await;
        }
    };
    tokio::select! {
        in_time = tokio::time::timeout(DELIVERY_MAX, delivered) => in_time.map_err(|_| {
            let delivered = scene.destination.taken();
            Failure::new(format!("{delivered} messages are delivered after {DELIVERY_MAX:?}; there should be {goal}"))
        }),
        failure = server.ended() => Err(failure),
    }
}

/// Returns once so many are acknowledged.
async fn reach(
    acknowledged: &mut watch::Receiver<usize>,
    goal: usize,
    server: &mut Server,
) -> Result<(), Failure> {
    tokio::select! {
        biased;
        // The sender lives as long as the submissions do.
        _reached = acknowledged.wait_for(|count| *count >= goal) => Ok(()),
        failure = server.ended() => Err(failure),
    }
}

/// Returns once a kill would hit something on both sides, or that takes too long.
async fn moment(scene: &Scene<'_>) {
    let busy = async {
        while scene.standing.unanswered() == 0 || scene.destination.open() == 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    let _whatever_is_under_way = tokio::time::timeout(MOMENT_MAX, busy).await;
}
