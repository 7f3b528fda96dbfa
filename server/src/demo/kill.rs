//! Kills the server while submissions and deliveries are under way, and starts it again on the same data folder.

use std::time::Duration;

use tokio::sync::watch;

use super::destination::Destination;
use super::server_process::{Launch, Server};
use super::show::Show;
use super::submit::Standing;
use crate::backend::Remote;
use crate::failure::Failure;

/// The server is killed when so many in a hundred messages are acknowledged.
const AT_PERCENT: [usize; 2] = [35, 70];
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

/// Kills the server midway, then watches it until `total` messages are acknowledged. Returns the number of kills.
///
/// # Errors
/// The server ended by itself, or does not start again.
pub(super) async fn kill_midway(
    scene: &Scene<'_>,
    server: &mut Server,
    total: usize,
) -> Result<usize, Failure> {
    let mut acknowledged = scene.standing.watch();
    let mut kills = 0;
    for percent in AT_PERCENT {
        reach(&mut acknowledged, (total * percent / 100).max(1), server).await?;
        moment(scene).await;
        let (unanswered, open) = (scene.standing.unanswered(), scene.destination.open());
        let at = scene.standing.acknowledged();
        server.kill().await?;
        scene.servers.send_replace(None);
        kills += 1;
        scene.show.step(
            "Killed",
            &format!(
                "the server with SIGKILL, {at} of {total} messages acknowledged; \
                 under way: {unanswered} submissions, {open} deliveries"
            ),
        );
        let before = tokio::time::Instant::now();
        *server = scene.launch.start().await?;
        scene.servers.send_replace(Some(server.remote().clone()));
        let took = before.elapsed().as_millis();
        scene.show.step("Restarted", &format!("it on the same data folder; it listened after {took} ms"));
    }
    reach(&mut acknowledged, total, server).await?;
    Ok(kills)
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
