//! `demo`: the main job made visible. A real server process takes a folder of real files and sends them to a
//! destination that fails at random; midway it is killed, twice, and started again. At the end everything that came
//! out is compared with what was put in.

mod destination;
mod fate;
mod files;
mod kill;
mod ledger;
mod options;
mod report;
mod server_process;
mod settle;
mod show;
mod stage;
mod submit;
mod verify;

use std::time::Duration;

use bytesize::ByteSize;
use pillarbox_runtime::Tasks;
use pillarbox_store::IdSource;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::time::Instant;

pub use options::Options;

use crate::failure::Failure;
use crate::output::Output;
use destination::Destination;
use fate::Fates;
use files::{Message, Sources};
use kill::Scene;
use report::{Report, Run};
use server_process::{Launch, Server};
use show::{Paint, Progress, Show};
use stage::Stage;
use submit::Standing;

/// The whole demo is over by then, one way or the other.
const RUN_MAX: Duration = Duration::from_secs(10 * 60);

/// Runs the demo.
///
/// # Errors
/// It could not be run, or what came out is not what was promised.
pub(crate) async fn run(options: &Options, output: Output) -> Result<(), Failure> {
    let show = Show::new();
    let mut stage = Stage::new()?;
    if options.keep {
        stage.keep();
    }
    let launch = Launch::new(&stage)?;
    let done = tokio::select! {
        biased;
        interrupted = interrupted() => return Err(interrupted),
        done = Box::pin(tokio::time::timeout(RUN_MAX, perform(options, &stage, &launch, &show))) => {
            done.unwrap_or_else(|_| Err(Failure::new(format!("the demo is not over after {RUN_MAX:?}"))))
        }
    };
    let report = match done {
        Ok(report) => report,
        // Nothing has begun: there is nothing to look at.
        Err(failure) if failure.code == 2 => return Err(failure),
        Err(failure) => return Err(keep(&mut stage, &launch, failure)),
    };
    output.result(&report, || report.text(Paint::stdout()))?;
    if !report.flaws().is_empty() {
        return Err(keep(&mut stage, &launch, Failure::new("the demo did not end as promised")));
    }
    if options.keep {
        output.note(&format!("kept {}", stage.path().display()));
    }
    Ok(())
}

/// Keeps the folder, and says where it is and how to look at it.
fn keep(stage: &mut Stage, launch: &Launch, mut failure: Failure) -> Failure {
    stage.keep();
    failure.what.push_str(&format!("\n  kept: {}", stage.path().display()));
    failure.next(launch.look())
}

/// Returns at a signal that asks the demo to end; the server ends with it.
async fn interrupted() -> Failure {
    let watch =
        |kind| signal(kind).map_err(|error| Failure::new(format!("signals cannot be watched: {error}")));
    let (mut interrupt, mut terminate) =
        match (watch(SignalKind::interrupt()), watch(SignalKind::terminate())) {
            (Ok(interrupt), Ok(terminate)) => (interrupt, terminate),
            (Err(failure), _) | (_, Err(failure)) => return failure,
        };
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
    Failure::new("the demo was interrupted")
}

async fn perform(options: &Options, stage: &Stage, launch: &Launch, show: &Show) -> Result<Report, Failure> {
    let seed = options.seed.unwrap_or_else(|| IdSource::system().random() >> 32);
    let sources = collect(options, stage, show).await?;
    let messages = sources.messages(seed);
    let destination = Destination::start(Fates::new(seed)).await?;
    stage.write_config(options.engine, &destination.url())?;
    show.step(
        "Opened",
        &format!("{}, a destination that fails at random (--seed {seed})", destination.url()),
    );
    let began = Instant::now();
    let mut server = launch.start().await?;
    let engine = options.engine.as_str();
    show.step("Started", &format!("the server at {}, engine {engine}", server.remote().base()));
    let standing = Standing::new();
    let look = || Progress { submitted: standing.acknowledged(), delivered: destination.taken() };
    let sending = send(launch, &mut server, &destination, &messages, &standing, show);
    let sent = tokio::select! {
        sent = Box::pin(sending) => sent?,
        never = show.progress(messages.len(), look) => match never {},
    };
    let status = server.stop().await?;
    let took = began.elapsed();
    show.step("Stopped", &format!("the server with SIGTERM; {status}"));
    let record = messages.iter().map(|message| (message.id.to_string(), message.source.content)).collect();
    let findings = verify::verify(&record, &destination.stop(), &stage.read_undelivered()?);
    let bytes = ByteSize(messages.iter().map(|message| message.source.content.len).sum());
    show.step("Compared", &format!("{} messages, {bytes}, with what came out", record.len()));
    let bad_end = (!status.success()).then(|| status.to_string());
    Ok(Report::new(&Run { seed, engine, files: sources.files.len(), bad_end, took, findings, ..sent }))
}

async fn collect(options: &Options, stage: &Stage, show: &Show) -> Result<Sources, Failure> {
    let folder = match &options.folder {
        Some(folder) => folder.clone(),
        None => {
            let current = std::env::current_dir()
                .map_err(|error| Failure::new(format!("the current folder is not known: {error}")))?;
            files::default_folder(&current)
        }
    };
    let name = folder.display().to_string();
    let (most, copies) = (options.files, stage.copies());
    // Aside, so that a signal is heard however large the folder is.
    let collecting = Tasks::new().spawn_blocking(move || files::collect(&folder, most, &copies));
    let collected = collecting.await.ok().flatten();
    let sources = collected.ok_or_else(|| Failure::new(format!("{name} could not be collected")))??;
    let times = match sources.rounds() {
        1 => String::new(),
        rounds => format!(", each {rounds} times: {} messages", rounds * sources.files.len()),
    };
    let without = match sources.passed_over {
        0 => String::new(),
        count => format!(" ({count} passed over: unreadable, too long or too many)"),
    };
    let (count, bytes) = (sources.files.len(), ByteSize(sources.bytes()));
    show.step("Collected", &format!("{count} files, {bytes}, of {name}{without}{times}"));
    Ok(sources)
}

/// From the first submission until the box has nothing left to do.
async fn send(
    launch: &Launch,
    server: &mut Server,
    destination: &Destination,
    messages: &[Message],
    standing: &Standing,
    show: &Show,
) -> Result<Run, Failure> {
    let servers = watch::Sender::new(Some(server.remote().clone()));
    let known = servers.subscribe();
    let scene = Scene { launch, servers: &servers, standing, destination, show };
    let (submissions, kills) = tokio::try_join!(
        submit::submit_all(messages, &known, standing),
        kill::kill_midway(&scene, server, messages.len()),
    )?;
    let remote = server.remote().clone();
    let counts = settle::wait_until_quiet(&remote).await?;
    let suspended = counts.suspended;
    show.step("Settled", &format!("{} done, {suspended} suspended, nothing under way", counts.done));
    destination.repair();
    let resumed = settle::resume_suspended(&remote).await?;
    let counts = settle::wait_until_quiet(&remote).await?;
    show.step("Repaired", &format!("the destination, and resumed {resumed} suspended deliveries"));
    Ok(Run {
        submissions,
        kills,
        suspended,
        still_suspended: counts.suspended,
        done: counts.done,
        ..Run::default()
    })
}
