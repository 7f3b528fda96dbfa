//! One measurement in this process.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use pillarbox_benches::{Mode, Workload};
use pillarbox_store::EngineKind;

use crate::client::{Fault, Shared};
use crate::figures::Figures;
use crate::front::{Plan, drive};
use crate::store::boxed::Boxed;
use crate::store::floor::{Floor, Ground};
use crate::store::sled_bare::SledBare;
use crate::{backlog, flush, peers, runtime};

/// Which measurement.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Args {
    /// What is measured
    #[arg(long)]
    pub(crate) target: String,
    /// a, b, c or d
    #[arg(long)]
    pub(crate) workload: String,
    /// send or both
    #[arg(long)]
    pub(crate) mode: String,
    /// How many clients, where it is not to be the workload's number
    #[arg(long)]
    pub(crate) clients: Option<usize>,
    /// For how long
    #[arg(long)]
    pub(crate) seconds: f64,
    /// Where the data goes; emptied before
    #[arg(long)]
    pub(crate) folder: PathBuf,
    /// Threads that the clients run on; 0 for the main thread alone
    #[arg(long, default_value_t = 0)]
    pub(crate) threads: usize,
    /// How many messages, for those targets that are no rate
    #[arg(long, default_value_t = 0)]
    pub(crate) count: u64,
    /// Go on with the files that are there
    #[arg(long)]
    pub(crate) goes_on: bool,
    /// Leave the files where they are
    #[arg(long)]
    pub(crate) leaves: bool,
}

/// Measures and prints the figures as JSON on one line.
pub(crate) fn run(args: &Args) -> Result<(), Fault> {
    if !args.goes_on {
        empty(&args.folder)?;
    }
    let runtime = match args.threads {
        0 => tokio::runtime::Builder::new_current_thread().enable_all().build()?,
        threads => {
            tokio::runtime::Builder::new_multi_thread().worker_threads(threads).enable_all().build()?
        }
    };
    let figures = runtime.block_on(measure(args))?;
    drop(runtime);
    println!("{}", serde_json::to_string(&figures)?);
    if !args.leaves {
        fs::remove_dir_all(&args.folder)?;
    }
    Ok(())
}

fn empty(folder: &Path) -> Result<(), Fault> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error.into()),
        _ => Ok(fs::create_dir_all(folder)?),
    }
}

fn plan(args: &Args) -> Result<Plan, Fault> {
    let mut workload = Workload::find(&args.workload)
        .ok_or_else(|| format!("there is no workload {}; there are a, b, c and d", args.workload))?;
    workload.clients = args.clients.unwrap_or(workload.clients);
    let mode =
        Mode::find(&args.mode).ok_or_else(|| format!("there is no mode {}; send or both", args.mode))?;
    Ok(Plan { workload, mode, span: Duration::from_secs_f64(args.seconds) })
}

async fn measure(args: &Args) -> Result<Figures, Fault> {
    let plan = plan(args)?;
    match args.target.as_str() {
        "flush" => return flush::measure(&args.folder, plan.span),
        "runtime-journal" => return runtime::rate(&plan, EngineKind::Journal, &args.folder).await,
        "runtime-sled" => return runtime::rate(&plan, EngineKind::Sled, &args.folder).await,
        "runtime-idle" => return runtime::idle(&plan, &args.folder).await,
        "runtime-ports" => return runtime::ports(&plan, &args.folder).await,
        _ => {}
    }
    if let Some(figures) = backlog::stage(&args.target, &plan, args.count, &args.folder).await? {
        return Ok(figures);
    }
    if let Some(figures) = peers::measure(&args.target, &plan, &args.folder).await? {
        return Ok(figures);
    }
    let target = open(&args.target, &plan, &args.folder).await?;
    let mut figures = drive(plan, &target, &args.folder, None).await?;
    for (name, value) in target.more() {
        figures.set(name, value);
    }
    target.close().await?;
    Ok(figures)
}

async fn open(name: &str, plan: &Plan, folder: &Path) -> Result<Shared, Fault> {
    let body_bytes = plan.workload.body_bytes;
    Ok(match name {
        "floor-ring" => Arc::new(Floor::open(folder, Ground::Ring)?),
        "floor-appended" => Arc::new(Floor::open(folder, Ground::Appended)?),
        "sled-bare" => Arc::new(SledBare::open(folder, body_bytes)?),
        engine => {
            let kind = EngineKind::parse(engine).ok_or_else(|| format!("there is no target {engine}"))?;
            let opened = Boxed::open(folder, kind, body_bytes).await?;
            if plan.mode == Mode::Both && kind == EngineKind::Journal {
                opened.settle().await?;
            }
            Arc::new(opened)
        }
    })
}
