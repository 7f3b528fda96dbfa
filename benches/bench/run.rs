//! `bench run`: plans the measurements, runs the rounds, keeps the rows, and writes the page.

use std::fs;
use std::path::{Path, PathBuf};

use clap::ValueEnum;
use pillarbox_benches::{Mode, Workload};
use serde_json::json;

use crate::client::Fault;
use crate::report::{Ledger, Row, pages};
use crate::rounds::{self, Block, Kind, Measured, Subject};
use crate::{machine, progress};

/// What to run.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Args {
    /// What to measure; everything where it is left out
    name: Option<Name>,
    /// How often each measurement is taken
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// How long each measurement of a rate takes
    #[arg(long, default_value_t = 3.0)]
    seconds: f64,
    /// Where to write the figures as JSON, one object a line
    #[arg(long)]
    json: Option<PathBuf>,
    /// Also measure a backlog of ten million
    #[arg(long)]
    full: bool,
    /// Threads that the clients run on; 0 for one that does nothing else
    #[arg(long, default_value_t = 0)]
    threads: usize,
    /// Where the data goes
    #[arg(long)]
    folder: PathBuf,
    /// The workspace, whose documents get the figures; none where it is left out
    #[arg(long)]
    root: Option<PathBuf>,
}

/// A group of measurements.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Name {
    /// The box alone, beside two bare log files
    Store,
    /// Through the runtime to an adapter that does nothing
    Runtime,
    /// Many messages that wait
    Backlog,
    /// The same work on other systems
    Peers,
}

impl Name {
    pub(crate) const ALL: [Self; 4] = [Self::Store, Self::Runtime, Self::Backlog, Self::Peers];

    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Store => "store",
            Self::Runtime => "runtime",
            Self::Backlog => "backlog",
            Self::Peers => "peers",
        }
    }
}

/// Runs what is asked for. What was measured is kept even where something else failed.
pub(crate) fn run(args: &Args) -> Result<(), Fault> {
    fs::create_dir_all(&args.folder)?;
    let folder = args.folder.canonicalize()?;
    machine::refuse_memory(&folder)?;
    let names = args.name.map_or_else(|| Name::ALL.to_vec(), |name| vec![name]);
    let mut all = Vec::new();
    for name in names {
        let measured = measure(name, args, &folder)?;
        let about = about(name, args, &folder)?;
        let rows = Row::all(name, &about, &measured);
        progress::table(name, &rows);
        if let Some(root) = &args.root {
            let mut ledger = Ledger::read(root)?;
            ledger.replace(name, rows.clone());
            ledger.write(root)?;
            pages::write(root, &ledger)?;
        }
        all.extend(rows);
    }
    if let Some(file) = &args.json {
        fs::write(file, Ledger::lines(&all)?)?;
    }
    let failed: Vec<&str> =
        all.iter().filter(|row| row.fault.is_some()).map(|row| row.name.as_str()).collect();
    if failed.is_empty() {
        return Ok(());
    }
    Err(format!("not measured: {}; what each lacks is told above and in its row", failed.join(", ")).into())
}

fn measure(name: Name, args: &Args, folder: &Path) -> Result<Vec<Measured>, Fault> {
    let rounds = |blocks: &[Block]| rounds::run(name.as_str(), blocks, args.rounds, folder);
    Ok(match name {
        Name::Store => rounds(&store_blocks(args)),
        Name::Runtime => rounds(&runtime_blocks(args)),
        Name::Backlog => crate::backlog::plan::run(args.full, args.rounds, folder)?,
        Name::Peers => rounds(&crate::peers::blocks(args.seconds, args.threads, folder)?),
    })
}

fn about(
    name: Name,
    args: &Args,
    folder: &Path,
) -> Result<serde_json::Map<String, serde_json::Value>, Fault> {
    let mut about = machine::describe(folder)?;
    let full = if args.full { " --full" } else { "" };
    let command = format!(
        "cargo xtask bench {} --rounds {} --seconds {}{full}",
        name.as_str(),
        args.rounds,
        args.seconds
    );
    about.insert("command".to_owned(), json!(command));
    about.insert("rounds".to_owned(), json!(args.rounds));
    Ok(about)
}

/// A measurement of a rate.
pub(crate) fn subject(kind: Kind, name: &str, target: &str, rate: &Rate<'_>) -> Subject {
    let mut args: Vec<String> = ["one", "--target", target, "--workload", rate.workload, "--mode", rate.mode]
        .map(str::to_owned)
        .to_vec();
    args.extend(["--seconds".to_owned(), rate.seconds.to_string()]);
    args.extend(["--threads".to_owned(), rate.threads.to_string()]);
    if let Some(clients) = rate.clients {
        args.extend(["--clients".to_owned(), clients.to_string()]);
    }
    Subject { kind, name: name.to_owned(), args }
}

/// How a rate is measured.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rate<'a> {
    pub(crate) workload: &'a str,
    pub(crate) mode: &'a str,
    pub(crate) clients: Option<usize>,
    pub(crate) seconds: f64,
    pub(crate) threads: usize,
}

/// The flush probe and the two floors: the start of a block.
pub(crate) fn floors(rate: &Rate<'_>) -> Vec<Subject> {
    vec![
        subject(Kind::Floor, "flush", "flush", &Rate { seconds: 0.5, ..*rate }),
        subject(Kind::Floor, "ring", "floor-ring", rate),
        subject(Kind::Floor, "appended", "floor-appended", rate),
    ]
}

/// Clients of the runs that show latency over load.
const LOADS: [usize; 8] = [1, 2, 4, 8, 16, 32, 64, 128];

fn store_blocks(args: &Args) -> Vec<Block> {
    let rate =
        Rate { workload: "a", mode: "both", clients: None, seconds: args.seconds, threads: args.threads };
    let mut blocks = Vec::new();
    for mode in Mode::ALL {
        for workload in Workload::ALL {
            let rate = Rate { workload: workload.name, mode: mode.as_str(), ..rate };
            let mut subjects = floors(&rate);
            subjects.push(subject(Kind::Engine, "journal", "journal", &rate));
            subjects.push(subject(Kind::Engine, "sled", "sled", &rate));
            subjects.push(subject(Kind::Floor, "sled-bare", "sled-bare", &rate));
            blocks.push(Block {
                workload: workload.name.to_owned(),
                mode: mode.as_str().to_owned(),
                clients: None,
                subjects,
            });
        }
    }
    blocks.extend(LOADS.map(|clients| {
        let rate = Rate { workload: "b", clients: Some(clients), seconds: args.seconds.min(2.0), ..rate };
        let subjects = vec![
            subject(Kind::Floor, "ring", "floor-ring", &rate),
            subject(Kind::Engine, "journal", "journal", &rate),
        ];
        Block { workload: "load".to_owned(), mode: "both".to_owned(), clients: Some(clients), subjects }
    }));
    blocks
}

fn runtime_blocks(args: &Args) -> Vec<Block> {
    let mut blocks = Vec::new();
    for workload in ["b", "c"] {
        let rate =
            Rate { workload, mode: "both", clients: None, seconds: args.seconds, threads: args.threads };
        let mut subjects = floors(&rate);
        for engine in ["journal", "sled"] {
            let target = format!("runtime-{engine}");
            subjects.push(subject(Kind::Engine, engine, &target, &rate));
        }
        blocks.push(Block {
            workload: workload.to_owned(),
            mode: "runtime".to_owned(),
            clients: None,
            subjects,
        });
    }
    for case in ["idle", "ports"] {
        let rate =
            Rate { workload: "a", mode: "both", clients: None, seconds: args.seconds, threads: args.threads };
        let subjects = vec![
            subject(Kind::Floor, "flush", "flush", &Rate { seconds: 0.5, ..rate }),
            subject(Kind::Engine, "journal", &format!("runtime-{case}"), &rate),
        ];
        blocks.push(Block { workload: case.to_owned(), mode: "runtime".to_owned(), clients: None, subjects });
    }
    blocks
}
